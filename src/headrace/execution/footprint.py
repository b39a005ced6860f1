"""How much memory a worker of one model takes, and how much a batch of given rows would take on top.

M(rows) = context + weights + activations(cost, rows), all in private bytes: what a process has mapped from files, libraries
and weights alike, is shared with whoever maps it too and given up by the kernel where memory runs short.
"""

from bisect import bisect_left, bisect_right
from math import log

import msgspec

Sizes = dict[int, int]
"""Rows of a batch → bytes."""
Peaks = dict[int, Sizes]
"""Cost of a row (elements, as of Group.cost) → rows of a batch → bytes."""

SQUARE = 2.0
"""Bytes grow with the length of a row at most so: attention takes the square."""


class Footprint(msgspec.Struct, frozen=True):
    """Bytes, as measured in a fresh process.

    Attributes:
        context: the process with its runtime, before the model is opened. Workers that share a process share it.
        weights: on top of that, once the model is opened, has run one row, and has given back what it needs no more.
        peaks: on top of both, the most that a run of so many rows took, with its part of the slots; measured while each
            instance ran one, after smaller ones, since what was taken is kept.
        margin: the largest part by which the fit below was ever too low, of what was measured.
        data: address space for private data (what RLIMIT_DATA bounds) on top of resident bytes, at most.
        device: bytes on a GPU, by its name in the ledger ("gpu:0"); empty where it runs on the processor.
        opening: on top of the resident bytes, the most it took while it was opened and first run.
        over: runs of so many rows failed, with so many bytes to take: it is more than that.
    """

    context: int
    weights: int
    peaks: Peaks = {}
    margin: int = 0
    data: int = 0
    device: dict[str, int] = {}
    over: Peaks = {}
    opening: int = 0

    @property
    def resident(self) -> int:
        """What it takes while it runs nothing and has given back what runs took."""
        return self.context + self.weights

    def activations(self, cost: int, rows: int) -> int:
        """Bytes that a batch takes on top: never less for more rows.

        What was measured is as it was; between two sizes it is on the line through all, within what both took; beyond
        them on the line, with the margin.
        """
        if rows <= 0 or not self.peaks:
            return 0
        least = [
            n + 1
            for each, sizes in self.over.items()
            if each <= cost
            for at, n in sizes.items()
            if at <= rows
        ]
        return max([round(of_cost(self.peaks, cost, rows, self.margin)), *least])

    def rows_within(self, cost: int, nbytes: int, most: int) -> int:
        """The most rows whose activations fit into so many bytes: from 0, where not even one does, to `most`."""
        if self.activations(cost, most) <= nbytes:
            return most
        return bisect_right(range(1, most + 1), nbytes, key=lambda rows: self.activations(cost, rows))

    def total(self, cost: int, rows: int) -> int:
        """Bytes of a worker that has run such a batch."""
        return self.resident + self.activations(cost, rows)


def of_cost(peaks: Peaks, cost: int, rows: float, margin: int) -> float:
    """Bytes of a run, by the measured costs around its own: growth with the length bends upward, so a chord is above it."""
    costs = sorted(peaks)
    at = bisect_left(costs, cost)
    if at == len(costs):
        return beyond(peaks, costs, cost, rows, margin)
    above = of_rows(peaks[costs[at]], rows, margin)
    if costs[at] == cost or not at:
        return above
    below = of_rows(peaks[costs[at - 1]], rows, margin)
    part = (cost - costs[at - 1]) / (costs[at] - costs[at - 1])
    return max(below, below + part * (above - below))


def beyond(peaks: Peaks, costs: list[int], cost: int, rows: float, margin: int) -> float:
    """Bytes where rows are longer than any that were run: as they grew between the longest two, or with the elements."""
    longest = costs[-1]
    # Elements tell least: a batch of rows twice as long is at least one of twice the rows.
    in_elements = of_rows(peaks[longest], rows * cost / longest, margin)
    if len(costs) == 1:
        return in_elements
    growth = growth_of(peaks, costs[-2], longest)
    factor: float = (cost / longest) ** growth
    return max(in_elements, of_rows(peaks[longest], rows, margin) * factor)


def growth_of(peaks: Peaks, shorter: int, longer: int) -> float:
    """The power of the length that bytes grew with between two lengths, in the largest batch of the longer."""
    rows = max(peaks[longer])
    low, high = of_rows(peaks[shorter], rows, 0), of_rows(peaks[longer], rows, 0)
    if low <= 0 or high <= low:
        return 1.0
    return min(SQUARE, max(1.0, log(high / low) / log(longer / shorter)))


def of_rows(sizes: Sizes, rows: float, margin: int) -> float:
    """Bytes of rows of one cost."""
    known = sorted(sizes)
    at = bisect_left(known, rows)
    if at < len(known) and known[at] == rows:
        return ascending(sizes)[known[at]]
    tops = ascending(sizes)
    estimate = fitted(sizes, rows) + margin
    if at:
        estimate = max(estimate, tops[known[at - 1]])
    return min(estimate, tops[known[at]]) if at < len(known) else estimate


def ascending(sizes: Sizes) -> Sizes:
    """More rows take no less: what was measured a little lower was noise."""
    tops: Sizes = {}
    highest = 0
    for rows in sorted(sizes):
        highest = tops[rows] = max(highest, sizes[rows])
    return tops


def fitted(sizes: Sizes, rows: float) -> float:
    base, slope = line_through(list(sizes.items()))
    return base + slope * rows


def largest_residual(peaks: Peaks) -> int:
    """By how much the lines are too low, where they are most so."""
    return round(
        max((n - fitted(sizes, rows) for sizes in peaks.values() for rows, n in sizes.items()), default=0)
    )


def line_through(points: list[tuple[int, int]]) -> tuple[float, float]:
    """Base and slope of the least-squares line through (rows, bytes), neither of them negative."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0, max(0.0, mean_y / mean_x)
    slope = max(0.0, sum((x - mean_x) * (y - mean_y) for x, y in points) / spread)
    base = mean_y - slope * mean_x
    if base >= 0:
        return base, slope
    return 0.0, sum(x * y for x, y in points) / sum(x * x for x, _ in points)
