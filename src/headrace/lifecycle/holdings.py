"""What a version holds of its device while it is in memory, and how much its runs may take. Pure; bytes.

While memory is plenty, everybody keeps what runs took, which spares the next run the taking: all of it is resident. Where
that is too much for all, it is given back after each run, and only the largest runs that go on at once count.
"""

from dataclasses import dataclass

from headrace.batching.golden_point import OF_MEMORY
from headrace.execution.footprint import Footprint
from headrace.lifecycle.ledger import Holding

MIB = 1 << 20
CONTEXT = 40 * MIB
"""Of a worker whose footprint nobody has measured: an interpreter, numpy and a runtime."""
OF_FILES, ON_TOP = 2.0, 32 * MIB
"""A runtime copies weights into the form it computes with, and parses the file beside; small runs take a little more."""
SLACK = 16 * MIB
"""That a version may grow by until that is seen, where nobody has measured what its runs take."""
FOR_RUNS = 0.3
"""Of the budget, that runs may take at least, together, before models are made to leave for them."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a version.

    Attributes:
        footprint: None if it was not measured.
        file_bytes: of its artifact, with weights kept beside it.
        workers, instances: processes, and sessions in each.
        is_there: it is in memory, and not only on its way.
        sharers: models that share a process, on average.
        cost, rows: of the largest batch that is run.
        used: private bytes its workers have had at most since it is in memory, as seen; 0 before.
    """

    footprint: Footprint | None
    file_bytes: int
    workers: int
    instances: int
    cost: int
    rows: int
    used: int = 0
    sharers: float = 1.0
    is_there: bool = True

    @property
    def resident(self) -> int:
        """What all its workers hold without their runs; of processes it shares its part."""
        footprint = self.footprint
        if footprint is None:
            return self.used or estimate(self)
        return self.workers * (round(footprint.context / self.sharers) + footprint.weights)


def holding(known: Known, allowed: int, *, keeps: bool) -> Holding:
    """What it holds.

    Args:
        known: of the version.
        allowed: bytes that one run may take.
        keeps: what runs took is kept.
    """
    footprint = known.footprint
    if footprint is None:
        return Holding(known.used + SLACK if known.used else estimate(known))
    resident = known.resident
    scratch = known.workers * known.instances * run_bytes(known, allowed)
    opening = 0 if known.is_there else known.workers * footprint.opening
    if keeps:
        return Holding(max(resident + max(scratch, opening), known.used))
    return Holding(max(resident + opening, known.used - scratch), scratch)


def run_bytes(known: Known, allowed: int) -> int:
    """Bytes that its largest run takes: of as many rows as may be, and of one at least."""
    footprint = known.footprint
    if footprint is None:
        return 0
    rows = max(1, footprint.rows_within(known.cost, allowed, known.rows))
    return footprint.activations(known.cost, rows)


def estimate(known: Known) -> int:
    """Bytes of all its workers, by the size of its files."""
    return known.workers * (round(CONTEXT / known.sharers) + round(OF_FILES * known.file_bytes) + ON_TOP)


def allowed_run(budget: int, resident: int, own: int, slots: int) -> int:
    """Bytes that one run of a model may take.

    Args:
        budget: of the device.
        resident: what all models hold without their runs.
        own: what this one holds without its runs.
        slots: runs at once.
    """
    most = round(OF_MEMORY * budget) - own
    share = max(round(FOR_RUNS * budget), budget - resident) // slots
    return max(0, min(most, share))
