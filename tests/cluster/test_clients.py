"""The clients and the checker against a small server that can be told to be wrong: it must pass when it is right, and
each way of being wrong must be found."""
import http.server
import itertools
import json
import math
import random
import threading
import time
import unittest

import checker
from checker import Record
from clients import Subject, Worker, vector_of

BUGS = ["lost", "late", "stale", "doubled", "untrue refusal", "ignored precondition", "torn", "scroll twice",
        "scroll misses", "count", "search misses", "search stale", "refused but done", "back again", "wrong found",
        "failure", "incomplete", "order"]
RATE = 0.05


class Model:
    """One collection, its log, and at most one bug."""

    def __init__(self, bug):
        self.bug = bug
        self.lock = threading.Lock()
        self.rows = {}     # key -> (value, offset)
        self.before = {}   # key -> the row that was overwritten
        self.log = []
        self.random = random.Random(1)

    def is_wrong(self, bug):
        return self.bug == bug and self.random.random() < RATE

    def append(self, key, value):
        self.log.append(Record(key, value, "s0:%d" % (len(self.log) + 1)))
        return len(self.log)

    def write(self, entity):
        """(status word, offset), or None: the precondition is not met."""
        key, value = entity["key"], entity["features"]["n"]
        row, expected = self.rows.get(key), entity.get("if_offset")
        if expected is not None and ("s0:%d" % row[1] if row else 0) != expected and not self.is_wrong("ignored precondition"):
            if self.is_wrong("refused but done"):
                self.rows[key] = (value, self.append(key, value))
            return None
        if expected is not None and self.is_wrong("untrue refusal"):
            return None
        if self.is_wrong("lost"):
            return "applied", len(self.log) + 1000000
        offset = self.append(key, value)
        if self.is_wrong("doubled"):
            offset = self.append(key, value)
        self.before[key] = row
        self.rows[key] = (value, offset)
        return "applied", offset

    def entities(self, body):
        results = [(entity["key"], self.write(entity)) for entity in body["entities"]]
        if None in [result for _, result in results]:
            return 409, {"code": "precondition_failed"}
        return 200, {"results": [{"key": key, "status": status, "shard": "s0", "offset": offset}
                                 for key, (status, offset) in results]}

    def delete(self, body):
        key = body["keys"][0]
        row = None if self.is_wrong("lost") else self.rows.pop(key, None)
        found = (row is not None) != self.is_wrong("wrong found")
        self.before[key] = row
        return 200, {"results": [{"key": key, "status": "applied" if found else "unchanged", "shard": "s0",
                                  "offset": self.append(key, None)}]}

    def row(self, key, bug="stale"):
        if self.is_wrong("back again") and self.before.get(key):
            self.rows[key] = self.before[key]
        return self.before[key] if key in self.before and self.is_wrong(bug) else self.rows.get(key)

    def get(self, body):
        results = []
        for key in body["keys"]:
            row = self.row(key)
            value = row[0] + (1 if self.is_wrong("torn") else 0) if row else None
            results.append({"key": key, "found": row is not None, "features": {"n": row[0]} if row else {},
                            "vectors": {"v": vector_of(value)} if row else {},
                            "meta": {"n": {"shard": "s0", "offset": row[1]} if row else {}}})
        return 200, {"results": results}

    def scroll(self, body):
        begin = body.get("cursor") or ""
        found = sorted((key, row[0]) for key, row in self.rows.items() if key > begin)
        page = [found[i] for i in range(min(body["limit"], len(found)))]
        rest = len(found) > len(page)
        if page and self.is_wrong("scroll misses"):
            page.pop(0)
        if page and self.is_wrong("scroll twice"):
            page.append(page[0])
        return 200, {"entities": [{"key": key, "features": {"n": value}} for key, value in page],
                     "cursor": max(page)[0] if rest and page else None}

    def count(self, _):
        return 200, {"count": len(self.rows) + (10 if self.is_wrong("count") else 0)}

    def search(self, _):
        hits = []
        for key in list(self.rows):
            row = self.row(key, "search stale")
            if row and not self.is_wrong("search misses"):
                hits.append({"key": key, "score": math.sqrt(row[0] ** 2 + 9), "features": {"n": row[0]}})
        hits.sort(key=lambda hit: (hit["score"], hit["key"]), reverse=self.is_wrong("order"))
        return 200, {"hits": hits}

    def answer(self, path, body):
        call = {"entities": self.entities, "entities:get": self.get, "entities:delete": self.delete,
                "entities:scroll": self.scroll, "entities:count": self.count, "search": self.search}[path]
        with self.lock:
            if self.is_wrong("failure"):
                return 503, {"code": "shard_unavailable"}
            return call(body)


def handler_of(model):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = model.answer(self.path.split("?")[0].rsplit("/", 1)[1], body)
            if model.is_wrong("late"):  # only slow: that is no error
                time.sleep(0.003)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cairn-Complete", "false" if model.is_wrong("incomplete") else "true")
            self.send_header("Cairn-Position", "1;s0=%d" % len(model.log))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass
    return Handler


def problems_of(bug, seed=1, seconds=0.4):
    """What a run against a model finds, and how many operations it made."""
    model = Model(bug)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(model))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    subject = Subject("c", ["k%02d" % i for i in range(12)], {}, [server.server_address[1]], itertools.count(1))
    workers = [Worker(subject, i, seed) for i in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    subject.stop.set()
    for worker in workers:
        worker.join()
    server.shutdown()
    thread.join()
    server.server_close()
    for worker in workers:
        if worker.crashed is not None:
            raise worker.crashed
    ops = [op for worker in workers for op in worker.ops]
    problems = [problem for worker in workers for problem in worker.problems]
    problems += checker.check_failures([failure for worker in workers for failure in worker.failures], [])
    problems += checker.check_positions(ops) + checker.check_registers(ops) + checker.check_logs(ops, model.log)
    problems += checker.check_counts(ops, [count for worker in workers for count in worker.counts])
    return problems, len(ops)


class Clients(unittest.TestCase):
    def test_a_right_server_passes(self):
        for seed in range(3):
            problems, ops = problems_of(None, seed)
            self.assertEqual(list(map(str, problems)), [])
            self.assertGreater(ops, 100)

    def test_a_slow_server_passes(self):
        self.assertEqual(list(map(str, problems_of("late")[0])), [])

    def test_every_bug_is_found(self):
        for bug in BUGS:
            if bug != "late":
                with self.subTest(bug):
                    problems, ops = problems_of(bug)
                    self.assertNotEqual(problems, [], "%d operations" % ops)


if __name__ == "__main__":
    unittest.main()
