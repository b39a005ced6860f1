"""The load generator: a process of its own that keeps N connections busy and checks every answer.

    python benchmarks/load.py < spec.json          # prints what it saw as JSON

Closed loop: a connection sends its next request when it has the answer to its last. It has to be faster than what it
measures, so a request costs it one receive, one look-up and one send: answers are compared with byte strings that were
already found right for that input, and only bytes never seen before are parsed and compared as numbers.
"""

import gc
import http.client
import json
import pickle
import select
import socket
import sys
import time
from array import array
from dataclasses import dataclass, field
from itertools import cycle
from os import sched_setaffinity, sysconf
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

OK = b"HTTP/1.1 200"
END = b"\r\n\r\n"
POLL_S = 0.05
DRAIN_S = 20.0
SMALL_CHUNK, LARGE_CHUNK = 1 << 12, 1 << 18
"""Bytes received at once: as many as the answers may need, since each receive allocates them."""
KEPT_ANSWERS = 1 << 22
"""Bytes of right answers remembered for one input."""
TICK_S = 1 / sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Workload:
    """Requests for one model and what the bare runtime answers to each.

    Attributes:
        requests: whole HTTP requests, ready to send.
        expected: for each request the output named `output`.
        rtol, atol: an answer is right if |answer - expected| <= atol + rtol * |expected|, as in numpy.allclose.
    """

    requests: list[bytes]
    expected: list[np.ndarray]
    output: str
    rtol: float
    atol: float

    def save(self, path: Path) -> Path:
        path.write_bytes(pickle.dumps((self.requests, self.expected, self.output, self.rtol, self.atol)))
        return path

    @classmethod
    def read(cls, path: Path) -> "Workload":
        return cls(*pickle.loads(path.read_bytes()))

    def fault(self, at: int, head: bytes, body: bytes) -> str | None:
        """What is wrong with an answer, or None."""
        if not head.startswith(OK):
            return f"{head[:40]!r} {body[:300]!r}"
        try:
            shape, values = read_output(head, body, self.output)
        except (ValueError, KeyError, StopIteration) as exc:
            return f"unreadable answer ({exc!r}): {body[:200]!r}"
        expected = self.expected[at]
        if tuple(shape) != expected.shape:
            return f"input {at}: shape {shape} instead of {expected.shape}"
        if not np.allclose(values, expected.reshape(-1), rtol=self.rtol, atol=self.atol):
            worst = np.abs(values - expected.reshape(-1)).max()
            return f"input {at}: off by up to {worst:.3g}"
        return None


