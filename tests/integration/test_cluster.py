"""Shards in processes of their own behind routers: what one process answers, a cluster answers too."""
import random
import re
import signal
import statistics
import tempfile
import time
import unittest

from api_harness import DEADLINE_S, NDJSON, ApiTest, Cluster, Server
import test_api
import test_api_edges
import test_api_refusals

cluster = None


def setUpModule():
    global cluster
    cluster = Cluster(shards=3, routers=2)
    ApiTest.server = cluster.routers[0]


def tearDownModule():
    code = cluster.stop()
    cluster.remove()
    assert code == 0, code


# The whole contract, asked of a router.
for module in (test_api, test_api_edges, test_api_refusals):
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and issubclass(value, ApiTest) and value is not ApiTest:
            globals()["Router" + module.__name__[4:].title().replace("_", "") + name] = type(
                "Router" + name, (value,), {"__module__": __name__})
del module, name, value
RouterApiService.test_cluster = None  # names the shards of its own server

SCHEMA = {"features": {"n": {"type": "int64"}, "word": {"type": "string"}},
          "vectors": {"v": {"dim": 4, "metric": "l2", "index": {"kind": "flat"}}}}


def entity(number, dice):
    made = {"key": "k%04d" % number, "features": {"n": number, "word": "w%d" % (number % 7)},
            "vectors": {"v": [round(dice.uniform(-1, 1), 3) for _ in range(4)]}}
    if number % 5 == 0:
        made["route"] = "r%d" % (number % 3)
    return made


def without_places(value):
    """An answer apart from where things are."""
    if isinstance(value, dict):
        return {name: without_places(one) for name, one in value.items()
                if name not in ("shard", "offset", "position", "version", "created_at", "ingest_time", "event_time", "detail")}
    if isinstance(value, list):
        return [without_places(one) for one in value]
    return value


class Equality(unittest.TestCase):
    """The same requests to one process with all shards, and to a cluster through two routers."""

    seed = random.randrange(1 << 32)

    def setUp(self):
        self.single = Server("--shards", "2")
        self.addCleanup(lambda: (self.single.stop(), self.single.remove()))
        self.turn = 0

    def both(self, method, path, body=None, **options):
        self.turn += 1
        one = self.single.request(method, path, body, **options)
        other = cluster.routers[self.turn % 2].request(method, path, body, **options)
        where = "%s %s %r seed %d: %r | %r" % (method, path, body, self.seed, one.bytes[:300], other.bytes[:300])
        self.assertEqual(one.status, other.status, where)
        if options.get("media") == NDJSON:
            self.assertEqual(without_places(one.lines), without_places(other.lines), where)
        else:
            self.assertEqual(without_places(one.json), without_places(other.json), where)
        return one.json if options.get("media") != NDJSON else one.lines

    def test_all_requests(self):
        dice = random.Random(self.seed)
        path = "/v1/collections/equal"
        self.both("PUT", path, SCHEMA)
        entities = [entity(i, dice) for i in range(600)]
        self.both("POST", path + "/entities", {"entities": entities[:300]})
        lines = "".join('{"key":"%s","features":{"n":%d,"word":"%s"},"vectors":{"v":%s}%s}\n' % (
            e["key"], e["features"]["n"], e["features"]["word"], e["vectors"]["v"],
            ',"route":"%s"' % e["route"] if "route" in e else "") for e in entities[300:])
        self.both("POST", path + "/entities", (lines + '{"key":1}\n').encode(), media=NDJSON)
        for _ in range(20):
            keys = ["k%04d" % dice.randrange(700) for _ in range(dice.randrange(1, 30))]
            self.both("POST", path + "/entities:get", {"keys": keys, "vectors": "*", "meta": "full"})
            self.both("GET", path + "/entities/" + keys[0])
            self.both("POST", "/v1/features:get", {"lookups": [
                {"collection": "equal", "keys": keys, "features": ["n"]}, {"collection": "equal", "keys": keys[:1]}]})
        for _ in range(20):
            search = {"vector": [dice.uniform(-1, 1) for _ in range(4)], "k": dice.randrange(1, 60),
                      "features": ["n"], "with_vectors": True, "params": {"exact": True}}
            if dice.random() < 0.5:
                search["filter"] = {"feature": "word", "eq": "w%d" % dice.randrange(7)}
            self.both("POST", path + "/search", search)
            self.both("POST", path + "/search", {"key": "k%04d" % dice.randrange(600), "k": 5})
            self.both("POST", path + "/search", {"searches": [search, {"vector": search["vector"], "k": 3}]})
        for chosen in (None, {"feature": "n", "gte": 100}):
            asked = {"filter": chosen} if chosen else {}
            self.both("POST", path + "/entities:count", asked)
            cursor = None
            while True:
                page = self.both("POST", path + "/entities:scroll", {
                    "limit": dice.randrange(1, 400), "vectors": "*", **asked, **({"cursor": cursor} if cursor else {})})
                cursor = page["cursor"]
                if cursor is None:
                    break
        self.both("POST", path + "/entities:delete", {"keys": ["k0005", "k0006", "nobody"]})
        self.both("DELETE", path + "/entities/k0010")
        self.both("POST", path + "/entities:delete", {"filter": {"feature": "word", "eq": "w3"}})
        self.both("POST", path + "/entities:count", {})
        self.both("POST", path + "/entities", {"entities": [{"key": "k0001", "if_offset": 0}]})
        self.both("PUT", path, {"features": {"late": {"type": "bool"}}})
        self.both("POST", path + "/entities", {"entities": [{"key": "k0002", "features": {"late": True}}]})
        self.both("POST", path + "/entities:get", {"keys": ["k0002"]})
        self.both("DELETE", path)
        self.both("POST", path + "/entities:get", {"keys": ["k0002"]})


