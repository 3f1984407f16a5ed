#!/usr/bin/env python3
"""Histories of clusters that change under load and lose processes, checked against a model of registers.

A run has a collection of its own. Clients write and read its keys through two routers while shards are added, drained
and re-weighted, plans are given up, and processes are killed at named steps or at any time, or stopped and continued.
Then checker.py decides whether the history is one that registers could have had. Several runs share one life of a
cluster, since starting processes takes longer than a run; at the end of a life the logs must hold every acknowledged
write exactly once.

A run is drawn from its seed, which is its number. Lives begin at seeds that LIFE_RUNS divides, and at the first one.

Usage: history.py [--runs N] [--seed S] [--long] [--keep]     (binary: CAIRN_BIN, default build/cairn)
       history.py --seed S --runs 1     one run again, in a cluster of its own
"""
import argparse
import base64
import itertools
import os
import random
import shutil
import struct
import sys
import tempfile
import threading
import time

import checker
from checker import ABSENT, Problem, Record
from clients import SCHEMA, Subject, Worker, now
from cluster_harness import Cluster, wait_for
from outages import Supervisor

LIFE_RUNS = 10
MEMBERS_MAX = 4
PLAN_DEADLINE_S = 40
SETTLE_DEADLINE_S = 20
HOME_POINTS = ["planned", "prepared", "before_freeze", "frozen", "digests", "before_release", "released",
               "target_told", "home_told", "before_finish", "finished"]
TARGET_POINTS = ["import.begun", "import.step", "import.caught_up"]
MAP_POINTS = ["shard.before_map", "shard.after_map"]


class Life:
    """A cluster and what the runs in it have left in its logs."""

    def __init__(self, seed, options):
        rng = random.Random("life %d" % seed)
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="cairn-history-%d-" % seed)
        self.first_seed = seed
        self.values = itertools.count(1)
        self.ops = []
        self.failed = False
        self.last_path = None  # of the collection that was not dropped yet
        self.cluster = Cluster(self.folder)
        self.supervisor = Supervisor(self.cluster)
        self.next_shard = rng.randint(1, 3)
        self.cluster.start(self.next_shard, all_in_one=rng.random() < 0.3)

    def members(self):
        status = wait_for(self.cluster.status, SETTLE_DEADLINE_S, "an answer of r1 about the cluster")
        return [shard["id"] for shard in status["shards"] if shard["weight"] > 0]

    def weights(self):
        return {shard["id"]: shard["weight"] for shard in self.cluster.status()["shards"]}

    def home(self):
        return self.cluster.of_shard(wait_for(self.cluster.home, SETTLE_DEADLINE_S, "r1 names the home"))

    def new_shard(self):
        """The name of a shard that is not in the map: one that was drained before, or a new one."""
        drained = [name for name in self.cluster.processes if name[0] == "s" and name not in self.members()]
        if drained:
            return drained[0]
        name = "s%d" % self.next_shard
        self.cluster.add_shard(self.next_shard)
        self.next_shard += 1
        return name

    def wait_until_clean(self):
        """What has moved away is dropped some seconds later. Then every entity is on exactly one shard."""
        names = sorted(set(self.members()) | {name for name in self.cluster.processes if name[0] == "s"})
        state = {}

        def is_clean():
            reports = [self.cluster.shard(name) for name in names]
            state["shards"] = [report and (report["id"], report["entities"], report["foreign"]) for report in reports]
            state["count"] = (self.cluster.ask("POST", self.last_path + "/entities:count", {}) or {}).get("count")
            return None not in reports and all(report["foreign"] == 0 for report in reports) and \
                sum(report["entities"] for report in reports) == state["count"]
        try:
            wait_for(is_clean, SETTLE_DEADLINE_S, lambda: "(shard, entities, foreign rows) add up to the count: %s" % state)
        except AssertionError as error:
            return [Problem(str(error))]
        return []

    def end(self):
        """The problems that only show when no run is under way: foreign rows, and the logs."""
        problems = self.wait_until_clean()
        self.supervisor.close()
        for name, code in self.cluster.stop().items():
            if code != 0:
                problems.append(Problem("SIGTERM ended %s with %s" % (name, code)))
        return problems + checker.check_logs(self.ops, log_records(self.cluster))

    def remove(self):
        self.supervisor.close()
        self.cluster.kill()
        if not self.failed and not self.options.keep:
            shutil.rmtree(self.folder)


def log_records(cluster):
    """Writes where they were first appended."""
    for record in cluster.log_records():
        if record["kind"] != "entity":
            continue
        value = ABSENT
        if record["op"] != "delete":
            value = record["features"].get("n")
            if "v" not in record["vectors"]:
                continue
            vector = struct.unpack("<4f", base64.b64decode(record["vectors"]["v"]["f32"]))
            assert vector[0] == value, record
        yield Record(record["key"], value, "s%d:%d" % (record["shard"], record["offset"]))


