#!/usr/bin/env python3
"""The chart's pods without Kubernetes: the very commands that it renders, each in a network namespace of its own.

Three shards and two routers are started; entities are written and read through each router. Under a steady load of
writes the cluster is scaled to four shards and then to two, by the commands of the chart's Jobs. Then one shard's
link is made slow and lossy, cut, and mended.

Usage: run_pods.py [--seed N] [--tls] [--keep]      (binary: CAIRN_BIN, default build/cairn; needs root and helm)

With --tls every call is encrypted, with a certificate as helm/README.md asks for. --keep leaves the folder with the pods' files and logs."""
import argparse
import http.client
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/helm"))
sys.dont_write_bytecode = True

import network  # noqa: E402
import pods  # noqa: E402

BIN = os.path.abspath(os.environ.get("CAIRN_BIN", os.path.join(ROOT, "build/cairn")))
READY_S = 60
JOB_S = 300
JOB_TRIES_MAX = 20
ENTITIES = 400
WRITERS = 2
DIM = 4
COLLECTION = "/v1/collections/pods"
SCHEMA = {"features": {"n": {"type": "int64"}},
          "vectors": {"v": {"dim": DIM, "metric": "l2", "index": {"kind": "flat"}}}}
READ_KEY, WRITE_KEY, CLUSTER_KEY = "test-read-key", "test-write-key", "test-cluster-key-0123456789"
VALUES = {"auth": {"clusterKey": CLUSTER_KEY, "apiKeys": [{"role": "read", "key": READ_KEY},
                                                          {"role": "write", "key": WRITE_KEY}]},
          "router": {"replicas": 2, "preStopSleepSeconds": 0}}


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.bytes = response.read()

    @property
    def json(self):
        return json.loads(self.bytes)

    def __str__(self):
        return "%d %s" % (self.status, self.bytes[:300].decode("utf-8", "replace"))


