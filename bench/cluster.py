#!/usr/bin/env python3
"""The cluster benchmark: balance of the ring, what a router costs, how fast keys move, and what a move costs others.

    cmake --preset release && cmake --build build --target cairn bench
    bench/cluster.py [--rows 300000] [--json bench/results/cluster.json]

Needs curl. Everything runs on loopback on this machine, clients and servers sharing its cores.

ring    share of the keys that moves when a shard is added; the largest share at 8 shards with a million keys
hop     entities:get of one key on one keep-alive connection, straight at an all-in-one server against through a
        router in front of a shard process; same data, pairs of one request each; difference of the medians
copy    records/s of a move of all records with a copy share of 100 against the replay of the same log at a start
        without views
move    reads, writes and searches through a router at a fixed rate before and while a shard is added and drained, with the
        default copy share: failed and stale reads, lost and doubled writes, longest hold of writes, p99
"""
import argparse
import json
import multiprocessing
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("CAIRN_BUILD", os.path.join(ROOT, "build"))
os.environ.setdefault("CAIRN_BIN", os.path.join(BUILD, "cairn"))
sys.path.insert(0, os.path.join(ROOT, "tests", "cluster"))
from cluster_harness import Client, Cluster, wait_for  # noqa: E402
from serving import row  # noqa: E402

DIM = 64
MOVED_KEYS = 2000  # of the mixed load: written and read all the time
RATES = {"reads": 300, "writes": 100, "searches": 60}  # a second
QUIET_S = 15.0
CYCLES = 4       # a shard is added and drained so many times
SETTLE_S = 7.0   # what moved away is dropped some seconds later
PLAN_DEADLINE_S = 900


def bench_ring():
    program = os.path.join(BUILD, "bench", "bench_ring_balance")
    if not os.path.exists(program):
        return {"skipped": "build/bench/bench_ring_balance is not built"}
    result = json.loads(subprocess.run([program], check=True, capture_output=True, text=True).stdout)
    joins = [join["moved_to_fair"] for join in result["joins"]]
    return {"vnodes": result["vnodes"], "largest_to_mean_at_8_shards": result["balance"]["largest_to_mean_of_keys"],
            "moved_to_fair_share": {"smallest": min(joins), "median": statistics.median(joins), "largest": max(joins)},
            "keys_between_old_shards": sum(join["keys_between_old_shards"] for join in result["joins"]),
            "owner_ns_8_shards": result["owner_ns_8_shards"]}


def upload(port, collection, lines, directory):
    path = os.path.join(directory, "upload.ndjson")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(lines)
    began = time.monotonic()
    subprocess.run(["curl", "-sS", "--fail", "-X", "POST", "-T", path, "-H", "Content-Type: application/x-ndjson", "-H",
                    "Expect:", "-o", os.path.join(directory, "answers"),
                    "http://127.0.0.1:%d/v1/collections/%s/entities" % (port, collection)], check=True)
    with open(os.path.join(directory, "answers"), encoding="utf-8") as file:
        bad = sum('"applied"' not in line for line in file)
    if bad:
        sys.exit("%d rows of the upload were refused" % bad)
    return time.monotonic() - began


