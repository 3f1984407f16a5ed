#!/usr/bin/env python3
"""kill -9 under concurrent writes, again and again, on one data directory.

Each writer owns its keys and sends three kinds of writes:
  - a group: one request that sets the same number on three keys of one route (must stay equal);
  - an insert: a key that is never written again (must exist once acknowledged);
  - a vector: a key whose vector encodes its number (an exact search must find it).
Some requests are JSON, some NDJSON. After each kill the server is started again and every acknowledged write
must be there, no key may hold a number that was never sent, no group may be torn, and the number of entities must
lie between what was acknowledged and what was sent.

Usage: kill_rounds.py [--rounds N] [--seed N]     (binary: CAIRN_BIN, default build/cairn)
"""
import argparse
import http.client
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

BIN = os.environ.get("CAIRN_BIN", "build/cairn")
WRITERS = 6
COLLECTION = "/v1/collections/rounds"
SCHEMA = {"features": {"n": {"type": "int64"}}, "vectors": {"v": {"dim": 4, "metric": "l2", "index": {"kind": "flat"}}}}


class Server:
    def __init__(self, data):
        self.data = data
        self.process = None
        self.port = 0

    def start(self):
        port_file = os.path.join(self.data, "port")
        if os.path.exists(port_file):
            os.unlink(port_file)
        self.process = subprocess.Popen(
            [BIN, "serve", "--data", os.path.join(self.data, "store"), "--listen", "127.0.0.1:0", "--port-file", port_file,
             "--shards", "2", "--segment-bytes", "262144"],
            stderr=open(os.path.join(self.data, "server.log"), "ab"), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not os.path.exists(port_file):
            if self.process.poll() is not None:
                raise SystemExit("the server ended with %s at start:\n%s" % (self.process.returncode, self.log_tail()))
            if time.monotonic() > deadline:
                raise SystemExit("the server was not ready in 60 s:\n%s" % self.log_tail())
            time.sleep(0.005)
        self.port = int(open(port_file).read())

    def log_tail(self):
        with open(os.path.join(self.data, "server.log"), "rb") as file:
            return file.read()[-4000:].decode("utf-8", "replace")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


def call(connection, method, path, body=None, media="application/json"):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": media} if data is not None else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def vector_of(number):
    return [float(number), float(number % 7), 1.0, 0.5]


class Writer:
    """What one writer has sent and what was acknowledged, over all rounds."""

    def __init__(self, number, seed):
        self.name = "w%d" % number
        self.random = random.Random(seed * 1000 + number)
        self.sent = {"group": 0, "vector": 0}
        self.acknowledged = {"group": 0, "vector": 0}
        self.inserts_sent = set()
        self.inserts_acknowledged = set()
        self.errors = []

    def entities(self, kind, number):
        if kind == "group":
            return [{"key": "%s-g%d" % (self.name, i), "route": self.name, "features": {"n": number}} for i in range(3)]
        if kind == "vector":
            return [{"key": self.name + "-v", "features": {"n": number}, "vectors": {"v": vector_of(number)}}]
        return [{"key": "%s-i%d" % (self.name, number), "features": {"n": number}}]

    def step(self, connection):
        kind = self.random.choice(["group", "insert", "vector"])
        if kind == "insert":
            number = len(self.inserts_sent) + 1
            self.inserts_sent.add(number)
        else:
            number = self.sent[kind] + 1
            self.sent[kind] = number
        entities = self.entities(kind, number)
        if kind != "group" and self.random.random() < 0.3:
            body = "".join(json.dumps(entity) + "\n" for entity in entities).encode()
            status, text = call(connection, "POST", COLLECTION + "/entities", body, "application/x-ndjson")
            good = status == 200 and all("status" in json.loads(line) for line in text.splitlines())
        else:
            status, text = call(connection, "POST", COLLECTION + "/entities", {"entities": entities})
            good = status == 200
        if not good:
            self.errors.append("%s %s: %s %s" % (kind, number, status, text[:200]))
        elif kind == "insert":
            self.inserts_acknowledged.add(number)
        else:
            self.acknowledged[kind] = number

    def run(self, server, stop):
        try:
            connection = server.connect()
            while not stop.is_set():
                self.step(connection)
        except (OSError, http.client.HTTPException):
            pass  # the server was killed under it


def read_numbers(connection, keys):
    numbers = {}
    for at in range(0, len(keys), 5000):
        status, text = call(connection, "POST", COLLECTION + "/entities:get",
                            {"keys": keys[at:at + 5000], "features": ["n"]})
        if status != 200:
            raise SystemExit("get answered %d %s" % (status, text[:300]))
        for result in json.loads(text)["results"]:
            numbers[result["key"]] = result["features"]["n"] if result["found"] else None
    return numbers


def check_writer(connection, writer, problems):
    groups = read_numbers(connection, ["%s-g%d" % (writer.name, i) for i in range(3)])
    values = set(groups.values())
    if len(values) != 1:
        problems.append("%s: a group is torn: %s" % (writer.name, groups))
    value = values.pop() or 0
    if not writer.acknowledged["group"] <= value <= writer.sent["group"]:
        problems.append("%s: group holds %s, acknowledged %d, sent %d"
                        % (writer.name, value, writer.acknowledged["group"], writer.sent["group"]))
    value = read_numbers(connection, [writer.name + "-v"])[writer.name + "-v"] or 0
    if not writer.acknowledged["vector"] <= value <= writer.sent["vector"]:
        problems.append("%s: vector key holds %s, acknowledged %d, sent %d"
                        % (writer.name, value, writer.acknowledged["vector"], writer.sent["vector"]))
    if value > 0:
        status, text = call(connection, "POST", COLLECTION + "/search",
                            {"vector": vector_of(value), "k": WRITERS + 1, "params": {"exact": True}})
        hits = json.loads(text).get("hits", []) if status == 200 else []
        scores = {hit["key"]: hit["score"] for hit in hits}
        if not math.isclose(scores.get(writer.name + "-v", 1e9), 0.0, abs_tol=1e-5):
            problems.append("%s: the index does not hold vector %d: %s %s" % (writer.name, value, status, text[:300]))
    found = read_numbers(connection, ["%s-i%d" % (writer.name, n) for n in sorted(writer.inserts_sent)])
    for number in writer.inserts_sent:
        stored = found["%s-i%d" % (writer.name, number)]
        if stored is None and number in writer.inserts_acknowledged:
            problems.append("%s: acknowledged insert %d is lost" % (writer.name, number))
        if stored not in (None, number):
            problems.append("%s: insert %d holds %s" % (writer.name, number, stored))
    return sum(1 for stored in found.values() if stored is not None)


def check(server, writers):
    problems = []
    connection = server.connect()
    expected = 0
    for writer in writers:
        expected += check_writer(connection, writer, problems)
        keys = ["%s-g%d" % (writer.name, i) for i in range(3)] + [writer.name + "-v"]
        expected += sum(1 for value in read_numbers(connection, keys).values() if value is not None)
    status, text = call(connection, "POST", COLLECTION + "/entities:count", {})
    count = json.loads(text).get("count") if status == 200 else None
    if count != expected:
        problems.append("the collection counts %s entities, %d were found by key" % (count, expected))
    return problems


def one_round(server, writers, rng):
    stop = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(server, stop)) for writer in writers]
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0.02, 0.4))
    server.kill()
    stop.set()
    for thread in threads:
        thread.join()
    server.start()
    return check(server, writers)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CAIRN_TEST_SEED", "1")))
    options = parser.parse_args()
    print("seed %d, %d rounds" % (options.seed, options.rounds), flush=True)
    rng = random.Random(options.seed)
    data = tempfile.mkdtemp(prefix="cairn-test-")
    server = Server(data)
    writers = [Writer(i, options.seed) for i in range(WRITERS)]
    failed = 0
    server.start()
    status, text = call(server.connect(), "PUT", COLLECTION, SCHEMA)
    if status != 201:
        raise SystemExit("create answered %d %s" % (status, text))
    for number in range(1, options.rounds + 1):
        problems = one_round(server, writers, rng)
        for writer in writers:
            problems += writer.errors
            writer.errors = []
        if problems:
            failed += 1
            print("round %d:\n  %s\n%s" % (number, "\n  ".join(problems[:20]), server.log_tail()), flush=True)
        if number % 20 == 0:
            print("round %d: %d writes acknowledged" % (number, sum(
                w.acknowledged["group"] + w.acknowledged["vector"] + len(w.inserts_acknowledged) for w in writers)),
                flush=True)
    code = server.stop()
    if code != 0:
        failed += 1
        print("SIGTERM ended the server with %s" % code)
    if failed == 0:
        shutil.rmtree(data)
    else:
        print("the data directory is kept: " + data)
    print("%d passed, %d failed" % (options.rounds - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
