"""Tickets on their way to a worker and back."""

from typing import Any, Protocol

from headrace.batching.ticket import State, Ticket
from headrace.execution.arena import Region
from headrace.execution.wire import Done, Failed


class Owner(Protocol):
    """Who sent the batch: a pipeline."""

    def done(self, batch: "Batch", done: Done, outputs: Region) -> None:
        """It has run; the outputs are valid only during the call."""

    def failed(self, batch: "Batch", failed: Failed) -> None:
        """The backend raised."""


class Batch:
    """Tickets that travel together: what was expected of their run, and whom to tell how it went."""

    __slots__ = (
        "_owner",
        "begins",
        "case",
        "charged_row_s",
        "cost",
        "expected_s",
        "has_expired",
        "padding",
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
        for ticket in tickets:
            ticket.state = State.RUNNING
            self.rows += ticket.request.rows

    @property
    def is_golden(self) -> bool:
        """It is nobody's: the worker runs its own golden inputs."""
        return not self.tickets

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

    def on_done(self, done: Done, outputs: Region) -> None:
        self._owner.done(self, done, outputs)

    def on_failed(self, failed: Failed) -> None:
        self._owner.failed(self, failed)
