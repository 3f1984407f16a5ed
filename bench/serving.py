#!/usr/bin/env python3
"""The serving benchmark: durable writes, keyed reads, search and restart, each as a ratio within one run.

    cmake --preset release && cmake --build build --target cairn bench
    bench/serving.py [--rows 1000000] [--json bench/results/serving.json]

Needs wrk and curl. Everything runs on loopback on this machine, client and server sharing its cores.

writes   NDJSON upload of rows with 10 features: rows/s, rows per fsync; one-row requests from 64 connections
         against 1 connection, on this machine's disk and with fsyncs of at least 4 ms (bench/slow_fsync.c)
reads    entities:get of one key, 10 features, against a bare h2o handler that answers a constant of the same
         size: same client, alternating runs, median of the ratios
search   CPU time of one search over HTTP against the same search called in process, on the same data:
         WordNet's 117,159 synsets with the vectors that scripts/quickstart trains, 500 held-out queries
         and, with the plain-faiss preset built too, the same in process with FAISS's own kernels
restart  time until ready with all rows, after SIGTERM and after SIGKILL
"""
import argparse
import base64
import json
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("CAIRN_BUILD", os.path.join(ROOT, "build"))
PLAIN = os.path.join(ROOT, "build-plain-faiss")
DIM = 100


class Server:
    def __init__(self, data):
        self.data, self.process, self.port = data, None, 0

    def start(self, preload=None):
        """Start and return the seconds until it answers."""
        port_file = self.data + ".port"
        if os.path.exists(port_file):
            os.unlink(port_file)
        began = time.monotonic()
        self.process = subprocess.Popen([os.path.join(BUILD, "cairn"), "serve", "--data", self.data, "--listen",
                                         "127.0.0.1:0", "--port-file", port_file, "--shards", "2"],
                                        stdout=subprocess.DEVNULL, stderr=open(self.data + ".log", "ab"),
                                        env=dict(os.environ, LD_PRELOAD=preload) if preload else None)
        while not os.path.exists(port_file):
            if self.process.poll() is not None:
                sys.exit("the server ended at start; see " + self.data + ".log")
            time.sleep(0.002)
        self.port = int(open(port_file).read())
        self.get("/readyz")
        return time.monotonic() - began

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait()

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def get(self, path):
        return urllib.request.urlopen(self.url(path), timeout=60).read()

    def call(self, method, path, body):
        request = urllib.request.Request(self.url(path), json.dumps(body).encode(), {"Content-Type": "application/json"},
                                         method=method)
        return json.loads(urllib.request.urlopen(request, timeout=60).read())

    def metric(self, name):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics").decode().splitlines()
                   if line.startswith(name + "{"))

    def cpu_s(self):
        fields = open("/proc/%d/stat" % self.process.pid).read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def row(number):
    """A row with 10 features; what it holds depends on its number alone."""
    rng = random.Random(number)
    return {"key": "user%07d" % number, "features": {
        "country": rng.choice(["DE", "FR", "US", "JP", "BR"]), "age": rng.randrange(18, 90),
        "clicks_7d": rng.randrange(1000), "clicks_30d": rng.randrange(5000), "spend": round(rng.uniform(0, 900), 2),
        "ctr": rng.random(), "premium": rng.random() < 0.2, "device": rng.choice(["ios", "android", "web"]),
        "sessions": rng.randrange(300), "score": rng.random()}}


def run_wrk(url, lua, connections, seconds, directory):
    script = os.path.join(directory, "load.lua")
    with open(script, "w") as file:
        file.write(lua)
    text = subprocess.run(["wrk", "-t1", "-c%d" % connections, "-d%ds" % seconds, "--latency", "-s", script, url],
                          check=True, capture_output=True, text=True).stdout
    result = {}
    for line in text.splitlines():
        words = line.split()
        if line.startswith("Requests/sec"):
            result["requests_per_s"] = float(words[1])
        elif words and words[0] in ("50%", "99%"):
            result["p" + words[0][:-1]] = words[1]
        elif "Non-2xx" in line:
            sys.exit("wrk saw errors: " + line)
    return result


def lua_posts(path, bodies):
    items = ",\n".join("[[%s]]" % body for body in bodies)
    return """local bodies = {%s}
local requests, at = {}, 0
init = function()
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format("POST", "%s", {["Content-Type"] = "application/json"}, body)
  end
end
request = function()
  at = at %% #requests + 1
  return requests[at]
end
""" % (items, path)


