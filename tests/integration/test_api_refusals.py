"""Every refusal of the HTTP contract against a real server. After each one nothing may have been written."""
import json
import os
import unittest

from api_harness import JSON, NDJSON, ApiTest, Server

KEY_MAX = 512
BODY_MAX = 64 << 20


def setUpModule():
    ApiTest.server = Server("--shards", "2")


def tearDownModule():
    code = ApiTest.server.stop()
    ApiTest.server.remove()
    assert code == 0, code


def nested(depth):
    return b'{"entities":' + b"[" * depth + b"]" * depth + b"}"


class Bodies(ApiTest):
    def test_json(self):
        whole = json.dumps({"entities": [{"key": "a", "features": {"clicks": 1}, "vectors": {"default": [1, 2, 3]}}]}).encode()
        for length in range(len(whole)):
            self.assertIn(self.refused_upsert(400, "invalid_json", "", whole[:length])["code"], "invalid_json")
        self.assertEqual(self.count(), 0)
        self.refused_upsert(400, "invalid_json", "", whole + b"}")
        self.refused_upsert(400, "invalid_json", "", b'{"entities": [{"key": "a", "features": {"score": NaN}}]}')
        self.refused_upsert(400, "invalid_json", "", b'{"entities": [{"key": "a", "features": {"score": Infinity}}]}')
        self.refused_upsert(400, "invalid_json", "", b'{"entities": [{"key": "a", "features": {"score": 1e999}}]}')
        self.refused_upsert(400, "invalid_json", "", b'{"entities": [{"key": "\\ud800"}]}')
        self.refused_upsert(400, "invalid_utf8", "", b'{"entities": [{"key": "\xff"}]}')
        self.refused_upsert(400, "invalid_utf8", "", b'{"entities": [{"key": "a", "features": {"country": "\xc3"}}]}')

    def test_nesting(self):
        self.refused_upsert(400, "invalid_type", "entities[0]", nested(31))
        self.refused_upsert(400, "invalid_json", "32", nested(40))
        self.refused_upsert(400, "invalid_json", "32", nested(100000))

    def test_shapes(self):
        for body in (b"[]", b"1", b'"x"', b"null"):
            self.refused_upsert(400, "invalid_type", "object", body)
        self.refused_upsert(400, "invalid_field", "entities", {})
        self.refused_upsert(400, "invalid_field", "entities", {"entities": []})
        self.refused_upsert(400, "invalid_field", "entities", {"entities": None})
        self.refused_upsert(400, "invalid_type", "entities", {"entities": {}})
        self.refused_upsert(400, "invalid_type", "entities[0]", {"entities": [1]})
        self.refused_upsert(400, "invalid_field", "entity: unknown field", {"entity": []})
        self.refused_upsert(400, "invalid_field", "entities: given twice", b'{"entities": [], "entities": []}')

    def test_media_type(self):
        body = {"entities": [{"key": "a"}]}
        for media in ("text/plain", "application/x-www-form-urlencoded"):
            self.refused_upsert(415, "unsupported_media_type", "", body, media=media)
        self.refused(415, "unsupported_media_type", "", "POST", self.path + "/search", b'{"vector": [1, 2, 3]}\n', media=NDJSON)
        self.refused(415, "unsupported_media_type", "", "PUT", self.path, self.schema, media=NDJSON)
        self.assertEqual(self.call("POST", self.path + "/entities", body, media=JSON + "; charset=utf-8").status, 200)

    def test_over_the_body_limit(self):
        head = "POST %s/entities HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        before = self.applied()
        answer = self.server.raw((head % (self.path, BODY_MAX + 1)).encode())
        self.assertEqual((answer.status, answer.json["code"]), (413, "too_large"))
        self.assertIn("64 MiB", answer.json["detail"])
        self.assertEqual(self.applied(), before)
        # At the limit the body is read; it is refused for what it says.
        answer = self.call("POST", self.path + "/entities", b"[" + b" " * (BODY_MAX - 2) + b"]")
        self.assertEqual((answer.status, answer.json["code"]), (400, "invalid_type"))
        answer = self.call("POST", self.path + "/entities", b'{"entities": [{"key": "big"}]' + b" " * (BODY_MAX - 30) + b"}")
        self.assertEqual(answer.status, 200)

    def test_headers_too_large(self):
        self.refused(431, "headers_too_large", "", "GET", self.path, headers={"x-long": "y" * (17 << 10)})

    def test_a_line_over_its_limit(self):
        line = b'{"key": "a", "features": {"country": "' + b"x" * (8 << 20) + b'"}}\n'
        answer = self.call("POST", self.path + "/entities", line + b'{"key": "b"}\n', media=NDJSON)
        self.assertEqual(answer.status, 200)
        self.assertEqual([one.get("error", {}).get("code") for one in answer.lines], ["too_large", None])
        self.assertEqual(self.count(), 1)


