"""The chart: what helm makes of several sets of values, and what it refuses.

The commands in the manifests are held against what the program's --help says (CAIRN_BIN, default build/cairn)."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

import pods
from pods import CHART, CI_VALUES, ROOT, select

BIN = os.environ.get("CAIRN_BIN", os.path.join(ROOT, "build/cairn"))
DRAIN_S = 30
SETS = sorted(name[:-len("-values.yaml")] for name in os.listdir(CI_VALUES))
# Secrets that the values name and do not make.
OUTSIDE = {"cairn-keys": {"api-keys": "admin outside-cluster-key\nread outside-read-key\n",
                          "cluster-key": "outside-cluster-key"},
           "cairn-tls": {"tls.crt": "certificate", "tls.key": "private key", "ca.crt": "authority"}}


def values_file(name):
    return os.path.join(CI_VALUES, name + "-values.yaml")


class ChartTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.helm = pods.Helm()
        cls.addClassCleanup(cls.helm.close)
        cls.sets = {name: cls.helm.render(values_file(name)) for name in SETS}

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cairn-pods-")
        self.addCleanup(shutil.rmtree, self.folder)

    def kubelet(self, manifests):
        return pods.Kubelet(manifests, self.folder, OUTSIDE)

    def one(self, manifests, kind, component=None):
        found = select(manifests, kind, component)
        self.assertEqual(len(found), 1, (kind, component, [each["metadata"]["name"] for each in found]))
        return found[0]

    def every_pod(self):
        """(name of the values, pod) for one pod of each workload under each set of values."""
        for name, manifests in self.sets.items():
            for manifest in manifests:
                template = pods.pod_template(manifest)
                if template:
                    yield name, self.kubelet(manifests).pod(manifest, template, manifest["metadata"]["name"] + "-0")

    def refused(self, text, *files, **settings):
        with self.assertRaises(pods.HelmError) as caught:
            self.helm.render(*files, **settings)
        self.assertIn(text, str(caught.exception))


class Rendering(ChartTest):
    def test_lint_is_strict(self):
        for name in SETS:
            with self.subTest(name):
                self.assertIn("0 chart(s) failed", self.helm.run("lint", "--strict", CHART, "--values",
                                                                 values_file(name)))

    def test_names_are_unique_and_labelled(self):
        for name, manifests in self.sets.items():
            seen = [(each["kind"], each["metadata"]["name"]) for each in manifests]
            self.assertEqual(len(seen), len(set(seen)), name)
            for each in manifests:
                self.assertEqual(each["metadata"]["labels"]["app.kubernetes.io/instance"], "test")
                self.assertLessEqual(len(each["metadata"]["name"]), 63)

    def test_long_release_name_keeps_names_short(self):
        for each in self.helm.render(release="a" * 53, fullnameOverride=""):
            self.assertLessEqual(len(each["metadata"]["name"]), 63)
            # A StatefulSet's name gets a revision of 11 characters for a label of at most 63.
            if each["kind"] == "StatefulSet":
                self.assertLessEqual(len(each["metadata"]["name"]), 52)

    def test_version_is_the_program_s(self):
        with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as text:
            version = re.search(r"project\(cairn VERSION (\S+)", text.read()).group(1)
        with open(os.path.join(CHART, "Chart.yaml"), encoding="utf-8") as text:
            chart = yaml.safe_load(text)
        self.assertEqual((chart["version"], chart["appVersion"]), (version, version))
        router = self.one(self.sets["defaults"], "Deployment")
        self.assertEqual(router["spec"]["template"]["spec"]["containers"][0]["image"], "cairn:" + version)

    def test_every_value_is_explained_and_in_the_schema(self):
        with open(os.path.join(CHART, "values.yaml"), encoding="utf-8") as text:
            lines = text.read().splitlines()
        for before, line in zip(lines, lines[1:]):
            if re.match(r"[a-z]\w*:", line):
                self.assertTrue(before.startswith("#") or before == "" or re.match(r"[a-z]\w*:", before), line)
        values = yaml.safe_load("\n".join(lines))
        self.assert_in_schema(values, self.schema(), "")

    @staticmethod
    def schema():
        with open(os.path.join(CHART, "values.schema.json"), encoding="utf-8") as text:
            return yaml.safe_load(text)

    def assert_in_schema(self, values, schema, where):
        for name, value in values.items():
            self.assertIn(name, schema["properties"], where)
            below = schema["properties"][name]
            if isinstance(value, dict) and "properties" in below:
                self.assertIs(below["additionalProperties"], False, where + name)
                self.assertEqual(set(value), set(below["properties"]), where + name)
                self.assert_in_schema(value, below, where + name + ".")


class Commands(ChartTest):
    def known(self, words):
        """(flags, environment forms) that the program's help for these words names."""
        done = subprocess.run([BIN, *words, "--help"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, "cairn %s --help: %s" % (" ".join(words), done.stderr))
        return (set(re.findall(r"^\s+(--[a-z0-9-]+)", done.stdout, re.M)),
                set(re.findall(r"^\s+(CAIRN_[A-Z0-9_]+)$", done.stdout, re.M)))

    def test_only_flags_that_the_program_knows(self):
        known = {}
        for name, pod in self.every_pod():
            self.assertEqual(pod.command[0], pods.ENTRYPOINT)
            words = []
            for word in pod.command[1:]:
                if not re.fullmatch("[a-z]+", word):
                    break
                words.append(word)
            if tuple(words) not in known:
                known[tuple(words)] = self.known(words)
            flags, variables = known[tuple(words)]
            with self.subTest(values=name, pod=pod.name):
                used = {word.split("=")[0] for word in pod.command if word.startswith("--")}
                self.assertEqual(used - flags, set())
                self.assertEqual(set(pod.env) - variables, set())

    def test_shard_knows_who_it_is(self):
        shards = self.kubelet(self.sets["tls"]).pods(self.one(self.sets["tls"], "StatefulSet"))
        self.assertEqual([pod.env["CAIRN_ID"] for pod in shards], ["test-cairn-shard-%d" % i for i in range(5)])
        listed = [line.split("=") for line in self.shards_file("tls")]
        self.assertEqual([[("s%d" % i), pod.env["CAIRN_ADVERTISE"]] for i, pod in enumerate(shards)], listed)
        for pod in shards:
            self.assertEqual(pod.command[1:6], ["serve", "--role", "shard", "--data", "/var/lib/cairn/data"])

    def shards_file(self, name):
        """The lines of the file that the first router is given, found by its own command line."""
        kubelet = self.kubelet(self.sets[name])
        manifest = self.one(self.sets[name], "Deployment")
        router = kubelet.pod(manifest, pods.pod_template(manifest), "router-0")
        argv = router.argv(BIN)
        with open(argv[argv.index("--shards-file") + 1], encoding="ascii") as text:
            return text.read().splitlines()

    def test_shards_file_lists_each_shard_once(self):
        for name, count, scheme in (("defaults", 3, "http"), ("tls", 5, "https"), ("keys", 1, "http")):
            shard = "vectors-shard" if name == "keys" else "test-cairn-shard"
            expected = ["s%d=%s://%s-%d.%s.default.svc.cluster.local:8080" % (i, scheme, shard, i, shard)
                        for i in range(count)]
            self.assertEqual(self.shards_file(name), expected)

    def test_every_url_is_a_name_of_a_pod(self):
        for name, manifests in self.sets.items():
            if name == "scaled":
                continue  # the Deployment leaves the number of routers to the autoscaler
            kubelet = self.kubelet(manifests)
            known = {host for _, host in kubelet.host_names(kubelet.all_pods())}
            jobs = [pod for manifest in select(manifests, "Job") for pod in kubelet.pods(manifest)]
            urls = self.shards_file(name) + [word for pod in jobs for word in pod.command if "://" in word]
            for url in urls:
                host, port = re.search(r"https?://([^:/]+):(\d+)$", url).groups()
                self.assertIn(host, known)
                self.assertEqual(port, "8080")

    def test_probes_hit_paths_that_exist(self):
        with open(os.path.join(ROOT, "api/openapi.yaml"), encoding="utf-8") as text:
            paths = yaml.safe_load(text)["paths"]
        for name, pod in self.every_pod():
            if pod.component == "rebalance":
                continue
            scheme = "https" if name == "tls" else "http"
            self.assertEqual(pod.probe("startup"), (scheme, "/healthz"))
            self.assertEqual(pod.probe("liveness"), (scheme, "/healthz"))
            self.assertEqual(pod.probe("readiness"), (scheme, "/readyz"))
            for kind in ("startup", "liveness", "readiness"):
                self.assertIn("get", paths[pod.probe(kind)[1]])
                self.assertEqual(pod.container[kind + "Probe"]["httpGet"]["port"], pod.container["ports"][0]["name"])
            self.assertIn("%s:%d" % ("0.0.0.0", pod.port), pod.command)

    def test_a_long_replay_is_waited_for(self):
        for count, seconds in ((720, 3600), (1, 5), (2, 6)):
            manifests = self.helm.render(shard__startupSeconds=seconds)
            shard = pods.pod_template(self.one(manifests, "StatefulSet"))["spec"]["containers"][0]
            self.assertEqual(shard["startupProbe"]["failureThreshold"], count)
            self.assertEqual(shard["startupProbe"]["periodSeconds"], 5)

    def test_drain_ends_before_the_kill(self):
        for _, pod in self.every_pod():
            if pod.component != "rebalance":
                hook = pod.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
                self.assertGreater(pod.spec["terminationGracePeriodSeconds"], DRAIN_S + int(hook[1]))
        self.refused("router.terminationGracePeriodSeconds", router__preStopSleepSeconds=30)


class Objects(ChartTest):
    def test_pods_are_confined(self):
        for name, pod in self.every_pod():
            with self.subTest(values=name, pod=pod.name):
                self.assertIs(pod.spec["automountServiceAccountToken"], False)
                self.assertIs(pod.spec["enableServiceLinks"], False)
                self.assertIs(pod.spec["securityContext"]["runAsNonRoot"], True)
                self.assertEqual(pod.spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                self.assertEqual(len(pod.spec["containers"]), 1)
                context = pod.container["securityContext"]
                self.assertEqual(context, {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                           "capabilities": {"drop": ["ALL"]}})
                self.assertIn("memory", pod.container["resources"]["limits"])

    def test_budgets_and_services_select_the_right_pods(self):
        for name, manifests in self.sets.items():
            templates = [manifest for manifest in manifests if pods.pod_template(manifest)]
            for kind in ("PodDisruptionBudget", "Service", "NetworkPolicy"):
                for each in select(manifests, kind):
                    selector = each["spec"]["podSelector" if kind == "NetworkPolicy" else "selector"]
                    selector = selector.get("matchLabels", selector)
                    chosen = {other["metadata"]["name"] for other in templates
                              if pods.matches(selector, pods.pod_template(other)["metadata"]["labels"])}
                    component = each["metadata"]["labels"]["app.kubernetes.io/component"]
                    workload = {"router": "Deployment", "shard": "StatefulSet"}[component]
                    self.assertEqual(chosen, {self.one(manifests, workload)["metadata"]["name"]}, (name, kind))
            budgets = select(manifests, "PodDisruptionBudget")
            self.assertEqual(len(budgets), 0 if name == "keys" else 2)
            for budget in budgets:
                self.assertEqual(budget["spec"]["maxUnavailable"], 1)

    def test_workloads_select_their_own_pods_only(self):
        for manifests in self.sets.values():
            for each in select(manifests, "Deployment") + select(manifests, "StatefulSet"):
                for other in filter(pods.pod_template, manifests):
                    self.assertEqual(pods.matches(each["spec"]["selector"]["matchLabels"],
                                                  pods.pod_template(other)["metadata"]["labels"]), each is other)

    def test_shards_start_at_once_and_are_named_before_they_are_ready(self):
        manifests = self.sets["defaults"]
        shards = self.one(manifests, "StatefulSet")
        service = self.one(manifests, "Service", "shard")
        self.assertEqual(shards["spec"]["podManagementPolicy"], "Parallel")
        self.assertEqual(shards["spec"]["serviceName"], service["metadata"]["name"])
        self.assertEqual((service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]), ("None", True))
        self.assertNotIn("persistentVolumeClaimRetentionPolicy", shards["spec"])
        claim = shards["spec"]["volumeClaimTemplates"][0]["spec"]
        self.assertEqual((claim["resources"]["requests"]["storage"], claim["accessModes"]), ("10Gi", ["ReadWriteOnce"]))
        claim = self.one(self.sets["tls"], "StatefulSet")["spec"]
        self.assertEqual(claim["persistentVolumeClaimRetentionPolicy"],
                         {"whenScaled": "Delete", "whenDeleted": "Retain"})
        self.assertEqual(claim["volumeClaimTemplates"][0]["spec"]["storageClassName"], "fast")

    def test_placement(self):
        for name, kind, rule in (("defaults", "StatefulSet", "preferred"), ("tls", "StatefulSet", "required"),
                                 ("keys", "Deployment", "required"), ("keys", "StatefulSet", None)):
            manifest = self.one(self.sets[name], kind)
            spec = pods.pod_template(manifest)["spec"]
            if rule is None:
                self.assertNotIn("affinity", spec)
                continue
            (key, terms), = spec["affinity"]["podAntiAffinity"].items()
            self.assertTrue(key.startswith(rule))
            term = terms[0].get("podAffinityTerm", terms[0])
            self.assertEqual(term["labelSelector"]["matchLabels"], manifest["spec"]["selector"]["matchLabels"])
        shards = self.one(self.sets["tls"], "StatefulSet")
        spec = pods.pod_template(shards)["spec"]
        self.assertEqual(spec["topologySpreadConstraints"],
                         [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
                           "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": shards["spec"]["selector"]}])
        self.assertEqual((spec["nodeSelector"], spec["priorityClassName"]), ({"disk": "nvme"}, "storage"))
        self.assertEqual(spec["tolerations"][0]["key"], "dedicated")

    def test_autoscaler_owns_the_number_of_routers(self):
        manifests = self.sets["scaled"]
        scaler = self.one(manifests, "HorizontalPodAutoscaler")
        router = self.one(manifests, "Deployment")
        self.assertNotIn("replicas", router["spec"])
        self.assertEqual(scaler["spec"]["scaleTargetRef"],
                         {"apiVersion": "apps/v1", "kind": "Deployment", "name": router["metadata"]["name"]})
        self.assertEqual((scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]), (3, 12))
        self.assertEqual(select(self.sets["defaults"], "HorizontalPodAutoscaler"), [])
        self.assertEqual(self.one(self.sets["defaults"], "Deployment")["spec"]["replicas"], 2)
        self.refused("maxReplicas", router__autoscaling__enabled="true", router__autoscaling__maxReplicas=1)

    def test_monitor_selects_both_services(self):
        for name, scheme in (("scaled", "http"), ("tls", "https")):
            monitor = self.one(self.sets[name], "ServiceMonitor")["spec"]
            for service in select(self.sets[name], "Service"):
                labels = service["metadata"]["labels"]
                self.assertTrue(pods.matches(monitor["selector"]["matchLabels"], labels))
                self.assertIn(labels["app.kubernetes.io/component"], monitor["selector"]["matchExpressions"][0]["values"])
                self.assertIn(monitor["endpoints"][0]["port"], [port["name"] for port in service["spec"]["ports"]])
            self.assertEqual((monitor["endpoints"][0]["scheme"], monitor["endpoints"][0]["path"]), (scheme, "/metrics"))
        self.assertEqual(monitor["endpoints"][0]["authorization"]["credentials"],
                         {"name": "prometheus-keys", "key": "cairn"})
        self.refused("serviceMonitor.keySecret", values_file("keys"), serviceMonitor__enabled="true")

    def test_network_policy_lets_in_who_must_come_in(self):
        shard, router = (self.one(self.sets["scaled"], "NetworkPolicy", component)["spec"]["ingress"][0]["from"]
                         for component in ("shard", "router"))
        def components(peers):
            return [peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in peers
                    if "podSelector" in peer]
        self.assertEqual(components(shard), ["router", "shard"])
        self.assertEqual(components(router), ["rebalance"])
        monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        self.assertIn(monitoring, shard)
        self.assertIn(monitoring, router)
        self.assertIn({"namespaceSelector": {"matchLabels": {"team": "search"}}}, router)
        anybody = self.one(self.helm.render(networkPolicy__enabled="true"), "NetworkPolicy", "router")
        self.assertNotIn("from", anybody["spec"]["ingress"][0])

    def test_account_without_token(self):
        self.assertIs(self.one(self.sets["defaults"], "ServiceAccount")["automountServiceAccountToken"], False)
        self.assertEqual(select(self.sets["tls"], "ServiceAccount"), [])
        names = {pod.spec["serviceAccountName"] for name, pod in self.every_pod() if name == "defaults"}
        self.assertEqual(names, {"test-cairn"})