def writers_64_to_1(server, rows, directory):
    """One-row requests from 64 connections against one connection."""
    lua = lua_posts("/v1/collections/users/entities", [json.dumps({"entities": [row(rows + n)]}) for n in range(512)])
    one = run_wrk(server.url("/"), lua, 1, 5, directory)["requests_per_s"]
    many = run_wrk(server.url("/"), lua, 64, 5, directory)["requests_per_s"]
    return {"one_writer_rows_per_s": one, "writers_64_rows_per_s": many, "ratio": round(many / one, 1)}


def bench_writes(server, rows, directory):
    server.call("PUT", "/v1/collections/users", {"features": {"country": {"type": "string", "indexed": True}}})
    path = os.path.join(directory, "rows.ndjson")
    with open(path, "w") as file:
        for number in range(rows):
            file.write(json.dumps(row(number)) + "\n")
    records, fsyncs = server.metric("cairn_log_records_total"), server.metric("cairn_log_fsyncs_total")
    began, cpu = time.monotonic(), server.cpu_s()
    subprocess.run(["curl", "-sS", "--fail", "-X", "POST", "-T", path, "-H", "Content-Type: application/x-ndjson",
                    "-H", "Expect:", "-o", os.path.join(directory, "answers"),
                    server.url("/v1/collections/users/entities")], check=True)
    seconds, cpu = time.monotonic() - began, server.cpu_s() - cpu
    records, fsyncs = server.metric("cairn_log_records_total") - records, server.metric("cairn_log_fsyncs_total") - fsyncs
    with open(os.path.join(directory, "answers")) as file:
        bad = sum(1 for line in file if '"status":"applied"' not in line.replace(" ", ""))
    if records != rows or bad:
        sys.exit("%d rows sent, %d logged, %d refused" % (rows, records, bad))
    own_disk = writers_64_to_1(server, rows, directory)
    server.end(signal.SIGTERM)
    server.start(preload=os.path.join(BUILD, "bench", "libbench_slow_fsync.so"))
    slow_disk = writers_64_to_1(server, rows, directory)
    server.end(signal.SIGTERM)
    server.start()
    return {"rows": rows, "file_bytes": os.path.getsize(path), "rows_per_s": round(rows / seconds),
            "rows_per_fsync": round(records / fsyncs, 1), "server_cpu_us_per_row": round(cpu / rows * 1e6, 2),
            "single_rows_on_this_disk": own_disk, "single_rows_with_4_ms_per_fsync": slow_disk}


def bench_reads(server, rows, directory):
    rng = random.Random(7)
    names = list(row(0)["features"])
    bodies = [json.dumps({"keys": ["user%07d" % rng.randrange(rows)], "features": names}) for _ in range(1000)]
    answer = server.call("POST", "/v1/collections/users/entities:get", json.loads(bodies[0]))
    size = len(json.dumps(answer, separators=(",", ":")))
    lua = lua_posts("/v1/collections/users/entities:get", bodies)
    port = server.port + 1 if server.port < 65000 else server.port - 1000
    bare = subprocess.Popen([os.path.join(BUILD, "bench", "bench_bare_h2o"), str(port), str(os.cpu_count()), str(size)])
    time.sleep(0.3)
    ratios, ours, theirs = [], [], []
    try:
        for _ in range(9):
            ours.append(run_wrk(server.url("/"), lua, 32, 3, directory))
            theirs.append(run_wrk("http://127.0.0.1:%d/" % port, lua, 32, 3, directory))
            ratios.append(ours[-1]["requests_per_s"] / theirs[-1]["requests_per_s"])
    finally:
        bare.kill()
        bare.wait()
    return {"answer_bytes": size, "connections": 32,
            "requests_per_s": statistics.median(r["requests_per_s"] for r in ours), "p99": ours[-1]["p99"],
            "bare_h2o_requests_per_s": statistics.median(r["requests_per_s"] for r in theirs),
            "ratio_median": round(statistics.median(ratios), 3), "ratios": [round(r, 3) for r in ratios]}


def wordnet(queries=500):
    """The quickstart's real vectors: NDJSON lines to load, and held-out query vectors."""
    path = os.path.join(ROOT, "quickstart-data", "wordnet", "entities.ndjson")
    if not os.path.exists(path):
        sys.exit("run scripts/quickstart first: it prepares the vectors that the search benchmark uses")
    lines = open(path).read().splitlines()
    random.Random(11).shuffle(lines)
    asked = [struct.unpack("<100f", base64.b64decode(json.loads(line)["vectors"]["default"]["f32"]))
             for line in lines[:queries]]
    return lines[queries:], asked


def wait_for_build(server):
    while any(index["building"] or index["tail"] > index["built"] for index in
              json.loads(server.get("/v1/collections/words"))["indexes"]):
        time.sleep(0.5)