class Entities(ApiTest):
    def test_keys(self):
        self.refused_entity(400, "invalid_key", "entities[1].key", {})
        self.refused_entity(400, "invalid_key", "entities[1].key", {"key": ""})
        self.refused_entity(400, "invalid_key", "entities[1].key", {"key": 1.5})
        self.refused_entity(400, "invalid_key", "512", {"key": "k" * (KEY_MAX + 1)})
        self.refused_entity(400, "invalid_key", "512", {"key": "é" * 257})
        self.refused_entity(400, "invalid_key", "entities[1].route", {"key": "k", "route": "r" * (KEY_MAX + 1)})
        self.put({"key": "k" * KEY_MAX, "route": "r" * KEY_MAX})
        self.assertTrue(self.get("k" * KEY_MAX)[0]["found"])

    def test_unknown_fields(self):
        self.refused_entity(400, "invalid_field", "entities[1].nope: unknown field", {"key": "a", "nope": 1})
        self.refused_entity(400, "invalid_field", "entities[1].provenance.who", {"key": "a", "provenance": {"who": 1}})
        self.refused_entity(400, "invalid_field", "entities[1].vectors.default.f64", {"key": "a", "vectors": {"default": {"f64": ""}}})

    def test_types(self):
        self.refused_entity(400, "invalid_type", "entities[1].features.clicks", {"key": "a", "features": {"clicks": 1.5}})
        self.refused_entity(400, "invalid_type", "entities[1].features.country", {"key": "a", "features": {"country": 1}})
        self.refused_entity(400, "invalid_type", "entities[1].features.raw", {"key": "a", "features": {"raw": "*"}})
        self.refused_entity(400, "invalid_type", "entities[1].features.tags", {"key": "a", "features": {"tags": ["a", 1]}})
        self.refused_entity(400, "invalid_time", "entities[1].features.seen", {"key": "a", "features": {"seen": "now"}})
        self.refused_entity(400, "invalid_number", "entities[1].features.clicks", {"key": "a", "features": {"clicks": 2**63}})
        self.refused_entity(400, "invalid_name", "entities[1]", {"key": "a", "features": {"a b": 1}})
        self.refused_entity(400, "invalid_time", "entities[1].event_time", {"key": "a", "event_time": "2026-02-30T00:00:00Z"})
        self.refused_entity(400, "invalid_time", "entities[1].event_time", {"key": "a", "event_time": 2**53})
        self.refused_entity(400, "invalid_field", "entities[1].if_offset", {"key": "a", "if_offset": -1})

    def test_vectors(self):
        self.refused_entity(400, "invalid_dimension", "entities[1].vectors.default", {"key": "a", "vectors": {"default": [1, 2]}})
        self.refused_entity(400, "invalid_dimension", "entities[1].vectors.default", {"key": "a", "vectors": {"default": [1, 2, 3, 4]}})
        self.refused_entity(400, "invalid_dimension", "8192", {"key": "a", "vectors": {"default": [0] * 8193}})
        self.refused_entity(400, "invalid_number", "entities[1].vectors.default", {"key": "a", "vectors": {"default": [1, 2, 1e39]}})
        self.refused_entity(400, "invalid_number", "entities[1].vectors.default", {"key": "a", "vectors": {"default": {"f32": "AADAfwAAgD8AAIA/"}}})
        self.refused_entity(400, "invalid_type", "entities[1].vectors.default", {"key": "a", "vectors": {"default": [1, "2", 3]}})
        self.refused_entity(400, "invalid_field", "entities[1].vectors.other", {"key": "a", "vectors": {"other": [1, 2, 3]}})

    def test_limits(self):
        value = "x" * (1 << 20)
        self.refused_entity(413, "too_large", "entities[1].features.country", {"key": "a", "features": {"country": value + "x"}})
        self.refused_entity(413, "too_large", "entities[1]", {"key": "a", "features": {"f%d" % i: i for i in range(4097)}})
        self.refused_entity(413, "too_large", "entities[1].features.list", {"key": "a", "features": {"list": [True] * 65537}})
        self.refused_entity(413, "too_large", "entities[1]", {"key": "a", "features": {"f%d" % i: value for i in range(4)}})
        self.refused_entity(413, "too_large", "entities[1].provenance.inputs", {"key": "a", "provenance": {"inputs": ["s0:1"] * 65}})
        self.refused_upsert(400, "invalid_field", "10000", {"entities": [{"key": "a"}] * 10001})
        self.assertEqual(self.count(), 0)
        self.put({"key": "a", "features": {"country": value}}, {"key": "b", "features": {"f%d" % i: i for i in range(4096)}},
                 {"key": "c", "features": {"list": [True] * 65536}, "provenance": {"inputs": ["s0:1"] * 64}})
        self.assertEqual(len(self.features("b")), 4096)

    def test_strict(self):
        self.ok("PUT", self.path, {"strict": True})
        self.refused_entity(400, "unknown_feature", "entities[1].features.free", {"key": "a", "features": {"free": 1}})
        self.refused(400, "unknown_feature", "features[0]", "POST", self.path + "/entities:get", {"keys": ["a"], "features": ["free"]})

    def test_unknown_collection(self):
        nowhere = "/v1/collections/nowhere"
        for method, path, body in (
                ("GET", "", None), ("DELETE", "", None), ("GET", "/indexes", None), ("GET", "/entities", None),
                ("POST", "/entities", {"entities": [{"key": "a"}]}), ("POST", "/entities:get", {"keys": ["a"]}),
                ("POST", "/entities:delete", {"keys": ["a"]}), ("POST", "/entities:scroll", {}), ("POST", "/entities:count", {}),
                ("GET", "/entities/a", None), ("DELETE", "/entities/a", None), ("POST", "/search", {"vector": [1]})):
            self.refused(404, "collection_not_found", "nowhere", method, nowhere + path, body)
        self.refused(404, "collection_not_found", "nowhere", "POST", nowhere + "/entities", b'{"key": "a"}\n', media=NDJSON)


