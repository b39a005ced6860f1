"""How long a run of b rows will take: l(b), learned from the worker's own stamps.

Medians of the last runs by power-of-two batch size and by cost of a row, made monotone and joined by straight lines
(hardware has steps, so no single line is fitted). A factor that follows the 95th percentile of measured / predicted
turns the median into an upper bound by stochastic quantile estimation.
"""

from bisect import bisect_left
from collections import deque
from functools import lru_cache
from math import log
from statistics import median

from headrace.batching.golden_point import ENOUGH, worth_rows
from headrace.messages import BUCKET_RATIO

KEPT = 16
"""Runs remembered for each size."""
REFIT_AFTER = 8
"""Runs between two fits of a curve."""
QUANTILE, STEP = 0.95, 0.02
LEAST_FACTOR, MOST_FACTOR = 1.05, 2.0
"""The factor comes down twenty times slower than it went up: a bad minute must not be believed for an hour."""
SHORTEST_S = 1e-9

Curve = list[tuple[float, float]]  # (rows, seconds), both growing


class LatencyModel:
    """l(b) of one version. Lives on the loop; holds no clock."""

    def __init__(self, known: dict[int, dict[int, float]] | None = None) -> None:
        """Start from a stored profile: cost → rows → seconds."""
        self._costs: dict[int, int] = {}
        self._runs: dict[int, dict[int, deque[tuple[int, float]]]] = {}
        self._curves: dict[int, Curve] = {}
        self._stale: dict[int, int] = {}
        self._factor = LEAST_FACTOR
        self.learn(known or {})

    def learn(self, known: dict[int, dict[int, float]]) -> None:
        """Take measurements over from a profile: cost → rows → seconds."""
        for cost, latencies in known.items():
            for rows, seconds in latencies.items():
                self._remember(cost, rows, seconds)

    def observe(self, cost: int, rows: int, seconds: float) -> None:
        """A run of that many rows took so long."""
        if (predicted := self.predict(cost, rows)) is not None:
            exceeded = seconds > predicted * self._factor
            self._factor += STEP * (QUANTILE if exceeded else QUANTILE - 1)
            self._factor = min(MOST_FACTOR, max(LEAST_FACTOR, self._factor))
        self._remember(cost, rows, seconds)

    def predict(self, cost: int, rows: int) -> float | None:
        """Median seconds expected; None while nothing was ever measured."""
        bucket = self._nearest(cost)
        if bucket is None:
            return None
        curve = self._curve(bucket)
        scale = max(1, cost) / max(1, self._costs[bucket]) if bucket != cost_bucket(cost) else 1.0
        return interpolate(curve, rows) * scale

    def upper(self, cost: int, rows: int) -> float | None:
        """Seconds that 95 of 100 runs stay below."""
        predicted = self.predict(cost, rows)
        return None if predicted is None else predicted * self._factor

    def best_rows(self, cost: int, limit: int, enough: float = ENOUGH) -> int:
        """Rows of that cost worth a batch, as of worth_rows; the limit while nothing is known."""
        bucket = self._nearest(cost)
        if bucket is None:
            return limit
        return worth_rows(self._curve(bucket), limit, enough)

    @property
    def longest_cost(self) -> int | None:
        """Elements of the longest rows that were measured; None while nothing was."""
        return self._costs[max(self._runs)] if self._runs else None

    def known(self) -> dict[int, dict[int, float]]:
        """What a profile keeps: cost → rows → median seconds."""
        return {
            self._costs[bucket]: {round(rows): seconds for rows, seconds in self._curve(bucket)}
            for bucket in self._runs
        }

    def _remember(self, cost: int, rows: int, seconds: float) -> None:
        bucket = cost_bucket(cost)
        self._costs.setdefault(bucket, cost)
        sizes = self._runs.setdefault(bucket, {})
        size = rows.bit_length()
        if (runs := sizes.get(size)) is None:
            runs = sizes[size] = deque(maxlen=KEPT)
            self._stale[bucket] = REFIT_AFTER
        runs.append((rows, seconds))
        self._stale[bucket] = self._stale.get(bucket, 0) + 1
        if self._stale[bucket] >= REFIT_AFTER:
            self._stale[bucket] = 0
            self._curves.pop(bucket, None)

    def _nearest(self, cost: int) -> int | None:
        bucket = cost_bucket(cost)
        if bucket in self._runs:
            return bucket
        return min(self._runs, key=lambda each: abs(each - bucket), default=None)

    def _curve(self, bucket: int) -> Curve:
        if (curve := self._curves.get(bucket)) is None:
            curve = self._curves[bucket] = fit(self._runs[bucket])
        return curve


def fit(sizes: dict[int, deque[tuple[int, float]]]) -> Curve:
    """Medians by batch size, made monotone."""
    curve: Curve = []
    slowest = SHORTEST_S
    for size in sorted(sizes):
        rows = sum(run[0] for run in sizes[size]) / len(sizes[size])
        slowest = max(slowest, median(run[1] for run in sizes[size]))
        curve.append((rows, slowest))
    return curve


def interpolate(curve: Curve, rows: int) -> float:
    """Along the curve; beyond its end in proportion to the rows, before its start level."""
    at = bisect_left(curve, (rows, 0.0))
    if at == len(curve):
        return curve[-1][1] * max(1.0, rows / curve[-1][0])
    if at == 0 or curve[at][0] == rows:
        return curve[at][1]
    (low, fast), (high, slow) = curve[at - 1], curve[at]
    return fast + (slow - fast) * (rows - low) / (high - low)


@lru_cache(maxsize=4096)
def cost_bucket(cost: int) -> int:
    """Costs within a length bucket of each other are one."""
    return round(log(max(1, cost)) / log(BUCKET_RATIO))
