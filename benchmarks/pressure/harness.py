"""What the rows share: cores, open-loop runs against one server, and what is read of each."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os import sched_getaffinity, sched_setaffinity
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import servers
from bench import Bench, middle, spread
from load import cpu_seconds
from report import Target
from servers import Launch, Server

from headrace.loadtest import schedules
from headrace.loadtest.analysis import Analysis, Summary, analyse
from headrace.loadtest.plan import Caller
from headrace.loadtest.record import Record
from headrace.loadtest.sender import ClosedLoop, SharedCore, send, send_closed
from headrace.loadtest.sender import Target as Address

WARM_S = 1.0
"""At the beginning of each run, sent and not counted: queues fill, batches find their size."""
REFUSED = (429, 503)
LADDER = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
QUICK_LADDER = (0.7, 0.85, 1.0)
LADDER_S = 2.0
MORE, QUICK_MORE, HIGHER, LOWER = 6, 2, 1.25, 1.5
"""Steps beyond the ladder, and how much further each is."""
NEARLY_ALL = 0.95
"""A server of whose calls so many are good is not saturated."""
SETTLE_S = 10.0

APART, FRONT, SPREAD = ARRANGEMENTS = ("apart", "front", "spread")
"""All of a server apart from the generator; the process that speaks HTTP apart from those that compute as well; no rule."""

Crowd = list[tuple[Caller, list[bytes]]]
"""Who calls, and with which HTTP requests."""


@dataclass(frozen=True)
class Subject:
    """A server and who calls it."""

    launch: Launch
    crowd: Crowd

    @property
    def name(self) -> str:
        return self.launch.name


Curve = dict[int, float]
"""l(b): rows → seconds."""


class Peak(NamedTuple):
    """Where a server saturates: the rate at which it answers most in time, and how much that is."""

    rate: float
    goodput: float


@dataclass
class Play:
    """One run against one server. `cpu`: cores that all of the server's processes used."""

    server: str
    record: Record
    cpu: float

    @cached_property
    def found(self) -> Analysis:
        return analyse(self.record)

    @property
    def whole(self) -> Summary:
        return self.found.whole

    @property
    def is_void(self) -> bool:
        return self.found.void is not None

    def of(self, caller: str) -> Summary:
        return next(each for each in self.found.callers if each.name == caller)

    @property
    def refusal_p99_ms(self) -> float:
        """Of answers that said no; those whose deadline passed while they waited (504) are not refusals. nan of none."""
        record = self.record
        refused = np.isin(record.status, REFUSED)
        if not refused.any():
            return float("nan")
        return 1e3 * float(np.percentile(record.ended[refused] - record.scheduled[refused], 99))

    def __str__(self) -> str:
        whole = self.whole
        text = f"{whole.offered:,.0f}/s offered, {whole.goodput:,.0f}/s good, p99 {1e3 * whole.latency.p99:.1f} ms"
        return f"{self.server}: {text}{f'; VOID: {self.found.void}' if self.is_void else ''}"

    def raw(self) -> dict[str, Any]:
        """For the JSON report."""
        return {"server": self.server, "cpu": self.cpu, **asdict(self.found)}


