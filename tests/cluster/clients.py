"""Clients of one run: threads that read and write the keys of a collection and write down what they saw.

Every value is a number that is written once. It is the feature `n` and the first component of the vector, so rows and
index tell it, and the score of an exact l2 search from the origin too.
"""
import http.client
import math
import random
import threading
import time

from checker import ABSENT, ANY, INDEX, OK, REFUSED, ROWS, UNKNOWN, VECTORS, Count, Failure, Op, Problem
from cluster_harness import Client

SCHEMA = {"features": {"n": {"type": "int64"}},
          "vectors": {"v": {"dim": 4, "metric": "l2", "index": {"kind": "flat"}}}}
AFTER_FAILURE_S = 0.01  # so that an outage does not fill the history with unknown writes
KINDS = ["get"] * 36 + ["put"] * 30 + ["cas"] * 9 + ["delete"] * 8 + ["scroll"] * 3 + ["count"] * 4 + ["search"] * 4 + \
        ["other_router"] * 6


def vector_of(value):
    return [float(value), 1.0, 2.0, 2.0]


def value_of_score(score):
    return round(math.sqrt(max(score * score - 9.0, 0.0)))


def now():
    return time.monotonic_ns()


class Subject:
    """What the clients of a run share."""

    def __init__(self, name, keys, routes, ports, values, padding=0):
        self.name = name
        self.path = "/v1/collections/" + name
        self.keys = keys
        self.key_set = set(keys)
        self.routes = routes    # of some keys: what places them instead
        self.ports = ports      # of the routers
        self.values = values    # next() of it gives a number never given before
        self.padding = padding  # bytes that make records larger
        self.stop = threading.Event()
        self.moves_began = math.inf  # set before the first change of the cluster