class Parameters(ApiTest):
    def test_unknown_and_bad_ones(self):
        entities = {"entities": [{"key": "a"}]}
        self.refused(400, "invalid_parameter", "mod", "POST", self.path + "/entities?mod=patch", entities)
        self.refused(400, "invalid_parameter", "mode", "POST", self.path + "/entities?mode=merge", entities)
        self.refused(400, "invalid_parameter", "mode", "POST", self.path + "/entities?mode=merge", b'{"key": "a"}\n', media=NDJSON)
        for limit in ("0", "10001", "-1", "x", "", "1e3", "99999999999999999999"):
            self.refused(400, "invalid_parameter", "limit", "GET", self.path + "/entities?limit=" + limit)
        self.refused(400, "invalid_parameter", "meta", "GET", self.path + "/entities/a?meta=all")
        self.refused(400, "invalid_parameter", "features", "GET", self.path + "/entities/a?features=ok,ok")
        for method, path, body in (("GET", "", None), ("GET", "/indexes", None), ("POST", "/search", {"vector": [1, 2, 3]}),
                                   ("POST", "/entities:get", {"keys": ["a"]}), ("DELETE", "/entities/a", None),
                                   ("POST", "/entities:count", {}), ("POST", "/entities:delete", {"keys": ["a"]}),
                                   ("PUT", "", self.schema), ("DELETE", "", None)):
            self.refused(400, "invalid_parameter", "odd", method, self.path + path + "?odd=1", body)
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/cluster", "/v1/collections"):
            self.refused(400, "invalid_parameter", "odd", "GET", path + "?odd=1")

    def test_paths(self):
        self.refused(404, "not_found", "", "GET", "/v1/nothing")
        self.refused(404, "not_found", "", "GET", "/")
        self.refused(404, "not_found", "", "POST", self.path + "/entities:nothing", {})
        self.refused(405, "method_not_allowed", "", "PATCH", self.path, {})
        self.refused(405, "method_not_allowed", "", "POST", self.path + "/entities/a", {})
        self.refused(405, "method_not_allowed", "", "DELETE", "/v1/cluster")
        self.refused(400, "invalid_key", "key", "GET", self.path + "/entities/" + "k" * 513)
        self.refused(400, "invalid_key", "key", "DELETE", self.path + "/entities/" + "k" * 513)
        self.refused(400, "invalid_utf8", "key", "GET", self.path + "/entities/%ff")

    def test_cursors(self):
        self.put(*({"key": "k%d" % i} for i in range(5)))
        cursor = self.ok("GET", self.path + "/entities?limit=2")["cursor"]
        swapped = cursor[:-1] + ("A" if cursor[-1] != "A" else "Q")
        for bad in ("x", "!!!!", cursor[:-2], cursor + "AA", swapped, cursor + "=", "A" * 1000):
            self.refused(400, "invalid_cursor", "cursor", "POST", self.path + "/entities:scroll", {"cursor": bad})
            self.refused(400, "invalid_cursor", "cursor", "GET", self.path + "/entities?cursor=" + bad)
        other = self.path + "x"
        self.assertEqual(self.call("PUT", other, {}).status, 201)
        self.refused(400, "invalid_cursor", "cursor", "GET", other + "/entities?cursor=" + cursor)
        self.refused(400, "invalid_type", "cursor", "POST", self.path + "/entities:scroll", {"cursor": 7})