class Secrets(ChartTest):
    keys = ("ci-only-read-key", "ci-only-write-key", "ci-only-cluster-key")

    def test_values_make_a_secret_that_the_program_reads(self):
        manifests = self.sets["keys"]
        kubelet = self.kubelet(manifests)
        shard = kubelet.pods(self.one(manifests, "StatefulSet"))[0]
        argv = shard.argv(BIN)
        with open(argv[argv.index("--api-keys-file") + 1], encoding="ascii") as text:
            self.assertEqual(text.read().splitlines(), ["admin ci-only-cluster-key", "read ci-only-read-key",
                                                        "write:users,words ci-only-write-key"])
        with open(argv[argv.index("--cluster-key-file") + 1], encoding="ascii") as text:
            self.assertEqual(text.read(), "ci-only-cluster-key")

    def test_no_secret_outside_of_a_secret(self):
        for each in self.sets["keys"]:
            if each["kind"] != "Secret":
                for key in self.keys:
                    self.assertNotIn(key, yaml.safe_dump(each))

    def test_notes_warn_and_tell_no_secret(self):
        for name, open_door in (("defaults", True), ("scaled", True), ("keys", False), ("tls", False)):
            notes = self.notes(name)
            self.assertEqual("WARNING: no API keys" in notes, open_door, name)
            self.assertEqual("WARNING: traffic is not encrypted" in notes, name != "tls", name)
            self.assertEqual("WARNING: rebalance.enabled is false" in notes, name == "keys", name)
            for key in self.keys:
                self.assertNotIn(key, notes)

    def notes(self, name):
        """NOTES.txt, which `helm template` leaves out, rendered as the content of a ConfigMap in a copy of the chart."""
        chart = os.path.join(self.folder, name, "cairn")
        shutil.copytree(CHART, chart)
        templates = os.path.join(chart, "templates")
        with open(os.path.join(templates, "NOTES.txt"), encoding="utf-8") as text:
            notes = text.read()
        with open(os.path.join(templates, "notes.yaml"), "w", encoding="utf-8") as text:
            text.write('{{- define "notes" -}}\n' + notes + '{{- end -}}\nkind: ConfigMap\ndata:\n  notes: |-\n'
                       '    {{- include "notes" . | nindent 4 }}\n')
        shown = self.helm.run("template", "test", chart, "--kube-version", pods.KUBERNETES, "--values",
                              values_file(name), "--show-only", "templates/notes.yaml")
        return yaml.safe_load(shown)["data"]["notes"]

    def test_nothing_is_asked_for_when_no_key_is_given(self):
        for name in ("defaults", "scaled"):
            self.assertEqual(select(self.sets[name], "Secret"), [])
            self.assertNotIn("--api-keys-file", yaml.safe_dump_all(self.sets[name]))
            self.assertNotIn("secretKeyRef", yaml.safe_dump_all(self.sets[name]))

    def test_existing_secrets_are_used_and_none_is_made(self):
        manifests = self.sets["tls"]
        self.assertEqual(select(manifests, "Secret"), [])
        for pod in self.kubelet(manifests).all_pods():
            argv = pod.argv(BIN)
            for flag, content in (("--cluster-key-file", "outside-cluster-key"), ("--tls-cert", "certificate"),
                                  ("--tls-key", "private key"), ("--ca-file", "authority")):
                with open(argv[argv.index(flag) + 1], encoding="ascii") as text:
                    self.assertEqual(text.read(), content)

    def test_jobs_have_the_key_and_the_authority_and_no_more(self):
        jobs = [pod for manifest in select(self.sets["tls"], "Job") for pod in self.kubelet(self.sets["tls"]).pods(manifest)]
        self.assertEqual(len(jobs), 2)
        for job in jobs:
            self.assertEqual(job.env, {"CAIRN_API_KEY": "outside-cluster-key"})
            self.assertEqual(os.listdir(job.mounts["/etc/cairn/tls"]), ["ca.crt"])

    def test_changed_keys_restart_the_processes(self):
        def annotations(**settings):
            return [pods.pod_template(each)["metadata"]["annotations"]["checksum/auth"]
                    for each in self.helm.render(values_file("keys"), **settings)
                    if each["kind"] in ("Deployment", "StatefulSet")]
        before, after = annotations(), annotations(auth__clusterKey="ci-only-another-key")
        self.assertEqual(len(set(before)), 1)
        self.assertEqual(len(set(before + after)), 2)

    def test_half_of_the_keys_is_refused(self):
        self.refused("auth.clusterKey is needed", values_file("keys"), auth__clusterKey="")
        self.refused("auth.clusterKey without auth.apiKeys", auth__clusterKey="ci-only-cluster-key")


