"""The checker itself: histories that must pass, histories that must fail, and a slow checker to agree with."""
import itertools
import os
import random
import unittest

from checker import (ABSENT, ANY, INDEX, OK, REFUSED, UNKNOWN, Count, Failure, Op, Record, check_counts,
                     check_failures, check_logs, check_positions, check_register, check_registers, is_write, step)

SEED = int(os.environ.get("CAIRN_TEST_SEED", "1"))
INFINITY = float("inf")


def put(value, invoke, response, **more):
    return Op("put", "k", value, invoke, response, **more)


def delete(invoke, response, **more):
    return Op("delete", "k", ABSENT, invoke, response, **more)


def read(value, invoke, response, **more):
    return Op("read", "k", value, invoke, response, **more)


def refusal(expect, invoke, response, value=99):
    return Op("refusal", "k", value, invoke, response, expect=expect)


class Registers(unittest.TestCase):
    def passes(self, *ops):
        self.assertIsNone(check_register(list(ops)))

    def fails(self, wrong, *ops):
        self.assertIs(check_register(list(ops)), wrong)

    def test_one_after_the_other(self):
        self.passes(read(ABSENT, 0, 1), put(1, 2, 3), read(1, 4, 5), put(2, 6, 7), read(2, 8, 9), delete(10, 11),
                    read(ABSENT, 12, 13))

    def test_lost_write(self):
        wrong = read(ABSENT, 4, 5)
        self.fails(wrong, put(1, 2, 3), wrong)

    def test_stale_read(self):
        wrong = read(1, 8, 9)
        self.fails(wrong, put(1, 2, 3), put(2, 6, 7), wrong)

    def test_never_written(self):
        wrong = read(7, 4, 5)
        self.fails(wrong, put(1, 2, 3), wrong)

    def test_seen_before_it_was_sent(self):
        wrong = read(1, 0, 1)
        self.fails(wrong, wrong, put(1, 2, 3))

    def test_concurrent_writes_may_go_either_way(self):
        for first in (1, 2):
            self.passes(put(1, 0, 10), put(2, 0, 10), read(first, 11, 12), read(first, 13, 14))

    def test_a_value_does_not_come_back(self):
        wrong = read(2, 13, 14)
        self.fails(wrong, put(1, 0, 10), put(2, 0, 10), read(1, 11, 12), wrong)
        wrong = read(1, 15, 16)
        self.fails(wrong, put(1, 0, 10), put(2, 0, 30), read(1, 11, 12), read(2, 13, 14), wrong)

    def test_reads_of_an_open_write_agree(self):
        self.passes(put(1, 0, 1), put(2, 2, 20), read(1, 3, 4), read(2, 5, 6), read(2, 7, 8))
        wrong = read(1, 7, 8)
        self.fails(wrong, put(1, 0, 1), put(2, 2, 20), read(2, 5, 6), wrong)

    def test_an_unknown_write_may_happen_late_or_never(self):
        lost = put(2, 2, 3, outcome=UNKNOWN)
        self.passes(put(1, 0, 1), lost, read(1, 4, 5), read(1, 6, 7))
        self.passes(put(1, 0, 1), lost, read(1, 4, 5), read(2, 6, 7))
        wrong = read(1, 6, 7)
        self.fails(wrong, put(1, 0, 1), lost, read(2, 4, 5), wrong)

    def test_an_unknown_write_happens_once(self):
        wrong = read(2, 10, 11)
        self.fails(wrong, put(2, 0, 1, outcome=UNKNOWN), read(2, 2, 3), put(3, 4, 5), read(3, 6, 7), wrong)

    def test_an_unknown_write_may_be_what_a_delete_found(self):
        self.passes(put(1, 0, 1, outcome=UNKNOWN), delete(2, 3, found=True), read(ABSENT, 4, 5))

    def test_a_refused_write_is_never_seen(self):
        wrong = read(2, 4, 5)
        self.fails(wrong, put(1, 0, 1), put(2, 2, 3, outcome=REFUSED), wrong)
        self.passes(put(1, 0, 1), put(2, 2, 3, outcome=REFUSED), read(1, 4, 5))

    def test_deletes(self):
        wrong = read(1, 4, 5)
        self.fails(wrong, put(1, 0, 1), delete(2, 3), wrong)
        self.passes(put(1, 0, 1), delete(2, 9), read(1, 4, 5), read(ABSENT, 6, 7))
        wrong = read(1, 8, 9)
        self.fails(wrong, put(1, 0, 1), delete(2, 20), read(ABSENT, 4, 5), wrong)
        self.passes(put(1, 0, 1), delete(2, 3, outcome=UNKNOWN), read(1, 4, 5), read(ABSENT, 6, 7))
        wrong = read(ABSENT, 6, 7)
        self.fails(wrong, put(1, 0, 1), delete(2, 3, outcome=REFUSED), wrong)

    def test_what_a_delete_found(self):
        self.passes(put(1, 0, 1), delete(2, 3, found=True), delete(4, 5, found=False))
        wrong = delete(2, 3, found=False)
        self.fails(wrong, put(1, 0, 1), wrong)
        wrong = delete(4, 5, found=True)
        self.fails(wrong, put(1, 0, 1), delete(2, 3, found=True), wrong)

    def test_compare_and_set(self):
        self.passes(put(1, 0, 1), put(2, 2, 3, expect=1), read(2, 4, 5))
        self.passes(put(1, 0, 1, expect=ABSENT), read(1, 4, 5))
        wrong = put(3, 4, 5, expect=1)
        self.fails(wrong, put(1, 0, 1), put(2, 2, 3), wrong)
        wrong = put(2, 2, 3, expect=ABSENT)
        self.fails(wrong, put(1, 0, 1), wrong)

    def test_two_compare_and_sets_of_one_value(self):
        self.assertIsNotNone(check_register([put(1, 0, 1), put(2, 2, 9, expect=1), put(3, 2, 9, expect=1)]))
        self.passes(put(1, 0, 1), put(2, 2, 9, expect=1), put(3, 2, 9, expect=2))

    def test_refused_compare_and_set(self):
        self.passes(put(1, 0, 1), put(2, 2, 3), refusal(1, 4, 5))
        wrong = refusal(1, 4, 5)
        self.fails(wrong, put(1, 0, 1), wrong)
        self.passes(put(1, 0, 1), refusal(ABSENT, 4, 5))
        wrong = refusal(ABSENT, 4, 5)
        self.fails(wrong, wrong)

    def test_unknown_compare_and_set_keeps_its_condition(self):
        wrong = read(3, 6, 7)
        self.fails(wrong, put(1, 0, 1), put(2, 2, 3), put(3, 4, 5, expect=1, outcome=UNKNOWN), wrong)

    def test_views_are_apart_and_each_is_checked(self):
        ops = [put(1, 0, 1), put(2, 2, 20), read(2, 3, 4, view=INDEX), read(1, 5, 6)]
        self.assertEqual(check_registers(ops), [])
        ops.append(read(1, 7, 8, view=INDEX))
        self.assertEqual(len(check_registers(ops)), 1)
        self.assertIn("index", str(check_registers(ops)[0]))

    def test_problems_name_the_case_and_list_the_operations(self):
        for ops, words in [([put(1, 0, 1), read(ABSENT, 2, 3)], "lost write"),
                           ([put(1, 0, 1), put(2, 2, 3), read(1, 4, 5)], "stale read"),
                           ([read(1, 0, 1)], "never written"),
                           ([read(1, 0, 1), put(1, 2, 3)], "before it was sent")]:
            text = str(check_registers(ops)[0])
            self.assertIn(words, text)
            self.assertEqual(text.count("\n"), len(ops))
            self.assertEqual(text.count(">>"), 1)


