"""How many rows fit into the memory that a model's runs may take. Pure, but for what it remembers."""

from dataclasses import dataclass, field

from headrace.errors import TooLargeForMemory
from headrace.execution.footprint import Footprint

MOST_KNOWN = 1024
"""Sizes that are remembered: where nothing is padded, every length is another."""


@dataclass(slots=True)
class Room:
    """Of one model, for as long as neither its footprint nor what it may take changes.

    Attributes:
        footprint: what is known of what runs take.
        nbytes: for the activations of a batch.
        alone: for those of a request with more rows than fit into that, which runs alone.
    """

    footprint: Footprint
    nbytes: int
    alone: int
    # The mutable state, what was worked out: rows that fit, by cost and the most that was asked for; bytes that requests take
    # which run alone, by cost and rows.
    _rows: dict[tuple[int, int], int] = field(default_factory=dict, compare=False)
    _needed: dict[tuple[int, int], int] = field(default_factory=dict, compare=False)

    def rows(self, cost: int, most: int) -> int:
        """Rows of a batch that fit, up to so many; at least 1."""
        found = self._rows.get((cost, most))
        if found is None:
            found = max(1, self.footprint.rows_within(cost, self.nbytes, most))
            remember(self._rows, (cost, most), found)
        return found

    def refusal(self, name: str, cost: int, rows: int) -> TooLargeForMemory | None:
        """Why a request of so many rows can never be run, not even alone; None if it can."""
        needed = self._needed.get((cost, rows))
        if needed is None:
            needed = self.footprint.activations(cost, rows)
            remember(self._needed, (cost, rows), needed)
        if needed <= self.alone or (rows <= 1 and cost <= min(self.footprint.peaks, default=0)):
            return None  # whoever was loaded has run one such row, whatever is estimated of it
        fitting = self.footprint.rows_within(cost, self.alone, rows)
        return TooLargeForMemory(name, rows, needed, self.alone, fitting)


def remember(known: dict[tuple[int, int], int], key: tuple[int, int], value: int) -> None:
    if len(known) >= MOST_KNOWN:
        known.clear()
    known[key] = value
