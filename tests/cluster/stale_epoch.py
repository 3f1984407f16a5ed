#!/usr/bin/env python3
"""No write is accepted by a shard that has given its key away, whoever was stopped while it happened.

Each scenario starts a cluster, stops a process at a chosen moment of a move (a router during the whole of it, home in
the middle of a cut over, the source right before or after it has appended the map, the target), lets clients write to
it as soon as it goes on, and then holds the history against the model of registers. Besides, a write through the
router that slept must land where a write through the other one lands.

Usage: stale_epoch.py [--only NAME...]     (binary: CAIRN_BIN, default build/cairn)
"""
import argparse
import itertools
import shutil
import signal
import sys
import tempfile
import threading
import time

import checker
from checker import Problem
from clients import SCHEMA, Subject, Worker, now
from cluster_harness import Cluster, wait_for
from history import log_records

KEYS = 40
DEADLINE_S = 40
GIVEN_UP_S = 0.5  # the hold on writes ends by itself after 0.2 s


class Scenario:
    def __init__(self, shards=2):
        self.folder = tempfile.mkdtemp(prefix="cairn-stale-")
        self.cluster = Cluster(self.folder)
        self.cluster.start(shards)
        self.keys = ["k%02d" % i for i in range(KEYS)]
        self.subject = Subject("stale", self.keys, {}, [router.port for router in self.cluster.routers],
                               itertools.count(1))
        self.subject.moves_began = now()
        self.workers = []
        self.problems = []
        if self.cluster.ask("PUT", self.subject.path, SCHEMA) is None:
            raise AssertionError("the collection cannot be made")

    def process(self, name):
        return self.cluster.processes[name]

    def worker(self):
        worker = Worker(self.subject, len(self.workers), 1)
        self.workers.append(worker)
        return worker

    def run_workers(self, count=3):
        workers = [self.worker() for _ in range(count)]
        for worker in workers:
            worker.start()
        return workers

    def stop_workers(self):
        self.subject.stop.set()
        for worker in self.workers:
            if worker.ident is not None:
                worker.join(60)
                if worker.crashed is not None:
                    raise worker.crashed
        self.subject.stop.clear()

    def add_shard(self, number):
        return self.cluster.add_shard(number)

    def change(self, method, path, body=None, of="r1"):
        answer = self.cluster.ask(method, path, body, of=of)
        if answer is None or answer["job"] is None:
            raise AssertionError("%s %s through %s answered %s" % (method, path, of, answer))

    def add(self, number, of="r1"):
        process = self.process("s%d" % number)
        self.change("POST", "/v1/cluster/shards", {"id": "s%d" % number, "url": process.url}, of)

    def wait_done(self, of="r1", every=True):
        """The plan is done; with `every`, all processes know it."""
        def is_done():
            if self.cluster.is_planning(of) is not False:
                return False
            return not every or len(set(self.cluster.epochs().values())) == 1
        wait_for(is_done, DEADLINE_S, lambda: "the plan is done: %s, epochs %s" % (self.cluster.job(of),
                                                                                  self.cluster.epochs()))

    def arm(self, name, failpoint):
        process = self.process(name)
        process.stop()
        process.start(failpoint)
        wait_for(lambda: all(self.cluster.ask("POST", self.subject.path + "/entities:count", {}, of=router)
                             for router in ("r1", "r2")), DEADLINE_S, "both routers count")
        return process

    def home(self):
        return wait_for(self.cluster.home, DEADLINE_S, "r1 names the home")

    def landed(self, port, key):
        """Write through one process. The shard that acknowledged, or None."""
        worker = self.worker()
        worker.write(port, [key])
        worker.client.close()
        op = worker.ops[-1]
        return op.position.split(":")[0] if op.position else None

    def compare_landings(self, asleep, awake):
        """Writes through the process that slept land where those through the other land, or nowhere."""
        for key in self.keys:
            first, second = self.landed(asleep.port, key), self.landed(awake.port, key)
            if second is None:
                self.problems.append(Problem("a write through %s was not acknowledged" % awake.name, key))
            elif first not in (None, second):
                self.problems.append(Problem("a write through %s, which slept, was accepted by %s, the owner is %s" % (
                    asleep.name, first, second), key))

    def write_all(self, ports):
        """Each key once through each port, all ports at the same time, reading back through all."""
        def one(port, worker):
            for key in self.keys:
                worker.write(port, [key])
                worker.get(worker.random.choice(ports), [key])
            worker.client.close()
        threads = [threading.Thread(target=one, args=(port, self.worker())) for port in ports]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def wake(self, process):
        """Continue a process that has requests waiting in its sockets, which it sees before it hears of any map."""
        waiting = []
        for i in range(0, KEYS, 2):
            reader = self.worker()
            waiting.append(threading.Thread(target=reader.get, args=(process.port, self.keys[i:i + 2])))
            waiting[-1].start()
        time.sleep(0.1)
        process.send(signal.SIGCONT)
        for thread in waiting:
            thread.join()

    def read_all(self, process):
        """Every way of reading, through a process that may know an old map only."""
        reader = self.worker()
        for key in self.keys:
            reader.get(process.port, [key])
        reader.scroll(process.port)
        reader.count(process.port)
        reader.search(process.port)
        reader.client.close()

    def check(self):
        """The history, and then the logs."""
        last = self.worker()
        for process in self.cluster.processes.values():
            last.get(process.port, self.keys)
            last.scroll(process.port)
            last.count(process.port)
        last.client.close()
        ops = [op for worker in self.workers for op in worker.ops]
        self.problems += [problem for worker in self.workers for problem in worker.problems]
        self.problems += checker.check_positions(ops, self.subject.moves_began) + checker.check_registers(ops)
        self.problems += checker.check_counts(ops, [count for worker in self.workers for count in worker.counts])
        acknowledged = sum(op.kind == "put" and op.outcome == checker.OK for op in ops)
        if acknowledged < KEYS:
            self.problems.append(Problem("only %d writes were acknowledged: the scenario tests nothing" % acknowledged))
        for name, code in self.cluster.stop().items():
            if code != 0:
                self.problems.append(Problem("SIGTERM ended %s with %s" % (name, code)))
        self.problems += checker.check_logs(ops, [r for r in log_records(self.cluster) if r.key in self.subject.key_set])
        return acknowledged