class Reads(ApiTest):
    def refused_get(self, code, detail, body, status=400):
        self.refused(status, code, detail, "POST", self.path + "/entities:get", body)

    def test_get(self):
        self.refused_get("invalid_field", "keys", {})
        self.refused_get("invalid_field", "keys", {"keys": []})
        self.refused_get("invalid_type", "keys", {"keys": "a"})
        self.refused_get("invalid_key", "keys[1]", {"keys": ["a", ""]})
        self.refused_get("invalid_field", "10000", {"keys": ["a"] * 10001})
        self.refused_get("invalid_field", "nope", {"keys": ["a"], "nope": 1})
        self.refused_get("invalid_type", "features", {"keys": ["a"], "features": "country"})
        self.refused_get("invalid_field", "features", {"keys": ["a"], "features": ["ok", "ok"]})
        self.refused_get("invalid_type", "features[0]", {"keys": ["a"], "features": [1]})
        self.refused_get("vector_not_found", "vectors[0]", {"keys": ["a"], "vectors": ["nope"]}, status=404)
        self.refused_get("invalid_field", "meta", {"keys": ["a"], "meta": "some"})
        self.refused_get("invalid_parameter", "as_of", {"keys": ["a"], "as_of": {"event_time": 1}})

    def refused_search(self, code, detail, body, status=400):
        self.refused(status, code, detail, "POST", self.path + "/search", body)

    def test_search(self):
        vector = [1, 2, 3]
        self.refused_search("invalid_field", "vector", {})
        self.refused_search("invalid_field", "vector", {"vector": vector, "key": "a"})
        self.refused_search("invalid_field", "text", {"text": "words"})
        self.refused_search("invalid_dimension", "vector", {"vector": [1, 2]})
        self.refused_search("invalid_dimension", "vector", {"vector": []})
        self.refused_search("invalid_number", "vector", {"vector": [1, 2, 1e39]})
        self.refused_search("invalid_type", "vector", {"vector": [1, 2, "3"]})
        self.refused_search("invalid_type", "vector", {"vector": 3})
        self.refused_search("invalid_key", "key", {"key": ""})
        self.refused_search("vector_not_found", "nope", {"vector": vector, "using": "nope"}, status=404)
        self.refused_search("invalid_type", "using", {"vector": vector, "using": 1})
        for k in (0, -1, 10001, 2**63):
            self.refused_search("invalid_field", "k", {"vector": vector, "k": k})
        self.refused_search("invalid_type", "k", {"vector": vector, "k": 1.5})
        self.refused_search("invalid_field", "params.nope", {"vector": vector, "params": {"nope": 1}})
        self.refused_search("invalid_field", "params.ef", {"vector": vector, "params": {"ef": 0}})
        self.refused_search("invalid_field", "params.ef", {"vector": vector, "params": {"ef": 10001}})
        self.refused_search("invalid_field", "params.nprobe", {"vector": vector, "params": {"nprobe": 65537}})
        self.refused_search("invalid_type", "params.exact", {"vector": vector, "params": {"exact": 1}})
        self.refused_search("invalid_type", "with_provenance", {"vector": vector, "with_provenance": "yes"})
        self.refused_search("invalid_type", "with_vectors", {"vector": vector, "with_vectors": "yes"})
        self.refused_search("vector_not_found", "vectors[0]", {"vector": vector, "with_vectors": ["nope"]}, status=404)
        self.refused_search("invalid_type", "allow_partial", {"vector": vector, "allow_partial": 1})
        self.refused_search("invalid_field", "nope", {"vector": vector, "nope": 1})
        self.refused_search("invalid_field", "searches", {"searches": []})
        self.refused_search("invalid_type", "searches", {"searches": {}})
        self.refused_search("invalid_field", "1025", {"searches": [{"vector": vector}] * 1025})
        self.refused_search("invalid_field", "1048576", {"searches": [{"vector": vector, "k": 10000}] * 105})
        self.refused_search("invalid_field", "k", {"searches": [{"vector": vector}], "k": 3})

    def test_filters(self):
        for bad in ({}, {"nope": []}, {"feature": "country"}, {"feature": "country", "eq": 1}, {"feature": "clicks", "gte": "x"},
                    {"feature": "country", "like": "x"}, {"all": {}}, [], 1, {"feature": "country", "in": "DE"}):
            for action, body in (("/search", {"vector": [1, 2, 3]}), ("/entities:count", {}), ("/entities:scroll", {}), ("/entities:delete", {})):
                self.refused(400, "invalid_filter", "filter", "POST", self.path + action, {**body, "filter": bad})
        wide = {"any": [{"feature": "clicks", "eq": 1}] * 1024}
        self.refused(400, "invalid_filter", "1024", "POST", self.path + "/entities:count", {"filter": wide})
        wide["any"].pop()
        self.assertEqual(self.count(filter=wide), 0)
        deep = {"feature": "clicks", "eq": 1}
        for _ in range(11):
            deep = {"all": [deep]}
        self.assertEqual(self.count(filter=deep), 0)
        self.refused(400, "invalid_filter", "12", "POST", self.path + "/entities:count", {"filter": {"all": [deep]}})

    def test_delete(self):
        delete = self.path + "/entities:delete"
        self.put({"key": "a"})
        self.refused(400, "invalid_field", "keys", "POST", delete, {})
        self.refused(400, "invalid_field", "keys", "POST", delete, {"keys": ["a"], "filter": {"feature": "ok", "eq": True}})
        self.refused(400, "invalid_field", "keys", "POST", delete, {"keys": []})
        self.refused(400, "invalid_key", "keys[1]", "POST", delete, {"keys": ["a", ""]})
        self.assertEqual(self.count(), 1)

    def test_out_of_time(self):
        self.put(*({"key": i, "features": {"clicks": i}} for i in range(5000)))
        answer = self.call("POST", self.path + "/entities:delete", {"filter": {"feature": "clicks", "gte": 0}},
                           headers={"Cairn-Timeout": "1ms"})
        self.assertEqual((answer.status, answer.json["code"]), (504, "timeout"))
        self.assertGreater(self.count(), 0)

    def test_scroll(self):
        scroll = self.path + "/entities:scroll"
        for limit in (0, 10001):
            self.refused(400, "invalid_field", "limit", "POST", scroll, {"limit": limit})
        self.refused(400, "invalid_type", "limit", "POST", scroll, {"limit": "5"})
        self.refused(400, "invalid_field", "nope", "POST", scroll, {"nope": 1})


