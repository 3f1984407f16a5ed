"""Every endpoint of the HTTP contract against a real server: what it answers when all is well."""
import base64
import json
import struct
import threading
import unittest

from api_harness import FLATBUFFERS, NDJSON, ApiTest, Binary, Server, quote, vector_of


def setUpModule():
    ApiTest.server = Server("--shards", "2")


def tearDownModule():
    code = ApiTest.server.stop()
    ApiTest.server.remove()
    assert code == 0, code


class Collections(ApiTest):
    def test_create_evolve_describe(self):
        again = self.call("PUT", self.path, self.schema)
        self.assertEqual(again.status, 200)
        version = again.json["version"]
        more = {"features": {"added": {"type": "bool"}}}
        evolved = self.ok("PUT", self.path, more)
        self.assertGreater(evolved["version"], version)
        self.assertEqual(evolved["features"]["added"]["type"], "bool")
        self.assertEqual(evolved["features"]["clicks"], {"type": "int64", "ttl": "24h"} | evolved["features"]["clicks"])
        self.assertEqual(self.ok("PUT", self.path, more)["version"], evolved["version"])
        self.put({"key": "a", "features": {"added": True}, "vectors": {"default": [1, 2, 3]}})
        described = self.ok("GET", self.path)
        self.assertEqual(described["name"], self.name)
        self.assertEqual(described["counts"]["entities"], 1)
        self.assertEqual(described["vectors"]["default"]["dim"], 3)
        self.assertEqual(described["vectors"]["default"]["metric"], "l2")
        index = described["indexes"][0]
        self.assertEqual((index["vector"], index["live"], index["building"]), ("default", 1, False))
        self.assertIn("index_memory", described["bytes"])
        self.assertEqual(self.ok("GET", self.path + "/indexes")["indexes"][0]["live"], 1)
        names = [one["name"] for one in self.ok("GET", "/v1/collections")["collections"]]
        self.assertIn(self.name, names)
        self.assertEqual(names, sorted(names))

    def test_drop_and_create_again(self):
        self.put({"key": "a", "features": {"country": "DE"}})
        self.assertEqual(self.ok("DELETE", self.path), {"name": self.name, "deleted": True})
        self.assertEqual(self.call("GET", self.path).status, 404)
        self.assertEqual(self.call("PUT", self.path, self.schema).status, 201)
        self.assertEqual(self.count(), 0)
        self.assertFalse(self.get("a")[0]["found"])


