"""Real processes of a cluster on loopback: start, arm with a failpoint, kill, pause, start again, ask.

A process keeps its port and directory for life, so that the shard map stays true when it is started again. Ports are
taken from below the range from which the system gives ports to outgoing connections: nobody takes one while its
process is away.
"""
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("CAIRN_BIN", os.path.join(ROOT, "build/cairn"))
START_DEADLINE_S = 60
STOP_DEADLINE_S = 60
REQUEST_DEADLINE_S = 20
PORTS = range(12000, 32000)


def free_port(taken=set()):
    """A port that nobody listens on. `taken` remembers those given out: it is shared by all calls."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            if port not in taken and probe.connect_ex(("127.0.0.1", port)) != 0:
                taken.add(port)
                return port


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.bytes = status, headers, body

    @property
    def json(self):
        return json.loads(self.bytes)


class Client:
    """Keep-alive connections to some processes, of one thread."""

    def __init__(self):
        self.connections = {}

    def request(self, port, method, path, body=None, headers=None):
        """An Answer. OSError and HTTPException: there was none, and the request may have had its effect."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = dict(headers or {})
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = self.connections.get(port)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_DEADLINE_S)
            self.connections[port] = connection
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException):
            self.drop(port)
            raise

    def drop(self, port):
        connection = self.connections.pop(port, None)
        if connection is not None:
            connection.close()

    def close(self):
        for port in list(self.connections):
            self.drop(port)


class Process:
    """One server. `outages` are the times, by time.monotonic_ns, in which it was killed or paused."""

    def __init__(self, folder, name, flags):
        self.name, self.flags = name, flags
        self.port = free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.folder = os.path.join(folder, name)
        self.data = os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.outages = []
        self.lock = threading.Lock()  # guards process and outages against the thread that looks after it
        os.makedirs(self.folder)

    def command(self):
        data = [] if self.flags[:2] == ["--role", "router"] else ["--data", self.data]
        return [BIN, "serve", *data, "--listen", "127.0.0.1:%d" % self.port, "--advertise", self.url,
                "--port-file", os.path.join(self.folder, "port"), *self.flags]

    def start(self, failpoint=None, wait=True):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CAIRN_")}
        if failpoint is not None:
            environment["CAIRN_FAILPOINT"] = failpoint
        port_file = os.path.join(self.folder, "port")
        if os.path.exists(port_file):
            os.unlink(port_file)
        with open(self.log_path, "ab") as log:
            log.write(b"== start %s\n" % (failpoint or "").encode())
            log.flush()
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=environment)
        if wait:
            self.wait_ready()

    def wait_ready(self):
        deadline = time.monotonic() + START_DEADLINE_S
        while not os.path.exists(os.path.join(self.folder, "port")):
            if self.process.poll() is not None:
                raise AssertionError("%s ended with %s at start:\n%s" % (self.name, self.process.returncode,
                                                                         self.log_tail()))
            if time.monotonic() > deadline:
                raise AssertionError("%s was not ready in %d s:\n%s" % (self.name, START_DEADLINE_S, self.log_tail()))
            time.sleep(0.002)

    def log_tail(self, size=3000):
        with open(self.log_path, "rb") as file:
            return file.read()[-size:].decode("utf-8", "replace")

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def is_stopped(self):
        """Whether it is stopped by a signal, and not ended."""
        try:
            with open("/proc/%d/stat" % self.process.pid, encoding="ascii") as file:
                return file.read().rsplit(")", 1)[1].split()[0] == "T"
        except OSError:
            return False

    def send(self, number):
        if self.is_running():
            self.process.send_signal(number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        return self.process.wait(timeout=STOP_DEADLINE_S)


def wait_for(condition, deadline_s, what):
    """Poll until `condition` returns something true, and return it. `what` may be a function."""
    deadline = time.monotonic() + deadline_s
    pause = 0.002
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError("not within %g s: %s" % (deadline_s, what() if callable(what) else what))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


class Cluster:
    """Shards as processes, or an all-in-one server with shards of its own, and two routers."""

    def __init__(self, folder, flags=()):
        self.folder = folder
        self.flags = list(flags)
        self.processes = {}   # by name: s3, all, r1, r2
        self.client = Client()  # of the thread that directs the cluster

    def start(self, shards, all_in_one=False):
        if all_in_one:
            self.add("all", ["--role", "all", "--shards", str(shards)])
            seeds = ["--shard", "s0=" + self.processes["all"].url]
        else:
            for number in range(shards):
                self.add_shard(number)
            seeds = [word for number in range(shards)
                     for word in ("--shard", "s%d=%s" % (number, self.processes["s%d" % number].url))]
        for name in ("r1", "r2"):
            self.add(name, ["--role", "router", *seeds])
        wait_for(lambda: len(set(self.epochs().values())) == 1, 20, lambda: "one epoch: %s" % self.epochs())

    def add(self, name, flags):
        process = Process(self.folder, name, [*flags, *self.flags])
        self.processes[name] = process
        process.start()
        return process

    def add_shard(self, number):
        return self.add("s%d" % number, ["--role", "shard", "--id", "s%d" % number])

    def of_shard(self, name):
        """The process that has the shard."""
        return self.processes[name] if name in self.processes else self.processes["all"]

    @property
    def routers(self):
        return [self.processes["r1"], self.processes["r2"]]

    def ask(self, method, path, body=None, of="r1", statuses=(200, 201, 202)):
        """The JSON of an answer, or None when it has another status or there is none."""
        try:
            answer = self.client.request(self.processes[of].port, method, path, body)
        except (OSError, http.client.HTTPException):
            return None
        return answer.json if answer.status in statuses else None

    def status(self, of="r1"):
        return self.ask("GET", "/v1/cluster", of=of)

    def epochs(self):
        """What each process takes for the epoch; None: it does not answer."""
        return {name: (self.status(of=name) or {}).get("epoch") for name in self.processes}

    def job(self, of="r1"):
        answer = self.ask("GET", "/v1/cluster/rebalance", of=of)
        return answer and answer["job"]

    def home(self, of="r1"):
        """The shard whose process carries plans out, and None when `of` does not say."""
        homes = [shard["id"] for shard in (self.status(of) or {"shards": []})["shards"] if shard["home"]]
        return homes[0] if homes else None

    def is_planning(self, of="r1"):
        """Whether there is a plan that has not ended; None: not known."""
        answer = self.ask("GET", "/v1/cluster/rebalance", of=of)
        if answer is None:
            return None
        return answer["job"] is not None and answer["job"]["state"] not in ("succeeded", "cancelled")

    def shard(self, name):
        """What the process that has the shard says of it now; others may say what it said a moment ago."""
        of = name if name in self.processes else "all"
        for shard in (self.status(of) or {"shards": []})["shards"]:
            if shard["id"] == name:
                return shard
        return None

    def stop(self):
        self.client.close()
        codes = {}
        for name, process in self.processes.items():
            if process.process is not None:
                codes[name] = process.stop()
        return codes

    def kill(self):
        self.client.close()
        for process in self.processes.values():
            if process.is_running():
                process.kill()

    def log_records(self):
        """Every record of every log as `cairn log dump --json` shows it."""
        for process in self.processes.values():
            if os.path.isdir(process.data):
                text = subprocess.run([BIN, "log", "dump", "--json", process.data], check=True, capture_output=True,
                                      text=True).stdout
                for line in text.splitlines():
                    yield json.loads(line)