def router_sleeps_through_a_move(s):
    """r2 knows nothing of the move when it goes on."""
    s.write_all([s.process("r1").port, s.process("r2").port])
    s.add_shard(2)
    s.process("r2").send(signal.SIGSTOP)
    s.add(2)
    s.wait_done(every=False)
    s.write_all([s.process("r1").port])
    s.wake(s.process("r2"))
    s.read_all(s.process("r2"))
    s.compare_landings(s.process("r2"), s.process("r1"))
    s.write_all([s.process("r1").port, s.process("r2").port])
    s.wait_done()


def router_sleeps_through_many_moves(s):
    """A shard comes, its neighbour goes: for r2 the owner of the keys is no member any more."""
    s.write_all([s.process("r1").port])
    s.add_shard(2)
    s.process("r2").send(signal.SIGSTOP)
    s.add(2)
    s.wait_done(every=False)
    gone = [name for name in ("s0", "s1") if name != s.home()][0]
    s.change("DELETE", "/v1/cluster/shards/" + gone)
    s.wait_done(every=False)
    s.write_all([s.process("r1").port])
    s.wake(s.process("r2"))
    s.read_all(s.process("r2"))
    s.read_all(s.process(gone))
    s.compare_landings(s.process("r2"), s.process("r1"))
    s.compare_landings(s.process(gone), s.process("r1"))  # a process without a shard is a router still
    s.wait_done()