class Together(unittest.TestCase):
    """What one router does, the other sees at once."""

    def test_collections_are_seen_at_once(self):
        first, second = cluster.routers
        for i in range(20):
            path = "/v1/collections/seen%d" % i
            self.assertEqual(first.request("PUT", path, {"strict": True, "features": {"a": {"type": "int64"}}}).status, 201)
            answer = second.request("POST", path + "/entities", {"entities": [{"key": "x", "features": {"a": 1}}]})
            self.assertEqual(answer.status, 200, answer.bytes)
            first.request("PUT", path, {"features": {"b": {"type": "int64"}}})
            answer = second.request("POST", path + "/entities", {"entities": [{"key": "x", "features": {"b": 1}}]})
            self.assertEqual(answer.status, 200, answer.bytes)
            line = b'{"key":"y","features":{"a":1,"b":2}}\n'
            answer = cluster.shards[i % 3].request("POST", path + "/entities", line, media=NDJSON)
            self.assertEqual(answer.lines[0].get("status"), "applied", answer.bytes)
            self.assertEqual(first.request("DELETE", path).status, 200)

    def test_positions_hold_across_routers(self):
        first, second = cluster.routers
        path = "/v1/collections/positions"
        first.request("PUT", path, SCHEMA)
        for i in range(50):
            written = first.request("POST", path + "/entities", {"entities": [{"key": "k%d" % i, "features": {"n": i}}]})
            position = written.headers["Cairn-Position"]
            read = second.request("GET", path + "/entities/k%d" % i, headers={"Cairn-Min-Position": position})
            self.assertEqual((read.status, read.json["features"]), (200, {"n": i}))
        ahead = re.sub(r"=(\d+)", "=100000", position)
        read = second.request("GET", path, headers={"Cairn-Min-Position": ahead, "Cairn-Timeout": "50ms"})
        self.assertEqual((read.status, read.json["code"]), (504, "position_not_reached"))

    def test_a_router_needs_one_shard_to_know_all(self):
        third = Server("--role", "router", "--shard", "s1=" + cluster.shards[1].url, data=False)
        try:
            Cluster.await_ready(third)
            shards = third.request("GET", "/v1/cluster").json["shards"]
            self.assertEqual([shard["id"] for shard in shards], ["s0", "s1", "s2"])
            self.assertEqual([shard["url"] for shard in shards], [shard.url for shard in cluster.shards])
        finally:
            self.assertEqual(third.stop(), 0)
            third.remove()

    def test_what_a_router_adds_to_a_read_of_one_key(self):
        path = "/v1/collections/latency"
        cluster.routers[0].request("PUT", path, SCHEMA)
        written = cluster.routers[0].request("POST", path + "/entities", {"entities": [{"key": "one"}]}).json
        owner = cluster.shards[int(written["results"][0]["shard"][1:])]
        times = {}
        for server in (owner, cluster.routers[0]):
            took = []
            for _ in range(500):
                begin = time.perf_counter()
                self.assertEqual(server.request("GET", path + "/entities/one").status, 200)
                took.append(time.perf_counter() - begin)
            times[server] = statistics.median(took)
        added = times[cluster.routers[0]] - times[owner]
        print("a router adds %.0f us to a read of one key" % (added * 1e6))
        self.assertLess(added, 0.02)