class Worker(threading.Thread):
    def __init__(self, subject, number, seed):
        super().__init__(daemon=True)
        self.subject, self.number = subject, number
        self.random = random.Random(seed * 1000 + number)
        self.client = Client()
        self.ops, self.counts, self.failures, self.problems = [], [], [], []
        self.known = {}         # key -> (value, position) as last seen or written
        self.position = None    # header of the last acknowledged write
        self.write_ns = 0       # the longest write
        self.torn = 0           # rows whose vector was of another write than their features
        self.crashed = None

    def run(self):
        try:
            while not self.subject.stop.is_set():
                kind = self.random.choice(KINDS)
                failures = len(self.failures)
                getattr(self, kind)(self.random.choice(self.subject.ports))
                failed = len(self.failures) > failures
                time.sleep(AFTER_FAILURE_S if failed else self.random.uniform(0, 0.004))
        except Exception as error:  # a bug of the test: its thread must not end unnoticed
            self.crashed = error
        finally:
            self.client.close()

    def call(self, port, what, method, path, body=None, headers=None):
        """(answer or None, invoke, response). Notes what a healthy cluster does not answer."""
        invoke = now()
        try:
            answer = self.client.request(port, method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            response = now()
            self.failures.append(Failure("%s by c%d: %r" % (what, self.number, error), invoke, response))
            return None, invoke, response
        response = now()
        if answer.status not in (200, 409):
            self.failures.append(Failure("%s by c%d answered %d %s" % (
                what, self.number, answer.status, answer.bytes[:300].decode("utf-8", "replace")), invoke, response))
        elif answer.status == 200 and answer.headers.get("Cairn-Complete") != "true":
            self.problems.append(Problem("%s by c%d: 200 without Cairn-Complete: true" % (what, self.number)))
        return answer, invoke, response

    def headers(self):
        if self.position is not None and self.random.random() < 0.3:
            return {"Cairn-Min-Position": self.position}
        return None

    # Writes

    def put(self, port):
        count = 1 if self.random.random() < 0.8 else self.random.randint(2, 4)
        self.write(port, self.random.sample(self.subject.keys, min(count, len(self.subject.keys))))

    def cas(self, port):
        """Compare and set, with what this client knows of the key."""
        key = self.random.choice(self.subject.keys)
        if key not in self.known:
            self.get(port, [key])
        if key in self.known:
            value, offset = self.known[key]
            self.write(port, [key], expect=value, offset=offset)

    def write(self, port, keys, expect=ANY, offset=None):
        entities = []
        for key in keys:
            value = next(self.subject.values)
            entity = {"key": key, "features": {"n": value}, "vectors": {"v": vector_of(value)}}
            if self.subject.padding > 0:
                entity["features"]["padding"] = "x" * self.random.randint(0, self.subject.padding)
            if key in self.subject.routes:
                entity["route"] = self.subject.routes[key]
            if expect is not ANY:
                entity["if_offset"] = offset
            entities.append(entity)
        mode = self.random.choice(["", "?mode=replace"])
        answer, invoke, response = self.call(port, "write of " + ",".join(keys), "POST",
                                             self.subject.path + "/entities" + mode, {"entities": entities})
        ops = [Op("put", entity["key"], entity["features"]["n"], invoke, response, UNKNOWN, self.number, expect)
               for entity in entities]
        self.ops += ops
        if answer is None:
            return
        if answer.status == 200:
            self.write_ns = max(self.write_ns, response - invoke)
            self.position = answer.headers.get("Cairn-Position")
            self.acknowledge(ops, answer.json["results"])
        elif answer.status == 409:
            self.refuse(ops, answer, offset, response > self.subject.moves_began)
        for op in ops:
            op.note = "%s status %d" % (op.note, answer.status)

    def acknowledge(self, ops, results):
        if [result["key"] for result in results] != [op.key for op in ops]:
            self.problems.append(Problem("results %s for a write of %s" % (results, [op.key for op in ops])))
            return
        for op, result in zip(ops, results):
            op.outcome = OK
            op.position = "%s:%d" % (result["shard"], result["offset"])
            self.known[op.key] = (op.value, op.position)
            if result["status"] != "applied":
                self.problems.append(Problem("a write is %s" % result["status"], op.key, op, [op]))

    def refuse(self, ops, answer, offset, moved):
        """A precondition that was not met. Moves change offsets, so then it says nothing of the value."""
        op = ops[0]
        op.outcome = REFUSED
        op.note = "if_offset %s" % offset
        self.known.pop(op.key, None)
        if op.expect is ANY or answer.json["code"] != "precondition_failed":
            self.problems.append(Problem("a write without a precondition: %r" % answer.bytes[:300], op.key, op, ops))
        elif op.expect is ABSENT or not moved:
            op.kind, op.outcome = "refusal", OK

    def delete(self, port):
        key = self.random.choice(self.subject.keys)
        answer, invoke, response = self.call(port, "delete of " + key, "POST", self.subject.path + "/entities:delete",
                                             {"keys": [key]})
        op = Op("delete", key, ABSENT, invoke, response, UNKNOWN, self.number)
        self.ops.append(op)
        if answer is not None:
            op.note = "status %d" % answer.status
        if answer is not None and answer.status == 200:
            result = answer.json["results"][0]
            op.outcome = OK
            op.found = {"applied": True, "unchanged": False}.get(result["status"])
            op.position = "%s:%d" % (result["shard"], result["offset"])
            self.known[key] = (ABSENT, 0)
            self.position = answer.headers.get("Cairn-Position")
            self.write_ns = max(self.write_ns, response - invoke)
            if op.found is None:
                self.problems.append(Problem("a delete is %s" % result["status"], key, op, [op]))

    # Reads

    def see(self, key, value, invoke, response, view=ROWS, position=None, note=""):
        self.ops.append(Op("read", key, value, invoke, response, OK, self.number, position=position, view=view,
                           note=note))

    def get(self, port, keys=None, headers=None):
        keys = keys or self.random.sample(self.subject.keys, min(self.random.choice([1, 1, 1, 2, 5]),
                                                                len(self.subject.keys)))
        body = {"keys": keys, "features": ["n"], "vectors": ["v"], "meta": "full"}
        answer, invoke, response = self.call(port, "get of " + ",".join(keys), "POST",
                                             self.subject.path + "/entities:get", body, headers or self.headers())
        if answer is None or answer.status != 200:
            return
        results = answer.json["results"]
        if [result["key"] for result in results] != keys:
            self.problems.append(Problem("results %s for a get of %s" % (results, keys)))
            return
        for result in results:
            self.see_row(result, invoke, response)

    def see_row(self, result, invoke, response):
        key = result["key"]
        if not result["found"]:
            self.see(key, ABSENT, invoke, response, note="get")
            self.see(key, ABSENT, invoke, response, VECTORS, note="get")
            self.known[key] = (ABSENT, 0)
            return
        value, meta, vector = result["features"].get("n"), result["meta"]["n"], result["vectors"].get("v")
        if vector is not None and vector[1:] != vector_of(0)[1:]:
            self.problems.append(Problem("a torn vector: n is %s, v is %s" % (value, vector), key))
        of_vector = ABSENT if vector is None else int(vector[0])
        if of_vector != value:
            self.torn += 1
        self.see(key, of_vector, invoke, response, VECTORS, note="vector of a get")
        self.see(key, value, invoke, response, position="%s:%d" % (meta["shard"], meta["offset"]), note="get")
        self.known[key] = (value, "%s:%d" % (meta["shard"], meta["offset"]))

    def other_router(self, port):
        """Write through one router, then read through another with the position of the write."""
        key = self.random.choice(self.subject.keys)
        self.position = None
        self.write(port, [key])
        if self.position is not None:
            other = self.random.choice([p for p in self.subject.ports if p != port] or [port])
            self.get(other, [key], {"Cairn-Min-Position": self.position})

    def see_all(self, what, found, invoke, response, view):
        """A read of every key: of those found with their values, of the others that they are not there."""
        values = {}
        for key, value in found:
            if key in values or key not in self.subject.key_set:
                self.problems.append(Problem("%s by c%d at %.3f ms returned %s %s: %s" % (
                    what, self.number, invoke / 1e6, key, "twice" if key in values else "which nobody wrote", found)))
            values[key] = value
        for key in self.subject.keys:
            self.see(key, values.get(key, ABSENT), invoke, response, view, note=what)

    def scroll(self, port):
        limit = self.random.choice([7, len(self.subject.keys) + 1])
        found, cursor, began, response = [], None, None, None
        while began is None or cursor is not None:
            body = {"features": ["n"], "limit": limit}
            if cursor is not None:
                body["cursor"] = cursor
            answer, invoke, response = self.call(port, "scroll", "POST", self.subject.path + "/entities:scroll", body,
                                                 self.headers())
            began = invoke if began is None else began
            if answer is None or answer.status != 200:
                return
            found += [(entity["key"], entity["features"].get("n")) for entity in answer.json["entities"]]
            cursor = answer.json.get("cursor")
        if [key for key, _ in found] != sorted(key for key, _ in found):
            self.problems.append(Problem("a scroll is not in key order: %s" % found))
        self.see_all("scroll", found, began, response, ROWS)

    def count(self, port):
        answer, invoke, response = self.call(port, "count", "POST", self.subject.path + "/entities:count", {},
                                             self.headers())
        if answer is not None and answer.status == 200:
            self.counts.append(Count(answer.json["count"], invoke, response, self.number))

    def search(self, port):
        body = {"vector": [0.0] * 4, "using": "v", "k": 2 * len(self.subject.keys), "features": ["n"],
                "params": {"exact": True}}
        answer, invoke, response = self.call(port, "search", "POST", self.subject.path + "/search", body,
                                             self.headers())
        if answer is None or answer.status != 200:
            return
        hits = answer.json["hits"]
        scores = [(hit["score"], hit["key"]) for hit in hits]
        if scores != sorted(scores):
            self.problems.append(Problem("hits are not in order: %s" % scores))
        self.see_all("search", [(hit["key"], value_of_score(hit["score"])) for hit in hits], invoke, response, INDEX)
        for hit in hits:
            value = hit["features"].get("n")
            if value is not None:
                self.see(hit["key"], value, invoke, response, note="features of a hit")