def is_linearizable(ops):
    """By trying all orders: for a handful of operations."""
    ops = [op for op in ops if op.outcome == OK or op.outcome == UNKNOWN and is_write(op)]
    unknown = [op for op in ops if op.outcome == UNKNOWN]
    for size in range(len(unknown) + 1):
        for left in itertools.combinations(unknown, size):
            if any(is_order(order) for order in itertools.permutations([op for op in ops if op not in left])):
                return True
    return False


def is_order(order):
    state = ABSENT
    for i, op in enumerate(order):
        if any(later.outcome == OK and later.response < op.invoke for later in order[i + 1:]):
            return False
        state = step(op, state)
        if state is False:
            return False
    return True


def history(rng, clients, length, kinds="pppdrrrrcx"):
    """A linearizable history: operations with overlapping intervals that take effect in the middle of each."""
    free, state, ops, value, now = [0] * clients, ABSENT, [], 0, 0
    for _ in range(length):
        now += rng.randint(1, 4)  # when it takes effect
        client = rng.choice([c for c in range(clients) if free[c] < now] or [min(range(clients), key=free.__getitem__)])
        now = max(now, free[client] + 1)
        invoke = rng.randint(free[client] + 1, now)
        op = Op("read", "k", state, invoke, now + rng.randint(0, 6), client=client)
        kind = rng.choice(kinds)
        if kind in "pcx":
            value += 1
            op.kind, op.value = "put", value
            if kind == "x":
                op.expect = rng.choice([ABSENT, state, value - 1])
            if op.expect is not ANY and op.expect != state:
                op.kind = "refusal"
            elif kind == "c":
                op.outcome = UNKNOWN
                state = value if rng.random() < 0.5 else state
            else:
                state = value
        elif kind == "d":
            op.kind, op.value, op.found, state = "delete", ABSENT, state is not ABSENT, ABSENT
        free[client] = op.response
        ops.append(op)
    return ops