class Keys(unittest.TestCase):
    """Calls between processes carry the cluster key."""

    def test_a_wrong_key_is_named(self):
        with tempfile.TemporaryDirectory(prefix="cairn-test-") as folder:
            for name, text in (("keys", "admin right\n"), ("right", "right\n"), ("wrong", "wrong\n")):
                with open(folder + "/" + name, "w", encoding="ascii") as file:
                    file.write(text)
            shard = Server("--role", "shard", "--id", "cairn-0", "--api-keys-file", folder + "/keys")
            seed = ("--role", "router", "--shard", "0=" + shard.url)
            wrong = Server(*seed, "--cluster-key-file", folder + "/wrong", data=False)
            right = Server(*seed, "--cluster-key-file", folder + "/right", data=False)
            try:
                Cluster.await_ready(right)
                answer = wrong.request("GET", "/readyz")
                deadline = time.monotonic() + DEADLINE_S
                while b"--cluster-key-file" not in answer.bytes and time.monotonic() < deadline:
                    time.sleep(0.01)
                    answer = wrong.request("GET", "/readyz")
                self.assertEqual(answer.status, 503)
                self.assertIn("--cluster-key-file", answer.json["detail"])
                answer = wrong.request("PUT", "/v1/collections/a", {})
                self.assertEqual((answer.status, answer.json["code"]), (503, "shard_unavailable"))
            finally:
                for server in (wrong, right, shard):
                    server.stop()
                    server.remove()


class Outages(unittest.TestCase):
    """A shard that is down takes its own keys away and nothing else."""

    def setUp(self):
        self.own = Cluster(shards=3, routers=1)
        self.router = self.own.routers[0]
        self.addCleanup(lambda: (self.own.stop(), self.own.remove()))
        self.path = "/v1/collections/c"
        self.assertEqual(self.router.request("PUT", self.path, SCHEMA).status, 201)
        dice = random.Random(1)
        written = self.router.request("POST", self.path + "/entities", {"entities": [
            {name: part for name, part in entity(i, dice).items() if name != "route"} for i in range(60)]}).json
        self.owner = {one["key"]: one["shard"] for one in written["results"]}

    def until(self, what):
        deadline = time.monotonic() + DEADLINE_S
        while not what():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def state_of(self, shard):
        return {one["id"]: one["state"] for one in self.router.request("GET", "/v1/cluster").json["shards"]}[shard]

    def test_down_and_up_again(self):
        gone = self.own.shards[2]
        port, folder = gone.port, gone.folder
        gone.process.send_signal(signal.SIGKILL)
        gone.process.wait()
        self.until(lambda: self.state_of("s2") == "down")
        for key, owner in self.owner.items():
            answer = self.router.request("GET", self.path + "/entities/" + key)
            self.assertEqual(answer.status, 503 if owner == "s2" else 200, answer.bytes)
            if owner == "s2":
                self.assertIn("s2 at " + gone.url, answer.json["detail"])
        near = {"vector": [0, 0, 0, 0], "k": 60}
        answer = self.router.request("POST", self.path + "/search", near)
        self.assertEqual((answer.status, answer.json["code"]), (503, "shard_unavailable"))
        answer = self.router.request("POST", self.path + "/search", {**near, "allow_partial": True})
        self.assertEqual((answer.status, answer.headers["Cairn-Complete"]), (200, "false"))
        self.assertEqual({hit["key"] for hit in answer.json["hits"]},
                         {key for key, owner in self.owner.items() if owner != "s2"})
        self.assertEqual(self.router.request("POST", self.path + "/entities:count", {}).status, 503)
        answer = self.router.request("POST", self.path + "/entities", {"entities": [{"key": key} for key in self.owner]})
        self.assertEqual(answer.status, 503)
        self.assertIn("2 of 3 shards had committed", answer.json["detail"])
        gone.log.close()
        self.own.shards[2] = self.own.start_shard(2, folder=folder, port=port)
        self.until(lambda: self.state_of("s2") == "serving")
        for key in self.owner:
            self.assertEqual(self.router.request("GET", self.path + "/entities/" + key).status, 200)
        self.assertEqual(self.router.request("POST", self.path + "/entities:count", {}).json["count"], 60)

    def test_a_schema_follows_to_a_shard_that_was_down(self):
        gone = self.own.shards[2]
        port, folder = gone.port, gone.folder
        gone.process.send_signal(signal.SIGKILL)
        gone.process.wait()
        more = {"features": {"late": {"type": "int64"}}, "strict": True}
        answer = self.router.request("PUT", self.path, more)
        self.assertEqual(answer.status, 503, answer.bytes)
        self.assertIn("on 2 of 3 shards so far", answer.json["detail"])
        fresh = "/v1/collections/fresh"
        self.assertEqual(self.router.request("PUT", fresh, SCHEMA).status, 503)
        gone.log.close()
        self.own.shards[2] = self.own.start_shard(2, folder=folder, port=port)
        entities = {"entities": [{"key": key, "features": {"n": 1}} for key in self.owner]}
        self.until(lambda: self.router.request("POST", fresh + "/entities", entities).status == 200)
        self.assertEqual(self.router.request("PUT", fresh, SCHEMA).status, 200)
        self.assertEqual(self.router.request("PUT", self.path, more).status, 200)
        late = {"entities": [{"key": key, "features": {"late": 2}} for key in self.owner]}
        self.assertEqual(self.router.request("POST", self.path + "/entities", late).status, 200)


if __name__ == "__main__":
    unittest.main()