class Change:
    """One plan: what is asked of the cluster, and which shards get tokens by it."""

    def __init__(self, rng, life):
        members = life.members()
        weights = life.weights()
        kinds = ["add"] * (3 if len(members) < MEMBERS_MAX else 0)
        kinds += (["drain"] * (2 if len(members) < 3 else 3) + ["weight"] * 2 + ["set"]) if len(members) > 1 else []
        kind = rng.choice(kinds)
        if kind == "add":
            shard = life.new_shard()
            self.request = ("POST", "/v1/cluster/shards", {"id": shard, "url": life.cluster.of_shard(shard).url,
                                                           "weight": rng.choice([0.5, 1, 1, 2])})
            self.targets = [shard]
        elif kind == "drain":
            shard = rng.choice(members)
            self.request = ("DELETE", "/v1/cluster/shards/" + shard, None)
            self.targets = [member for member in members if member != shard]
        elif kind == "weight":
            shard = rng.choice(members)
            weight = rng.choice([w for w in (0.5, 1, 2, 4) if w != weights[shard]])
            self.request = ("POST", "/v1/cluster/shards", {"id": shard, "weight": weight})
            self.targets = [shard] if weight > weights[shard] else [m for m in members if m != shard]
        else:
            added, leaves = life.new_shard(), rng.choice(members)
            stay = [member for member in members if member != leaves] + [added]
            self.request = ("PUT", "/v1/cluster/shards", {"shards": [
                {"id": shard, "url": life.cluster.of_shard(shard).url} for shard in stay]})
            self.targets = [added]
        self.abort_after_s = rng.choice([0, 0.01, 0.03, 0.1]) if rng.random() < 0.15 else None
        self.resume = rng.random() < 0.5

    def __str__(self):
        return "%s %s %s%s" % (*self.request, "" if self.abort_after_s is None else
                               ", aborted after %g s" % self.abort_after_s)


class Trouble:
    """What happens to which process while the cluster changes. `failpoint`: it is armed before."""

    def __init__(self, rng, life, change):
        processes = life.cluster.processes
        shards = [processes[name] for name in sorted(processes) if name not in ("r1", "r2")]
        self.failpoint = self.action = None
        self.delay_s = rng.choice([0, 0.005, 0.02, 0.05, 0.1])
        self.down_s = rng.choice([0, 0, 0.05, 0.2])
        self.stopped_s = rng.choice([0.02, 0.1, 0.3, 0.6])
        kind = rng.choices(["none", "failpoint", "kill", "pause", "router"], [40, 35, 10, 10, 5])[0]
        if kind == "failpoint":
            self.draw_failpoint(rng, life, change, shards)
        elif kind in ("kill", "pause"):
            self.process, self.action = rng.choice(shards), kind
        elif kind == "router":
            self.process, self.action = rng.choice(life.cluster.routers), rng.choice(["kill", "pause"])

    def draw_failpoint(self, rng, life, change, shards):
        place = rng.choice(["home"] * 5 + ["target"] * 3 + ["map"] * 3)
        if place == "home":
            name, self.process = "rebalance." + rng.choice(HOME_POINTS), life.home()
        elif place == "target":
            name, self.process = rng.choice(TARGET_POINTS), life.cluster.of_shard(rng.choice(change.targets))
        else:
            name, self.process = rng.choice(MAP_POINTS), rng.choice(shards)
        self.failpoint = "%s:%d%s" % (name, rng.choice([1, 1, 1, 2, 3]), rng.choice(["", "", "=stop"]))

    @property
    def exists(self):
        return bool(self.failpoint or self.action)

    def __str__(self):
        if not self.exists:
            return "no trouble"
        return "%s %s (down %g s, stopped %g s)" % (
            self.process.name, self.failpoint or "%s after %g s" % (self.action, self.delay_s), self.down_s,
            self.stopped_s)

    def arm(self, supervisor):
        if self.failpoint:
            supervisor.restart(self.process, self.failpoint)

    def happen(self, supervisor):
        """In a thread of its own."""
        if not self.action:
            return
        time.sleep(self.delay_s)
        if self.action == "kill":
            supervisor.kill(self.process)
        else:
            supervisor.pause(self.process, self.stopped_s)