def both_routers_have_other_maps(s):
    """r1 sleeps through the first plan and r2 through the second; then both write at the same time."""
    s.add_shard(2)
    s.write_all([s.process("r1").port])
    s.process("r1").send(signal.SIGSTOP)
    s.add(2, of="r2")
    s.wait_done(of="r2", every=False)
    s.process("r2").send(signal.SIGSTOP)
    s.change("POST", "/v1/cluster/shards", {"id": "s1", "weight": 4}, of="s0")
    s.wait_done(of="s0", every=False)
    s.process("r1").send(signal.SIGCONT)
    s.process("r2").send(signal.SIGCONT)
    s.write_all([s.process("r1").port, s.process("r2").port, s.process("s0").port])
    s.compare_landings(s.process("r1"), s.process("s0"))
    s.wait_done()


def under_load(s, name, failpoint, number=2, stopped_s=1.0):
    """A process stops at a step of a move while clients write, and goes on when others have given up."""
    s.write_all([s.process("r1").port, s.process("r2").port])
    if "s%d" % number not in s.cluster.processes:
        s.add_shard(number)
    process = s.arm(name, failpoint)
    s.run_workers()
    s.add(number)
    wait_for(process.is_stopped, DEADLINE_S, "%s stops at %s" % (name, failpoint))
    time.sleep(stopped_s)
    process.send(signal.SIGCONT)
    s.wait_done()
    s.stop_workers()
    s.compare_landings(s.process("r2"), s.process("r1"))


def other_than_home(s):
    return [name for name in ("s0", "s1") if name != s.home()][0]


def home_stops_while_writes_are_held(s):
    """The hold of the source ends without home; the release that comes later must be refused."""
    home = s.home()
    source = other_than_home(s)
    s.write_all([s.process("r1").port, s.process("r2").port])
    s.add_shard(2)
    process = s.arm(home, "rebalance.before_release:2=stop")
    # The moves go by source, so with two sources each is held once while home is in the middle of it.
    workers = s.run_workers()
    s.add(2)
    wait_for(process.is_stopped, DEADLINE_S, "home stops")
    before = now()
    time.sleep(GIVEN_UP_S)
    # Home is one of the two shards: only keys of the other one can be written meanwhile.
    wait_for(lambda: any(op.kind == "put" and op.outcome == checker.OK and op.response > before
                         and (op.position or "").startswith(source) for w in workers for op in list(w.ops)),
             DEADLINE_S, "%s goes on while home is stopped" % source)
    process.send(signal.SIGCONT)
    s.wait_done()
    s.stop_workers()
    s.compare_landings(s.process("r2"), s.process("r1"))


def old_owner_sleeps_with_writes_in_its_queue(s):
    """Writes wait in the sockets of the stopped source while the move ends as far as it can."""
    source = other_than_home(s)
    s.write_all([s.process("r1").port])
    s.add_shard(2)
    process = s.process(source)
    workers = s.run_workers(6)
    s.add(2)
    for _ in range(20):
        process.send(signal.SIGSTOP)
        time.sleep(0.25)
        process.send(signal.SIGCONT)
        time.sleep(0.03)
        if s.cluster.is_planning() is False:
            break
    s.wait_done()
    s.stop_workers()
    assert workers
    s.compare_landings(s.process("r1"), s.process("r2"))