def recall(server, asked, k=10):
    """Mean recall@k of the served answers against exact ones."""
    found = 0
    for query in asked[:200]:
        keys = [set(hit["key"] for hit in server.call("POST", "/v1/collections/words/search", {
            "vector": query, "k": k, "params": {"exact": exact}})["hits"]) for exact in (False, True)]
        found += len(keys[0] & keys[1])
    return found / (k * len(asked[:200]))


def in_process(build, data, directory):
    """The queries of search without HTTP, two threads, by the binary of one build."""
    return json.loads(subprocess.run(
        [os.path.join(build, "bench", "bench_search_in_process"), data, "words", os.path.join(directory, "queries.f32"),
         str(DIM), "10", "2", "10"], check=True, capture_output=True, text=True).stdout)


def bench_search(server, directory):
    lines, asked = wordnet()
    server.call("PUT", "/v1/collections/words",
                json.load(open(os.path.join(ROOT, "scripts", "wordnet-schema.json"))))
    path = os.path.join(directory, "words.ndjson")
    with open(path, "w") as file:
        file.write("\n".join(lines) + "\n")
    subprocess.run(["curl", "-sS", "--fail", "-X", "POST", "-T", path, "-H", "Content-Type: application/x-ndjson", "-H",
                    "Expect:", "-o", os.devnull, server.url("/v1/collections/words/entities")], check=True)
    wait_for_build(server)
    server.end(signal.SIGTERM)  # so that both sides open the same files
    server.start()
    with open(os.path.join(directory, "queries.f32"), "wb") as file:
        for query in asked:
            file.write(struct.pack("<%df" % DIM, *query))
    lua = lua_posts("/v1/collections/words/search", [json.dumps({"vector": query, "k": 10}) for query in asked])
    run_wrk(server.url("/"), lua, 32, 2, directory)
    http = []
    for _ in range(3):
        cpu = server.cpu_s()
        count = server.metric('cairn_http_requests_total')
        rate = run_wrk(server.url("/"), lua, 32, 5, directory)["requests_per_s"]
        count = server.metric('cairn_http_requests_total') - count
        http.append(((server.cpu_s() - cpu) / count * 1e6, rate))
    server.end(signal.SIGTERM)
    alone = in_process(BUILD, server.data, directory)
    plain = PLAIN if os.path.exists(os.path.join(PLAIN, "bench")) else None
    kernels = [in_process(build, server.data, directory)["cpu_us_per_search"] for build in (plain, BUILD) * 3 if plain]
    server.start()
    over_http = statistics.median(cpu for cpu, _ in http)
    return {"vectors": len(lines), "dim": DIM, "k": 10, "connections": 32, "recall_at_10": round(recall(server, asked), 4), "http_cpu_us": round(over_http, 1),
            "in_process_cpu_us": alone["cpu_us_per_search"], "http_searches_per_s": statistics.median(r for _, r in http),
            "in_process_searches_per_s": alone["searches_per_s"],
            "cpu_ratio": round(over_http / alone["cpu_us_per_search"], 3),
            "faiss_kernels_to_ours": round(statistics.median(kernels[0::2]) / statistics.median(kernels[1::2]), 2)
            if kernels else None}


def bench_restart(server, rows, directory):
    results = {"rows": rows}
    server.end(signal.SIGTERM)
    results["after_sigterm_s"] = round(server.start(), 3)
    lua = lua_posts("/v1/collections/users/entities", [json.dumps({"entities": [row(n)]}) for n in range(512)])
    run_wrk(server.url("/"), lua, 64, 2, directory)
    server.end(signal.SIGKILL)
    results["after_sigkill_s"] = round(server.start(), 3)
    results["replayed_records"] = server.metric("cairn_log_replayed_records_total")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000000)
    parser.add_argument("--only", nargs="*", help="of: writes reads restart search (reads and restart need writes)")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="cairn-bench-")
    server = Server(os.path.join(directory, "data"))
    server.start()
    results = {}
    try:
        for name, bench in [("writes", lambda: bench_writes(server, options.rows, directory)),
                            ("reads", lambda: bench_reads(server, options.rows, directory)),
                            ("restart", lambda: bench_restart(server, options.rows, directory)),
                            ("search", lambda: bench_search(server, directory))]:
            if options.only and name not in options.only:
                continue
            results[name] = bench()
            print(name, json.dumps(results[name], indent=2), flush=True)
    finally:
        server.end(signal.SIGTERM)
        shutil.rmtree(directory)
    if options.json:
        os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