class Run:
    def __init__(self, seed, life):
        self.seed, self.life, self.cluster = seed, life, life.cluster
        self.random = random.Random(seed)
        long = life.options.long
        keys = ["r%d-k%02d" % (seed, i) for i in range(self.random.randint(20, 60) * (5 if long else 1))]
        routes = {key: "route%d" % self.random.randint(0, 5) for key in keys if self.random.random() < 0.15}
        self.subject = Subject("c%d" % seed, keys, routes, [router.port for router in self.cluster.routers],
                               life.values, self.random.choice([0, 0, 200, 20000]))
        self.workers = [Worker(self.subject, i, seed) for i in range(self.random.randint(3, 6))]
        self.warm_up_s = self.random.uniform(0.02, 0.1) * (10 if long else 1)
        self.changes = self.random.choice([1, 1, 1, 2]) * (3 if long else 1)
        self.story = []
        self.problems = []
        self.began = now()
        self.was_calm = True

    def call(self, method, path, body=None):
        """A change of the cluster through any router: tried again while a process may be away."""
        def attempt():
            router = self.random.choice(["r1", "r2"])
            return self.cluster.ask(method, path, body, of=router, statuses=(200, 201, 202, 404, 409))
        return wait_for(attempt, SETTLE_DEADLINE_S, "%s %s is answered" % (method, path))

    def execute(self):
        if self.life.last_path is not None:
            self.call("DELETE", self.life.last_path)
        self.life.last_path = self.subject.path
        self.call("PUT", self.subject.path, SCHEMA)
        for i in range(self.changes):
            change = Change(self.random, self.life)
            trouble = Trouble(self.random, self.life, change)
            self.story.append("%s; %s" % (change, trouble))
            self.was_calm = self.was_calm and not trouble.exists
            trouble.arm(self.life.supervisor)
            if i == 0:
                self.wait_until_well()
                for worker in self.workers:
                    worker.start()
                time.sleep(self.warm_up_s)
            self.make(change, trouble)
        time.sleep(self.warm_up_s / 2)
        self.end_clients()
        self.look_at_the_end()

    def wait_until_well(self):
        """Restarts are over and both routers know it, so that from now on no failure is excused by them."""
        wait_for(lambda: all(self.cluster.ask("POST", self.subject.path + "/entities:count", {}, of=router)
                             for router in ("r1", "r2")), SETTLE_DEADLINE_S, "both routers count")
        self.life.supervisor.forget()

    def make(self, change, trouble):
        self.life.supervisor.down_s, self.life.supervisor.stopped_s = trouble.down_s, trouble.stopped_s
        self.subject.moves_began = min(self.subject.moves_began, now())
        thread = threading.Thread(target=trouble.happen, args=(self.life.supervisor,), daemon=True)
        thread.start()
        answer = self.call(*change.request)
        if change.abort_after_s is not None:
            time.sleep(change.abort_after_s)
            answer = (answer, self.call("POST", "/v1/cluster/rebalance:abort"))
        self.story.append("answered %s" % (answer,))
        thread.join()
        self.wait_for_plan(change)
        self.life.supervisor.disarm(trouble.process if trouble.failpoint else None)

    def wait_for_plan(self, change):
        """Until no plan is left and all processes are up and of one epoch."""
        resumed = False
        state = {}

        def is_done():
            nonlocal resumed
            if self.life.supervisor.is_away():
                return False
            state["job"] = self.cluster.job()
            if self.cluster.is_planning() is not False:
                if change.resume and not resumed and (state["job"] or {}).get("state") == "paused":
                    resumed = self.cluster.ask("POST", "/v1/cluster/rebalance:resume") is not None
                return False
            # A shard that died before it had its first map, and was taken off the plan, is in no map at all.
            state["epochs"] = {name: epoch for name, epoch in self.cluster.epochs().items() if epoch != 0}
            # A process that came back is up for the others when their next health check has said so.
            state["seen"] = {name: self.cluster.status(of=name) for name in state["epochs"]}
            seen = all(status and all(shard["state"] == "serving" for shard in status["shards"])
                       for status in state["seen"].values())
            return seen and len(set(state["epochs"].values())) == 1 and not self.life.supervisor.is_away()
        wait_for(is_done, PLAN_DEADLINE_S, lambda: "the plan is done and all epochs are equal: %s" % state)
        held = [move["held_us"] for move in (state["job"] or {}).get("moves", [])]
        self.story.append("job %s %s, held %s us, epochs %s" % (
            (state["job"] or {}).get("id"), (state["job"] or {}).get("state"), held, set(state["epochs"].values())))

    def end_clients(self):
        self.subject.stop.set()
        for worker in self.workers:
            worker.join(60)
            if worker.is_alive():
                raise AssertionError("client %d does not end" % worker.number)
            if worker.crashed is not None:
                raise worker.crashed

    def look_at_the_end(self):
        """Every process answers for every key."""
        last = Worker(self.subject, 99, self.seed)
        self.workers.append(last)
        for process in self.cluster.processes.values():
            last.get(process.port, self.subject.keys)
            last.scroll(process.port)
            last.count(process.port)
            last.search(process.port)
        last.client.close()

    def finish(self):
        """Check. Returns the number of operations."""
        self.subject.stop.set()
        for worker in self.workers:
            if worker.ident is not None:
                worker.join(60)
        ops = [op for worker in self.workers for op in worker.ops]
        failures = [failure for worker in self.workers for failure in worker.failures]
        for worker in self.workers:
            self.problems += worker.problems
        while self.life.supervisor.crashes:
            self.problems.append(Problem(self.life.supervisor.crashes.pop()))
        self.problems += checker.check_failures(failures, self.life.supervisor.outages())
        self.problems += checker.check_positions(ops, self.subject.moves_began)
        self.problems += checker.check_counts(ops, [count for worker in self.workers for count in worker.counts])
        try:
            self.problems += checker.check_registers(ops)
        except checker.Undecided as error:
            self.problems.append(Problem(str(error)))
        self.life.ops += [op for op in ops if op.kind != "read"]
        return len(ops)

    def report(self):
        lines = ["run %d failed; again: history.py --seed %d --runs 1; the life began with seed %d" % (
            self.seed, self.seed, self.life.first_seed)]
        lines += ["  " + line for line in self.story]
        lines += ["  processes away from %.3f to %.3f ms" % (a / 1e6, b / 1e6)
                  for a, b in self.life.supervisor.outages() if b >= self.began]
        text = "\n".join(lines + [str(problem) for problem in self.problems])
        with open(os.path.join(self.life.folder, "run-%d.txt" % self.seed), "w", encoding="utf-8") as file:
            file.write(text + "\n")
        shown = text if len(text) < 12000 else text[:12000] + "\n…"
        print("%s\n  the whole, data and logs of the processes are in %s" % (shown, self.life.folder), flush=True)


