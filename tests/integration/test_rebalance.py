"""Real processes: shards are added, drained and re-weighted under load, and every party is killed at every step."""
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from api_harness import BIN, DEADLINE_S, JSON

COLLECTION = "/v1/collections/moving"
SCHEMA = {"features": {"n": {"type": "int64"}},
          "vectors": {"v": {"dim": 4, "metric": "l2", "index": {"kind": "flat"}}}}
KEYS = int(os.environ.get("CAIRN_TEST_KEYS", "3000"))


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def environment(failpoint=None):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAIRN_")}
    if failpoint:
        kept["CAIRN_FAILPOINT"] = failpoint
    return kept


class Process:
    """One `cairn serve` with a port of its own, which it keeps over restarts."""

    def __init__(self, folder, name, *flags):
        self.data = os.path.join(folder, name)
        self.log_path = os.path.join(folder, name + ".log")
        self.port = free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.flags = flags
        self.process = None

    def start(self, failpoint=None, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [BIN, "serve", "--data", self.data, "--listen", "127.0.0.1:%d" % self.port, *self.flags],
                stdout=log, stderr=log, env=environment(failpoint))
        if wait:
            self.wait_up()
        return self

    def wait_up(self):
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                if self.request("GET", "/healthz")[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            if self.process.poll() is not None:
                raise AssertionError("%s ended with %s: %s" % (self.data, self.process.returncode, self.tail()))
            time.sleep(0.02)
        raise AssertionError("%s does not answer: %s" % (self.data, self.tail()))

    def tail(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as text:
            return text.read()[-3000:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return 0
        self.process.terminate()
        return self.process.wait(timeout=DEADLINE_S)

    def ended(self):
        return self.process.poll() is not None

    def request(self, method, path, body=None, timeout=DEADLINE_S):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, data, {"Content-Type": JSON} if data else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()


def vector_of(number):
    return [float(number % 97), float(number % 89), float(number % 7), 1.0]


class Writer(threading.Thread):
    """Writes through a process until told to end; what was acknowledged must be there at the end."""

    def __init__(self, process, seed):
        super().__init__()
        self.process, self.random = process, random.Random(seed)
        self.acknowledged, self.sent, self.stopping, self.problems = {}, {}, threading.Event(), []

    def run(self):
        number = 1000000
        while not self.stopping.is_set():
            number += 1
            keys = ["k%d" % self.random.randrange(KEYS) for _ in range(self.random.randrange(1, 8))]
            for key in keys:
                self.sent[key] = number
            body = {"entities": [{"key": key, "features": {"n": number}, "vectors": {"v": vector_of(number)}}
                                 for key in sorted(set(keys))]}
            try:
                status, answer = self.process.request("POST", COLLECTION + "/entities", body, timeout=20)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.05)
                continue
            if status == 200:
                for key in keys:
                    self.acknowledged[key] = number
            elif status not in (429, 503, 504):
                self.problems.append("%s %s" % (status, answer))

    def end(self):
        self.stopping.set()
        self.join()


class Rebalance(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cairn-test-")
        self.processes = []
        self.first = self.process("all", "--role", "all", "--shards", "2", "--copy-share", "100")
        self.expected = {}

    def tearDown(self):
        for process in self.processes:
            if process.process is not None and process.process.poll() is None:
                process.kill()
        shutil.rmtree(self.folder)

    def process(self, name, *flags):
        process = Process(self.folder, name, *flags)
        self.processes.append(process)
        return process

    def shard(self, number):
        return self.process("s%d" % number, "--role", "shard", "--id", "s%d" % number, "--copy-share", "100")

    def fill(self, process):
        self.assertEqual(process.request("PUT", COLLECTION, SCHEMA)[0], 201)
        for at in range(0, KEYS, 1000):
            body = {"entities": [{"key": "k%d" % i, "features": {"n": i}, "vectors": {"v": vector_of(i)}}
                                 for i in range(at, min(KEYS, at + 1000))]}
            status, answer = process.request("POST", COLLECTION + "/entities", body)
            self.assertEqual(status, 200, answer)
        self.expected = {"k%d" % i: i for i in range(KEYS)}

    def cli(self, process, *words, code=0):
        answer = subprocess.run([BIN, "rebalance", *words, "--url", process.url, "--json"], capture_output=True,
                                text=True, env=environment(), timeout=4 * DEADLINE_S, check=False)
        self.assertEqual(answer.returncode, code, answer.stdout + answer.stderr + process.tail())
        return json.loads(answer.stdout) if answer.stdout else None

    def cluster(self, process):
        status, answer = process.request("GET", "/v1/cluster")
        self.assertEqual(status, 200, answer)
        return answer

    def shards(self, process):
        return {shard["id"]: shard for shard in self.cluster(process)["shards"]}

    def until(self, what, condition):
        """Poll; a process that is restarting counts as no."""
        deadline, last = time.monotonic() + 2 * DEADLINE_S, None
        while time.monotonic() < deadline:
            try:
                last = condition()
                if last:
                    return last
            except (OSError, http.client.HTTPException, AssertionError, KeyError) as error:
                last = error
            time.sleep(0.05)
        raise AssertionError("%s: %s\n%s" % (what, last, "\n".join(
            "== %s\n%s" % (process.data, process.tail()) for process in self.processes if process.process)))

    def no_plan(self, process):
        return self.cluster(process)["plan"] is None

    def settle(self, process):
        """Every plan is over, and no shard has rows of another's."""
        self.until("the plan ends", lambda: self.no_plan(process))
        self.until("shards drop what moved", lambda: all(
            shard.get("foreign") == 0 for shard in self.cluster(process)["shards"]))

    def check(self, *processes, writer=None):
        """Every key is readable through every process with its value; counts and searches agree."""
        if writer is not None:
            self.assertEqual(writer.problems, [])
            self.assertGreater(len(writer.acknowledged), 10)
        for process in processes:
            found = {}
            keys = sorted(self.expected)
            for at in range(0, len(keys), 1000):
                status, answer = process.request("POST", COLLECTION + "/entities:get",
                                                 {"keys": keys[at:at + 1000], "features": ["n"]})
                self.assertEqual(status, 200, answer)
                for result in answer["results"]:
                    found[result["key"]] = result["features"]["n"] if result["found"] else None
            for key, value in self.expected.items():
                if writer is None or key not in writer.sent:
                    self.assertEqual(found[key], value, key)
                else:
                    self.assertIsNotNone(found[key], key)
                    self.assertGreaterEqual(found[key], writer.acknowledged.get(key, value), key)
                    self.assertLessEqual(found[key], writer.sent[key], key)
            status, answer = process.request("POST", COLLECTION + "/entities:count", {})
            self.assertEqual((status, answer.get("count")), (200, len(self.expected)))
            status, answer = process.request("POST", COLLECTION + "/search", {
                "vector": vector_of(1), "k": 10, "params": {"exact": True}})
            self.assertEqual((status, len(answer.get("hits", []))), (200, 10), answer)
            self.assertEqual(len({hit["key"] for hit in answer["hits"]}), 10)
        total = sum(shard.get("entities", 0) for shard in self.cluster(processes[0])["shards"])
        self.assertEqual(total, len(self.expected))

    def start_two(self):
        """The first process with two shards, and a third shard in a process of its own; not joined yet."""
        second = self.shard(2).start()
        self.first.start()
        self.fill(self.first)
        return second

    def test_add_reweight_and_split_off(self):
        second, third = self.start_two(), self.shard(3).start()
        writer = Writer(self.first, 1)
        writer.start()
        job = self.cli(self.first, "add", "s2=" + second.url, "--wait")
        self.assertEqual(job["state"], "succeeded")
        self.assertEqual({move["target"] for move in job["moves"]}, {"s2"})
        self.assertTrue(all(move["digest"] and move["held_us"] > 0 for move in job["moves"]))
        self.assertAlmostEqual(self.shards(self.first)["s2"]["share"], 1 / 3, delta=0.12)

        before = self.shards(self.first)["s2"]["share"]
        self.assertEqual(self.cli(self.first, "weight", "s2", "3", "--wait")["state"], "succeeded")
        self.assertGreater(self.shards(self.first)["s2"]["share"], before + 0.1)
        # The first process gives all it has away; home goes with it. Any process takes the change.
        job = self.cli(second, "to", "s2=" + second.url, "s3=" + third.url, "--wait")
        self.assertEqual(job["state"], "succeeded", job)
        writer.end()
        self.settle(second)
        self.assertEqual(set(self.shards(second)), {"s2", "s3"})
        self.assertIn(self.cluster(second)["home"], ("s2", "s3"))
        self.check(second, third, self.first, writer=writer)
        self.assertEqual(self.first.stop(), 0)
        self.check(second, third, writer=writer)
        for process in (second, third):
            self.assertEqual(process.stop(), 0)
        for process in (second, third):
            process.start()
        self.until("the cluster is back", lambda: third.request("POST", COLLECTION + "/entities:count", {})[0] == 200)
        self.check(third, writer=writer)

    def test_drain(self):
        second = self.start_two()
        self.assertEqual(self.cli(self.first, "add", "s2=" + second.url, "--wait")["state"], "succeeded")
        self.assertEqual(self.cli(self.first, "remove", "s2", "--wait")["state"], "succeeded")
        self.settle(self.first)
        self.assertEqual({shard["id"] for shard in self.cluster(self.first)["shards"]
                          if shard["weight"] > 0}, {"s0", "s1"})
        self.check(self.first)

    def test_abort(self):
        second = self.shard(2).start(failpoint="import.step=sleep:300")
        self.first.start()
        self.fill(self.first)
        started = self.cli(self.first, "add", "s2=" + second.url)
        status, answer = self.first.request("POST", "/v1/cluster/shards", {"id": "s1", "weight": 5})
        self.assertEqual((status, answer["code"]), (409, "rebalance_in_progress"))
        self.cli(self.first, "abort", "--wait")
        self.settle(self.first)
        self.assertNotIn("s2", [shard["id"] for shard in self.cluster(self.first)["shards"] if shard["weight"] > 0])
        status, job = self.first.request("GET", "/v1/jobs/" + started["job"])
        self.assertEqual((status, job["state"]), (200, "cancelled"))
        self.check(self.first)

    def test_refusals(self):
        second = self.start_two()
        for method, path, body, status, code, text in (
                ("POST", "/v1/cluster/shards", {"id": "s9"}, 400, "invalid_parameter", "url"),
                ("POST", "/v1/cluster/shards", {"url": "x"}, 400, "invalid_field", "id"),
                ("POST", "/v1/cluster/shards", {"id": "s2", "url": "http://127.0.0.1:1"}, 503, "shard_unavailable",
                 "s2 does not answer"),
                ("POST", "/v1/cluster/shards", {"id": 0, "weight": 0}, 400, "invalid_field", "weight"),
                ("POST", "/v1/cluster/shards", {"id": 0, "nonsense": 0}, 400, "invalid_field", "nonsense"),
                ("PUT", "/v1/cluster/shards", {"shards": []}, 400, "invalid_field", "shards"),
                ("PUT", "/v1/cluster/shards", {"shards": [{"id": 0}, {"id": 0}]}, 400, "invalid_parameter", "twice"),
                ("DELETE", "/v1/cluster/shards/s7", None, 404, "not_found", "s7"),
                ("DELETE", "/v1/cluster/shards/x", None, 400, "invalid_parameter", ""),
                ("POST", "/v1/cluster/rebalance:abort", None, 404, "not_found", "no rebalancing"),
                ("POST", "/v1/cluster/rebalance:resume", None, 404, "not_found", "no rebalancing"),
                ("GET", "/v1/jobs/rebalance-99", None, 404, "not_found", "rebalance-99"),
                ("DELETE", "/v1/jobs/rebalance-99", None, 404, "not_found", "rebalance-99")):
            answer = self.first.request(method, path, body)
            self.assertEqual((answer[0], answer[1]["code"]), (status, code), answer)
            self.assertIn(text, answer[1]["detail"])
        self.assertEqual(self.first.request("GET", "/v1/cluster/rebalance")[1], {"job": None})
        self.assertEqual(self.first.request("GET", "/v1/jobs")[1], {"jobs": []})
        status, answer = self.first.request("POST", "/v1/cluster/shards", {"id": "s0", "weight": 1})
        self.assertEqual((status, answer), (200, {"job": None}))
        status, answer = second.request("GET", "/v1/cluster")
        self.assertEqual(status, 200)

    def add_with_failpoint(self, failpoint, at):
        """Add s2 while one party dies at a step; after its restart the end is the same."""
        second = self.shard(2)
        second.start(failpoint=failpoint if at == "target" else None)
        self.first.start(failpoint=failpoint if at == "home" else None)
        self.fill(self.first)
        victim = second if at == "target" else self.first
        writer = Writer(self.first, 2)
        writer.start()
        try:
            self.first.request("POST", "/v1/cluster/shards", {"id": "s2", "url": second.url}, timeout=20)
        except (OSError, http.client.HTTPException, ValueError):
            pass  # it may have died in it
        self.until("%s is passed" % failpoint, victim.ended)
        victim.start()
        self.until("s2 owns its share", lambda: self.no_plan(self.first) and
                   self.shards(self.first)["s2"]["weight"] == 1)
        writer.end()
        self.settle(self.first)
        job = self.first.request("GET", "/v1/cluster/rebalance")[1]["job"]
        self.assertEqual(job["state"], "succeeded")
        self.check(self.first, second, writer=writer)
        for process in (self.first, second):
            self.assertEqual(process.stop(), 0)


def kill_test(failpoint, at):
    def test(self):
        self.add_with_failpoint(failpoint, at)
    return test


for place in ("planned", "prepared", "before_freeze", "frozen", "digests", "before_release", "released",
              "target_told", "home_told", "before_finish", "finished"):
    setattr(Rebalance, "test_home_dies_at_" + place, kill_test("rebalance." + place, "home"))
for place in ("prepared", "frozen", "released", "home_told"):  # of the second move
    setattr(Rebalance, "test_home_dies_at_second_" + place, kill_test("rebalance.%s:2" % place, "home"))
for place in ("begun", "step", "caught_up", "begun:2", "caught_up:2"):
    setattr(Rebalance, "test_target_dies_at_" + place.replace(":", "_"), kill_test("import." + place, "target"))


class SourceDies(Rebalance):
    """The source is a process of its own: home is elsewhere and goes on."""

    def setUp(self):
        super().setUp()
        self.first.flags = ("--role", "all", "--shards", "1", "--copy-share", "100")

    def drain_with_kill(self, when):
        second = self.start_two()
        self.assertEqual(self.cli(self.first, "add", "s2=" + second.url, "--wait")["state"], "succeeded")
        self.settle(self.first)
        # Home pauses at the step, and meanwhile the source is killed.
        self.assertEqual(self.first.stop(), 0)
        self.first.start(failpoint="rebalance.%s:1=sleep:700" % when)
        self.until("s2 is known to be up", lambda: self.shards(self.first)["s2"]["state"] == "serving")
        writer = Writer(self.first, 3)
        writer.start()
        status, answer = self.first.request("DELETE", "/v1/cluster/shards/s2")
        self.assertEqual(status, 202, answer)
        time.sleep(random.Random(when).uniform(0.1, 0.6))
        second.kill()
        second.start()
        self.until("s2 is drained", lambda: self.no_plan(self.first))
        writer.end()
        self.settle(self.first)
        self.check(self.first, writer=writer)
        self.assertEqual(self.first.stop(), 0)


# What the base class tests is not tested again.
for inherited in [name for name in dir(Rebalance) if name.startswith("test_")]:
    setattr(SourceDies, inherited, None)


def source_test(when):
    def test(self):
        self.drain_with_kill(when)
    return test


for step in ("prepared", "before_freeze", "frozen", "digests", "before_release", "released"):
    setattr(SourceDies, "test_source_dies_at_" + step, source_test(step))


if __name__ == "__main__":
    unittest.main()