def read_output(head: bytes, body: bytes, name: str) -> tuple[list[int], np.ndarray]:
    """Shape and flat values of an output, from JSON or from the binary tensors behind it.

    A name like /answer/label/score is the way to one number in any JSON.
    """
    if name.startswith("/"):
        value = json.loads(body)
        for key in name[1:].split("/"):
            value = value[key]
        return [1], np.asarray([value], "f4")
    length = header(head, b"inference-header-content-length")
    meta = json.loads(body if length is None else body[: int(length)])
    offset = int(length or 0)
    for output in meta["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if output["name"] == name:
            if size is None:
                return output["shape"], np.asarray(output["data"], "f4").reshape(-1)
            return output["shape"], np.frombuffer(body, "<f4", size // 4, offset)
        offset += size or 0
    raise KeyError(name)


def header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


@dataclass
class Seen:
    """What a run saw. Counts are of the measured window, except wrong answers and losses: those count always."""

    answers: int = 0
    checked: int = 0
    wrong: int = 0
    lost: int = 0
    first_fault: str = ""
    seconds: float = 0.0
    own_cpu_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    probes: list[dict[str, str]] = field(default_factory=list)


class Generator:
    """N connections to one port."""

    def __init__(self, workload: Workload, port: int, connections: int, seed: int) -> None:
        self._workload = workload
        self._port = port
        self.seen = Seen()
        self.latencies = array("d")
        order = list(range(len(workload.requests)))
        Random(seed).shuffle(order)
        self._order = cycle(order)
        self._known: list[set[bytes]] = [set() for _ in order]
        self._known_bytes = [0] * len(order)
        largest = max(each.nbytes for each in workload.expected)
        self._chunk = SMALL_CHUNK if largest < SMALL_CHUNK // 8 else LARGE_CHUNK
        # The mutable state, by descriptor: its socket, the input it asked about, when, and what is on its way.
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._asked: dict[int, int] = {}
        self._sent: dict[int, float] = {}
        self._partial: dict[int, bytearray] = {}
        self._rest: dict[int, memoryview] = {}
        for _ in range(connections):
            self._connect()

    def _connect(self) -> None:
        each = socket.create_connection(("127.0.0.1", self._port))
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        each.setblocking(False)
        self._sockets[each.fileno()] = each
        self._poll.register(each.fileno(), select.EPOLLIN)

    def begin(self) -> None:
        """Each connection's first request."""
        for fd in list(self._sockets):
            self._ask(fd, time.perf_counter())

    def pump(self, until: float, *, is_draining: bool = False) -> None:
        """Take answers, and ask again unless draining, until then. What a request costs is this loop."""
        poll, clock, known = self._poll.poll, time.perf_counter, self._known
        asked, partial, sent, latencies = self._asked, self._partial, self._sent, self.latencies
        receive = {fd: each.recv for fd, each in self._sockets.items()}
        while clock() < until and (asked if is_draining else self._sockets):
            for fd, events in poll(POLL_S):
                if events != select.EPOLLIN and not self._flush(fd, events):
                    continue
                try:
                    data = receive[fd](self._chunk)
                except OSError:
                    data = b""
                # The body of a right answer, whole; anything else takes the long way.
                is_known = fd not in partial and data[data.find(END) + 4 :] in known[asked[fd]]
                if not (is_known and data.startswith(OK)) and not self._take(fd, data):
                    continue
                now = clock()
                latencies.append(now - sent[fd])
                if is_draining:
                    del asked[fd]
                else:
                    self._ask(fd, now)

    def _ask(self, fd: int, now: float) -> None:
        at = self._asked[fd] = next(self._order)
        self._sent[fd] = now
        request = self._workload.requests[at]
        try:
            written = self._sockets[fd].send(request)
        except OSError as exc:
            self._lose(fd, repr(exc))
            return
        if written < len(request):
            self._rest[fd] = memoryview(request)[written:]
            self._poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, fd: int, events: int) -> bool:
        """Write what is left of a large request; whether there is something to read as well."""
        if events & select.EPOLLOUT and (rest := self._rest.pop(fd, None)) is not None:
            try:
                rest = rest[self._sockets[fd].send(rest) :]
            except OSError as exc:
                self._lose(fd, repr(exc))
                return False
            if rest:
                self._rest[fd] = rest
            else:
                self._poll.modify(fd, select.EPOLLIN)
        return bool(events & ~select.EPOLLOUT)

    def _take(self, fd: int, data: bytes) -> bool:
        """A piece of an answer, or one not seen before. True when it is whole; it has been checked then."""
        if not data:
            self._lose(fd, "the server closed the connection")
            return False
        pieces = self._partial.setdefault(fd, bytearray())
        pieces += data
        end = pieces.find(END)
        if end < 0:
            return False
        head = bytes(pieces[:end])
        size = int(header(head, b"content-length") or -1)
        if size < 0:
            self._lose(fd, f"an answer without content-length: {head[:200]!r}")
            return False
        if len(pieces) < end + 4 + size:
            return False
        del self._partial[fd]
        self._check(self._asked[fd], head, bytes(pieces[end + 4 :]))
        return True

    def _check(self, at: int, head: bytes, body: bytes) -> None:
        if body in self._known[at] and head.startswith(OK):
            return
        self.seen.checked += 1
        if (fault := self._workload.fault(at, head, body)) is not None:
            self.seen.wrong += 1
            self.seen.first_fault = self.seen.first_fault or fault
        elif self._known_bytes[at] + len(body) <= KEPT_ANSWERS:
            self._known[at].add(body)
            self._known_bytes[at] += len(body)

    def _lose(self, fd: int, why: str) -> None:
        self.seen.lost += 1
        self.seen.first_fault = self.seen.first_fault or why
        self._poll.unregister(fd)
        self._sockets.pop(fd).close()
        for state in (self._asked, self._partial, self._rest):
            state.pop(fd, None)

    @property
    def unanswered(self) -> int:
        return len(self._asked)


def cpu_seconds(pid: int, *, of_ended: bool = False) -> float:
    """User and system time of all threads of a process, or of its children that have ended; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    user, system = fields[13:15] if of_ended else fields[11:13]
    return (int(user) + int(system)) * TICK_S


def fetch(port: int, paths: list[str]) -> dict[str, str]:
    """GET each path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    found = {}
    for path in paths:
        connection.request("GET", path)
        found[path] = connection.getresponse().read().decode()
    connection.close()
    return found


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def run(spec: dict[str, Any]) -> Seen:
    """Warm up, measure, drain."""
    if spec["core"] is not None:
        sched_setaffinity(0, {spec["core"]})
    workload = Workload.read(Path(spec["workload"]))
    generator = Generator(workload, spec["port"], spec["connections"], spec["seed"])
    seen, groups, paths = generator.seen, spec["pids"], spec["probes"]
    gc.disable()
    generator.begin()
    generator.pump(time.perf_counter() + spec["warm_s"])
    before = {name: sum(map(cpu_seconds, pids)) for name, pids in groups.items()}
    if paths:
        seen.probes.append(fetch(spec["port"], paths))
    del generator.latencies[:]
    started, own = time.perf_counter(), time.process_time()
    generator.pump(started + spec["seconds"])
    seen.own_cpu_s = time.process_time() - own
    seen.seconds = time.perf_counter() - started
    seen.answers = len(generator.latencies)
    if paths:
        seen.probes.append(fetch(spec["port"], paths))
    seen.cpu_s = {name: sum(map(cpu_seconds, pids)) - before[name] for name, pids in groups.items()}
    ordered = sorted(generator.latencies)
    seen.p50_ms, seen.p99_ms = (1e3 * percentile(ordered, share) for share in (0.5, 0.99))
    generator.pump(time.perf_counter() + DRAIN_S, is_draining=True)
    if generator.unanswered:
        seen.lost += generator.unanswered
        seen.first_fault = seen.first_fault or f"{generator.unanswered} requests had no answer"
    return seen


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)).__dict__, sys.stdout)
