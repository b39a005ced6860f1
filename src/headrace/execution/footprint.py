"""How much memory a worker of one model takes, and how much a batch of given rows would take on top.

M(rows) = context + weights + activations(rows x cost), all in private bytes: what a process has mapped from files, libraries
and weights alike, is shared with whoever maps it too and given up by the kernel where memory runs short.
"""

import msgspec

Peaks = dict[int, dict[int, int]]
"""Cost of a row (elements, as of Group.cost) → rows of a batch → bytes."""


class Footprint(msgspec.Struct, frozen=True):
    """Bytes, as measured in a fresh process.

    Attributes:
        context: the process with its runtime, before the model is opened. Workers that share a process share it.
        weights: on top of that, once the model is opened, has run one row, and has given back what it needs no more.
        peaks: on top of both, the most that runs of so many rows took; ascending, since what was taken is kept.
        margin: the largest part by which the fit below was ever too low, of what was measured.
        data: address space for private data (what RLIMIT_DATA bounds) on top of resident bytes, at most.
        device: bytes on a GPU, by its name in the ledger ("gpu:0"); empty where it runs on the processor.
    """

    context: int
    weights: int
    peaks: Peaks = {}
    margin: int = 0
    data: int = 0
    device: dict[str, int] = {}

    @property
    def resident(self) -> int:
        """What it takes while it runs nothing and has given back what runs took."""
        return self.context + self.weights

    def activations(self, cost: int, rows: int) -> int:
        """Bytes that a batch takes on top; what was not measured is on the line through what was, with the margin."""
        known = self.peaks.get(cost, {}).get(rows)
        if known is not None:
            return known
        points = [(each * n, nbytes) for each, sizes in self.peaks.items() for n, nbytes in sizes.items()]
        if not points:
            return 0
        base, slope = line_above(points)
        return max(0, round(base + slope * cost * rows)) + self.margin

    def total(self, cost: int, rows: int) -> int:
        """Bytes of a worker that has run such a batch."""
        return self.resident + self.activations(cost, rows)


def line_above(points: list[tuple[int, int]]) -> tuple[float, float]:
    """Base and slope of the least-squares line through (elements, bytes), neither of them negative."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    slope = max(0.0, slope)
    return max(0.0, mean_y - slope * mean_x), slope
