"""Traffic in virtual time: calls that come whatever the server does, instances that run by a clock, and what came of it.

Each test is a scene: a loop of virtual time, pipelines with instances, sources of calls, and a question to what was heard.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from random import Random

from fakes import FP32, WIDTH, PuppetChannel, model

from headrace.admission.device import Device
from headrace.batching.latency import LatencyModel
from headrace.batching.ticket import Ticket
from headrace.errors import HeadraceError, Overloaded
from headrace.execution.channel import InFlight
from headrace.execution.wire import Placed
from headrace.messages import Group, InferRequest, ModelSpec, Wanted
from headrace.model_config import NOTHING_SAID, ModelConfig
from headrace.parts import Part
from headrace.pipeline import Limits, Pipeline

RESOLUTION_S = 1e-6
"""Of a loop's virtual time."""
Law = Callable[[int, int], float]
"""Seconds of a run alone on its core: cost of a row, rows → seconds."""


def linear(base_ms: float, row_ms: float) -> Law:
    """A run's seconds: so much, and so much a row; rows of the cost WIDTH, others in proportion."""
    return lambda cost, rows: (base_ms + row_ms * rows * cost / WIDTH) * 1e-3


class Call:
    """One call of a client: what was asked, and what was heard when, in seconds from the begin of its run."""

    def __init__(self, kind: str, arrived: float, within_s: float, origin: float) -> None:
        self.kind, self.arrived, self.deadline = kind, arrived, arrived + within_s
        self._origin = origin
        self.answered = -1.0
        self.error: HeadraceError | None = None
        self.ends = 0

    def end(self, part: Part) -> None:
        self.answered = asyncio.get_running_loop().time() - self._origin
        self.ends += 1

    def fail(self, error: HeadraceError) -> None:
        self.error = error
        self.answered = asyncio.get_running_loop().time() - self._origin
        self.ends += 1

    @property
    def is_in_time(self) -> bool:
        return self.ends == 1 and self.error is None and self.answered <= self.deadline + RESOLUTION_S

    @property
    def latency_s(self) -> float:
        return self.answered - self.arrived


