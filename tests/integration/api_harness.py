"""What tests of the HTTP surface share: a real server on a temporary directory, requests, binary bodies."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("CAIRN_BIN", os.path.join(ROOT, "build/cairn"))
FLATC = os.environ.get("FLATC", "flatc")
DEADLINE_S = 60
JSON = "application/json"
NDJSON = "application/x-ndjson"
FLATBUFFERS = "application/x-flatbuffers"


class Server:
    """One process. `folder` of an earlier server starts it again on the same data."""

    def __init__(self, *flags, folder=None, data=True, listen="127.0.0.1:0"):
        self.folder = folder or tempfile.mkdtemp(prefix="cairn-test-")
        self.data = os.path.join(self.folder, "data")
        port_file = os.path.join(self.folder, "port")
        if os.path.exists(port_file):
            os.unlink(port_file)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CAIRN_")}
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(
            [BIN, "serve", *(["--data", self.data] if data else []), "--listen", listen,
             "--port-file", port_file, *flags],
            stdout=self.log, stderr=self.log, env=environment)
        deadline = time.monotonic() + DEADLINE_S
        while not os.path.exists(port_file):
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log.name, encoding="utf-8") as text:
                    raise AssertionError("the server did not start: " + text.read())
            time.sleep(0.01)
        with open(port_file, encoding="ascii") as text:
            self.port = int(text.read())
        self.connection = None

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.port

    def stop(self):
        if self.connection is not None:
            self.connection.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=DEADLINE_S)
        self.log.close()
        return code

    def remove(self):
        shutil.rmtree(self.folder)

    def request(self, method, path, body=None, media=JSON, headers=None):
        """One request. `body` is bytes or anything that json.dumps takes."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        sent = dict(headers or {})
        if body is not None and media is not None:
            sent["Content-Type"] = media
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            self.connection.request(method, path, body=body, headers=sent)
            return Answer(self.connection.getresponse())
        except (http.client.HTTPException, OSError):
            self.connection.close()
            raise

    def raw(self, text):
        """Send bytes on a connection of their own and read until the server closes or answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S) as sock:
            sock.sendall(text)
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            return Answer(answer)


class Cluster:
    """Shards in processes of their own, and routers before them."""

    def __init__(self, shards=3, routers=1, flags=(), router_flags=()):
        self.flags = flags
        self.shards = [self.start_shard(i) for i in range(shards)]
        self.router_flags = [*router_flags, "--shard", ",".join(
            "s%d=%s" % (i, shard.url) for i, shard in enumerate(self.shards))]
        self.routers = [Server("--role", "router", *self.router_flags, data=False) for _ in range(routers)]
        for router in self.routers:
            self.await_ready(router)

    def start_shard(self, number, folder=None, port=0):
        return Server("--role", "shard", "--id", "s%d" % number, *self.flags, folder=folder,
                      listen="127.0.0.1:%d" % port)

    @staticmethod
    def await_ready(server):
        deadline = time.monotonic() + DEADLINE_S
        while server.request("GET", "/readyz").status != 200:
            if time.monotonic() > deadline:
                raise AssertionError("not ready: %r" % server.request("GET", "/readyz").bytes)
            time.sleep(0.01)

    def stop(self):
        codes = [server.stop() for server in [*self.routers, *self.shards]]
        return max(abs(code) for code in codes)

    def remove(self):
        for server in [*self.routers, *self.shards]:
            server.remove()


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.media = response.headers.get("Content-Type", "").split(";")[0]
        self.bytes = response.read()

    @property
    def json(self):
        return json.loads(self.bytes)

    @property
    def lines(self):
        return [json.loads(line) for line in self.bytes.splitlines()]


def quote(key):
    return urllib.parse.quote(key, safe="")


def vector_of(*numbers):
    return list(map(float, numbers))


class Binary:
    """FlatBuffers bodies through flatc, as any client's generated code would make them."""

    available = shutil.which(FLATC) is not None
    schema = os.path.join(ROOT, "base/cairn.fbs")

    @classmethod
    def encode(cls, table, value):
        with tempfile.TemporaryDirectory(prefix="cairn-test-") as folder:
            with open(os.path.join(folder, "body.json"), "w", encoding="utf-8") as file:
                json.dump(value, file)
            subprocess.run([FLATC, "--binary", "--root-type", "cairn.fb." + table, "-o", folder, cls.schema,
                            os.path.join(folder, "body.json")], check=True, capture_output=True)
            with open(os.path.join(folder, "body.bin"), "rb") as file:
                return file.read()

    @classmethod
    def decode(cls, table, body):
        with tempfile.TemporaryDirectory(prefix="cairn-test-") as folder:
            with open(os.path.join(folder, "body.bin"), "wb") as file:
                file.write(body)
            subprocess.run([FLATC, "--json", "--strict-json", "--raw-binary", "--defaults-json", "--root-type",
                            "cairn.fb." + table, "-o", folder, cls.schema, "--", os.path.join(folder, "body.bin")],
                           check=True, capture_output=True)
            with open(os.path.join(folder, "body.json"), encoding="utf-8") as file:
                return json.load(file)

    @classmethod
    def entity(cls, key, names=(), numbers=(), vector=None):
        """The bytes of an entity with int64 features and, if given, a vector `default`."""
        value = {"key": key, "names": list(names), "heap": [],
                 "cells": [{"value": number, "length": 0, "type": 2} for number in numbers]}
        if vector is not None:
            value["vectors"] = [{"name": "default", "f32": vector}]
        return cls.encode("Entity", value)

    @classmethod
    def upsert(cls, *entities):
        return cls.encode("UpsertRequest", {"entities": [{"data": list(entity)} for entity in entities]})