def left_rows_do_not_come_back(s):
    """Rows that moved away stay in the source's views for some seconds. An entity that was deleted at its new shard
    and is made anew without its route, at the old one, must not find what was left of it: the write is refused with
    429 until that is dropped."""
    s.write_all([s.process("r1").port])
    path = s.subject.path
    routed = [{"key": "routed%02d" % i, "route": "route%02d" % i, "features": {"n": 1000 + i}} for i in range(90)]
    assert s.cluster.ask("POST", path + "/entities", {"entities": routed})
    s.add_shard(2)
    s.add(2)
    s.wait_done()
    keys = [entity["key"] for entity in routed]
    deleted = s.cluster.ask("POST", path + "/entities:delete", {"keys": keys})
    assert deleted and all(result["status"] == "applied" for result in deleted["results"])

    def when_dropped(what, body):
        """The answer that is not 429, which the first that meets a left row may be for some seconds."""
        answers = []

        def asked():
            answers.append(s.cluster.client.request(s.process("r1").port, "POST", path + what, body))
            return answers[-1].status != 429
        wait_for(asked, DEADLINE_S, "rows that moved away are dropped")
        return answers[-1]

    again = when_dropped("/entities:delete", {"keys": keys[:30]})
    for result in again.json["results"]:
        if result["status"] != "unchanged":
            s.problems.append(Problem("deleted twice: the second says %s" % result, result["key"]))
    anew = [{"key": key, "features": {"m": 1}} for key in keys]
    for entity in anew[30:60]:
        entity["if_offset"] = 0
    for entity in anew:
        answer = when_dropped("/entities", {"entities": [entity]})
        if answer.status != 200:
            s.problems.append(Problem("made anew: %d %s" % (answer.status, answer.bytes), entity["key"]))
    for row in s.cluster.ask("POST", path + "/entities:get", {"keys": keys, "features": "*"})["results"]:
        if row["features"] != {"m": 1}:
            s.problems.append(Problem("made anew with m only, it has %s" % row["features"], row["key"]))
    assert s.cluster.ask("POST", path + "/entities:delete", {"keys": keys})


SCENARIOS = {
    "left_rows_do_not_come_back": left_rows_do_not_come_back,
    "router_sleeps_through_a_move": router_sleeps_through_a_move,
    "router_sleeps_through_many_moves": router_sleeps_through_many_moves,
    "both_routers_have_other_maps": both_routers_have_other_maps,
    "home_stops_while_writes_are_held": home_stops_while_writes_are_held,
    "home_stops_when_frozen": lambda s: under_load(s, s.home(), "rebalance.frozen=stop"),
    "home_stops_before_the_release": lambda s: under_load(s, s.home(), "rebalance.before_release=stop"),
    "home_stops_after_the_release": lambda s: under_load(s, s.home(), "rebalance.released=stop"),
    "home_stops_when_target_is_told": lambda s: under_load(s, s.home(), "rebalance.target_told=stop"),
    "home_stops_before_the_end": lambda s: under_load(s, s.home(), "rebalance.before_finish=stop"),
    "source_stops_before_its_map": lambda s: under_load(s, other_than_home(s), "shard.before_map:2=stop"),
    "source_stops_after_its_map": lambda s: under_load(s, other_than_home(s), "shard.after_map:2=stop"),
    "source_sleeps_long_after_its_map": lambda s: under_load(s, other_than_home(s), "shard.after_map:2=stop",
                                                             stopped_s=7.0),
    "target_stops_when_caught_up": lambda s: under_load(s, "s2", "import.caught_up=stop"),
    "target_stops_before_its_map": lambda s: under_load(s, "s2", "shard.before_map:2=stop"),
    "old_owner_sleeps_with_writes_in_its_queue": old_owner_sleeps_with_writes_in_its_queue,
}
TARGET_IS_NEW = {"target_stops_when_caught_up", "target_stops_before_its_map"}


def run(name):
    """The problems."""
    scenario = Scenario()
    try:
        if name in TARGET_IS_NEW:
            scenario.add_shard(2)
        SCENARIOS[name](scenario)
        print("%s: %d writes acknowledged" % (name, scenario.check()), flush=True)
    except Exception as error:
        scenario.problems.append(Problem("%s: %s" % (type(error).__name__, error)))
    finally:
        scenario.subject.stop.set()
        scenario.cluster.kill()
    if not scenario.problems:
        shutil.rmtree(scenario.folder)
    else:
        print("%s failed; data and logs of the processes are in %s\n%s" % (
            name, scenario.folder, "\n".join(str(problem) for problem in scenario.problems)[:8000]), flush=True)
    return scenario.problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=sorted(SCENARIOS))
    options = parser.parse_args()
    names = options.only or list(SCENARIOS)
    failed = sum(bool(run(name)) for name in names)
    print("%d passed, %d failed" % (len(names) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