class Schemas(ApiTest):
    def refused_schema(self, code, detail, body, status=400):
        self.refused(status, code, detail, "PUT", self.path, body)

    def test_schemas(self):
        version = self.ok("GET", self.path)["version"]
        self.refused_schema("schema_conflict", "clicks", {"features": {"clicks": {"type": "string"}}}, status=409)
        self.refused_schema("schema_conflict", "default", {"vectors": {"default": {"dim": 4}}}, status=409)
        self.refused_schema("schema_conflict", "default", {"vectors": {"default": {"dim": 3, "metric": "dot"}}}, status=409)
        self.refused_schema("invalid_schema", "nope", {"nope": 1})
        self.refused_schema("invalid_schema", "features.x", {"features": {"x": {"type": "int"}}})
        self.refused_schema("invalid_schema", "vectors.v", {"vectors": {"v": {"dim": 0}}})
        self.refused_schema("invalid_schema", "vectors.v", {"vectors": {"v": {"dim": 8193}}})
        self.refused_schema("invalid_json", "", b"{")
        self.assertEqual(self.ok("GET", self.path)["version"], version)
        for name in ("-a", ".a", "a%20b", "n" * 129):
            self.refused(400, "invalid_name", "collection", "PUT", "/v1/collections/" + name, {})
        self.assertEqual(self.call("PUT", "/v1/collections/" + "n" * 128, {}).status, 201)