class Totals:
    def __init__(self):
        self.passed = self.failed = self.ops = 0
        self.write_ns = 0  # the longest write of runs in which nothing was killed or stopped
        self.calm = self.torn = 0

    def add(self, run, ops):
        self.ops += ops
        self.torn += sum(worker.torn for worker in run.workers)
        if run.problems:
            self.failed += 1
        else:
            self.passed += 1
        if run.was_calm:
            self.calm += 1
            self.write_ns = max([self.write_ns] + [worker.write_ns for worker in run.workers])

    def __str__(self):
        return "%d operations, %d rows with the vector of another write; %d runs without trouble, longest write in " \
               "them %.0f ms" % (self.ops, self.torn, self.calm, self.write_ns / 1e6)


def one_run(seed, life, totals):
    """Whether the life can go on."""
    run = Run(seed, life)
    goes_on = True
    try:
        run.execute()
    except Exception as error:
        run.problems.append(Problem("%s: %s" % (type(error).__name__, error)))
        goes_on = False
    count = run.finish()
    totals.add(run, count)
    if run.problems:
        life.failed = True
        run.report()
    if life.options.verbose:
        print("run %d: %s" % (seed, "; ".join(run.story)), flush=True)
    return goes_on and not run.problems


def one_life(seeds, options, totals):
    """Runs of one cluster; returns the seeds that are left when a failed run has spoilt it."""
    life = Life(seeds[0], options)
    left = list(seeds)
    try:
        while left:
            if not one_run(left.pop(0), life, totals):
                return left
        problems = life.end()
        if problems:
            life.failed = True
            totals.failed += 1
            totals.passed -= 1
            print("the end of the life that began with seed %d:\n%s\n  data: %s" % (
                life.first_seed, "\n".join(str(p) for p in problems[:20]), life.folder), flush=True)
        return left
    finally:
        life.remove()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("CAIRN_TEST_SEED", "1")))
    parser.add_argument("--long", action="store_true", help="more keys, more changes in a run")
    parser.add_argument("--keep", action="store_true", help="keep the directories of runs that passed")
    parser.add_argument("--verbose", action="store_true", help="tell what happened in every run")
    options = parser.parse_args()
    print("seeds %d to %d" % (options.seed, options.seed + options.runs - 1), flush=True)
    sys.setswitchinterval(0.0005)  # a client that has its answer should not wait long to note the time
    totals, began = Totals(), time.monotonic()
    left = list(range(options.seed, options.seed + options.runs))
    while left:
        size = min(LIFE_RUNS - left[0] % LIFE_RUNS, len(left))
        rest = one_life(left[:size], options, totals)
        left = rest + left[size:]
        print("%d passed, %d failed so far, %.0f s: %s" % (totals.passed, totals.failed, time.monotonic() - began,
                                                           totals), flush=True)
    print("%d passed, %d failed" % (totals.passed, totals.failed))
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