class Connection:
    """A keep-alive connection that sends prepared bytes: as little of Python as can be in what is timed."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request):
        """(status, body, microseconds)"""
        began = time.perf_counter_ns()
        self.socket.sendall(request)
        data = self.socket.recv(1 << 18)
        end = data.find(b"\r\n\r\n")
        while end < 0:
            data += self.socket.recv(1 << 18)
            end = data.find(b"\r\n\r\n")
        head = data[:end].lower()
        at = head.index(b"content-length:") + 15
        size = int(head[at:].split(b"\r\n", 1)[0])
        while len(data) < end + 4 + size:
            data += self.socket.recv(1 << 18)
        elapsed = (time.perf_counter_ns() - began) / 1000
        return int(data[9:12]), data[end + 4:], elapsed


def post(path, body):
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        path.encode(), len(data), data)


def bench_hop(directory, rows=20000, pairs=20000):
    alone = Cluster(os.path.join(directory, "alone"))
    parted = Cluster(os.path.join(directory, "parted"))
    try:
        alone.add("all", ["--role", "all", "--shards", "1"])
        parted.start(1)
        lines = [json.dumps(row(number)) + "\n" for number in range(rows)]
        for cluster, name in ((alone, "all"), (parted, "r1")):
            cluster.ask("PUT", "/v1/collections/users", {"features": {"country": {"type": "string", "indexed": True}}},
                        of=name)
            upload(cluster.processes[name].port, "users", lines, directory)
        rng = random.Random(3)
        requests = [post("/v1/collections/users/entities:get", {"keys": ["user%07d" % rng.randrange(rows)]})
                    for _ in range(1000)]
        connections = [Connection(alone.processes["all"].port), Connection(parted.processes["r1"].port)]
        times = ([], [])
        for pair in range(pairs + 500):
            request = requests[pair % len(requests)]
            for side in ((0, 1) if pair % 2 else (1, 0)):
                status, _, elapsed = connections[side].exchange(request)
                if status != 200:
                    sys.exit("a get answered %d" % status)
                if pair >= 500:
                    times[side].append(elapsed)
        medians = [statistics.median(side) for side in times]
        return {"pairs": pairs, "direct_us": round(medians[0], 1), "routed_us": round(medians[1], 1),
                "added_us": round(medians[1] - medians[0], 1),
                "added_us_p99": round(percentile(times[1], 99) - percentile(times[0], 99), 1)}
    finally:
        alone.kill()
        parted.kill()


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))] if values else None


def wait_plan(cluster):
    def is_done():
        job = cluster.job()
        return job if job and job["state"] in ("succeeded", "cancelled", "failed") else None
    job = wait_for(is_done, PLAN_DEADLINE_S, lambda: "the end of %s" % cluster.job())
    if job["state"] != "succeeded":
        sys.exit("the job is %s" % job)
    return job


def copying_seconds(cluster, began):
    """The job with its moves, seconds from the start of the plan until all records were copied, and the whole.
    The moves are kept from before the end: home goes with its last shard, and another home does not know them."""
    known, seen = None, []
    while True:
        job = cluster.job()
        if job and job["moves"]:
            known = job
            seen.append((time.monotonic() - began, job["records"]))
        if job and job["state"] in ("succeeded", "failed", "cancelled"):
            whole_s = time.monotonic() - began
            return dict(known, state=job["state"]), min(at for at, n in seen if n == known["records"]), whole_s
        time.sleep(0.003)


def replay_seconds(process, repeats=3):
    """Seconds, and records, of starts for which the views must be made from the log."""
    times, replayed = [], None
    for _ in range(repeats):
        process.stop()
        for shard in os.listdir(process.data):
            for view in ("rows", "index"):
                shutil.rmtree(os.path.join(process.data, shard, view), ignore_errors=True)
        size = os.path.getsize(process.log_path)
        began = time.monotonic()
        process.start()
        times.append(time.monotonic() - began)
        with open(process.log_path, encoding="utf-8") as file:
            file.seek(size)
            text = file.read()
        replayed = int(text[:text.index(" records replayed")].rsplit(" ", 1)[1].replace(",", ""))
    return statistics.median(times), replayed


def bench_copy(rows, directory, repeats=3):
    runs = sorted((copy_once(rows, os.path.join(directory, "copy%d" % i)) for i in range(repeats)),
                  key=lambda run: run["ratio"])
    return dict(runs[len(runs) // 2], ratios=[run["ratio"] for run in runs])


def copy_once(rows, directory):
    """All of s0 goes to s1. Before that s0 is started without views, which replays the same log."""
    cluster = Cluster(directory, ["--copy-share", "100"])
    try:
        cluster.start(1)
        cluster.ask("PUT", "/v1/collections/users", {"features": {"country": {"type": "string", "indexed": True}}})
        upload(cluster.processes["r1"].port, "users", (json.dumps(row(n)) + "\n" for n in range(rows)), directory)
        replay_s, replayed = replay_seconds(cluster.processes["s0"])
        target = cluster.add_shard(1)
        wait_for(lambda: cluster.ask("POST", "/v1/collections/users/entities:count", {}), 60, "a count")
        began = time.monotonic()
        answer = cluster.ask("PUT", "/v1/cluster/shards", {"shards": [{"id": "s1", "url": target.url}]})
        if not answer:
            sys.exit("the change of shards was refused")
        job, copied_s, whole_s = copying_seconds(cluster, began)
        if job["state"] != "succeeded":
            sys.exit("the job is %s" % job)
        replay_rate, copy_rate = replayed / replay_s, job["records"] / copied_s
        return {"rows": rows, "records_moved": job["records"], "bytes_moved": job["bytes"],
                "copying_s": round(copied_s, 2), "whole_s": round(whole_s, 2),
                "copy_records_per_s": round(copy_rate), "copy_bytes_per_s": round(job["bytes"] / copied_s),
                "held_us": max(move["held_us"] for move in job["moves"]),
                "replay_records": replayed, "replay_s": round(replay_s, 2),
                "replay_records_per_s": round(replay_rate), "ratio": round(copy_rate / replay_rate, 3),
                "ratio_of_the_whole": round(job["records"] / whole_s / replay_rate, 3)}
    finally:
        cluster.kill()


# The mixed load: one process for each kind of request. A key `hot…` holds a number that its only writer raises.

def hot_entity(key, number):
    return {"key": "hot%05d" % key, "features": {"n": number},
            "vectors": {"v": [float((key * 31 + number * 7 + i * i) % 97) for i in range(DIM)]}}


class Load:
    """What the processes of the load share."""

    def __init__(self, port):
        self.port = port
        self.acknowledged = multiprocessing.Array("L", MOVED_KEYS, lock=False)
        self.sent = multiprocessing.Array("L", MOVED_KEYS, lock=False)
        self.stop = multiprocessing.Event()
        self.results = multiprocessing.Queue()

    def run(self, kind):
        """Requests at a fixed rate."""
        rng = random.Random(kind)
        connection, seen = Connection(self.port), []
        counts = {"failed": 0, "stale": 0, "bad": 0}
        due = time.monotonic()
        while not self.stop.is_set():
            due = max(due + 1 / RATES[kind], time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            status, elapsed = getattr(self, kind)(connection, rng, counts)
            if status != 200:
                counts["failed"] += 1
            seen.append((began, elapsed))
        self.results.put((kind, seen, counts))

    def reads(self, connection, rng, counts):
        key = rng.randrange(MOVED_KEYS)
        floor = self.acknowledged[key]
        status, body, elapsed = connection.exchange(post(
            "/v1/collections/words/entities:get", {"keys": ["hot%05d" % key], "features": ["n"]}))
        ceiling = self.sent[key]
        if status == 200:
            result = json.loads(body)["results"][0]
            value = result["features"].get("n", 0) if result["found"] else 0
            counts["stale"] += value < floor
            counts["bad"] += value > ceiling
        return status, elapsed

    def writes(self, connection, rng, counts):
        key = rng.randrange(MOVED_KEYS)
        number = self.sent[key] + 1
        self.sent[key] = number
        status, _, elapsed = connection.exchange(post("/v1/collections/words/entities",
                                                      {"entities": [hot_entity(key, number)]}))
        if status == 200:
            self.acknowledged[key] = number
        return status, elapsed

    def searches(self, connection, rng, counts):
        status, body, elapsed = connection.exchange(post(
            "/v1/collections/words/search", {"vector": [rng.uniform(0, 97) for _ in range(DIM)], "k": 10}))
        if status == 200:
            counts["bad"] += len(json.loads(body)["hits"]) != 10
        return status, elapsed


def entity_lines(rows):
    for number in range(MOVED_KEYS):
        yield json.dumps(hot_entity(number, 1)) + "\n"
    rng = random.Random(5)
    for number in range(rows):
        value = row(number)
        value["vectors"] = {"v": [round(rng.uniform(0, 97), 2) for _ in range(DIM)]}
        yield json.dumps(value) + "\n"


def bench_move(rows, directory):
    cluster = Cluster(os.path.join(directory, "move"))
    try:
        cluster.start(2)
        cluster.ask("PUT", "/v1/collections/words", {"features": {"n": {"type": "int64"}}, "vectors": {
            "v": {"dim": DIM, "metric": "l2", "index": {"kind": "graph"}}}})
        port = cluster.processes["r1"].port
        upload(port, "words", entity_lines(rows), directory)
        wait_for(lambda: all(index["tail"] <= index["built"] and not index["building"]
                             for index in cluster.ask("GET", "/v1/collections/words")["indexes"]), 600, "the index is built")
        target = cluster.add_shard(2)
        load = Load(port)
        for key in range(MOVED_KEYS):
            load.sent[key] = load.acknowledged[key] = 1
        workers = [multiprocessing.Process(target=load.run, args=(kind,)) for kind in RATES]
        for worker in workers:
            worker.start()
        time.sleep(QUIET_S + 2)
        moves = []
        for _ in range(CYCLES):
            moves.append(timed_plan(cluster, "POST", "/v1/cluster/shards", {"id": "s2", "url": target.url}))
            moves.append(timed_plan(cluster, "DELETE", "/v1/cluster/shards/s2"))
        load.stop.set()
        results = {kind: (seen, counts) for kind, seen, counts in (load.results.get() for _ in workers)}
        for worker in workers:
            worker.join()
        return summary(cluster, load, results, moves)
    finally:
        cluster.kill()


def timed_plan(cluster, method, path, body=None):
    """(begin, end, job), and then a pause in which what moved away is dropped."""
    began = time.monotonic()
    if not cluster.ask(method, path, body):
        sys.exit("%s %s was refused" % (method, path))
    job = wait_plan(cluster)
    ended = time.monotonic()
    time.sleep(SETTLE_S)
    return began, ended, job


def summary(cluster, load, results, moves):
    jobs = [job for _, _, job in moves]
    out = {"rates_per_s": RATES, "plans": len(jobs), "records_moved": sum(job["records"] for job in jobs),
           "moves_s": round(sum(end - begin for begin, end, _ in moves), 2),
           "held_us_max": max(move["held_us"] for job in jobs for move in job["moves"]),
           "cut_overs_tried_max": max(move["tries"] for job in jobs for move in job["moves"])}
    quiet_end = moves[0][0]
    for kind, (seen, counts) in results.items():
        before = [us for at, us in seen if quiet_end - QUIET_S <= at < quiet_end]
        during = [us for at, us in seen if any(begin <= at < end for begin, end, _ in moves)]
        out[kind] = {"requests_before": len(before), "requests_during": len(during), **counts,
                     "p50_before_us": round(percentile(before, 50)), "p50_during_us": round(percentile(during, 50)),
                     "p99_before_us": round(percentile(before, 99)), "p99_during_us": round(percentile(during, 99)),
                     "longest_during_us": round(max(during)),
                     "p99_ratio": round(percentile(during, 99) / percentile(before, 99), 2)}
    out["lost_writes"] = lost_writes(cluster, load)
    cluster.stop()
    out["doubled_writes"] = doubled_writes(cluster)
    return out


def lost_writes(cluster, load):
    client, lost = Client(), 0
    answer = client.request(cluster.processes["r2"].port, "POST", "/v1/collections/words/entities:get", {
        "keys": ["hot%05d" % key for key in range(MOVED_KEYS)], "features": ["n"]})
    for key, result in enumerate(answer.json["results"]):
        value = result["features"].get("n", 0) if result["found"] else 0
        lost += not load.acknowledged[key] <= value <= load.sent[key]
    client.close()
    return lost


def doubled_writes(cluster):
    seen, doubled = set(), 0
    for record in cluster.log_records():
        if record["kind"] == "entity" and record["key"].startswith("hot"):
            write = (record["key"], record["features"]["n"])
            doubled += write in seen
            seen.add(write)
    return doubled


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300000)
    parser.add_argument("--only", nargs="*", help="of: ring hop copy move")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="cairn-bench-")
    results = {}
    try:
        for name, bench in [("ring", bench_ring), ("hop", lambda: bench_hop(directory)),
                            ("copy", lambda: bench_copy(options.rows, directory)),
                            ("move", lambda: bench_move(options.rows // 3, directory))]:
            if options.only and name not in options.only:
                continue
            results[name] = bench()
            print(name, json.dumps(results[name], indent=2), flush=True)
    finally:
        shutil.rmtree(directory)
    if options.json:
        os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