class Keys(unittest.TestCase):
    """API keys: who may do what, and that a refusal writes nothing."""

    @classmethod
    def setUpClass(cls):
        first = Server()
        first.stop()
        keys = os.path.join(first.folder, "keys")
        with open(keys, "w", encoding="ascii") as file:
            file.write("read reader\nwrite writer\nadmin boss\nwrite:mine limited\n")
        cls.server = Server("--api-keys-file", keys, folder=first.folder)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.remove()

    def status(self, key, method, path, body=None):
        headers = {} if key is None else {"Authorization": "Bearer " + key}
        answer = self.server.request(method, path, body, headers=headers)
        if answer.status in (401, 403):
            self.assertEqual(answer.json["code"], "unauthorized" if answer.status == 401 else "forbidden")
        return answer.status

    def test_roles(self):
        entities = {"entities": [{"key": "a"}]}
        self.assertEqual(self.status(None, "PUT", "/v1/collections/mine", {}), 401)
        self.assertEqual(self.status("wrong", "PUT", "/v1/collections/mine", {}), 401)
        self.assertEqual(self.status("writer", "PUT", "/v1/collections/mine", {}), 403)
        self.assertEqual(self.status("boss", "PUT", "/v1/collections/mine", {}), 201)
        self.assertEqual(self.status("boss", "PUT", "/v1/collections/other", {}), 201)
        self.assertEqual(self.status("reader", "POST", "/v1/collections/mine/entities", entities), 403)
        self.assertEqual(self.status("limited", "POST", "/v1/collections/other/entities", entities), 403)
        self.assertEqual(self.server.request("GET", "/v1/collections/other/entities/a", headers={"api-key": "reader"}).status, 404)
        self.assertEqual(self.status("limited", "POST", "/v1/collections/mine/entities", entities), 200)
        self.assertEqual(self.status("reader", "GET", "/v1/collections/mine/entities/a"), 200)
        self.assertEqual(self.status("limited", "POST", "/v1/features:get", {"lookups": [{"collection": "other", "keys": ["a"]}]}), 403)
        self.assertEqual(self.status("reader", "DELETE", "/v1/collections/mine"), 403)
        for path in ("/healthz", "/readyz", "/openapi.json"):
            self.assertEqual(self.status(None, "GET", path), 200)
        self.assertEqual(self.status(None, "GET", "/metrics"), 401)
        self.assertEqual(self.status("reader", "GET", "/metrics"), 200)


