"""Tickets on their way to a worker and back."""

from typing import Any, Protocol

from headrace.batching.ticket import State, Ticket
from headrace.execution.arena import Region
from headrace.execution.wire import Done, Failed

MILLISECONDS = 1e3


class Owner(Protocol):
    """Who sent the batch: a pipeline."""

    def done(self, batch: "Batch", done: Done, outputs: Region) -> None:
        """It has run; the outputs are valid only during the call."""

    def failed(self, batch: "Batch", failed: Failed) -> None:
        """The backend raised."""

    def unread(self, batch: "Batch", reason: str) -> None:
        """It has run, and the outputs cannot be read here."""


class Batch:
    """Tickets that travel together: what was expected of their run, and whom to tell how it went."""

    __slots__ = (
        "_owner",
        "begins",
        "case",
        "channel",
        "charged_row_s",
        "cost",
        "expected_s",
        "gives_back",
        "has_expired",
        "is_rebuild",
        "padding",
        "part",
        "permit",
        "rows",
        "tickets",
    )

    def __init__(self, owner: Owner, tickets: list[Ticket], cost: int, begins: float) -> None:
        self._owner = owner
        self.tickets = tickets
        self.cost = cost
        # When it began, or is expected to, behind another one.
        self.begins = begins
        self.rows = 0
        # Upper bound of its run; what its flows were charged a row; bytes of its inputs, and how many are padding.
        self.expected_s = self.charged_row_s = 0.0
        self.padding = (0, 0)
        # Whose leave it is run with, what it is run to find out, and whether anybody was told that it takes too long: all of
        # it the pipeline's to read.
        self.permit: Any = None
        self.case: Any = None
        self.has_expired = False
        # As of wire.Run.
        self.gives_back = self.is_rebuild = False
        # Whom it was given to; and which part it is of a batch that failed for want of memory: faults/relief.py's to read.
        self.channel: Any = None
        self.part: Any = None
        for ticket in tickets:
            ticket.state = State.RUNNING
            self.rows += ticket.request.rows

    @property
    def is_golden(self) -> bool:
        """It is nobody's: the worker runs its own golden inputs."""
        return not self.tickets and not self.is_rebuild

    def wanted(self) -> tuple[int, ...]:
        """Positions of the outputs that any ticket asks for."""
        first = self.tickets[0].request.wanted
        outputs = set(first.outputs)
        for ticket in self.tickets:
            if ticket.request.wanted is not first:
                outputs.update(ticket.request.wanted.outputs)
        return tuple(sorted(outputs))

    def measure_padding(self, placed: int) -> None:
        """Its inputs, with their padding, are so many bytes."""
        brought = sum(ticket.request.nbytes for ticket in self.tickets)
        self.padding = (placed, max(0, placed - brought))

    def shares(self, seconds: float, *, is_shared: bool) -> tuple[tuple[str, int, float], ...]:
        """Whose the seconds of its run were: tenant, cost of a row, seconds. All one's, where nobody shares the queue."""
        if not is_shared or not self.rows:
            return ((self.tickets[0].tenant, self.cost, seconds),)
        rows: dict[tuple[str, int], int] = {}
        for ticket in self.tickets:
            whose = (ticket.tenant, ticket.request.group.cost)
            rows[whose] = rows.get(whose, 0) + ticket.request.rows
        return tuple((*whose, seconds * count / self.rows) for whose, count in rows.items())

    def note_run(self, started: float, seconds: float) -> None:
        """Write down how its run went, for those of its requests that somebody may ask about."""
        for ticket in self.tickets:
            if ticket.record is not None:
                ticket.record.note(
                    started + seconds,
                    "ran",
                    run_ms=round(seconds * MILLISECONDS, 3),
                    queue_ms=round((started - ticket.arrived) * MILLISECONDS, 3),
                    usual_ms=round(self.expected_s * MILLISECONDS, 3),
                    requests=len(self.tickets),
                    rows=self.rows,
                )

    def on_done(self, done: Done, outputs: Region) -> None:
        self._owner.done(self, done, outputs)

    def on_failed(self, failed: Failed) -> None:
        self._owner.failed(self, failed)

    def on_unread(self, reason: str) -> None:
        self._owner.unread(self, reason)


class Upkeep:
    """A run of golden inputs for its own sake: so that a worker gives back what runs took. Nobody asks how it went."""

    gives_back = True

    def on_done(self, done: Done, outputs: Region) -> None:
        """It has been given back."""

    def on_failed(self, failed: Failed) -> None:
        """Whatever is wrong shows in somebody's run."""

    def on_unread(self, reason: str) -> None:
        """There was nothing to read."""