class Writing(ApiTest):
    def test_statuses(self):
        first = self.put({"key": "a", "event_time": 2000, "features": {"country": "DE"}})[0]
        self.assertEqual((first["key"], first["status"]), ("a", "applied"))
        self.assertRegex(first["shard"], r"^s[01]$")
        late = self.put({"key": "a", "event_time": 1000, "features": {"country": "FR"}})[0]
        self.assertEqual(late["status"], "superseded")
        self.assertGreater(late["offset"], first["offset"])
        mixed = self.put({"key": "a", "event_time": 1500, "features": {"country": "FR", "ok": True}})[0]
        self.assertEqual(mixed["status"], "partial")
        self.assertEqual(self.features("a"), {"country": "DE", "ok": True})

    def test_keys_and_order(self):
        results = self.put({"key": 42}, {"key": "b"}, {"key": -1}, {"key": "é/:?"})
        self.assertEqual([one["key"] for one in results], ["42", "b", "-1", "é/:?"])
        self.assertEqual([one["found"] for one in self.get("42", 42, "nope", "é/:?")], [True, True, False, True])

    def test_duplicate_keys_last_wins(self):
        results = self.put({"key": "d", "features": {"country": "DE"}}, {"key": "e"},
                           {"key": "d", "features": {"country": "FR"}})
        self.assertEqual([one["key"] for one in results], ["d", "e", "d"])
        self.assertGreater(results[2]["offset"], results[0]["offset"])
        self.assertEqual(self.features("d"), {"country": "FR"})

    def test_patch_and_replace(self):
        self.put({"key": "a", "features": {"country": "DE", "ok": True}, "vectors": {"default": [1, 2, 3]}})
        self.put({"key": "a", "features": {"ok": None}}, query="?mode=patch")
        self.assertEqual(self.features("a"), {"country": "DE", "ok": None})
        self.put({"key": "a", "features": {"clicks": 1}}, query="?mode=replace")
        entity = self.get("a", vectors=["default"])[0]
        self.assertEqual((entity["features"], entity["vectors"]), ({"clicks": 1}, {}))
        self.put({"key": "a", "vectors": {"default": [1, 2, 3]}})
        self.put({"key": "a", "vectors": {"default": None}})
        self.assertEqual(self.get("a", vectors="*")[0]["vectors"], {})

    def test_every_type_comes_back(self):
        features = {"country": "\u0000é😀\"\\", "clicks": -2**63, "score": 0.1, "tags": ["a", ""],
                    "raw": base64.b64encode(bytes(range(256))).decode(), "seen": "2026-11-23T10:00:00.000001Z",
                    "doc": {"b": [1, None, {"c": "d"}], "a": 1.5}, "ok": False,
                    "free_bool": True, "free_int": 7, "free_float": 2.5, "free_text": "x", "free_null": None,
                    "free_list": [1, 2], "free_floats": [1.5, 2.0], "free_json": {"x": [1, "y"]}, "free_mixed": [1, "a"]}
        self.put({"key": "a", "features": features})
        self.assertEqual(self.features("a"), features)
        self.put({"key": "a", "features": {"seen": 1500, "score": 3}})
        self.assertEqual(self.get("a", features=["seen", "score"])[0]["features"],
                         {"seen": "1970-01-01T00:00:01.500000Z", "score": 3.0})

    def test_vector_forms(self):
        packed = base64.b64encode(struct.pack("<3f", 0.1, -2.5, 1e-20)).decode()
        self.put({"key": "a", "vectors": {"default": {"f32": packed}}}, {"key": "b", "vectors": {"default": [0.1, -2.5, 1e-20]}})
        a, b = self.get("a", "b", vectors=["default"], features=[])
        self.assertEqual(a["vectors"], b["vectors"])
        self.assertEqual(a["vectors"]["default"], [0.1, -2.5, 1e-20])
        self.assertEqual(a["features"], {})

    def test_precondition(self):
        offset = self.put({"key": "a", "if_offset": 0})[0]["offset"]
        self.refused_upsert(409, "precondition_failed", "a", {"entities": [{"key": "a", "if_offset": 0}]})
        entity = self.ok("GET", self.path + "/entities/a")
        self.assertEqual(entity["offset"], offset)
        after = self.put({"key": "a", "if_offset": offset, "features": {"ok": True}})[0]["offset"]
        self.refused_upsert(409, "precondition_failed", str(after), {"entities": [{"key": "a", "if_offset": offset}]})

    def test_routes_keep_records_together(self):
        shards = {one["shard"] for one in self.put(*({"key": "k%d" % i, "route": "same"} for i in range(20)))}
        self.assertEqual(len(shards), 1)
        self.assertTrue(all(one["found"] for one in self.get(*("k%d" % i for i in range(20)))))
        self.assertEqual(self.ok("GET", self.path)["counts"], {"entities": 20, "routed": 20})

    def test_large_bodies_are_written(self):
        results = self.put(*({"key": "k%05d" % i, "features": {"clicks": i}} for i in range(10000)))
        self.assertEqual([one["key"] for one in results], ["k%05d" % i for i in range(10000)])
        self.assertEqual(self.count(), 10000)
        found = self.get(*("k%05d" % i for i in range(10000)))
        self.assertEqual([one["features"]["clicks"] for one in found], list(range(10000)))


