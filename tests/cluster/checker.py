"""Decides whether a history of operations on keys is one that registers could have had.

Every key is a register: absent at first, set by puts of numbers that are never used twice, made absent by deletes. An
operation takes effect at one moment between its invocation and its response; one whose outcome is unknown may take
effect at any moment after its invocation, or never. A history is linearizable when such moments can be chosen so that
every answer is right (Herlihy, Wing, TOPLAS 1990). Keys are independent of each other, so each is decided alone, by
just-in-time linearization (Lowe, Testing for linearizability, 2017): operations are gone through in the order of time
with the set of all states that the register may be in, and a response keeps those in which the operation has happened.

What is seen of rows, of their vectors and of the index are views of one register. Each must be linearizable with all
writes, but a write that nobody has acknowledged yet may be in one and not in another.

Times are of one monotonic clock.
"""
import math

OK = "ok"            # acknowledged
REFUSED = "refused"  # certainly without effect
UNKNOWN = "unknown"  # no answer, or one that says nothing of the effect
ABSENT = None        # the value of a key that is not there
ANY = object()       # a put without a precondition
ROWS, VECTORS, INDEX = "rows", "vectors", "index"
CONFIGURATIONS_MAX = 200000


class Op:
    """One operation on one key; a scroll or a search is one read of every key."""

    __slots__ = ("client", "kind", "key", "value", "invoke", "response", "outcome", "expect", "found", "position",
                 "view", "note")

    def __init__(self, kind, key, value=ABSENT, invoke=0, response=0, outcome=OK, client=0, expect=ANY, found=None,
                 position=None, view=ROWS, note=""):
        self.client = client
        self.kind = kind          # put, delete, read; see also `refusal`
        self.key = key
        self.value = value        # put: written; read: seen
        self.invoke, self.response = invoke, response
        self.outcome = outcome
        self.expect = expect      # put: the value that must be there (compare and set); ABSENT: none may be
        self.found = found        # delete: whether it said that there was something; None: it did not say
        self.position = position  # put: acknowledged as; read: of what was seen; "s0:17"
        self.view = view
        self.note = note

    def __repr__(self):
        parts = ["%-7s" % self.kind, "-" if self.value is ABSENT else str(self.value)]
        if self.expect is not ANY:
            parts.append("if %s" % ("absent" if self.expect is ABSENT else self.expect))
        if self.found is not None:
            parts.append("found" if self.found else "found nothing")
        if self.position:
            parts.append("at " + self.position)
        return "[%10.3f .. %10.3f ms] c%-2s %s -> %s %s" % (
            self.invoke / 1e6, self.response / 1e6, self.client, " ".join(parts), self.outcome, self.note)


class Undecided(Exception):
    """More configurations than there is memory for: neither right nor wrong."""


def step(op, state):
    """The state after `op`, or False when it cannot happen in `state`. (No value is False.)"""
    if op.kind == "put":
        return op.value if op.expect is ANY or op.expect == state else False
    if op.kind == "delete":
        return ABSENT if op.found is None or op.found == (state is not ABSENT) else False
    if op.kind == "refusal":  # of a compare and set: what it expected was not there
        return state if op.expect != state else False
    return state if op.value == state else False


def is_write(op):
    return op.kind in ("put", "delete")


class Register:
    """The configurations that one key may be in: (state, mask of open operations that have happened)."""

    def __init__(self, ops):
        self.ops = ops
        self.open = []
        self.configurations = {(ABSENT, 0)}

    def settle(self, state, mask):
        """Let all open reads that fit happen: that never rules anything out."""
        for i in self.open:
            if not mask >> i & 1 and not is_write(self.ops[i]) and step(self.ops[i], state) is not False:
                mask |= 1 << i
        return state, mask

    def invoke(self, i):
        self.open.append(i)

    def respond(self, i):
        """Keep the configurations in which operation i has happened. False: there are none."""
        kept = set()
        todo = [self.settle(*configuration) for configuration in self.configurations]
        seen = set(todo)
        while todo:
            state, mask = todo.pop()
            if mask >> i & 1:
                kept.add((state, mask & ~(1 << i)))
                continue
            for j in self.open:
                after = False if mask >> j & 1 else step(self.ops[j], state)
                if after is False:
                    continue
                found = self.settle(after, mask | 1 << j)
                if found not in seen:
                    seen.add(found)
                    todo.append(found)
            if len(seen) > CONFIGURATIONS_MAX:
                raise Undecided("key %s: more than %d configurations" % (self.ops[i].key, CONFIGURATIONS_MAX))
        self.open.remove(i)
        self.configurations = kept
        return bool(kept)