@dataclass
class Pressure(Bench):
    """One run of these benchmarks.

    Attributes:
        where: which cores servers have, one of ARRANGEMENTS; the generator has the last.
        peaks: server → its saturation, where a row has found it.
        curves: model → l(b) as headrace measured it before there was any load.
    """

    where: str = FRONT
    peaks: dict[str, Peak] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        return 1 if self.is_quick else 3

    @property
    def sender_core(self) -> int | SharedCore | None:
        """The generator's; if somebody else has work there, it must not wait awake."""
        is_shared = self.where == SPREAD or (self.where == FRONT and self.front == self.core)
        return SharedCore(self.core) if is_shared and self.core is not None else self.core

    @property
    def server_cores(self) -> set[int] | None:
        """Where a server starts, measures and computes; None: wherever it likes."""
        everything = sched_getaffinity(0)
        if self.where == SPREAD or self.core is None:
            return None
        left = everything - {self.core}
        return left - {self.front} or left

    @property
    def front(self) -> int | None:
        """The core of the process that speaks HTTP, where it has one apart: the generator's if there are but two."""
        if self.where != FRONT or self.core is None:
            return None
        left = sorted(sched_getaffinity(0) - {self.core})
        return left[-1] if len(left) > 1 else self.core

    @property
    def profiles(self) -> Path:
        """Apart from other benchmarks': what was measured on other cores does not hold here."""
        return self.folder / "pressure" / f"profiles-{self.where}"

    @property
    def pinning(self) -> str:
        """For the report."""
        if self.core is None:
            return "There is one core for everything."
        generator = f"The load generator is pinned to core {self.core}"
        if self.server_cores is None:
            return f"{generator}; servers may use every core."
        if self.front is None:
            return f"{generator}, all processes of the server to {named(self.server_cores)}."
        return f"""{generator}, the server's process that speaks HTTP to core {self.front}, all its others to \
{named(self.server_cores)}."""

    @contextmanager
    def serving(self, subject: Subject) -> Iterator[Server]:
        """The server until the block ends, on its cores."""
        first = subject.crowd[0][1][0]
        with servers.running(subject.launch, first, self.logs, self.server_cores) as server:
            if self.front is not None:
                for pid in server.pids()["gateway"]:
                    move(pid, self.front)
            yield server

    def poisson(self, server: Server, crowd: Crowd, rate: float, seconds: float, seed: int) -> Play:
        """Independent callers, by their parts, at this rate in all for so many counted seconds."""
        warm_s = self.seconds(WARM_S)
        arrivals = schedules.poisson(rate, warm_s + seconds, seed)
        return self.play(server, arrivals, crowd, warm_s + seconds, seed, warm_s=warm_s)

    def saturated(self, server: Server, crowd: Crowd, connections: int, seconds: float, seed: int) -> Play:
        """So many connections that each ask again when they have their answer, shared by the callers' parts."""
        callers, requests = [who for who, _ in crowd], [what for _, what in crowd]
        settle(server, requests[0][0])
        before = sum(map(cpu_seconds, server.pids()["all"]))
        warm_s = self.seconds(WARM_S)
        loop = ClosedLoop(connections, warm_s + seconds, seed)
        address = Address("127.0.0.1", server.port)
        record = send_closed(address, loop, callers, requests, core=self.sender_core)
        cpu_s = sum(map(cpu_seconds, server.pids()["all"])) - before
        return self._played(server, record, cpu_s / (warm_s + seconds), warm_s)

    def _played(self, server: Server, record: Record, cpu: float, warm_s: float) -> Play:
        play = Play(server.name, counted(record, warm_s), cpu)
        self.answers += int((record.status > 0).sum())
        self.say(str(play))
        return play

    def play(
        self,
        server: Server,
        arrivals: np.ndarray,
        crowd: Crowd,
        seconds: float,
        seed: int,
        *,
        warm_s: float,
    ) -> Play:
        """Send calls at these times, whatever becomes of them; those before `warm_s` are not counted."""
        callers, requests = [who for who, _ in crowd], [what for _, what in crowd]
        keys = schedules.keys_uniform(len(arrivals), max(map(len, requests)), seed)
        whose = schedules.assign_callers(len(arrivals), callers, seed)
        schedule = schedules.make(arrivals, keys, whose, seconds)
        settle(server, requests[0][0])
        before = sum(map(cpu_seconds, server.pids()["all"]))
        address = Address("127.0.0.1", server.port)
        record = send(address, schedule, callers, requests, core=self.sender_core)
        cpu_s = sum(map(cpu_seconds, server.pids()["all"])) - before
        return self._played(server, record, cpu_s / seconds, warm_s)

    def saturation(self, subject: Subject, around: float) -> Peak:
        """The highest goodput on a ladder of rates around one, and its rate; found once for a server."""
        if subject.name not in self.peaks:
            self.say(f"{subject.name}: where does it saturate?")
            seconds = self.seconds(LADDER_S)
            with self.serving(subject) as server:

                def goodput(rate: float) -> float:
                    whole = self.poisson(server, subject.crowd, rate, seconds, seed=round(rate)).whole
                    return rate * whole.goodput / max(1.0, whole.offered)  # without what Poisson's dice add

                steps, more = (QUICK_LADDER, QUICK_MORE) if self.is_quick else (LADDER, MORE)
                self.peaks[subject.name] = climb(goodput, [step * around for step in steps], more)
        return self.peaks[subject.name]


def climb(goodput: Callable[[float], float], rates: list[float], more: int) -> Peak:
    """The highest of the ladder's steps; so many further ones are tried where it may lie beyond them."""
    found = [Peak(rate, goodput(rate)) for rate in rates]
    for _ in range(more):
        found.sort()
        first, last, best = found[0], found[-1], max(found, key=lambda peak: peak.goodput)
        if best is last or last.goodput >= NEARLY_ALL * last.rate:
            rate = HIGHER * last.rate
        elif best is first and first.goodput < NEARLY_ALL * first.rate:
            rate = first.rate / LOWER
        else:
            break
        found.append(Peak(rate, goodput(rate)))
    return max(found, key=lambda peak: peak.goodput)


def settle(server: Server, request: bytes) -> None:
    """Until a request is answered: what a run before left in its queues is none of this one's."""
    ends = time.perf_counter() + SETTLE_S
    while not servers.is_answered(server.port, request) and time.perf_counter() < ends:
        time.sleep(0.05)


def counted(record: Record, warm_s: float) -> Record:
    """Without the attempts that were scheduled before then; times are from then on."""
    kept = record.scheduled >= warm_s
    names = ("scheduled", "sent", "ended", "status", "callers", "keys", "attempt")
    arrays = {name: getattr(record, name)[kept] for name in names}
    for name in ("scheduled", "sent", "ended"):
        arrays[name] = arrays[name] - warm_s
    return replace(record, **arrays, seconds=record.seconds - warm_s)


def move(pid: int, core: int) -> None:
    """All threads of a process to a core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        sched_setaffinity(int(thread.name), {core})


def named(cores: set[int]) -> str:
    return f"core{'s' if len(cores) > 1 else ''} {', '.join(map(str, sorted(cores)))}"


def at_least(text: str, values: list[float], least: float, plays: list[Play], unit: str = "") -> Target:
    """Whether the median reaches it; not judged where a run is void, or there is no value."""
    return judged(text, middle(values) >= least if values else None, f"{spread(values)}{unit}", plays)


def at_most(text: str, values: list[float], most: float, plays: list[Play], unit: str = "") -> Target:
    """Whether the median stays below it; not judged where a run is void, or there is no value."""
    return judged(text, middle(values) <= most if values else None, f"{spread(values)}{unit}", plays)


def judged(text: str, reached: bool | None, figure: str, plays: list[Play]) -> Target:
    void = sum(play.is_void for play in plays)
    if void:
        return Target(text, None, f"{figure}; {void} of {len(plays)} runs void")
    return Target(text, reached, figure)


def void_notes(plays: list[Play]) -> list[str]:
    """Says which figures say nothing."""
    void = [play for play in plays if play.is_void]
    if not void:
        return []
    return [f"{len(void)} of {len(plays)} runs were void, such as {void[0].server}: {void[0].found.void}."]