class FullDisk(unittest.TestCase):
    """Writes are refused while the disk has less than is to be kept free; reads go on."""

    def test_out_of_space(self):
        server = Server()
        try:
            entities = {"entities": [{"key": "a", "features": {"n": 1}}]}
            self.assertEqual(server.request("PUT", "/v1/collections/c", {}).status, 201)
            self.assertEqual(server.request("POST", "/v1/collections/c/entities", entities).status, 200)
            server.stop()
            server = Server("--free-bytes-min", str(1 << 60), folder=server.folder)
            answer = server.request("POST", "/v1/collections/c/entities", entities)
            self.assertEqual((answer.status, answer.json["code"]), (507, "out_of_space"))
            answer = server.request("POST", "/v1/collections/c/entities", b'{"key": "b"}\n', media=NDJSON)
            self.assertEqual((answer.status, answer.lines[0]["error"]["code"]), (200, "out_of_space"))
            answer = server.request("DELETE", "/v1/collections/c/entities/a")
            self.assertEqual((answer.status, answer.json["code"]), (507, "out_of_space"))
            found = server.request("GET", "/v1/collections/c/entities/a")
            self.assertEqual((found.status, found.json["features"]), (200, {"n": 1}))
            self.assertEqual(server.request("POST", "/v1/collections/c/entities:count", {}).json["count"], 1)
        finally:
            server.stop()
            server.remove()


class DamagedLog(unittest.TestCase):
    """A shard with a damaged log refuses writes with its reason; reads go on, other shards too."""

    def test_read_only_shard(self):
        server = Server("--shards", "2")
        try:
            self.assertEqual(server.request("PUT", "/v1/collections/c", {"features": {"n": {"type": "int64"}}}).status, 201)
            keys = ["k%d" % i for i in range(40)]
            wrote = server.request("POST", "/v1/collections/c/entities", {"entities": [{"key": key, "features": {"n": 1}} for key in keys]}).json["results"]
            server.request("POST", "/v1/collections/c/entities", {"entities": [{"key": key, "features": {"n": 2}} for key in keys]})
            server.stop()
            self.damage(server.data)
            server = Server(folder=server.folder)
            shards = {shard["id"]: shard for shard in server.request("GET", "/v1/cluster").json["shards"]}
            self.assertEqual((shards["s0"]["state"], shards["s1"]["state"]), ("read_only", "serving"))
            self.assertTrue(shards["s0"]["reason"])
            self.assertEqual(server.request("GET", "/readyz").json, {"status": "ready", "read_only": ["s0"]})
            for one in wrote:
                found = server.request("GET", "/v1/collections/c/entities/" + one["key"])
                self.assertEqual((found.status, found.json["features"]), (200, {"n": 2}))
                answer = server.request("POST", "/v1/collections/c/entities", {"entities": [{"key": one["key"]}]})
                if one["shard"] == "s0":
                    self.assertEqual((answer.status, answer.json["code"]), (503, "shard_corrupt"))
                else:
                    self.assertEqual(answer.status, 200)
            # A request over both shards says what became of the other part; a stream tells line by line.
            body = {"entities": [{"key": key, "features": {"n": 3}} for key in keys]}
            answer = server.request("POST", "/v1/collections/c/entities", body)
            self.assertEqual((answer.status, answer.json["code"]), (503, "shard_corrupt"))
            self.assertIn("1 of 2 shards", answer.json["detail"])
            lines = b"".join(json.dumps({"key": key, "features": {"n": 4}}).encode() + b"\n" for key in keys)
            answers = server.request("POST", "/v1/collections/c/entities", lines, media=NDJSON).lines
            self.assertEqual([("error" in line) for line in answers], [one["shard"] == "s0" for one in wrote])
        finally:
            server.stop()
            server.remove()

    @staticmethod
    def damage(data):
        """Flip a byte in the middle of shard 0's newest segment."""
        folder = os.path.join(data, "shard-0000", "log")
        segment = os.path.join(folder, max(name for name in os.listdir(folder) if name.endswith(".seg")))
        with open(segment, "r+b") as file:
            file.seek(os.path.getsize(segment) // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0xFF]))


if __name__ == "__main__":
    unittest.main()