def is_idle(op, ops):
    """An unknown write that nothing shows the effect of: it is as well to say that it never happened."""
    if op.outcome != UNKNOWN:
        return False
    if op.kind == "delete":
        return not any(o.response >= op.invoke and (
            o.kind == "read" and o.value is ABSENT or o.kind == "delete" and o.found is False or
            o.kind == "put" and o.expect is ABSENT or o.kind == "refusal") for o in ops)
    return not any(o.response >= op.invoke and (
        o.kind == "read" and o.value == op.value or o.kind == "delete" and o.found is True or
        o.kind == "put" and o.expect == op.value or o.kind == "refusal") for o in ops)


def check_register(ops):
    """None, or the first operation (by response) whose answer cannot be right, with all before it."""
    ops = [op for op in ops if op.outcome == OK or op.outcome == UNKNOWN and is_write(op)]
    ops = [op for op in ops if not is_idle(op, ops)]
    events = []
    for i, op in enumerate(ops):
        events.append((op.invoke, 0, i))
        if op.outcome == OK:
            events.append((op.response, 1, i))
    register = Register(ops)
    for _, is_response, i in sorted(events):
        if not is_response:
            register.invoke(i)
        elif not register.respond(i):
            return ops[i]
    return None


def explain(op, ops):
    """What is wrong with the answer of `op`, in one line, as far as it is one of the plain cases."""
    writes = [o for o in ops if is_write(o) and o.outcome != REFUSED]
    acknowledged = [o for o in writes if o.outcome == OK and o.response < op.invoke]
    if op.kind != "read":
        return "no order of the operations allows this answer"
    if op.value is ABSENT:
        return "lost write: nothing was seen" if any(o.kind == "put" for o in acknowledged) else "nothing was seen"
    writer = [o for o in writes if o.kind == "put" and o.value == op.value]
    if not writer:
        return "%s was never written to this key, or refused" % op.value
    if writer[0].invoke > op.response:
        return "%s was seen before it was sent" % op.value
    if any(o.invoke > writer[0].response for o in acknowledged):
        return "stale read: %s had been overwritten" % op.value
    return "no order of the operations allows this answer"


class Problem:
    def __init__(self, what, key=None, op=None, ops=()):
        self.what, self.key, self.op, self.ops = what, key, op, ops

    def __str__(self):
        if self.key is None:
            return self.what
        lines = ["key %s: %s" % (self.key, self.what)]
        for op in sorted(self.ops, key=lambda o: o.invoke):
            lines.append("    %s %r" % (">>" if op is self.op else "  ", op))
        return "\n".join(lines)


def by_key(ops):
    keys = {}
    for op in ops:
        keys.setdefault(op.key, []).append(op)
    return keys


def check_registers(ops):
    problems = []
    for key, of_key in by_key(ops).items():
        for view in (ROWS, VECTORS, INDEX):
            seen = [op for op in of_key if is_write(op) or op.view == view]
            wrong = check_register(seen)
            if wrong is not None:
                problems.append(Problem(explain(wrong, seen) + " (%s)" % view, key, wrong, seen))
                break
    return problems


def check_positions(ops, moved=math.inf):
    """A position has one value, and a value one position until keys began to move: else a write was done twice.
    A key that has moved is at the position at which its new shard's log has it."""
    problems, of_value, of_position = [], {}, {}
    for op in ops:
        if op.position is None or op.value is ABSENT or op.outcome != OK:
            continue
        first = of_value.setdefault((op.key, op.value), op)
        if first.position != op.position and first.response < moved and op.response < moved:
            problems.append(Problem("doubled write: %s is at %s and at %s" % (op.value, first.position, op.position),
                                    op.key, op, [first, op]))
        first = of_position.setdefault(op.position, op)
        if (first.key, first.value) != (op.key, op.value):
            problems.append(Problem("%s is the position of %s of key %s too" % (op.position, first.value, first.key),
                                    op.key, op, [first, op]))
    return problems