class Streaming(ApiTest):
    def stream(self, *lines, query=""):
        body = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
        answer = self.call("POST", self.path + "/entities" + query, body, media=NDJSON)
        self.assertEqual(answer.status, 200, answer.bytes)
        self.assertEqual(answer.media, NDJSON)
        return answer.lines

    def test_lines_answer_in_order(self):
        lines = self.stream(*({"key": "k%d" % i, "features": {"clicks": i}} for i in range(50)))
        self.assertEqual([one["key"] for one in lines], ["k%d" % i for i in range(50)])
        self.assertEqual({one["status"] for one in lines}, {"applied"})
        self.assertEqual(self.count(), 50)

    def test_bad_lines_stop_nothing(self):
        lines = self.stream({"key": "a"}, b"{\n", b"\n", {"key": "b", "nope": 1}, b'{"key": "c"}\r\n',
                            {"key": "d", "vectors": {"default": [1]}}, b'"x"\n', b'\xff\n', b'{"key": "e"}')
        self.assertEqual([one.get("key") for one in lines], ["a", None, "b", "c", "d", None, None, "e"])
        errors = {one["line"]: one["error"] for one in lines if "error" in one}
        self.assertEqual({line: error["code"] for line, error in errors.items()},
                         {2: "invalid_json", 4: "invalid_field", 6: "invalid_dimension", 7: "invalid_type", 8: "invalid_utf8"})
        self.assertIn("nope", errors[4]["detail"])
        self.assertEqual(errors[6]["status"], 400)
        self.assertEqual(self.count(), 3)

    def test_a_failed_precondition_refuses_its_line_alone(self):
        lines = self.stream({"key": "a", "features": {"clicks": 1}}, {"key": "a", "if_offset": 0},
                            {"key": "b", "if_offset": 0, "features": {"clicks": 1}},
                            {"key": "b", "features": {"clicks": 2}}, {"key": "c"})
        self.assertEqual([one.get("error", {}).get("code") for one in lines],
                         [None, "precondition_failed", None, None, None])
        self.assertEqual(lines[1]["line"], 2)
        self.assertEqual(self.features("b"), {"clicks": 2})

    def test_more_preconditions_than_one_wave(self):
        lines = self.stream(*({"key": "k%d" % (i // 2), "if_offset": 0} for i in range(1400)))
        self.assertEqual([("error" in one) for one in lines], [False, True] * 700)
        self.assertEqual(self.count(), 700)

    def test_replace_mode(self):
        self.put({"key": "a", "features": {"country": "DE"}})
        self.stream({"key": "a", "features": {"clicks": 2}}, query="?mode=replace")
        self.assertEqual(self.features("a"), {"clicks": 2})

    def test_many_blocks(self):
        text = "x" * 500
        count = 12000
        lines = self.stream(*({"key": i, "features": {"country": text}} for i in range(count)))
        self.assertEqual([one["key"] for one in lines], [str(i) for i in range(count)])
        self.assertEqual(self.count(), count)

    def test_empty_upload(self):
        self.assertEqual(self.stream(b"\n\n"), [])


class Reading(ApiTest):
    def test_projections(self):
        self.put({"key": "a", "features": {"country": "DE", "clicks": 3, "free": 1}, "vectors": {"default": [1, 2, 3]}})
        self.assertEqual(self.get("a")[0], {"key": "a", "found": True, "features": {"country": "DE", "clicks": 3, "free": 1}})
        self.assertEqual(self.get("a", features="*")[0]["features"], {"country": "DE", "clicks": 3, "free": 1})
        one = self.get("a", features=["clicks", "ok", "never"], vectors="*", meta="none")[0]
        self.assertEqual(one, {"key": "a", "found": True, "features": {"clicks": 3}, "vectors": {"default": [1.0, 2.0, 3.0]}})
        self.assertEqual(self.get("x", "a", "x", features=["ok"]),
                         [{"key": key, "found": key == "a", "features": {}} for key in "xax"])

    def test_meta(self):
        offset = self.put({"key": "a", "event_time": "2026-01-02T03:04:05+01:00", "features": {"country": "DE", "ok": None}})[0]
        meta = self.get("a", features=["country", "ok", "clicks"], meta="full")[0]["meta"]
        self.assertEqual({name: one["status"] for name, one in meta.items()},
                         {"country": "present", "ok": "null", "clicks": "missing"})
        self.assertEqual(meta["country"]["event_time"], "2026-01-02T02:04:05.000000Z")
        self.assertEqual((meta["country"]["shard"], meta["country"]["offset"]), (offset["shard"], offset["offset"]))
        self.assertEqual(meta["clicks"], {"status": "missing"})
        times = self.get("a", features=["country"], meta="times")[0]["meta"]["country"]
        self.assertEqual(set(times), {"status", "event_time", "ingest_time"})
        every = self.get("a", "x", meta="times")
        self.assertEqual(set(every[0]["meta"]), set(self.schema["features"]))
        self.assertEqual({one["status"] for one in every[1]["meta"].values()}, {"missing"})

    def test_expired(self):
        self.put({"key": "a", "event_time": 1000, "features": {"clicks": 3, "country": "DE"}})
        one = self.get("a", features=["clicks", "country"], meta="times")[0]
        self.assertEqual(one["features"], {"country": "DE"})
        self.assertEqual(one["meta"]["clicks"]["status"], "expired")
        self.assertEqual(one["meta"]["clicks"]["event_time"], "1970-01-01T00:00:01.000000Z")
        self.assertEqual(self.features("a"), {"country": "DE"})

    def test_one_entity(self):
        result = self.put({"key": "a/b é", "features": {"country": "DE", "ok": True}, "vectors": {"default": [1, 2, 3]}})[0]
        path = self.path + "/entities/" + quote("a/b é")
        self.assertEqual(self.ok("GET", path), {
            "key": "a/b é", "found": True, "shard": result["shard"], "offset": result["offset"],
            "features": {"country": "DE", "ok": True}, "vectors": {"default": [1.0, 2.0, 3.0]}})
        one = self.ok("GET", path + "?features=ok,clicks&vectors=&meta=times")
        self.assertEqual(one["features"], {"ok": True})
        self.assertEqual(one["meta"]["clicks"]["status"], "missing")
        self.assertNotIn("vectors", one)
        self.refused(404, "entity_not_found", "", "GET", self.path + "/entities/none")

    def test_features_of_several_collections(self):
        other = self.path + "2"
        self.assertEqual(self.call("PUT", other, {"features": {"n": {"type": "int64"}}}).status, 201)
        self.put({"key": "a", "features": {"country": "DE", "clicks": 1}})
        self.ok("POST", other + "/entities", {"entities": [{"key": "a", "features": {"n": 5}}]})
        answer = self.ok("POST", "/v1/features:get", {"lookups": [
            {"collection": self.name, "keys": ["a", "b"], "features": ["country"]},
            {"collection": self.name + "2", "keys": ["a"]}], "meta": "none"})
        self.assertEqual(answer, {"results": [
            [{"key": "a", "found": True, "features": {"country": "DE"}}, {"key": "b", "found": False, "features": {}}],
            [{"key": "a", "found": True, "features": {"n": 5}}]]})
        self.refused(404, "collection_not_found", "lookups[1]", "POST", "/v1/features:get", {"lookups": [
            {"collection": self.name, "keys": ["a"]}, {"collection": "nope", "keys": ["a"]}]})
        self.refused(400, "invalid_key", "lookups[0].keys[1]", "POST", "/v1/features:get",
                     {"lookups": [{"collection": self.name, "keys": ["a", ""]}]})
        self.refused(400, "invalid_field", "lookups", "POST", "/v1/features:get", {"lookups": []})
        self.refused(400, "invalid_field", "65", "POST", "/v1/features:get",
                     {"lookups": [{"collection": self.name, "keys": ["a"]}] * 65})
        self.assertEqual(len(self.ok("POST", "/v1/features:get", {
            "lookups": [{"collection": self.name, "keys": ["a"]}] * 64})["results"]), 64)
        self.refused(400, "invalid_field", "10001", "POST", "/v1/features:get", {"lookups": [
            {"collection": self.name, "keys": ["a"] * 5000}, {"collection": self.name, "keys": ["a"] * 5001}]})

    def test_scroll_walks_everything_once(self):
        keys = sorted("k%03d" % i for i in range(250))
        self.put(*({"key": key, "features": {"clicks": int(key[1:]), "country": "DE"}} for key in keys))
        for limit in (1, 100, 249, 250, 251, 10000):
            seen, cursor, pages = [], None, 0
            while pages == 0 or cursor is not None:
                page = self.ok("POST", self.path + "/entities:scroll",
                               {"limit": limit, "cursor": cursor, "features": ["clicks"]})
                seen += [one["key"] for one in page["entities"]]
                cursor, pages = page["cursor"], pages + 1
                self.assertLessEqual(len(page["entities"]), limit)
            self.assertEqual(seen, keys)
            self.assertEqual(pages, -(-250 // limit))
        page = self.ok("POST", self.path + "/entities:scroll", {
            "filter": {"feature": "clicks", "gte": 245}, "features": ["clicks"], "meta": "times", "vectors": "*"})
        self.assertEqual([one["features"]["clicks"] for one in page["entities"]], [245, 246, 247, 248, 249])
        self.assertIsNone(page["cursor"])
        self.assertEqual(page["entities"][0]["vectors"], {})
        listed = self.ok("GET", self.path + "/entities?limit=3")
        self.assertEqual([one["key"] for one in listed["entities"]], keys[:3])
        self.assertEqual(listed["entities"][0]["features"], {"clicks": 0, "country": "DE"})
        after = self.ok("GET", self.path + "/entities?limit=3&cursor=" + listed["cursor"])
        self.assertEqual([one["key"] for one in after["entities"]], keys[3:6])
        self.assertEqual(len(self.ok("GET", self.path + "/entities")["entities"]), 100)

    def test_large_answers_end(self):
        self.put({"key": "big", "features": {"country": "x" * (1 << 20)}})
        self.assertEqual(len(self.get(*["big"] * 255)), 255)
        self.refused(413, "too_large", "256 MiB", "POST", self.path + "/entities:get", {"keys": ["big"] * 257})
        for i in range(40):
            self.put({"key": "b%02d" % i, "features": {"country": "x" * (1 << 20)}})
        first = self.ok("GET", self.path + "/entities")
        self.assertEqual([one["key"] for one in first["entities"]], ["b%02d" % i for i in range(32)])
        rest = self.ok("GET", self.path + "/entities?cursor=" + first["cursor"])
        self.assertEqual([one["key"] for one in rest["entities"]], ["b%02d" % i for i in range(32, 40)] + ["big"])
        self.assertIsNone(rest["cursor"])

    def test_count(self):
        self.assertEqual(self.count(), 0)
        self.put(*({"key": i, "features": {"country": "DE" if i % 3 else "FR"}} for i in range(30)))
        self.assertEqual(self.ok("POST", self.path + "/entities:count")["count"], 30)
        self.assertEqual(self.count(filter={"feature": "country", "eq": "FR"}), 10)
        self.assertEqual(self.count(filter=None), 30)


class Deleting(ApiTest):
    def test_by_keys(self):
        self.put({"key": "a", "vectors": {"default": [1, 2, 3]}}, {"key": "b"}, {"key": "c"})
        results = self.ok("POST", self.path + "/entities:delete", {"keys": ["b", "none", "a"]})["results"]
        self.assertEqual([(one["key"], one["status"]) for one in results],
                         [("b", "applied"), ("none", "unchanged"), ("a", "applied")])
        self.assertEqual(self.count(), 1)
        self.assertEqual([one["found"] for one in self.get("a", "b", "c")], [False, False, True])
        self.assertEqual(self.ok("POST", self.path + "/search", {"vector": [1, 2, 3]})["hits"], [])

    def test_one(self):
        self.put({"key": "a b"})
        result = self.ok("DELETE", self.path + "/entities/a%20b")["results"]
        self.assertEqual([(one["key"], one["status"]) for one in result], [("a b", "applied")])
        self.assertEqual(self.ok("DELETE", self.path + "/entities/a%20b")["results"][0]["status"], "unchanged")
        self.assertEqual(self.count(), 0)

    def test_by_filter(self):
        self.put(*({"key": i, "features": {"clicks": i}} for i in range(2500)))
        answer = self.ok("POST", self.path + "/entities:delete", {"filter": {"feature": "clicks", "lt": 2100}})
        self.assertEqual(len(answer["results"]), 2100)
        self.assertFalse(answer["more"])
        keys = [one["key"] for one in answer["results"]]
        self.assertEqual(keys, sorted(keys))
        self.assertEqual(self.count(), 400)
        answer = self.ok("POST", self.path + "/entities:delete", {"filter": {"feature": "clicks", "lt": 0}})
        self.assertEqual(answer["results"], [])

    def test_by_filter_stops_at_its_limit(self):
        limit = 100000
        lines = b"".join(b'{"key":%d}\n' % i for i in range(limit + 1))
        self.assertEqual(self.call("POST", self.path + "/entities", lines, media=NDJSON).status, 200)
        everything = {"filter": {"none": [{"feature": "clicks", "exists": True}]}}
        answer = self.ok("POST", self.path + "/entities:delete", everything)
        self.assertEqual((len(answer["results"]), answer["more"]), (limit, True))
        self.assertEqual(self.count(), 1)
        answer = self.ok("POST", self.path + "/entities:delete", everything)
        self.assertEqual((len(answer["results"]), answer["more"]), (1, False))

    def test_records_with_a_route(self):
        self.put(*({"key": "k%d" % i, "route": "r%d" % i, "features": {"clicks": i}} for i in range(20)))
        self.ok("DELETE", self.path + "/entities/k0")
        self.ok("POST", self.path + "/entities:delete", {"keys": ["k%d" % i for i in range(1, 10)]})
        self.assertEqual(self.count(), 10)
        self.ok("POST", self.path + "/entities:delete", {"filter": {"feature": "clicks", "gte": 0}})
        self.assertEqual(self.count(), 0)


class Searching(ApiTest):
    def setUp(self):
        super().setUp()
        self.put(*({"key": "k%d" % i, "features": {"clicks": i, "country": "DE" if i % 2 else "FR"},
                    "vectors": {"default": vector_of(i, 0, 0)}, "provenance": {"source": "s%d" % i, "inputs": ["s0:1"]}}
                   for i in range(40)))

    def search(self, **asked):
        return self.ok("POST", self.path + "/search", asked)["hits"]

    def test_vector(self):
        hits = self.search(vector=[3.2, 0, 0], k=3)
        self.assertEqual([one["key"] for one in hits], ["k3", "k4", "k2"])
        self.assertEqual(set(hits[0]), {"key", "score"})
        self.assertAlmostEqual(hits[0]["score"], 0.2, places=5)
        self.assertEqual(len(self.search(vector=[0, 0, 0])), 10)
        self.assertEqual(len(self.search(vector=[0, 0, 0], k=10000)), 40)
        packed = base64.b64encode(struct.pack("<3f", 7, 0, 0)).decode()
        self.assertEqual(self.search(vector={"f32": packed}, using="default", params={"exact": True})[0]["key"], "k7")
        self.assertEqual(self.search(vector=[7, 0, 0], params={"ef": 10000, "nprobe": 1, "exact": False})[0]["key"], "k7")

    def test_more_like_an_entity(self):
        hits = self.search(key="k5", k=2)
        self.assertEqual([one["key"] for one in hits], ["k4", "k6"])
        self.refused(404, "entity_not_found", "nope", "POST", self.path + "/search", {"key": "nope"})

    def test_filter_and_what_hits_carry(self):
        hits = self.search(vector=[0, 0, 0], k=2, filter={"all": [{"feature": "country", "in": ["DE"]}, {"feature": "clicks", "gte": 3}]},
                           features=["clicks"], with_vectors=True, with_provenance=True)
        self.assertEqual([one["key"] for one in hits], ["k3", "k5"])
        self.assertEqual(hits[0]["features"], {"clicks": 3})
        self.assertEqual(hits[0]["vectors"], {"default": [3.0, 0.0, 0.0]})
        self.assertEqual(hits[0]["provenance"]["source"], "s3")
        self.assertEqual(hits[0]["provenance"]["inputs"], ["s0:1"])
        self.assertRegex(hits[0]["provenance"]["position"], r"^s\d:\d+$")
        star = self.search(vector=[0, 0, 0], k=1, features="*", with_vectors=["default"])[0]
        self.assertEqual(star["features"], {"clicks": 0, "country": "FR"})

    def test_batch(self):
        answer = self.ok("POST", self.path + "/search", {"searches": [{"vector": [1, 0, 0], "k": 1}, {"key": "k9", "k": 1, "features": ["clicks"]}]})
        self.assertEqual([one["hits"][0]["key"] for one in answer["results"]], ["k1", "k10"])
        self.refused(400, "invalid_dimension", "searches[1]", "POST", self.path + "/search",
                     {"searches": [{"vector": [1, 0, 0]}, {"vector": [1, 0]}]})
        self.refused(400, "invalid_field", "searches[1].nope", "POST", self.path + "/search",
                     {"searches": [{"vector": [1, 0, 0]}, {"nope": 1}]})

    def test_writes_are_seen_at_once(self):
        self.put({"key": "new", "vectors": {"default": [500, 0, 0]}})
        self.assertEqual(self.search(vector=[499, 0, 0], k=1)[0]["key"], "new")
        self.ok("DELETE", self.path + "/entities/new")
        self.assertEqual(self.search(vector=[499, 0, 0], k=1)[0]["key"], "k39")


@unittest.skipUnless(Binary.available, "flatc is not here")
class BinaryBodies(ApiTest):
    def send(self, action, table, value, answer_table, **options):
        body = value if isinstance(value, bytes) else Binary.encode(table, value)
        answer = self.call("POST", self.path + action, body, media=FLATBUFFERS, **options)
        self.assertEqual(answer.status, 200, answer.bytes)
        self.assertEqual(answer.media, FLATBUFFERS)
        return Binary.decode(answer_table, answer.bytes)

    def test_upsert_get_search(self):
        body = Binary.upsert(Binary.entity("a", ["clicks"], [7], [1.0, 2.0, 3.0]), Binary.entity("b", ["free"], [8]))
        wrote = self.send("/entities", None, body, "UpsertResponse")
        self.assertEqual(wrote["keys"], ["a", "b"])
        self.assertEqual([one["status"] for one in wrote["results"]], [0, 0])
        self.assertEqual(self.features("a"), {"clicks": 7})
        self.assertEqual(self.get("a", vectors="*")[0]["vectors"], {"default": [1.0, 2.0, 3.0]})
        read = self.send("/entities:get", "GetRequest", {"keys": ["b", "x", "a"], "features": ["clicks", "free"], "vectors": ["default"]}, "GetResponse")
        self.assertEqual([(one["key"], one["found"]) for one in read["entities"]], [("b", True), ("x", False), ("a", True)])
        self.assertEqual([(name, cell["value"]) for name, cell in zip(read["entities"][2]["names"], read["entities"][2]["cells"])], [("clicks", 7)])
        self.assertEqual(read["entities"][2]["vectors"][0]["f32"], [1.0, 2.0, 3.0])
        found = self.send("/search", "SearchRequest", {"searches": [{"vector": [1, 2, 3], "k": 5, "features": ["clicks"]}, {"vector": [0, 0, 0]}]}, "SearchResponse")
        self.assertEqual([[hit["key"] for hit in one["hits"]] for one in found["results"]], [["a"], ["a"]])
        self.assertEqual(found["results"][0]["hits"][0]["names"], ["clicks"])

    def test_accept_alone_asks_for_it(self):
        self.put({"key": "a", "features": {"clicks": 1}})
        answer = self.call("POST", self.path + "/entities:get", {"keys": ["a"]}, headers={"Accept": FLATBUFFERS})
        self.assertEqual(answer.media, FLATBUFFERS)
        self.assertEqual(Binary.decode("GetResponse", answer.bytes)["entities"][0]["names"], ["clicks"])

    def test_refusals(self):
        good = Binary.upsert(Binary.entity("a", ["clicks"], [7]))
        self.refused_upsert(400, "invalid_body", "", b"\x10\0\0\0 no flatbuffer at all", media=FLATBUFFERS)
        self.refused_upsert(400, "invalid_body", "", b"", media=FLATBUFFERS)
        for length in range(4, len(good) - 1, 24):
            self.refused_upsert(400, "invalid_body", "", good[:length], media=FLATBUFFERS)
        broken = Binary.upsert(Binary.entity("a"), b"\xff" * 40)
        self.refused_upsert(400, "invalid_body", "entities[1]", broken, media=FLATBUFFERS)
        self.refused_upsert(400, "invalid_field", "at least one", Binary.encode("UpsertRequest", {"entities": []}), media=FLATBUFFERS)
        wrong = Binary.upsert(Binary.entity("fine"), Binary.entity("a", (), (), [1.0, 2.0]))
        self.refused_upsert(400, "invalid_dimension", "entities[1].vectors.default", wrong, media=FLATBUFFERS)
        self.refused_upsert(400, "invalid_type", "entities[0].features.country", Binary.upsert(Binary.entity("a", ["country"], [1])), media=FLATBUFFERS)
        self.refused(400, "invalid_parameter", "mode", "POST", self.path + "/entities?mode=replace", good, media=FLATBUFFERS)
        self.assertEqual(self.count(), 0)


class Contract(ApiTest):
    def test_contract_in_the_body(self):
        self.put({"key": "a", "features": {"clicks": 1}})
        for method, path, body in (("GET", "/entities/a", None), ("POST", "/entities:get", {"keys": ["a"]}),
                                   ("POST", "/entities", {"entities": [{"key": "a"}]}), ("GET", "", None),
                                   ("POST", "/search", {"vector": [1, 2, 3]}), ("POST", "/entities:count", {}),
                                   ("POST", "/entities:scroll", {}), ("POST", "/entities:delete", {"keys": ["z"]})):
            answer = self.ok(method, self.path + path + "?contract=true", body)
            self.assertTrue(answer["contract"]["complete"], path)
            self.assertTrue(answer["contract"]["shards"], path)
            self.assertNotIn("contract", self.ok(method, self.path + path, body))

    def test_only_a_search_tells_of_the_index(self):
        self.put({"key": "a", "vectors": {"default": [1, 2, 3]}})
        # A batch takes so much memory that it is given back before the next request.
        batch = {"searches": [{"vector": [1, 2, 3], "k": 10}] * 500}
        for body in ({"vector": [1, 2, 3]}, batch):
            found = self.ok("POST", self.path + "/search?contract=true", body)
            self.assertTrue(any(shard["indexed"] is not None for shard in found["contract"]["shards"]))
            read = self.ok("GET", self.path + "/entities/a?contract=true")
            self.assertEqual([shard["indexed"] for shard in read["contract"]["shards"]], [None])
            self.assertEqual([shard["generation"] for shard in read["contract"]["shards"]], [None])

    def test_position_of_a_write_can_be_asked_for(self):
        wrote = self.call("POST", self.path + "/entities", {"entities": [{"key": "a"}]})
        position = wrote.headers["Cairn-Position"]
        self.ok("GET", self.path + "/entities/a", headers={"Cairn-Min-Position": position})
        epoch = position.split(";")[0]
        self.refused(504, "position_not_reached", "s0", "GET", self.path + "/entities/a",
                     headers={"Cairn-Min-Position": epoch + ";s0=999999999", "Cairn-Timeout": "50ms"})

    def test_request_id(self):
        answer = self.call("GET", self.path, headers={"request-id": "abc-1"})
        self.assertEqual(answer.headers["request-id"], "abc-1")
        self.assertTrue(self.call("GET", self.path).headers["request-id"])

    def test_concurrent_writers(self):
        server = self.server

        def write(number):
            client = Server.__new__(Server)
            client.port, client.connection = server.port, None
            for i in range(20):
                answer = client.request("POST", self.path + "/entities", {"entities": [{"key": "%d-%d" % (number, i)}]})
                assert answer.status == 200, answer.bytes
            client.connection.close()
        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.count(), 160)


class Service(ApiTest):
    def test_health_metrics_description(self):
        self.assertEqual(self.call("GET", "/healthz").json, {"status": "ok"})
        self.assertEqual(self.call("GET", "/readyz").json, {"status": "ready", "read_only": []})
        metrics = self.call("GET", "/metrics")
        self.assertTrue(metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        self.assertIn(b"# TYPE ", metrics.bytes)
        description = self.call("GET", "/openapi.json")
        self.assertEqual(description.media, "application/json")
        self.assertTrue(description.json["openapi"].startswith("3."))
        self.assertIn("/v1/collections/{collection}/search", description.json["paths"])

    def test_cluster(self):
        cluster = self.ok("GET", "/v1/cluster")
        self.assertEqual([shard["id"] for shard in cluster["shards"]], ["s0", "s1"])
        self.assertGreaterEqual(cluster["epoch"], 1)
        for shard in cluster["shards"]:
            self.assertEqual(shard["state"], "serving")
            self.assertGreater(shard["log"]["bytes"], 0)
            self.assertGreaterEqual(shard["log"]["segments"], 1)
            self.assertEqual(shard["weight"], 1.0)
            self.assertIn("writes", shard["queue"])


if __name__ == "__main__":
    unittest.main()