class ApiTest(unittest.TestCase):
    """Each test has a collection of its own on a server of the whole module."""

    server = None
    schema = {
        "features": {"country": {"type": "string", "indexed": True}, "clicks": {"type": "int64", "ttl": "24h"},
                     "score": {"type": "float64"}, "tags": {"type": "list<string>"}, "raw": {"type": "bytes"},
                     "seen": {"type": "timestamp"}, "doc": {"type": "json"}, "ok": {"type": "bool"}},
        "vectors": {"default": {"dim": 3, "metric": "l2"}},
    }

    def setUp(self):
        self.name = self.id().rsplit(".", 1)[1]
        self.path = "/v1/collections/" + self.name
        self.assertEqual(self.call("PUT", self.path, self.schema).status, 201)

    def call(self, method, path, body=None, **options):
        return self.server.request(method, path, body, **options)

    def ok(self, method, path, body=None, **options):
        answer = self.call(method, path, body, **options)
        self.assertEqual(answer.status, 200, answer.bytes)
        self.assertRegex(answer.headers["Cairn-Position"], r"^\d+;(s\d+=\d+(,s\d+=\d+)*)?$")
        self.assertEqual(answer.headers["Cairn-Complete"], "true")
        return answer.json

    def put(self, *entities, query=""):
        return self.ok("POST", self.path + "/entities" + query, {"entities": list(entities)})["results"]

    def get(self, *keys, **asked):
        return self.ok("POST", self.path + "/entities:get", {"keys": list(keys), **asked})["results"]

    def features(self, key):
        return self.get(key)[0]["features"]

    def count(self, **asked):
        return self.ok("POST", self.path + "/entities:count", asked)["count"]

    def applied(self):
        """What every shard has applied: any record written anywhere changes it."""
        return {shard["id"]: shard["applied"] for shard in self.ok("GET", "/v1/cluster")["shards"]}

    def refused(self, status, code, detail, method, path, body=None, **options):
        """The request is refused as said, and nothing was written by it."""
        before = self.applied()
        answer = self.call(method, path, body, **options)
        where = "%s %s -> %r" % (method, path, answer.bytes[:300])
        self.assertEqual(answer.status, status, where)
        self.assertEqual(answer.media, "application/problem+json", where)
        problem = answer.json
        self.assertEqual(set(problem), {"type", "title", "status", "detail", "code"})
        self.assertEqual((problem["status"], problem["code"]), (status, code), where)
        self.assertIn(detail, problem["detail"])
        self.assertEqual(self.applied(), before, where)
        return problem

    def refused_upsert(self, status, code, detail, body, **options):
        return self.refused(status, code, detail, "POST", self.path + "/entities", body, **options)

    def refused_entity(self, status, code, detail, entity):
        """As the second of two entities; neither may be written."""
        self.refused_upsert(status, code, "entities[1]", {"entities": [{"key": "fine"}, entity]})
        problem = self.refused_upsert(status, code, detail, {"entities": [{"key": "fine"}, entity]})
        self.assertEqual(self.count(), 0)
        return problem
