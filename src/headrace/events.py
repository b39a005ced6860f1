"""Facts the core reports. Telemetry listens; nothing on the path asks it anything.

One event a batch or a transition, never one a request: what concerns single requests comes as lists inside them.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A batch was run and its requests answered. Times in seconds.

    Attributes:
        latencies: one a request, from its arrival to its answer.
        queue_waits: one a request, from its arrival to the start of the run.
        compute: from the worker's stamps around the backend's run.
        input_s, output_s: the worker's time to place inputs and outputs.
        shares: the device time of the run by whose it was: (tenant, elements of a row with its padding, seconds). A run
            on half of the device's cores counts half.
        padding: bytes of the inputs with their padding, and of that the padding.
    """

    model: str
    version: str
    rows: int
    latencies: list[float]
    queue_waits: list[float]
    compute: float
    input_s: float
    output_s: float
    shares: tuple[tuple[str, int, float], ...] = ()
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class TransformsDone:
    """A run of a skill's transform worker: what it took of the device, as `shares` of BatchDone."""

    model: str
    version: str
    shares: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True, slots=True)
class RequestsFailed:
    """Requests were answered with an error; reason is the error's code."""

    model: str
    version: str
    reason: str
    waits: list[float]


@dataclass(frozen=True, slots=True)
class RequestsDropped:
    """Requests whose client went away before they were run."""

    model: str
    version: str
    count: int


@dataclass(frozen=True, slots=True)
class VersionChanged:
    """A version moved to another state."""

    model: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker process ended without being asked to. `trace` is where its threads were, if it could still say so."""

    model: str
    version: str
    reason: str
    deaths: int
    trace: str = ""


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """A variant's circuit breaker moved to another state."""

    model: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Degraded:
    """A request was given a lesser answer than it asked for.

    Attributes:
        step: what answered: "variant:NAME", "stale" or "static".
        reason: of FALLBACK_REASONS, why not what was asked.
    """

    model: str
    version: str
    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class FilesChanged:
    """A worker found other files than those the version was found with, and does not serve them under its name."""

    model: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class VersionLoaded:
    """A version came into memory.

    Attributes:
        cause: "start": as the server started or its files came; "asked": requests wait for it; "again": it had been
            there before, and nobody waits.
        seconds: from the start of its first worker until it could answer.
    """

    model: str
    version: str
    cause: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BudgetChanged:
    """Models may have more or less of a device's memory than before; bytes, and where that comes from in words."""

    device: str
    budget: int
    limit: str


@dataclass(frozen=True, slots=True)
class VersionEvicted:
    """A version had to leave memory, for others or since nobody asked for it."""

    model: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class RequestsAbsent:
    """Requests, those of one tick together, found that their version was not in memory."""

    model: str
    version: str
    count: int


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A run of so many rows failed for want of memory; 0 where it was a session that could not be opened anew.

    Attributes:
        step: what is done about it, of faults/memory.py's steps.
        reason: what the backend or the kernel said.
    """

    model: str
    version: str
    rows: int
    step: str
    reason: str


@dataclass(frozen=True, slots=True)
class VersionForgotten:
    """A version has been gone for long, or for many others: nothing need be kept of it."""

    model: str
    version: str


Event = (
    BatchDone
    | TransformsDone
    | RequestsFailed
    | RequestsDropped
    | VersionChanged
    | WorkerDied
    | BreakerChanged
    | Degraded
    | OutOfMemory
    | FilesChanged
    | VersionLoaded
    | VersionEvicted
    | BudgetChanged
    | RequestsAbsent
    | VersionForgotten
)


class Observer(Protocol):
    """Whoever wants to know. Called on the loop; must not block or raise."""

    def __call__(self, event: Event, /) -> None: ...
