"""Runs that failed for want of memory: their requests wait here for what memory.py says, and are run again in parts.

It stands beside the guard, not behind it: too little memory is no request's fault, so nobody is looked into, nobody is
quarantined, and no breaker counts it before nothing else has helped.
"""

from bisect import bisect_right, insort
from collections.abc import Callable
from itertools import accumulate
from itertools import count as counting
from math import inf
from typing import NamedTuple

from headrace.batching.batch import Batch
from headrace.batching.ticket import State, Ticket
from headrace.errors import HeadraceError, OutOfMemory
from headrace.events import Event
from headrace.events import OutOfMemory as RanOut
from headrace.execution.channel import Instance
from headrace.faults.guard import Client
from headrace.faults.memory import FailedRun, Shortage, Step


class Part(NamedTuple):
    """Requests that are to be run together.

    `place`: the number of the batch that failed first, and which of its requests the first one is; `splits`: how often what they
    were in has failed.
    """

    place: tuple[int, int]
    tickets: list[Ticket]
    cost: int
    splits: int


class Relief:
    """One pipeline's. Lives on the loop; not thread-safe."""

    def __init__(
        self,
        name: tuple[str, str],
        client: Client,
        clock: Callable[[], float],
        report: Callable[[Event], None],
        *,
        is_idempotent: bool,
    ) -> None:
        """`name` is the model and its version; `is_idempotent`: a request may be run once more."""
        self._name = name
        self._client = client
        self._clock = clock
        self._report = report
        self._is_idempotent = is_idempotent
        # The mutable state: what is known of the shortage, what is to be run again, in its order, the instance whose session
        # is to be rebuilt, and the one that is given nothing until it has another session, or its worker ends.
        self._shortage = Shortage()
        self._parts: list[Part] = []
        self._batches = counting()
        self._to_rebuild: Instance | None = None
        self._held: Instance | None = None

    @property
    def has_work(self) -> bool:
        """There may be something to run for it."""
        return bool(self._parts) or self._to_rebuild is not None

    @property
    def is_on(self) -> bool:
        """Batches are smaller than usual."""
        return self._shortage.is_on

    @property
    def waiting(self) -> list[Ticket]:
        """Whoever is to be run again."""
        return [each for part in self._parts for each in part.tickets if each.state is State.RUNNING]

    def most(self, cost: int, rows: int) -> int:
        """Rows of the next batch at most, of so many that would be usual."""
        return self._shortage.most(cost, rows)

    def take_give_back(self) -> bool:
        """Whether the run that begins now is to give back what it takes; asked once a run."""
        return self._shortage.take_give_back()

    def is_pending(self, now: float) -> bool:
        """A session is being rebuilt, or a worker restarted."""
        return self._shortage.is_pending(now)

    def holds(self, channel: Instance) -> bool:
        """Nothing is to be sent there now."""
        return channel is self._held

    def wants_rebuild(self, channel: Instance) -> bool:
        """Whether the session behind it is to be rebuilt now."""
        return channel is self._to_rebuild

    def begin_rebuild(self) -> None:
        """It has been asked to."""
        self._to_rebuild = None

    def next_size(self) -> tuple[int, int] | None:
        """Cost of a row, and rows, of the part that `next_part` looks at first; None if none is to be run now."""
        if not self._parts or self._shortage.is_pending(self._clock()):
            return None
        part = self._parts[0]
        return part.cost, sum(ticket.request.rows for ticket in part.tickets)

    def next_part(self, now: float) -> Part | None:
        """Who is to be run next; whose deadline has passed hears so."""
        self.expire(now)
        while self._parts:
            part = self._parts.pop(0)
            if alive := [ticket for ticket in part.tickets if ticket.state is State.RUNNING]:
                return self._cut(part._replace(tickets=alive))
        return None

    def _cut(self, part: Part) -> Part:
        """Its first requests, as many as the cap allows by now: of what it allowed before, another part may have failed."""
        rows = list(accumulate(ticket.request.rows for ticket in part.tickets))
        count = max(1, bisect_right(rows, self._shortage.most(part.cost, rows[-1])))
        if count < len(part.tickets):
            self._insert(part, count, part.tickets[count:], part.splits)
        return part._replace(tickets=part.tickets[:count])

    def _insert(self, part: Part, at: int, tickets: list[Ticket], splits: int) -> None:
        """A part of a part, which begins with its request of that number."""
        number, first = part.place
        insort(self._parts, Part((number, first + at), tickets, part.cost, splits), key=place_of)

    def failed(self, batch: Batch, reason: str, usual: int, now: float, *, has_died: bool = False) -> Step:
        """A batch's run failed so; what is done about it, of which restarting the worker is the caller's.

        Args:
            batch: its tickets are taken over, or answered.
            reason: what the backend, or the kernel, said.
            usual: rows that such batches have while memory is plenty.
            now: on the pipeline's clock.
            has_died: the kernel ended the worker for it.
        """
        alive = [ticket for ticket in batch.tickets if ticket.state is State.RUNNING]
        part = batch.part or Part((next(self._batches), 0), [], batch.cost, 0)
        # Golden inputs come again by themselves, and would do so for ever.
        splits = 1 if batch.is_golden else part.splits
        is_lone = len(batch.tickets) <= 1
        run = FailedRun(batch.cost, batch.rows, usual, splits, is_lone=is_lone, has_died=has_died)
        step = self._shortage.failed(run, now)
        if step is Step.REBUILD:
            self._to_rebuild = batch.channel
        if step in {Step.REBUILD, Step.RESTART}:
            self._held = batch.channel
        self._report(RanOut(*self._name, batch.rows, step.value, reason))
        for ticket in alive:
            if ticket.record is not None:
                ticket.record.note(now, "out_of_memory", rows=batch.rows, step=step.value, reason=reason)
        if step is Step.REFUSE or not self._is_idempotent:
            self._client.refuse(alive, self._error(reason, batch.rows))
        else:
            at = 0
            for tickets in divided(alive, step):
                self._insert(part, at, tickets, splits + 1)
                at += len(tickets)
        self._client.wake()
        return step

    def passed(self, batch: Batch, now: float) -> None:
        """A run went well. To be called while `is_on`."""
        self._shortage.passed(batch.cost, batch.rows, now)

    def rebuilt(self) -> None:
        """A session was opened anew."""
        self._held = None
        self._shortage.rebuilt()
        self._client.wake()

    def not_rebuilt(self, reason: str, now: float) -> None:
        """A session could not be: its worker, which has none, is to be restarted; that is the caller's."""
        self._shortage.not_rebuilt(now)
        self._report(RanOut(*self._name, 0, Step.RESTART.value, reason))

    def worker_ready(self) -> None:
        """Another worker serves."""
        self._to_rebuild = self._held = None
        self._shortage.rebuilt()

    def give_up(self, error: HeadraceError) -> None:
        """Nothing is run again: whoever was to be gets the error."""
        waiting = self.waiting
        self._parts.clear()
        self._client.refuse(waiting, error)

    def expire(self, now: float) -> float:
        """Whoever is to be run again hears when its deadline has passed; when the next one will, inf if none."""
        for ticket in self.waiting:
            if ticket.deadline <= now:
                self._client.refuse([ticket], ticket.timeout_error())
        return min((ticket.deadline for ticket in self.waiting), default=inf)

    def _error(self, reason: str, rows: int) -> OutOfMemory:
        tried = (
            "in smaller batches, with its session opened anew and its worker restarted"
            if self._is_idempotent
            else "and its skill says that it must not be run again (idempotent: false)"
        )
        return OutOfMemory(
            f"model '{self._name[0]}' had too little memory for {rows} row{'s' * (rows != 1)}, {tried}: {reason}"
        )


def place_of(part: Part) -> tuple[int, int]:
    return part.place


def divided(tickets: list[Ticket], step: Step) -> list[list[Ticket]]:
    """Those of a batch, in their order, as they are to be run again."""
    if step is Step.AGAIN:
        return [tickets] if tickets else []
    if step is Step.RESTART:
        return [[each] for each in tickets]
    middle = (len(tickets) + 1) // 2
    return [half for half in (tickets[:middle], tickets[middle:]) if half]
