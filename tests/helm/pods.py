"""What the chart makes of values: manifests, and from them the exact processes of every pod.

`render` runs `helm template`. `pods` then does what a kubelet does between a manifest and exec: it resolves
fieldRef, secretKeyRef and $(NAME), writes mounted ConfigMaps and Secrets to files, and makes folders for volumes. The
container's paths become paths below a folder of the pod, so that the commands run without a container."""
import base64
import os
import re
import subprocess
import tempfile

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CHART = os.path.join(ROOT, "helm/cairn")
CI_VALUES = os.path.join(CHART, "ci")
# A helm built from its module has no version of Kubernetes in it.
KUBERNETES = "1.28.0"
CLUSTER_DOMAIN = "cluster.local"
ENTRYPOINT = "/usr/bin/cairn"


class HelmError(Exception):
    pass


def find_helm():
    """The helm that scripts/setup-helm made, or that HELM names; it is built when it is missing."""
    done = subprocess.run([os.path.join(ROOT, "scripts/setup-helm")], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


class Helm:
    def __init__(self):
        self.path = find_helm()
        self.home = tempfile.TemporaryDirectory(prefix="cairn-helm-")

    def close(self):
        self.home.cleanup()

    def run(self, *arguments):
        """Standard output; HelmError with what helm said when it fails."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        for kind in ("CACHE", "CONFIG", "DATA"):
            environment["HELM_%s_HOME" % kind] = os.path.join(self.home.name, kind.lower())
        done = subprocess.run([self.path, *arguments], env=environment, capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=120)
        if done.returncode != 0:
            raise HelmError(done.stdout + done.stderr)
        return done.stdout

    def render(self, *values_files, release="test", namespace="default", upgrade=False, **settings):
        """Manifests as dictionaries, in helm's order. Settings: shard__count=3 is --set shard.count=3."""
        arguments = ["template", release, CHART, "--namespace", namespace, "--kube-version", KUBERNETES]
        if upgrade:
            arguments.append("--is-upgrade")
        for file in values_files:
            arguments += ["--values", file]
        for name, value in settings.items():
            arguments += ["--set", "%s=%s" % (name.replace("__", "."), value)]
        return [manifest for manifest in yaml.safe_load_all(self.run(*arguments)) if manifest is not None]


def select(manifests, kind, component=None):
    """The manifests of a kind, and of a component if one is named."""
    return [manifest for manifest in manifests if manifest["kind"] == kind and component in (
        None, manifest["metadata"]["labels"]["app.kubernetes.io/component"])]


def is_hook(manifest):
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def pod_template(manifest):
    """The pod template of a workload, or None."""
    return manifest["spec"]["template"] if manifest["kind"] in ("Deployment", "StatefulSet", "Job") else None


def matches(selector, labels):
    return all(labels.get(name) == value for name, value in selector.items())


class Pod:
    """One pod with one container.

    command  exactly what the container runs     argv  the same with paths of this machine
    env      exactly its environment             environment  the same with paths of this machine
    mounts   path in the container -> folder of this machine
    """

    def __init__(self, manifest, name, namespace, spec, labels):
        self.manifest = manifest
        self.name = name
        self.namespace = namespace
        self.labels = labels
        self.spec = spec
        self.component = labels["app.kubernetes.io/component"]
        self.container = spec["containers"][0]
        self.port = (self.container.get("ports") or [{"containerPort": None}])[0]["containerPort"]
        self.mounts = {}
        self.env = {}
        self.command = []

    def probe(self, kind):
        """(scheme, path) of the startup, liveness or readiness probe."""
        get = self.container[kind + "Probe"]["httpGet"]
        return get["scheme"].lower(), get["path"]

    def local(self, text, program):
        """`text` with the paths of the container replaced by those of this machine."""
        if text == ENTRYPOINT:
            return program
        for path, folder in self.mounts.items():
            if text == path or text.startswith(path + "/"):
                return folder + text[len(path):]
        return text

    def argv(self, program):
        return [self.local(word, program) for word in self.command]

    def environment(self, program):
        return {name: self.local(value, program) for name, value in self.env.items()}


def expand(text, env):
    """$(NAME) as Kubernetes does it: unknown names stay, $$ is a dollar."""
    def replace(match):
        if match.group(0) == "$$":
            return "$"
        return env.get(match.group(1), match.group(0))
    return re.sub(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", replace, text)


def secret_items(manifests, secrets):
    """Every Secret's items as bytes: those of the manifests, and `secrets` that exist beside them."""
    found = {name: {item: value.encode() if isinstance(value, str) else value for item, value in items.items()}
             for name, items in secrets.items()}
    for manifest in select(manifests, "Secret"):
        found[manifest["metadata"]["name"]] = {item: base64.b64decode(value)
                                               for item, value in manifest["data"].items()}
    return found


def config_items(manifests):
    return {manifest["metadata"]["name"]: {item: value.encode() for item, value in manifest["data"].items()}
            for manifest in select(manifests, "ConfigMap")}


def write_items(items, chosen, folder):
    os.makedirs(folder, exist_ok=True)
    for item in chosen or [{"key": key, "path": key} for key in items]:
        with open(os.path.join(folder, item["path"]), "wb") as file:
            file.write(items[item["key"]])


class Kubelet:
    """Turns workloads into pods. Files go below `folder`, one folder a pod; a pod of the same name finds its volumes
    again."""

    def __init__(self, manifests, folder, secrets=None, namespace="default"):
        self.manifests = manifests
        self.folder = folder
        self.namespace = namespace
        self.secrets = secret_items(manifests, secrets or {})
        self.configs = config_items(manifests)

    def pods(self, manifest):
        """The pods of a Deployment, StatefulSet or Job."""
        template = pod_template(manifest)
        count = 1 if manifest["kind"] == "Job" else manifest["spec"]["replicas"]
        return [self.pod(manifest, template, "%s-%d" % (manifest["metadata"]["name"], i)) for i in range(count)]

    def all_pods(self):
        """Every pod that stays: the Jobs' are not among them."""
        return [pod for manifest in self.manifests if manifest["kind"] in ("Deployment", "StatefulSet")
                for pod in self.pods(manifest)]

    def pod(self, manifest, template, name):
        pod = Pod(manifest, name, self.namespace, template["spec"], template["metadata"]["labels"])
        claims = [claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])]
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        for mount in pod.container.get("volumeMounts", []):
            folder = os.path.join(self.folder, name, mount["mountPath"].strip("/"))
            pod.mounts[mount["mountPath"]] = folder
            if mount["name"] in claims:
                os.makedirs(folder, exist_ok=True)
            else:
                self.fill(volumes[mount["name"]], folder)
        for variable in pod.container.get("env", []):
            pod.env[variable["name"]] = self.value(variable, pod)
        words = pod.container.get("command", [ENTRYPOINT]) + pod.container.get("args", [])
        pod.command = [expand(word, pod.env) for word in words]
        return pod

    def fill(self, volume, folder):
        if "secret" in volume:
            write_items(self.secrets[volume["secret"]["secretName"]], volume["secret"].get("items"), folder)
        elif "configMap" in volume:
            write_items(self.configs[volume["configMap"]["name"]], volume["configMap"].get("items"), folder)
        else:
            raise ValueError("a volume of a kind that is not known here: %s" % volume)

    def value(self, variable, pod):
        if "value" in variable:
            return expand(variable["value"], pod.env)
        source = variable["valueFrom"]
        if "fieldRef" in source:
            return {"metadata.name": pod.name, "metadata.namespace": pod.namespace}[source["fieldRef"]["fieldPath"]]
        reference = source["secretKeyRef"]
        return self.secrets[reference["name"]][reference["key"]].decode()

    def host_names(self, pods):
        """[(pod, DNS name)]: the name of each StatefulSet pod, and for each Service its name for every pod that it
        selects."""
        names = []
        for service in select(self.manifests, "Service"):
            domain = "%s.%s.svc.%s" % (service["metadata"]["name"], self.namespace, CLUSTER_DOMAIN)
            for pod in pods:
                if not matches(service["spec"]["selector"], pod.labels):
                    continue
                names.append((pod, domain))
                if pod.manifest["spec"].get("serviceName") == service["metadata"]["name"]:
                    names.append((pod, "%s.%s" % (pod.name, domain)))
        return names
