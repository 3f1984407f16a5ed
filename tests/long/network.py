"""A network of our own: one namespace per host, joined by a bridge in one more, with links that can be slowed, made
lossy and cut. Nothing of it can be reached from outside, and the machine's own interfaces are not touched.

Each link is two TAP devices with a thread between them, since not every kernel has the netem discipline:

    host's namespace                        the hub's namespace
    eth0 (TAP) <-> [ Wire: delay, loss ] <-> TAP - bridge - 10.77.0.1: this process

TAP devices hand over frames with their checksums made and no longer than the MTU. Needs root and /dev/net/tun."""
import ctypes
import fcntl
import heapq
import os
import random
import selectors
import struct
import subprocess
import threading
import time

TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
CLONE_NEWNET = 0x40000000
FRAME_BYTES_MAX = 65536
# A queue that a host sends into faster than the link's delay lets out drops, like any queue.
FRAMES_WAITING_MAX = 20000
HOSTS_MAX = 36
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError("%s: %s" % (" ".join(words), done.stderr.strip()))


def open_tap(name):
    """A TAP device in this thread's namespace. It is gone when the descriptor is closed."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def enter(namespace):
    """Move this thread, and those it starts from now on, into a named namespace."""
    with open("/run/netns/" + namespace, "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns " + namespace)


class Link:
    """What a host is joined by. `delay_s` and `loss` (0 to 1) hold for each direction and may be set at any time."""

    def __init__(self, host_end, hub_end, hub_device):
        self.ends = {host_end: hub_end, hub_end: host_end}
        self.hub_device = hub_device
        self.delay_s = 0.0
        self.loss = 0.0


class Wires:
    """The thread that carries the frames of all links."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.links = {}
        self.waiting = []
        self.sent = 0
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self.wake_read, selectors.EVENT_READ)
        self.stopping = False
        self.lock = threading.Lock()  # guards links and the selector
        self.thread = threading.Thread(target=self.carry, name="wires", daemon=True)
        self.thread.start()

    def add(self, link):
        with self.lock:
            for end in link.ends:
                self.links[end] = link
                self.selector.register(end, selectors.EVENT_READ)
        os.write(self.wake_write, b"w")

    def remove(self, link):
        with self.lock:
            for end in link.ends:
                self.selector.unregister(end)
                del self.links[end]
        for end in link.ends:
            os.close(end)

    def close(self):
        self.stopping = True
        os.write(self.wake_write, b"w")
        self.thread.join()
        for link in set(self.links.values()):
            self.remove(link)
        self.selector.close()
        os.close(self.wake_read)
        os.close(self.wake_write)

    def carry(self):
        while not self.stopping:
            timeout = max(0.0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            ready = [key.fd for key, _ in self.selector.select(timeout)]
            with self.lock:
                for end in ready:
                    if end == self.wake_read:
                        os.read(end, 4096)
                    elif end in self.links:
                        self.take(end)
                now = time.monotonic()
                while self.waiting and self.waiting[0][0] <= now:
                    _, _, end, frame = heapq.heappop(self.waiting)
                    self.give(end, frame)

    def take(self, end):
        """Read what an end has, at most 64 frames, so that no link starves another."""
        link = self.links[end]
        for _ in range(64):
            try:
                frame = os.read(end, FRAME_BYTES_MAX)
            except OSError:  # nothing more, or the device is down
                return
            if link.loss and self.random.random() < link.loss:
                continue
            if not link.delay_s:
                self.give(link.ends[end], frame)
            elif len(self.waiting) < FRAMES_WAITING_MAX:
                self.sent += 1
                heapq.heappush(self.waiting, (time.monotonic() + link.delay_s, self.sent, link.ends[end], frame))

    def give(self, end, frame):
        if end in self.links:
            try:
                os.write(end, frame)
            except OSError:
                pass  # the device is down: the frame is lost, as on a cut cable


class Host:
    def __init__(self, name, namespace, address, link):
        self.name = name
        self.namespace = namespace
        self.address = address
        self.link = link


class Network:
    """`with Network(seed) as network:` this thread is in the hub's namespace inside, and everything is gone after."""

    def __init__(self, seed):
        self.prefix = "cairn-%d-" % os.getpid()
        self.hub = self.prefix + "hub"
        self.bridge = self.prefix + "b"
        self.hosts = {}
        self.names = []
        self.made = 0
        self.wires = None
        self.seed = seed
        self.home = None

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            run("ip", "netns", "add", self.hub)
            enter(self.hub)
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "addr", "add", "10.77.0.1/24", "dev", self.bridge)
            run("ip", "link", "set", self.bridge, "up")
            self.wires = Wires(self.seed)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in list(self.hosts):
            self.remove(name)
        if self.wires is not None:
            self.wires.close()
        ctypes.CDLL(None, use_errno=True).setns(self.home, CLONE_NEWNET)
        os.close(self.home)
        if os.path.exists("/run/netns/" + self.hub):
            run("ip", "netns", "del", self.hub)

    def add(self, name):
        """A host; its namespace has this name behind the prefix."""
        if self.made == HOSTS_MAX:
            raise ValueError("no more than %d hosts" % HOSTS_MAX)
        device = self.prefix + DIGITS[self.made]
        address = "10.77.0.%d" % (10 + self.made)
        namespace = self.prefix + name
        self.made += 1
        run("ip", "netns", "add", namespace)
        host_end = open_tap(device)
        run("ip", "link", "set", device, "netns", namespace, "name", "eth0")
        hub_end = open_tap(device)
        link = Link(host_end, hub_end, device)
        self.hosts[name] = Host(name, namespace, address, link)
        self.wires.add(link)
        run("ip", "link", "set", device, "master", self.bridge, "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", namespace, "addr", "add", address + "/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        return self.hosts[name]

    def remove(self, name):
        host = self.hosts.pop(name)
        self.wires.remove(host.link)
        folder = "/etc/netns/" + host.namespace
        if os.path.isdir(folder):
            os.unlink(folder + "/hosts")
            os.rmdir(folder)
            if not os.listdir("/etc/netns"):
                os.rmdir("/etc/netns")
        run("ip", "netns", "del", host.namespace)

    def write_hosts(self, names):
        """Tell every host these names: [(address, name)]. A process that runs sees what is added, since `ip netns exec`
        mounts the file and the file stays the same one. Names stay: while a file is made anew a look-up would fail."""
        new = [pair for pair in names if pair not in self.names]
        self.names += new
        for host in self.hosts.values():
            path = "/etc/netns/%s/hosts" % host.namespace
            known = os.path.exists(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            text = "" if known else "127.0.0.1 localhost\n"
            text += "".join("%s %s\n" % pair for pair in (new if known else self.names))
            with open(path, "a", encoding="ascii") as file:
                file.write(text)

    @staticmethod
    def cut(host):
        run("ip", "link", "set", host.link.hub_device, "down")

    @staticmethod
    def mend(host):
        run("ip", "link", "set", host.link.hub_device, "up")

    @staticmethod
    def command(host, argv):
        """`ip` becomes the program itself: no process stands between."""
        return ["ip", "netns", "exec", host.namespace, *argv]