def broken(rng, ops):
    """A copy with one answer changed into one that cannot be right; None when there is none to change."""
    reads = [op for op in ops if op.kind == "read"]
    puts = [op for op in ops if op.kind == "put" and op.outcome == OK]
    rng.shuffle(reads)
    for victim in reads:
        before = [p for p in puts if p.response < victim.invoke and not any(
            d.kind == "delete" and d.response > p.invoke and d.invoke <= victim.response for d in ops)]
        if not before:
            continue
        newest = max(before, key=lambda p: p.invoke)
        older = [p.value for p in puts if p.response < newest.invoke]
        # Lost, from nowhere, or stale, unless it was compared and set back, which no value is.
        wrong = rng.choice([ABSENT, 10 ** 6] + older)
        copy = [Op(o.kind, o.key, wrong if o is victim else o.value, o.invoke, o.response, o.outcome, o.client,
                   o.expect, o.found) for o in ops]
        return copy
    return None


class Generated(unittest.TestCase):
    def setUp(self):
        print("seed %d" % SEED)
        self.rng = random.Random(SEED)

    def test_right_histories_pass(self):
        for _ in range(120):
            ops = history(self.rng, self.rng.randint(1, 6), 60)
            wrong = check_register(ops)
            self.assertIsNone(wrong, "\n".join(map(repr, ops)) + "\nwrong: %r" % wrong)

    def test_one_wrong_answer_fails(self):
        tried = 0
        for _ in range(250):
            copy = broken(self.rng, history(self.rng, self.rng.randint(1, 6), 40))
            if copy is None:
                continue
            tried += 1
            self.assertIsNotNone(check_register(copy), "\n".join(map(repr, copy)))
        self.assertGreater(tried, 120)

    def test_a_dropped_write_fails(self):
        """An acknowledged write whose value was read later must not be missing from the history."""
        tried = 0
        for _ in range(120):
            ops = history(self.rng, 4, 40)
            seen = {op.value for op in ops if op.kind == "read"}
            victims = [op for op in ops if op.kind == "put" and op.outcome == OK and op.value in seen]
            if victims:
                tried += 1
                victim = self.rng.choice(victims)
                self.assertIsNotNone(check_register([op for op in ops if op is not victim]))
        self.assertGreater(tried, 60)

    def test_a_reordered_write_fails(self):
        """A write that moves behind the reads that saw it."""
        tried = 0
        for _ in range(120):
            ops = history(self.rng, 4, 40)
            for op in ops:
                saw = [r.response for r in ops if r.kind == "read" and r.value == op.value]
                if op.kind == "put" and op.outcome == OK and saw:
                    tried += 1
                    op.invoke = min(saw) + 1
                    op.response = max(op.invoke, op.response)
                    self.assertIsNotNone(check_register(ops))
                    break
        self.assertGreater(tried, 60)

    def test_agrees_with_all_orders(self):
        verdicts = {True: 0, False: 0}
        for _ in range(300):
            ops = history(self.rng, self.rng.randint(2, 4), 6, "ppdrrcx")
            for op in ops:  # any answers at all
                if self.rng.random() < 0.15:
                    op.response = op.invoke + self.rng.randint(0, 15)
                if op.kind == "read" and self.rng.random() < 0.3:
                    op.value = self.rng.choice([ABSENT, 1, 2, 3])
                if op.kind == "delete" and self.rng.random() < 0.2:
                    op.found = self.rng.choice([True, False, None])
            expected = is_linearizable(ops)
            verdicts[expected] += 1
            self.assertEqual(check_register(ops) is None, expected, "\n".join(map(repr, ops)))
        self.assertGreater(min(verdicts.values()), 50, verdicts)