class Scaling(ChartTest):
    def jobs(self, *files, **settings):
        """{"drain": (manifest, command), "add": …} of the two Jobs."""
        manifests = self.helm.render(*files, **settings)
        found = {}
        for manifest in select(manifests, "Job"):
            pod = self.kubelet(manifests).pods(manifest)[0]
            found["drain" if pods.is_hook(manifest) else "add"] = (manifest, pod.command)
        return found

    def test_from_four_to_two(self):
        self.assertEqual(self.jobs(shard__count=4)["drain"][1][3:7], self.jobs(shard__count=4)["add"][1][3:7])
        jobs = self.jobs(shard__count=2, upgrade=True)
        domain = "test-cairn-shard.default.svc.cluster.local:8080"
        shards = ["s0=http://test-cairn-shard-0." + domain, "s1=http://test-cairn-shard-1." + domain]
        url = ["--url", "http://test-cairn.default.svc.cluster.local:8080"]
        self.assertEqual(jobs["drain"][1], [pods.ENTRYPOINT, "rebalance", "to", *shards, "--only-drain", "--wait", *url])
        self.assertEqual(jobs["add"][1], [pods.ENTRYPOINT, "rebalance", "to", *shards, "--only-add", "--wait", *url])

    def test_drain_comes_before_the_pods_go(self):
        manifest = self.jobs(upgrade=True)["drain"][0]
        self.assertEqual(manifest["metadata"]["annotations"],
                         {"helm.sh/hook": "pre-upgrade,pre-rollback",
                          "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"})

    def test_a_lost_pod_of_a_job_is_started_again(self):
        for manifest, _ in self.jobs().values():
            self.assertEqual(manifest["spec"]["template"]["spec"]["restartPolicy"], "OnFailure")
            self.assertGreater(manifest["spec"]["backoffLimit"], 0)

    def test_a_job_that_cannot_be_changed_is_another_job(self):
        names = {self.jobs(**settings)["add"][0]["metadata"]["name"]
                 for settings in ({}, {"shard__count": 4}, {"image__tag": "0.2.0"})}
        self.assertEqual(len(names), 3)

    def test_switched_off(self):
        self.assertEqual(self.jobs(values_file("keys")), {})


