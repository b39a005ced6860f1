"""How the runs of the last seconds went, counted in slots of time, of which the oldest is forgotten at once. Pure."""

from dataclasses import dataclass
from math import floor, inf

SLOTS = 10
"""Of the window: it covers between nine tenths of its length and all of it."""


@dataclass(slots=True)
class Counts:
    """Runs by how they went."""

    ok: int = 0
    slow: int = 0
    failed: int = 0

    @property
    def all(self) -> int:
        return self.ok + self.slow + self.failed


class Window:
    """Holds no clock: `now` is in seconds; if it goes back a little, that counts as the latest time seen."""

    def __init__(self, seconds: float) -> None:
        self._slots_per_s = SLOTS / seconds
        # The mutable state: counts by slot, in their order, and the newest of them.
        self._counts: dict[int, Counts] = {}
        self._newest = -inf
        self._current = Counts()

    def at(self, now: float) -> Counts:
        """Those of this moment, to be added to."""
        slot = floor(now * self._slots_per_s)
        if slot > self._newest:
            self._forget(slot)
            self._newest = slot
            self._current = self._counts[slot] = Counts()
        return self._current

    def total(self, now: float) -> Counts:
        """Of the whole window."""
        self._forget(floor(now * self._slots_per_s))
        total = Counts()
        for each in self._counts.values():
            total.ok += each.ok
            total.slow += each.slow
            total.failed += each.failed
        return total

    def clear(self) -> None:
        self._counts.clear()
        self._newest = -inf

    def _forget(self, slot: int) -> None:
        """What has left the window, if that slot is the newest."""
        while self._counts and (oldest := next(iter(self._counts))) <= slot - SLOTS:
            del self._counts[oldest]
