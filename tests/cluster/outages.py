"""Looks after the processes of a cluster: starts again what was killed, continues what was stopped, and notes when each
was away.

A process that a failpoint kills or stops is noticed by a thread, so an outage is noted a little late; and routers need
a moment to find that a process is back. GRACE_NS is added at both ends.
"""
import math
import signal
import threading
import time

GRACE_NS = 1_000_000_000
NOTICED_NS = 1_000_000_000
LOOK_S = 0.004


class Supervisor:
    def __init__(self, cluster):
        self.cluster = cluster
        self.down_s = self.stopped_s = 0.0  # how long what a failpoint killed or stopped stays away
        self.closed = threading.Event()
        self.lock = threading.Lock()  # guards what follows; held while a process is started or stopped
        self.away = []     # [begin, end] by time.monotonic_ns; end is infinite while it lasts
        self.armed = {}    # process -> failpoint that has not acted yet, as far as is known
        self.paused = set()  # stopped by us
        self.crashes = []  # names and exit codes of processes that ended neither by us nor by a failpoint
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def outages(self):
        with self.lock:
            return [(begin - NOTICED_NS, end + GRACE_NS) for begin, end in self.away]

    def is_away(self):
        with self.lock:
            return any(end == math.inf for _, end in self.away)

    def forget(self):
        """What was away is back, and those who were to find that have: no failures are to be excused by it."""
        with self.lock:
            self.away = [outage for outage in self.away if outage[1] == math.inf]

    def begin(self):
        outage = [time.monotonic_ns(), math.inf]
        self.away.append(outage)
        return outage

    def look(self):
        while not self.closed.wait(LOOK_S):
            with self.lock:
                for process in list(self.cluster.processes.values()):
                    if process.process is None:
                        continue
                    if process.process.poll() is not None:
                        self.bring_back(process)
                    elif process in self.armed and process not in self.paused and process.is_stopped():
                        self.armed.pop(process)
                        self.let_go_on(process)

    def bring_back(self, process):
        outage = self.begin()
        if process.process.returncode != -signal.SIGKILL:
            self.crashes.append("%s ended by itself with %d:\n%s" % (process.name, process.process.returncode,
                                                                     process.log_tail()))
        self.armed.pop(process, None)
        time.sleep(self.down_s)
        process.start()
        outage[1] = time.monotonic_ns()

    def let_go_on(self, process):
        """It has stopped at a failpoint; others are looked after meanwhile."""
        outage = self.begin()

        def later():
            time.sleep(self.stopped_s)
            process.send(signal.SIGCONT)
            with self.lock:
                outage[1] = time.monotonic_ns()
        threading.Thread(target=later, daemon=True).start()

    def kill(self, process):
        """By hand, at any time. It is started again by look()."""
        with self.lock:
            if process.is_running():
                outage = self.begin()
                process.kill()
                self.bring_back(process)
                outage[1] = time.monotonic_ns()

    def pause(self, process, duration_s):
        with self.lock:
            outage = self.begin()
            self.paused.add(process)
            process.send(signal.SIGSTOP)
        time.sleep(duration_s)
        with self.lock:
            process.send(signal.SIGCONT)
            self.paused.discard(process)
            outage[1] = time.monotonic_ns()

    def restart(self, process, failpoint=None):
        """Stop it in order and start it again, armed or not."""
        with self.lock:
            outage = self.begin()
            process.stop()
            process.start(failpoint)
            outage[1] = time.monotonic_ns()
            if failpoint is not None:
                self.armed[process] = failpoint

    def disarm(self, process):
        """A failpoint that was not passed must not act in another run."""
        with self.lock:
            waiting = process in self.armed
            self.armed.pop(process, None)
        if waiting:
            self.restart(process)

    def close(self):
        self.closed.set()
        self.thread.join()
