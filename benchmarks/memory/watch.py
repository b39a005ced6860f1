"""What a server and its workers have in memory, looked at ten times a second, beside what the server says of it."""

import json
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from group import Group
from load import cpu_seconds, fetch
from scraped import METRICS, sums
from servers import Server, family

from headrace.execution.process_memory import private_bytes

EVERY_S, ASKED_EVERY_S, COUNTED_EVERY_S = 0.1, 1.0, 20.0
MEMORY = "/v1/memory"
ABSENT, LOADS, EVICTIONS = (
    "inference_absent_requests_total",
    "inference_loads_total",
    "inference_evictions_total",
)
OUTCOMES = "inference_requests_total"
IN_MEMORY = "READY"


@dataclass(frozen=True)
class Sample:
    """Bytes at a time of the run: private ones of all workers, and all of the group that are not of files."""

    at_s: float
    used: int
    group: int


@dataclass(frozen=True)
class Told:
    """What the server says: bytes, and how many models are in memory."""

    at_s: float
    budget: int
    reserved: int
    used: int
    models: int


@dataclass(frozen=True)
class Counts:
    """Since the server began, of all models. `outcomes`: "ok", "dropped" or an error's code → requests."""

    at_s: float
    absent: int
    loads: int
    evictions: int
    outcomes: dict[str, int]


@dataclass
class Seen:
    """Of one run. Times are since it began."""

    samples: list[Sample] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    cores: float = 0.0

    @property
    def over(self) -> tuple[int, int]:
        """The most bytes that workers had above the budget, and the budget then; below 0 if they never were."""
        found = [(each.used - self.budget_at(each.at_s), self.budget_at(each.at_s)) for each in self.samples]
        return max(found)

    def budget_at(self, at_s: float) -> int:
        """As it was said last."""
        before = [each.budget for each in self.told if each.at_s <= at_s]
        return before[-1] if before else self.told[0].budget

    def grown(self, name: str) -> int:
        """How much a count grew over the run."""
        return int(getattr(self.counts[-1], name) - getattr(self.counts[0], name))

    @property
    def outcomes(self) -> dict[str, int]:
        """How requests ended in the run, by the server's count."""
        before, after = self.counts[0].outcomes, self.counts[-1].outcomes
        grown = {name: count - before.get(name, 0) for name, count in after.items()}
        return {name: count for name, count in grown.items() if count}


class Start:
    """The most private bytes that all workers had while a server started, which cannot be asked for its budget then; 0 without a group."""

    def __init__(self, group: Group | None) -> None:
        self.most = 0
        self._group = group
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """It has started. More than once is as once."""
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while self._group is not None and not self._is_over.wait(EVERY_S):
            # The gateway was there before its workers.
            found = {pid: private_bytes(pid) for pid in self._group.pids()}
            self.most = max(self.most, sum(found.values()) - found.get(min(found, default=0), 0))


class Watch:
    """A thread for as long as the block lasts; `seen` is whole afterwards. What stopped it is raised where the block ends."""

    def __init__(self, server: Server, group: Group | None) -> None:
        self.seen = Seen()
        self._server = server
        self._group = group
        self._is_over = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._zero = time.perf_counter()
        self._cpu_s = self._spent_s()
        self._count()
        self._ask()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        if exc is None:
            if self._fault is not None:
                raise self._fault
            self._count()
            self.seen.cores = (self._spent_s() - self._cpu_s) / self._now

    @property
    def _now(self) -> float:
        return time.perf_counter() - self._zero

    def _run(self) -> None:
        try:
            self._look()
        except Exception as exc:  # noqa: BLE001 - raised again where the block ends
            self._fault = exc

    def _look(self) -> None:
        ask, count = ASKED_EVERY_S, COUNTED_EVERY_S
        while not self._is_over.wait(EVERY_S):
            workers = [pid for pid in self._pids() if pid != self._server.process.pid]
            used = sum(map(private_bytes, workers))
            own = self._group.own_bytes if self._group else used
            self.seen.samples.append(Sample(self._now, used, own))
            if self._now >= ask:
                ask += ASKED_EVERY_S
                self._ask()
            if self._now >= count:
                count += COUNTED_EVERY_S
                self._count()

    def _pids(self) -> list[int]:
        return self._group.pids() if self._group else family(self._server.process.pid)

    def _ask(self) -> None:
        view = asked(self._server)
        device = view["devices"][0]
        models = sum(each["state"] == IN_MEMORY for each in view["models"])
        reserved = device["resident"] + device["scratch"]
        self.seen.told.append(Told(self._now, device["budget"], reserved, device["used"], models))

    def _count(self) -> None:
        totals = sums(fetch(self._server.port, [METRICS])[METRICS], "outcome")
        outcomes = {said: int(value) for (metric, said), value in totals.items() if metric == OUTCOMES}
        found = [int(totals.get((metric, ""), 0)) for metric in (ABSENT, LOADS, EVICTIONS)]
        self.seen.counts.append(Counts(self._now, *found, outcomes))

    def _spent_s(self) -> float:
        """CPU time of all its processes, of those that have ended as well."""
        return sum(map(cpu_seconds, self._pids())) + cpu_seconds(self._server.process.pid, of_ended=True)


def asked(server: Server) -> dict[str, Any]:
    """What the server says of memory."""
    view: dict[str, Any] = json.loads(fetch(server.port, [MEMORY])[MEMORY])
    return view