class Cores:
    """Cores that runs share: with more runs than cores each goes the slower."""

    def __init__(self, cores: int = 1) -> None:
        self._cores = cores
        self._loop = asyncio.get_running_loop()
        # The mutable state: what each run has left to do, alone; since when; and when the first of them is done.
        self._left: dict[object, float] = {}
        self._on_end: dict[object, Callable[[], None]] = {}
        self._since = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    def run(self, seconds: float, on_end: Callable[[], None]) -> None:
        self._go_on()
        run = object()
        self._left[run], self._on_end[run] = seconds, on_end
        self._set_alarm()

    def _speed(self) -> float:
        return min(1.0, self._cores / max(1, len(self._left)))

    def _go_on(self) -> None:
        now = self._loop.time()
        done = (now - self._since) * self._speed()
        self._since = now
        for run in self._left:
            self._left[run] -= done

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._left:
            seconds = max(0.0, min(self._left.values()) / self._speed())
            self._alarm = self._loop.call_later(seconds, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._go_on()
        first = min(self._left, key=lambda run: self._left[run])
        del self._left[first]
        self._set_alarm()
        self._on_end.pop(first)()


class Machine(PuppetChannel):
    """An instance that runs what it is given by itself, batch after batch; so far away from its pipeline."""

    def __init__(
        self, pipeline: Pipeline, cores: Cores, law: Law, noise: Callable[[], float], way_s: float
    ) -> None:
        super().__init__(pipeline.dispatch, lambda: self._ended)
        self._loop = asyncio.get_running_loop()
        self._cores, self._law, self._noise, self._way_s = cores, law, noise, way_s
        # The mutable state: what it has been given and not run yet, whether it runs something, and when the batch
        # ended that the pipeline hears of now.
        self._staged: deque[InFlight] = deque()
        self._is_running = False
        self._ended = 0.0
        self.hangs_s = 0.0  # so much longer than it should a run takes
        self.runs: list[Run] = []

    def send(self, batch: InFlight, inputs: tuple[Placed, ...], wanted: tuple[int, ...]) -> None:
        super().send(batch, inputs, wanted)
        self.given.clear()  # nobody asks which values they were
        self._loop.call_later(self._way_s, self._receive, batch)

    def _receive(self, batch: InFlight) -> None:
        self._staged.append(batch)
        if not self._is_running:
            self._begin()

    def _begin(self) -> None:
        batch, now = self._staged.popleft(), self._loop.time()
        self._is_running = True
        expired = sum(ticket.deadline < now for ticket in batch.tickets)
        seconds = self._law(batch.cost, batch.rows) * self._noise() + self.hangs_s
        self._cores.run(seconds, partial(self._end, Run(now, batch.rows, expired)))

    def _end(self, run: "Run") -> None:
        run.ended = self._loop.time()
        self.runs.append(run)
        self._is_running = False
        if self._staged:
            self._begin()
        self._loop.call_later(self._way_s, self._hear, run)

    def _hear(self, run: "Run") -> None:
        if self.is_closed:
            return
        self._ended = run.ended
        self.begun.clear()
        self.finish(run.seconds)


@dataclass
class Run:
    """A run of a machine: rows, and how many tickets it was too late for when it began."""

    began: float
    rows: int
    expired: int
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class Served:
    """A model that is served: a pipeline and its instances."""

    pipeline: Pipeline
    machines: list[Machine]
    law: Law
    calls: list[Call] = field(default_factory=list)

    def close(self) -> None:
        self.pipeline.detach(self.machines)
        self.pipeline.close()
        for machine in self.machines:
            machine.close()

    @property
    def runs(self) -> list[Run]:
        return [run for machine in self.machines for run in machine.runs]

    def busy_s(self, since: float, until: float) -> float:
        """Seconds of the runs that ended between the two."""
        return sum(run.seconds for run in self.runs if since <= run.ended < until)


def serve(  # noqa: PLR0913  (a scene names how it differs from the plain one)
    law: Law,
    *,
    max_rows: int = 64,
    instances: int = 1,
    config: ModelConfig = NOTHING_SAID,
    known: float | None = 1.0,
    costs: Sequence[int] = (WIDTH,),
    noise: float = 0.1,
    way_s: float = 0.0,
    seed: int = 1,
    device: Device | None = None,
    cores: Cores | None = None,
    weight: float = 1.0,
    tenant_weights: dict[str, float] | None = None,
) -> Served:
    """A model of that law behind the real pipeline, with a profile of so many times the truth.

    Args:
        law: how long a run takes.
        known: what the profile says, in relation to the law; None for no profile.
        costs: of the rows that the profile knows.
        noise: relative standard deviation of a run's time.
        way_s: to an instance, and back.
        cores: which its instances share with others'; each has its own otherwise.
    """
    loop = asyncio.get_running_loop()
    spec: ModelSpec = model(max_batch_size=max_rows)
    limits = Limits(1 << 30, max_rows, config, weight=weight, tenant_weights=tenant_weights or {})
    pipeline = Pipeline(spec, limits, loop.time, lambda event: None, device)
    random = Random(seed)
    machines = [
        Machine(pipeline, cores or Cores(), law, lambda: max(0.3, random.gauss(1.0, noise)), way_s)
        for _ in range(instances)
    ]
    profile = {}
    if known is not None:
        sizes = [1 << power for power in range(max_rows.bit_length())]
        profile = {cost: {rows: known * law(cost, rows) for rows in sizes} for cost in costs}
    pipeline.attach(machines, spec, LatencyModel(profile))
    return Served(pipeline, machines, law)


@dataclass
class Source:
    """Calls of one kind, at random times of a rate, whatever the server does.

    Attributes:
        kind: what they are counted as.
        rate: a second; a function of the time for one that changes.
        within_s: until the deadline, from the arrival.
        tries: how often a client asks in all; after a refusal when it was told to, 1 for never again.
        is_asked: the deadline is the caller's own.
        promised_s: until their target; None where that is the deadline.
        is_alone: they share a batch with nobody.
        since: when they begin, in seconds from the begin of the run; `rate` counts so too.
    """

    kind: str
    rate: float | Callable[[float], float]
    within_s: float = 0.05
    level: int = 0
    tenant: str = ""
    cost: int = WIDTH
    rows: int = 1
    tries: int = 1
    is_asked: bool = True
    promised_s: float | None = None
    is_alone: bool = False
    since: float = 0.0

    def request(self) -> InferRequest:
        nbytes = FP32.itemsize * WIDTH * self.rows
        return InferRequest(
            id="",
            shapes=((self.rows, WIDTH),),
            tensors=(bytes(nbytes),),
            rows=self.rows,
            group=Group(self.cost),
            wanted=Wanted((0,), (False,)),
            nbytes=nbytes,
            is_alone=self.is_alone,
        )

    def rate_at(self, now: float) -> float:
        return self.rate(now) if callable(self.rate) else self.rate


class Client(Call):
    """A call that is made again where it was refused because too much waited."""

    def __init__(
        self, source: Source, arrived: float, origin: float, left: int, again: Callable[..., None]
    ) -> None:
        super().__init__(source.kind, arrived, source.within_s, origin)
        self._left, self._again = left, again

    def fail(self, error: HeadraceError) -> None:
        super().fail(error)
        if isinstance(error, Overloaded) and self._left > 1:
            self._again(error.retry_after_s, self._left - 1)


async def run(served: Served, sources: Iterable[Source], seconds: float, seed: int = 1) -> list[Call]:
    """Calls of all sources for so many seconds, and until the last of them has heard; in order of arrival."""
    for at, source in enumerate(sources):
        Offer(served, source, seconds, Random(seed * 100 + at)).begin()
    await asyncio.sleep(seconds)
    for _ in range(600):
        if all(call.ends for call in served.calls):
            break
        await asyncio.sleep(0.1)
    return served.calls


class Offer:
    """One source at work. Times are from its begin."""

    def __init__(self, served: Served, source: Source, seconds: float, random: Random) -> None:
        self._served, self._source, self._seconds, self._random = served, source, seconds, random
        self._request = source.request()
        self._loop = asyncio.get_running_loop()
        self._origin = self._loop.time()

    def begin(self) -> None:
        self._wait(self._source.since)

    def _wait(self, now: float) -> None:
        seconds = self._random.expovariate(self._source.rate_at(now))
        self._loop.call_at(self._origin + now + seconds, self._arrive)

    def _arrive(self) -> None:
        now = self._loop.time() - self._origin
        if now < self._seconds:
            self._call(self._source.tries)
            self._wait(now)

    def _again(self, retry_after_s: float, left: int) -> None:
        self._loop.call_later(retry_after_s * (1 + self._random.random()), self._call, left)

    def _call(self, left: int) -> None:
        source, now = self._source, self._loop.time()
        call = Client(source, now - self._origin, self._origin, left, self._again)
        ticket = Ticket(self._request, call, now, now + source.within_s)
        ticket.level, ticket.tenant, ticket.is_asked = source.level, source.tenant, source.is_asked
        if source.promised_s is not None:
            ticket.target = now + source.promised_s
        self._served.calls.append(call)
        self._served.pipeline.submit(ticket)


def goodput(calls: Iterable[Call], since: float, until: float, kind: str | None = None) -> float:
    """Answers in time a second, of those that were given between the two."""
    good = sum(
        call.is_in_time and since <= call.answered < until and kind in {None, call.kind} for call in calls
    )
    return good / (until - since)


def capacity(law: Law, rows: int = 64, cost: int = WIDTH) -> float:
    """Rows a second of one instance in full runs."""
    return rows / law(cost, rows)


def late(calls: Iterable[Call]) -> float:
    """Of those that were answered with what they asked for, the part that was so after the deadline."""
    answered = [call for call in calls if call.error is None]
    return sum(not call.is_in_time for call in answered) / len(answered)


def percentile(values: Iterable[float], part: float) -> float:
    """The value that this part of them does not exceed; of none 0."""
    ordered = sorted(values)
    return ordered[max(0, ceil(part * len(ordered)) - 1)] if ordered else 0.0


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 if all have alike, 1/n if one has it all."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0