class Refusals(ChartTest):
    def test_bad_values(self):
        for settings, text in (
                ({"shard__count": -1}, "shard.count"), ({"shard__count": 0}, "shard.count"),
                ({"shard__count": 257}, "shard.count"), ({"shard__count": "many"}, "shard.count"),
                ({"shards__count": 2}, "shards"), ({"shard__cuont": 2}, "cuont"),
                ({"router__replicas": 0}, "router.replicas"), ({"port": 80}, "port"),
                ({"shard__antiAffinity": "sometimes"}, "shard.antiAffinity"),
                ({"shard__terminationGracePeriodSeconds": 30}, "shard.terminationGracePeriodSeconds"),
                ({"shard__persistence__size": "much"}, "shard.persistence.size"),
                ({"shard__persistence__accessModes[0]": "ReadWriteMany"}, "accessModes"),
                ({"shard__topologySpreadConstraints[0].maxSkew": 1}, "topologySpreadConstraints"),
                ({"auth__clusterKey": "short"}, "auth.clusterKey"),
                ({"auth__apiKeys[0].role": "root", "auth__apiKeys[0].key": "k"}, "auth.apiKeys.0.role"),
                ({"auth__apiKeys[0].role": "read", "auth__apiKeys[0].key": "a b"}, "auth.apiKeys.0.key"),
                ({"logLevel": "loud"}, "logLevel"), ({"service__type": "ExternalName"}, "service.type"),
                ({"runAsUser": 0}, "runAsUser"), ({"fullnameOverride": "Upper"}, "fullnameOverride"),
                ({"serviceMonitor__interval": "often"}, "serviceMonitor.interval")):
            with self.subTest(settings):
                self.refused(text, **settings)

    def test_limits_are_taken(self):
        self.assertEqual(self.one(self.helm.render(shard__count=256), "StatefulSet")["spec"]["replicas"], 256)
        self.assertEqual(self.one(self.helm.render(shard__count=1), "StatefulSet")["spec"]["replicas"], 1)


if __name__ == "__main__":
    unittest.main()
