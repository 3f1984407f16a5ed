#!/usr/bin/env python3
"""Refused requests leave no memory behind.

Rounds of every kind of bad body are sent to one server. After WARM_ROUNDS rounds, when every thread has met every kind, the resident memory of the process
is taken; after many more it may have grown by no more than a few percent of what those rounds sent, the number of
entities is still 0, and the log has not moved.

Usage: refused_memory.py [--rounds N] [--seed N]     (binary: CAIRN_BIN, default build/cairn)
"""
import argparse
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BIN = os.environ.get("CAIRN_BIN", "build/cairn")
PATH = "/v1/collections/c/entities"
JSON, NDJSON, FLATBUFFERS = "application/json", "application/x-ndjson", "application/x-flatbuffers"
WARM_ROUNDS = 15
GROWTH_BYTES_MAX = 16 << 20


def bodies(rng):
    """(path, media, body) of one round: about 9 MB in all."""
    good = json.dumps({"entities": [{"key": "k%d" % i, "features": {"n": i}, "vectors": {"v": [1, 2]}}
                                    for i in range(2000)]}).encode()
    yield PATH, JSON, good[:rng.randrange(1, len(good))]
    yield PATH, JSON, good.replace(b'"n": 1999', b'"n": "x"')
    yield PATH, JSON, good.replace(b'"k1999"', b'"' + b"k" * 513 + b'"')
    yield PATH, JSON, good.replace(b"[1, 2]", b"[1, 2, 3]")
    yield PATH, JSON, good.replace(b'"features"', b'"feature"')
    yield PATH, JSON, b"[" * 100000
    yield PATH, JSON, b'{"entities":[{"key":"\xff"}]}'
    yield PATH, JSON, b'{"entities":[{"key":"a","features":{"n":"' + b"x" * (2 << 20) + b'"}}]}'
    yield PATH, NDJSON, b'{"key":"","features":{}}\nnot json\n{"key":"a","unknown":1}\n' * 2000
    yield PATH, NDJSON, b"x" * (9 << 20) + b"\n"
    yield PATH, FLATBUFFERS, rng.randbytes(100000)
    yield PATH + ":get", JSON, json.dumps({"keys": ["k%d" % i for i in range(10001)]}).encode()
    yield "/v1/collections/c/search", JSON, json.dumps({"vector": [1] * 8193, "k": 10}).encode()
    yield "/v1/collections/none/entities", JSON, good


def resident(pid):
    with open("/proc/%d/statm" % pid) as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def send_round(port, rng):
    problems = []
    for path, media, body in bodies(rng):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", path, body, {"Content-Type": media})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status < 400 and not (media == NDJSON and b'"status":"applied"' not in text and b'"error"' in text):
                problems.append("%s %s answered %d: %s" % (path, media, answer.status, text[:200]))
        finally:
            connection.close()
    return problems


def state(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", PATH + ":count", b"{}", {"Content-Type": JSON})
    answer = connection.getresponse()
    return json.loads(answer.read())["count"], answer.headers["Cairn-Position"]


def run(process, port, rounds, rng):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("PUT", "/v1/collections/c", json.dumps(
        {"features": {"n": {"type": "int64"}}, "vectors": {"v": {"dim": 2}}, "strict": True}), {"Content-Type": JSON})
    if connection.getresponse().status != 201:
        raise SystemExit("the collection was not created")
    before, problems = state(port), []
    for _ in range(WARM_ROUNDS):
        problems += send_round(port, rng)
    warm = resident(process.pid)
    for _ in range(rounds):
        problems += send_round(port, rng)
    grown = resident(process.pid) - warm
    print("resident %d KiB after %d rounds, %+d KiB after %d more" % (warm >> 10, WARM_ROUNDS, grown >> 10, rounds))
    if grown > GROWTH_BYTES_MAX:
        problems.append("memory grew by %d bytes" % grown)
    if state(port) != before or before[0] != 0:
        problems.append("something was written: %s, before %s" % (state(port), before))
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CAIRN_TEST_SEED", "1")))
    options = parser.parse_args()
    print("seed %d, %d rounds" % (options.seed, options.rounds), flush=True)
    data = tempfile.mkdtemp(prefix="cairn-test-")
    port_file = os.path.join(data, "port")
    process = subprocess.Popen([BIN, "serve", "--data", os.path.join(data, "store"), "--listen", "127.0.0.1:0",
                                "--port-file", port_file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not os.path.exists(port_file) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        problems = run(process, int(open(port_file).read()), options.rounds, random.Random(options.seed))
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
        shutil.rmtree(data)
    if code != 0:
        problems.append("SIGTERM ended the server with %d" % code)
    print("\n".join(problems[:20]))
    print("%d passed, %d failed" % (not problems, bool(problems)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