def wait_for(what, condition, seconds):
    """Poll until the condition holds; what it last said is in the error."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value is True:
            return
        if time.monotonic() > deadline:
            raise AssertionError("not within %d s: %s (%s)" % (seconds, what, value))
        time.sleep(0.02)


class Process:
    """A pod's process in its namespace."""

    def __init__(self, cluster, pod):
        self.cluster = cluster
        self.pod = pod
        self.host = cluster.network.hosts.get(pod.name) or cluster.network.add(pod.name)
        self.log_path = os.path.join(cluster.folder, pod.name + ".log")
        self.process = None

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CAIRN_")}
        environment.update(self.pod.environment(BIN))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.cluster.network.command(self.host, self.pod.argv(BIN)),
                                            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self):
        """As Kubernetes does: SIGTERM, and SIGKILL when the grace period is over. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(self.pod.spec["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("%s did not end in its grace period" % self.pod.name) from None

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log_tail(self):
        with open(self.log_path, "rb") as file:
            return file.read()[-3000:].decode("utf-8", "replace")

    def request(self, method, path, body=None, key=WRITE_KEY, timeout_s=30, headers=None):
        connection = self.cluster.connection(self.host.address, self.pod.port, timeout_s)
        try:
            sent = {"Authorization": "Bearer " + key, **(headers or {})}
            if body is not None:
                body = json.dumps(body).encode()
                sent["Content-Type"] = "application/json"
            connection.request(method, path, body=body, headers=sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def probe(self, kind):
        """True when the probe succeeds, else what it met."""
        if self.process.poll() is not None:
            raise AssertionError("%s ended with %d:\n%s" % (self.pod.name, self.process.returncode, self.log_tail()))
        _, path = self.pod.probe(kind)
        try:
            status = self.request("GET", path, timeout_s=3).status
        except (OSError, http.client.HTTPException) as error:
            return "%s: %s" % (path, error)
        return True if 200 <= status < 400 else "%s: %d" % (path, status)


class Certificate:
    """An authority and a certificate of it, good for the client Service and for every shard's pod."""

    secret = "cairn-tls"
    names = ("test-cairn.default.svc.cluster.local", "*.test-cairn-shard.default.svc.cluster.local")

    def __init__(self, folder):
        self.folder = os.path.join(folder, "tls")
        os.mkdir(self.folder)
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt")
        with open(os.path.join(self.folder, "extensions"), "w", encoding="ascii") as file:
            file.write("subjectAltName=" + ",".join("DNS:" + name for name in self.names))
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=cairn",
                     "-keyout", "tls.key", "-out", "request")
        self.openssl("x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                     "-days", "2", "-extfile", "extensions", "-out", "tls.crt")
        self.context = ssl.create_default_context(cafile=os.path.join(self.folder, "ca.crt"))
        # Pods are called by their addresses here.
        self.context.check_hostname = False

    def openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def secrets(self):
        items = {}
        for name in ("tls.crt", "tls.key", "ca.crt"):
            with open(os.path.join(self.folder, name), "rb") as file:
                items[name] = file.read()
        return {self.secret: items}


class Cluster:
    """The release: what is rendered, and the pods that run."""

    def __init__(self, helm, net, folder, certificate=None):
        self.certificate = certificate
        self.helm = helm
        self.network = net
        self.folder = folder
        self.values = os.path.join(folder, "values.yaml")
        with open(self.values, "w", encoding="utf-8") as file:
            tls = {"tls": {"existingSecret": certificate.secret}} if certificate else {}
            json.dump({**VALUES, **tls}, file)  # JSON is YAML
        self.running = {}
        self.kubelet = None

    def render(self, shards, upgrade):
        manifests = self.helm.render(self.values, shard__count=shards, upgrade=upgrade)
        self.kubelet = pods.Kubelet(manifests, os.path.join(self.folder, "pods"),
                                    self.certificate.secrets() if self.certificate else None)

    def connection(self, address, port, timeout_s):
        if self.certificate:
            return http.client.HTTPSConnection(address, port, timeout=timeout_s, context=self.certificate.context)
        return http.client.HTTPConnection(address, port, timeout=timeout_s)

    def job(self, hook):
        manifest, = [each for each in pods.select(self.kubelet.manifests, "Job") if pods.is_hook(each) is hook]
        return self.kubelet.pods(manifest)[0]

    def start_missing(self):
        """Start the pods that the manifests have and that do not run."""
        started = []
        for pod in self.kubelet.all_pods():
            if pod.name not in self.running:
                self.running[pod.name] = Process(self, pod)
                started.append(self.running[pod.name])
        self.write_hosts()
        for process in started:
            process.start()
        return started

    def write_hosts(self):
        named = [process.pod for process in self.running.values()]
        self.network.write_hosts([(self.running[pod.name].host.address, name)
                                  for pod, name in self.kubelet.host_names(named)])

    def stop_surplus(self):
        """Stop the pods that the manifests no longer have; {name: exit code}."""
        wanted = {pod.name for pod in self.kubelet.all_pods()}
        codes = {}
        for name in [name for name in self.running if name not in wanted]:
            process = self.running.pop(name)
            codes[name] = process.stop()
            self.network.remove(name)
        return codes

    def run_job(self, pod):
        """Run a Job's command until it succeeds, as restartPolicy OnFailure does. Returns how often it was tried."""
        process = Process(self, pod)
        self.write_hosts()
        deadline = time.monotonic() + JOB_S
        try:
            for tries in range(1, JOB_TRIES_MAX + 1):
                process.start()
                try:
                    code = process.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    raise AssertionError("%s did not end in %d s:\n%s" % (pod.name, JOB_S, process.log_tail())) from None
                if code == 0:
                    return tries
                # The back-off of a kubelet, much shortened.
                time.sleep(min(0.2 * 2 ** tries, 5))
            raise AssertionError("%s failed %d times:\n%s" % (pod.name, JOB_TRIES_MAX, process.log_tail()))
        finally:
            process.kill()
            self.network.remove(pod.name)

    def of(self, component):
        return [process for _, process in sorted(self.running.items()) if process.pod.component == component]

    def shard(self, number):
        return next(process for process in self.of("shard") if process.pod.name.endswith("-%d" % number))

    def wait_ready(self, processes):
        for process in processes:
            wait_for(process.pod.name + " ready", lambda each=process: each.probe("readiness"), READY_S)

    def kill(self):
        for process in self.running.values():
            process.kill()


def vector_of(number):
    return [float(number % 17), float(number % 5), float(number % 3), 1.0]


class Entities:
    """Keys with the number last written to each, and the shard that acknowledged it."""

    def __init__(self):
        self.number = {}
        self.shard = {}

    def write(self, router, numbers):
        body = {"entities": [{"key": key, "features": {"n": number}, "vectors": {"v": vector_of(number)}}
                             for key, number in numbers.items()]}
        answer = router.request("POST", COLLECTION + "/entities", body)
        assert answer.status == 200, "a write: %s" % answer
        for result in answer.json["results"]:
            assert result["status"] in ("applied", "unchanged"), result
            self.number[result["key"]] = numbers[result["key"]]
            self.shard[result["key"]] = result["shard"]

    def owned_by(self, shard):
        return sorted(key for key, owner in self.shard.items() if owner == shard)

    def check(self, router, keys=None):
        keys = sorted(self.number) if keys is None else keys
        answer = router.request("POST", COLLECTION + "/entities:get", {"keys": keys, "features": ["n"]}, key=READ_KEY)
        assert answer.status == 200, "a read through %s: %s" % (router.pod.name, answer)
        wrong = {result["key"]: result for result in answer.json["results"]
                 if not result["found"] or result["features"]["n"] != self.number[result["key"]]}
        assert not wrong, "%d of %d keys read through %s are wrong: %s" % (
            len(wrong), len(keys), router.pod.name, list(wrong.items())[:3])
        assert len(answer.json["results"]) == len(keys)


class Load:
    """Writers that go on while keys move. Every write must be acknowledged; afterwards `entities` has what was."""

    def __init__(self, cluster, seed):
        self.cluster = cluster
        self.entities = [Entities() for _ in range(WRITERS)]
        self.failures = []
        self.writes = 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(i, random.Random(seed * 100 + i)), daemon=True)
                        for i in range(WRITERS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def write(self, number, rng):
        routers = self.cluster.of("router")
        sequence = 0
        while not self.stopping.is_set():
            sequence += 1
            keys = ["load-%d-%d" % (number, rng.randrange(200)) for _ in range(3)]
            try:
                self.entities[number].write(rng.choice(routers), {key: sequence for key in keys})
                self.writes += 1
            except (AssertionError, OSError, http.client.HTTPException) as error:
                self.failures.append("writer %d, write %d: %r" % (number, sequence, error))
                time.sleep(0.1)

    def check(self, what):
        assert not self.failures, "%d of %d writes failed during %s: %s" % (
            len(self.failures), self.writes + len(self.failures), what, self.failures[:3])
        assert self.writes > 0, "no write was made during " + what
        for entities in self.entities:
            for router in self.cluster.of("router"):
                entities.check(router)


class Run:
    def __init__(self, cluster, seed):
        self.cluster = cluster
        self.seed = seed
        self.entities = Entities()
        self.routers = []

    def steps(self):
        return [self.start, self.write_and_read, self.keys_are_asked_for, self.scale_up, self.scale_down,
                self.slow_link, self.cut_link, self.router_starts_without_a_shard, self.mended_link, self.shard_restarts,
                self.stop]

    def shards_in_map(self, process):
        answer = process.request("GET", "/v1/cluster", key=READ_KEY)
        assert answer.status == 200, "the cluster's state from %s: %s" % (process.pod.name, answer)
        # A drained shard still tells of itself where it runs.
        return sorted(shard["id"] for shard in answer.json["shards"] if shard["share"] > 0)

    def expect_shards(self, count):
        expected = ["s%d" % i for i in range(count)]
        for router in self.routers:
            wait_for("%s knows %s" % (router.pod.name, expected),
                     lambda each=router: self.shards_in_map(each) == expected, READY_S)

    def start(self):
        self.cluster.render(3, upgrade=False)
        started = self.cluster.start_missing()
        self.cluster.wait_ready(started)
        self.routers = self.cluster.of("router")
        assert (len(self.routers), len(self.cluster.of("shard"))) == (2, 3)
        for process in started:
            assert process.probe("liveness") is True
        self.expect_shards(3)
        # On a new cluster there is nothing to add.
        self.cluster.run_job(self.cluster.job(hook=False))
        self.expect_shards(3)

    def write_and_read(self):
        answer = self.routers[0].request("PUT", COLLECTION, SCHEMA, key=CLUSTER_KEY)
        assert answer.status == 201, "the collection: %s" % answer
        for i in range(0, ENTITIES, 50):
            router = self.routers[i // 50 % len(self.routers)]
            self.entities.write(router, {"k%d" % j: j for j in range(i, i + 50)})
        assert sorted(set(self.entities.shard.values())) == ["s0", "s1", "s2"], set(self.entities.shard.values())
        for router in self.routers:
            self.entities.check(router)
            self.expect_search(router)

    def expect_search(self, router, complete=True, **asked):
        answer = router.request("POST", COLLECTION + "/search", {"vector": vector_of(7), "k": 20, **asked}, key=READ_KEY)
        assert answer.status == 200, "a search through %s: %s" % (router.pod.name, answer)
        assert answer.headers["Cairn-Complete"] == ("true" if complete else "false"), answer.headers["Cairn-Complete"]
        assert len(answer.json["hits"]) == 20
        return answer.json["hits"]

    def keys_are_asked_for(self):
        for process in self.cluster.running.values():
            answer = process.request("GET", "/v1/cluster", key="wrong-key")
            assert answer.status == 401, "%s with a wrong key: %s" % (process.pod.name, answer)

    def scale_up(self):
        """Upgrade from 3 to 4: first the hook, then the pods and the Job of the new revision."""
        with Load(self.cluster, self.seed) as load:
            self.cluster.render(4, upgrade=True)
            self.cluster.run_job(self.cluster.job(hook=True))
            self.expect_shards(3)
            new, = self.cluster.start_missing()
            wait_for("the new shard lives", lambda: new.probe("liveness"), READY_S)
            assert new.probe("readiness") == "/readyz: 503", "a shard that is in no map is ready"
            self.cluster.run_job(self.cluster.job(hook=False))
            self.cluster.wait_ready([new])
            self.expect_shards(4)
        load.check("scaling up")
        for router in self.routers:
            self.entities.check(router)
            self.expect_search(router)
        self.rewrite()
        assert sorted(set(self.entities.shard.values())) == ["s0", "s1", "s2", "s3"], "the new shard owns nothing"

    def rewrite(self):
        """Write every key again: the answers tell who owns it now."""
        keys = sorted(self.entities.number)
        for i in range(0, len(keys), 50):
            self.entities.write(self.routers[i // 50 % len(self.routers)],
                                {key: self.entities.number[key] + 1000 for key in keys[i:i + 50]})

    def scale_down(self):
        """Upgrade from 4 to 2: the hook drains while the old pods are there, then they go."""
        drained = [self.cluster.shard(2), self.cluster.shard(3)]
        with Load(self.cluster, self.seed + 1) as load:
            self.cluster.render(2, upgrade=True)
            self.cluster.run_job(self.cluster.job(hook=True))
            self.expect_shards(2)
            for process in drained:
                wait_for(process.pod.name + " knows that it owns nothing",
                         lambda each=process: self.shards_in_map(each) == ["s0", "s1"], READY_S)
            codes = self.cluster.stop_surplus()
            assert codes == {process.pod.name: 0 for process in drained}, codes
            self.cluster.run_job(self.cluster.job(hook=False))
            self.expect_shards(2)
        load.check("scaling down")
        for router in self.routers:
            self.entities.check(router)
            self.expect_search(router)
        self.rewrite()
        assert sorted(set(self.entities.shard.values())) == ["s0", "s1"]

    def slow_link(self):
        link = self.cluster.shard(1).host.link
        link.delay_s, link.loss = 0.05, 0.0
        started = time.monotonic()
        assert self.cluster.shard(1).probe("liveness") is True
        elapsed_s = time.monotonic() - started
        assert elapsed_s >= 4 * link.delay_s, "a handshake and a request took %.3f s on a slow link" % elapsed_s
        link.loss = 0.02
        try:
            for router in self.routers:
                self.entities.check(router)
                self.expect_search(router)
            self.rewrite()
        finally:
            link.delay_s, link.loss = 0.0, 0.0

    def unavailable(self, router, path, body):
        answer = router.request("POST", COLLECTION + path, body, headers={"Cairn-Timeout": "3s"})
        assert answer.status == 503, "%s through %s while s1 is cut off: %s" % (path, router.pod.name, answer)
        assert answer.json["code"] == "shard_unavailable", answer

    def cut_link(self):
        """From here until it is mended s1 cannot be reached."""
        self.cluster.network.cut(self.cluster.shard(1).host)
        for router in self.routers:
            self.expect_cut(router)

    def expect_cut(self, router):
        near, far = self.entities.owned_by("s0"), self.entities.owned_by("s1")
        self.entities.check(router, near)
        self.entities.write(router, {near[0]: self.entities.number[near[0]]})
        self.unavailable(router, "/entities:get", {"keys": far[:1], "features": ["n"]})
        # Whether such a write is applied once the link is back nobody knows: it writes what is there.
        self.unavailable(router, "/entities", {"entities": [{"key": far[0],
                                                             "features": {"n": self.entities.number[far[0]]}}]})
        self.unavailable(router, "/search", {"vector": vector_of(7), "k": 20})
        hits = self.expect_search(router, complete=False, allow_partial=True)
        strangers = [hit["key"] for hit in hits if self.entities.shard.get(hit["key"]) == "s1"]
        assert not strangers, "hits of a shard that is cut off: %s" % strangers
        assert router.probe("readiness") is True, "a router is ready while one shard of its map can be reached"

    def router_starts_without_a_shard(self):
        router = self.routers[1]
        assert router.stop() == 0
        router.start()
        self.cluster.wait_ready([router])
        self.expect_cut(router)

    def mended_link(self):
        self.cluster.network.mend(self.cluster.shard(1).host)
        far = self.entities.owned_by("s1")
        body = {"keys": far, "features": ["n"]}
        for router in self.routers:
            wait_for("keys of s1 are read again", lambda each=router: each.request(
                "POST", COLLECTION + "/entities:get", body).status == 200, READY_S)
        for router in self.routers:
            self.entities.check(router)
            self.expect_search(router)
        self.rewrite()

    def shard_restarts(self):
        """A rolling update of the shards, one after the other."""
        for shard in reversed(self.cluster.of("shard")):
            assert shard.stop() == 0
            shard.start()
            self.cluster.wait_ready([shard])
        for router in self.routers:
            wait_for("everything is read again", lambda each=router: each.request(
                "POST", COLLECTION + "/entities:get", {"keys": sorted(self.entities.number)}).status == 200, READY_S)
            self.entities.check(router)

    def stop(self):
        codes = {process.pod.name: process.stop() for process in self.routers + self.cluster.of("shard")}
        assert set(codes.values()) == {0}, codes


def report(run):
    """Do the steps in order. Those after a failed one would fail of it: they are not done, and count as failed."""
    passed = failed = 0
    for step in run.steps():
        name = step.__name__
        if failed:
            failed += 1
            print("not done: " + name)
            continue
        started = time.monotonic()
        try:
            step()
            passed += 1
            print("ok: %s (%.1f s)" % (name, time.monotonic() - started), flush=True)
        except (AssertionError, OSError, RuntimeError, KeyError, http.client.HTTPException) as error:
            failed += 1
            print("FAILED: %s: %s: %s" % (name, type(error).__name__, error))
            for process in run.cluster.running.values():
                print("-- the end of the log of %s\n%s" % (process.pod.name, process.log_tail()), flush=True)
    print("%d passed, %d failed" % (passed, failed))
    return failed == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("run_pods.py makes network namespaces: it needs root")
    print("seed %d" % options.seed, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = tempfile.mkdtemp(prefix="cairn-pods-")
    helm = pods.Helm()
    try:
        with network.Network(options.seed) as net:
            cluster = Cluster(helm, net, folder, Certificate(folder) if options.tls else None)
            try:
                good = report(Run(cluster, options.seed))
            finally:
                cluster.kill()
    finally:
        helm.close()
        if options.keep:
            print("kept " + folder)
        else:
            shutil.rmtree(folder)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
