"""What is shown of memory: by `headrace models --memory`, `GET /v1/memory` and the metrics. Bytes and seconds."""

from dataclasses import dataclass

from headrace.lifecycle.state import VersionState


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device's budget, and what is made of it.

    Attributes:
        device: "cpu", or "gpu:0" and so on.
        total: what the machine or its control group has.
        reserve: what is left to everything that is no model.
        external: what other processes hold.
        budget: what models may have: the least of total - reserve - external and what the operator allows.
        limit: where the budget comes from, in words for people.
        resident, scratch: reserved for models in memory, and for the largest runs at once.
        used: private bytes that workers have now, as the kernel counts them.
        slots: runs that may go on at once.
    """

    device: str
    total: int
    reserve: int
    external: int
    budget: int
    limit: str
    resident: int
    scratch: int
    used: int
    slots: int


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """One version's part of it.

    Attributes:
        state: of the version; ABSENT while it is not in memory.
        is_pinned: never made to leave for another.
        is_measured: the figures come from its footprint; else from the size of its files.
        gives_back: it gives back what a run took after each run, since memory is short.
        resident, scratch: what it holds, or would hold, of its device.
        used: private bytes of its workers now, as the kernel counts them; 0 while it is not in memory.
        cap: rows of a batch at most, for the memory's sake; 0 where memory sets no bound.
        reload_s: seconds its last load took, or None.
        idle_s: seconds since it was last asked, or None if it never was.
        rate: requests a second lately.
        priority: the least leaves first, or None where it cannot leave.
        evictions: how often it had to leave.
        reason: why it is not in memory, or what is in its way; "" if nothing.
    """

    name: str
    version: str
    device: str
    state: str
    is_pinned: bool
    is_measured: bool
    gives_back: bool
    resident: int
    scratch: int
    used: int
    cap: int
    reload_s: float | None
    idle_s: float | None
    rate: float
    priority: float | None
    evictions: int
    reason: str

    @property
    def is_resident(self) -> bool:
        """Its part is reserved: it is in memory, or on its way in or out."""
        return self.state not in (VersionState.ABSENT, VersionState.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class MemoryView:
    """All of it."""

    devices: tuple[DeviceMemory, ...]
    models: tuple[ModelMemory, ...]
