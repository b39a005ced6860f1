"""What a version's requests are handed to: its pipeline, or the stages of a skill with transforms in a worker."""

from typing import Protocol

from headrace.admission.forecast import Arrival
from headrace.batching.ticket import Ticket
from headrace.errors import HeadraceError
from headrace.lifecycle.version import ModelVersion
from headrace.messages import ModelSpec
from headrace.routing.staged import Staged


class Entry(Protocol):
    """Takes tickets whose requests are decoded for its spec."""

    spec: ModelSpec

    @property
    def is_pressed(self) -> bool:
        """A request may have to be refused: its envelope is worth a look before its data is decoded."""

    @property
    def is_hungry(self) -> bool:
        """Less waits than would fill the next batch: were nothing taken in, the device would soon be idle."""

    def refusal(self, arrival: Arrival) -> HeadraceError | None:
        """The reason not to take such a request in now, or None."""

    def submit(self, ticket: Ticket) -> None:
        """Take a ticket in, or refuse it at once."""

    def drop(self, ticket: Ticket) -> None:
        """The client is gone."""


def entry_of(version: ModelVersion) -> Entry:
    """The entry for the version's present spec."""
    if version.transforms is None:
        return version.pipeline
    return Staged(version.pipeline, version.transforms.pipeline, version.source.config.steps)
