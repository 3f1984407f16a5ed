"""Edges of the HTTP contract: parameters, headers, keys limited to collections, repeated members, the listener."""
import os
import subprocess
import tempfile
import unittest

from api_harness import BIN, JSON, NDJSON, ApiTest, Server


def setUpModule():
    ApiTest.server = Server("--shards", "2")


def tearDownModule():
    code = ApiTest.server.stop()
    ApiTest.server.remove()
    assert code == 0, code


class Requests(ApiTest):
    def test_contract_is_true_or_false(self):
        self.assertNotIn("contract", self.ok("GET", self.path + "?contract=false"))
        for value in ("True", "1", "yes", ""):
            self.refused(400, "invalid_parameter", "contract", "GET", self.path + "?contract=" + value)
        self.refused(400, "invalid_parameter", "contract", "GET", self.path + "?contract")

    def test_encoded_bodies_are_refused_as_such(self):
        body = {"entities": [{"key": "a"}]}
        for encoding in ("gzip", "zstd", "br"):
            self.refused_upsert(415, "unsupported_media_type", "Content-Encoding", body,
                                headers={"Content-Encoding": encoding})
        answer = self.call("POST", self.path + "/entities", body, headers={"Content-Encoding": "identity"})
        self.assertEqual(answer.status, 200)

    def test_a_line_ends_with_its_object(self):
        body = b'{"key": "a"}\0\n{"key": "b"} \t\r\n'
        first, second = self.call("POST", self.path + "/entities", body, media=NDJSON).lines
        self.assertEqual(first["error"]["code"], "invalid_json")
        self.assertEqual(second["key"], "b")
        self.assertEqual(self.count(), 1)

    def test_count_without_a_body(self):
        self.put({"key": "a"})
        for media in (None, JSON):
            answer = self.call("POST", self.path + "/entities:count", b"", media=media)
            self.assertEqual((answer.status, answer.json.get("count")), (200, 1))

    def test_a_refusal_names_the_epoch(self):
        answer = self.call("POST", self.path + "/search", {"vector": [1]})
        self.assertEqual(answer.status, 400)
        self.assertNotEqual(answer.headers.get("Cairn-Position", "1;").split(";")[0], "0")

    def test_members_of_a_filter_are_given_once(self):
        for leaf in (b'"feature": "ok", "feature": "clicks", "exists": true',
                     b'"feature": "ok", "exists": false, "exists": true'):
            for action in ("count", "delete", "scroll"):
                self.refused(400, "invalid_filter", "given twice", "POST", self.path + "/entities:" + action,
                             b'{"filter": {' + leaf + b"}}")


class Routes(ApiTest):
    """An entity is one row, wherever its route put it."""

    def test_a_write_without_a_route_goes_to_the_entity(self):
        for number in range(20):
            key = "k%d" % number
            self.put({"key": key, "route": "together", "features": {"clicks": 1}})
            self.put({"key": key, "features": {"ok": True}})
            line = self.call("POST", self.path + "/entities", ('{"key":"%s","features":{"score":2}}\n' % key).encode(),
                             media=NDJSON).lines[0]
            self.assertEqual(line["status"], "applied")
            row = self.ok("GET", self.path + "/entities/" + key)
            self.assertEqual(row["features"], {"clicks": 1, "ok": True, "score": 2.0})
        self.assertEqual(self.count(), 20)

    def test_another_route_is_refused(self):
        self.put({"key": "a", "route": "one"})
        self.put({"key": "b"})
        for entity in ({"key": "a", "route": "two"}, {"key": "b", "route": "one"}):
            self.refused_upsert(409, "precondition_failed", "route", {"entities": [entity]})
        self.put({"key": "b", "route": "b"}, {"key": "a", "route": "one"})
        self.assertEqual(self.count(), 2)

    def test_a_deleted_entity_may_get_another_route(self):
        self.put({"key": "a", "route": "one", "features": {"clicks": 1}})
        self.ok("DELETE", self.path + "/entities/a")
        self.put({"key": "a", "route": "two", "features": {"clicks": 2}})
        self.assertEqual(self.ok("GET", self.path + "/entities/a")["features"], {"clicks": 2})
        self.assertEqual(self.count(), 1)


class LimitedKeys(unittest.TestCase):
    """A key that is limited to some collections reads the features of those."""

    def setUp(self):
        with tempfile.NamedTemporaryFile("w", prefix="cairn-test-", delete=False) as keys:
            keys.write("admin root\nread:mine,ours limited\n")
        self.addCleanup(os.unlink, keys.name)
        self.server = Server("--shards", "1", "--api-keys-file", keys.name)
        self.addCleanup(self.server.remove)
        self.addCleanup(self.server.stop)
        for name in ("mine", "ours", "theirs"):
            self.assertEqual(self.call("root", "PUT", "/v1/collections/" + name, {}).status, 201)

    def call(self, key, method, path, body=None):
        return self.server.request(method, path, body, headers={"Authorization": "Bearer " + key})

    def lookup(self, *collections):
        return self.call("limited", "POST", "/v1/features:get",
                         {"lookups": [{"collection": name, "keys": ["a"]} for name in collections]})

    def test_features_of_several_collections(self):
        self.assertEqual(self.lookup("mine", "ours").status, 200)
        for other in ("theirs", "none"):
            answer = self.lookup("mine", other)
            self.assertEqual((answer.status, answer.json["code"]), (403, "forbidden"))
            self.assertIn("lookups[1]", answer.json["detail"])
        self.assertEqual(self.call("limited", "GET", "/v1/cluster").status, 403)
        self.assertEqual(self.call("nobody", "POST", "/v1/features:get", {}).status, 401)


class Listener(unittest.TestCase):
    def test_ports_are_16_bits(self):
        for port in ("65536", "99999", "4294967296", "-1", "x"):
            with tempfile.TemporaryDirectory(prefix="cairn-test-") as folder:
                done = subprocess.run([BIN, "serve", "--data", folder, "--listen", "127.0.0.1:" + port],
                                      capture_output=True, text=True, timeout=20, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("65535", done.stderr)


class CommandLine(unittest.TestCase):
    def test_version_flag(self):
        said = [subprocess.run([BIN, word], capture_output=True, text=True, timeout=20, check=True).stdout
                for word in ("version", "--version")]
        self.assertRegex(said[0], r"^cairn \d+\.\d+\.\d+\n$")
        self.assertEqual(said[0], said[1])


if __name__ == "__main__":
    unittest.main()