class Count:
    """What a count answered."""

    __slots__ = ("invoke", "response", "count", "client")

    def __init__(self, count, invoke, response, client=0):
        self.count, self.invoke, self.response, self.client = count, invoke, response, client


def is_surely_present(ops, invoke, response):
    """There is an acknowledged put that no delete can have followed before `response`."""
    deletes = [o for o in ops if o.kind == "delete" and o.outcome != REFUSED]
    return any(p.kind == "put" and p.outcome == OK and p.response <= invoke and all(
        d.invoke > response or d.outcome == OK and d.response < p.invoke for d in deletes) for p in ops)


def is_maybe_present(ops, invoke, response):
    """There is a put that was sent, and no acknowledged delete that surely followed before `invoke`."""
    deletes = [o for o in ops if o.kind == "delete" and o.outcome == OK and o.response <= invoke]
    return any(p.kind == "put" and p.outcome != REFUSED and p.invoke <= response and not any(
        d.invoke >= (p.response if p.outcome == OK else math.inf) for d in deletes) for p in ops)


def check_counts(ops, counts):
    problems = []
    keys = {key: [op for op in of_key if is_write(op)] for key, of_key in by_key(ops).items()}
    for count in counts:
        low = sum(is_surely_present(of_key, count.invoke, count.response) for of_key in keys.values())
        high = sum(is_maybe_present(of_key, count.invoke, count.response) for of_key in keys.values())
        if not low <= count.count <= high:
            problems.append(Problem("a count by c%s at %.3f ms answered %d; %d to %d entities were there" % (
                count.client, count.invoke / 1e6, count.count, low, high)))
    return problems


class Failure:
    """An answer that a healthy cluster does not give."""

    __slots__ = ("invoke", "response", "what")

    def __init__(self, what, invoke, response):
        self.what, self.invoke, self.response = what, invoke, response


def check_failures(failures, outages):
    """Failures are allowed only while a process is away. `outages` are pairs of times."""
    return [Problem("%s at %.3f ms, while every process was up" % (f.what, f.invoke / 1e6)) for f in failures
            if not any(f.invoke <= end and f.response >= begin for begin, end in outages)]


class Record:
    """A write as a log has it: its first appearance, not a copy made by a move."""

    __slots__ = ("key", "value", "position")

    def __init__(self, key, value, position):
        self.key, self.value, self.position = key, value, position


def check_logs(ops, records):
    """All logs together have every acknowledged write once, an unknown one at most once, a refused one never."""
    problems, puts, deletes = [], {}, {}
    for record in records:
        if record.value is ABSENT:
            deletes[record.key] = deletes.get(record.key, 0) + 1
        else:
            puts.setdefault((record.key, record.value), []).append(record.position)
    for op in ops:
        if op.kind != "put" and op.kind != "refusal":
            continue
        found = puts.pop((op.key, op.value), [])
        allowed = {OK: (1,), UNKNOWN: (0, 1), REFUSED: (0,)}[REFUSED if op.kind == "refusal" else op.outcome]
        if len(found) not in allowed:
            problems.append(Problem("%s is in the logs %d times: %s" % (op.value, len(found), ", ".join(found)),
                                    op.key, op, [op]))
        elif found and op.position is not None and found != [op.position]:
            problems.append(Problem("%s is in a log at %s" % (op.value, found[0]), op.key, op, [op]))
    for (key, value), found in puts.items():
        problems.append(Problem("the logs have %s at %s, which nobody sent" % (value, ", ".join(found)), key))
    for key, of_key in by_key(ops).items():
        sent = [op for op in of_key if op.kind == "delete" and op.outcome != REFUSED]
        sure, had = sum(op.outcome == OK for op in sent), deletes.pop(key, 0)
        if not sure <= had <= len(sent):
            problems.append(Problem("the logs have %d deletes; %d were acknowledged and %d sent" % (
                had, sure, len(sent)), key, None, sent))
    return problems + [Problem("the logs have deletes that nobody sent", key) for key in deletes]