class Others(unittest.TestCase):
    def test_positions(self):
        good = [put(1, 0, 1, position="s0:5"), read(1, 2, 3, position="s0:5"), put(2, 4, 5, position="s1:5")]
        self.assertEqual(check_positions(good), [])
        self.assertIn("doubled", str(check_positions(good + [read(1, 6, 7, position="s1:9")])[0]))
        self.assertEqual(check_positions(good + [read(1, 6, 7, position="s1:9")], moved=6), [])
        self.assertIn("too", str(check_positions(good + [put(3, 6, 7, position="s1:5")])[0]))

    def counts(self, low, high, *ops):
        for count in range(-1, len(ops) + 2):
            bad = check_counts(list(ops), [Count(count, 10, 20)])
            self.assertEqual(bad == [], low <= count <= high, "%d: %s" % (count, bad))

    def test_counts(self):
        self.counts(0, 0)
        self.counts(1, 1, put(1, 0, 1))
        self.counts(0, 1, put(1, 0, 12))
        self.counts(0, 1, put(1, 0, 1, outcome=UNKNOWN))
        self.counts(0, 0, put(1, 0, 1, outcome=REFUSED))
        self.counts(0, 0, put(1, 21, 22))
        self.counts(0, 0, put(1, 0, 1), delete(2, 3))
        self.counts(0, 1, put(1, 0, 1), delete(2, 12))
        self.counts(0, 1, put(1, 0, 1), delete(2, 3, outcome=UNKNOWN))
        self.counts(1, 1, put(1, 0, 1), delete(2, 3), put(2, 4, 5))
        self.counts(0, 1, put(1, 0, 4), delete(2, 6))
        self.counts(1, 1, put(1, 0, 1), delete(21, 22))
        self.counts(0, 1, put(1, 0, 1), delete(2, 3, outcome=UNKNOWN), put(2, 4, 5))
        self.counts(1, 2, put(1, 0, 1), Op("put", "other", 2, 11, 12))

    def test_failures(self):
        failure = Failure("GET: 503", 10, 12)
        self.assertEqual(len(check_failures([failure], [])), 1)
        self.assertEqual(len(check_failures([failure], [(0, 9), (13, 20)])), 1)
        for outage in [(0, 10), (11, 11), (12, 30), (0, INFINITY)]:
            self.assertEqual(check_failures([failure], [outage]), [])

    def test_logs(self):
        ops = [put(1, 0, 1, position="s0:1"), put(2, 2, 3, outcome=UNKNOWN), put(3, 4, 5, outcome=REFUSED),
               refusal(1, 6, 7, value=4), delete(8, 9), delete(10, 11, outcome=UNKNOWN)]
        logs = [Record("k", 1, "s0:1"), Record("k", 2, "s0:2"), Record("k", ABSENT, "s0:3")]
        self.assertEqual(check_logs(ops, logs), [])
        self.assertEqual(check_logs(ops, [logs[0], logs[2]]), [])
        self.assertEqual(check_logs(ops, logs + [Record("k", ABSENT, "s0:4")]), [])
        for wrong, records in {"0 times": logs[1:], "2 times": logs + [Record("k", 2, "s1:9")],
                               "1 times": logs + [Record("k", 3, "s0:4")], "4 is in": logs + [Record("k", 4, "s0:4")],
                               "nobody sent": logs + [Record("k", 5, "s0:4")], "0 deletes": logs[:2],
                               "3 deletes": logs + [Record("k", ABSENT, "s0:4"), Record("k", ABSENT, "s0:5")],
                               "in a log at": [Record("k", 1, "s1:1")] + logs[1:],
                               "deletes that nobody": logs + [Record("other", ABSENT, "s0:4")]}.items():
            problems = "\n".join(map(str, check_logs(ops, records)))
            self.assertIn(wrong, problems)


if __name__ == "__main__":
    unittest.main()
