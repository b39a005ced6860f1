"""The golden point: the rows of a batch that are worth it and allowed. Pure.

B* = min(rows that may share a run, rows that fit into 70 % of the memory, rows whose p99 is within half of the objective,
the fewest rows with nearly the best throughput). Dispatch works it out of l(b) as it learns it, and of the memory that a
version may take; `headrace models --profile` of a curve that was measured point by point.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from headrace.batching.policy import OF_TIGHTEST

OF_MEMORY = 0.7
"""So much of a device's memory a model's batches may fill: what was not foreseen, other models and swaps need room as well."""
WORTH_CAPPING_S = 1e-3
"""Shorter runs are not capped by throughput: the gateway's work a batch would outweigh what is won."""
ENOUGH = 0.95
"""The cap is the smallest batch with so much of the best throughput seen."""

Curve = Sequence[tuple[float, float]]  # (rows, seconds), both growing


class Bound(StrEnum):
    """What allows no more rows; the hardest to move come first."""

    ROWS = "rows"
    """Of the model, or of its operator: no more may share a run."""
    MEMORY = "memory"
    OBJECTIVE = "objective"
    THROUGHPUT = "throughput"


@dataclass(frozen=True, slots=True)
class GoldenPoint:
    """Rows of a batch, which bound they come from, and what each bound allows."""

    rows: int
    bound: Bound
    allowed: Mapping[Bound, int]


@dataclass(frozen=True, slots=True)
class Point:
    """Runs of so many rows, as they were measured.

    Attributes:
        nbytes: of the process in such a run, at most; None if nobody has measured it.
    """

    rows: int
    mean_s: float
    p50_s: float
    p99_s: float
    nbytes: int | None = None

    @property
    def rate(self) -> float:
        """Rows a second, one usual run after the other: what else the machine did meanwhile is left out, as l(b) does."""
        return self.rows / self.p50_s


def golden_point(allowed: Mapping[Bound, int]) -> GoldenPoint:
    """The least of what the bounds allow, and at least 1: what nothing allows is decided when it is asked for.

    Of bounds that allow the same the first binds: they come in Bound's order.
    """
    bound = min(allowed, key=allowed.__getitem__)
    return GoldenPoint(max(1, allowed[bound]), bound, allowed)


def of_curve(
    points: Sequence[Point], memory_bytes: int | None = None, objective_s: float | None = None
) -> GoldenPoint:
    """The golden point of what was measured; between two sizes bytes and seconds grow along a line.

    Args:
        points: ascending by rows, at least one; no more rows than the last one's are thought of.
        memory_bytes: all that the model may have, of which it is to use no more than OF_MEMORY; None for no bound.
        objective_s: within which 99 of 100 requests are to be answered, None if nothing is promised.
    """
    most = points[-1].rows
    allowed = {Bound.ROWS: most}
    sizes = [(float(each.rows), float(each.nbytes)) for each in points if each.nbytes is not None]
    if memory_bytes is not None and sizes:
        allowed[Bound.MEMORY] = rows_within(sizes, OF_MEMORY * memory_bytes, most)
    if objective_s is not None:
        # Fewer rows take no longer: where they did once, that was noise.
        least = list(accumulate((each.p99_s for each in reversed(points)), min))[::-1]
        slowest = [(float(each.rows), p99_s) for each, p99_s in zip(points, least, strict=True)]
        longest_s = longest_run_s(OF_TIGHTEST * objective_s, least[0])
        allowed[Bound.OBJECTIVE] = rows_within(slowest, longest_s, most)
    allowed[Bound.THROUGHPUT] = worth_rows([(each.rows, each.p50_s) for each in points], most)
    return golden_point(allowed)


def longest_run_s(limit_s: float, shortest_s: float) -> float:
    """Seconds that a run may last for an objective's sake, where one of a single row lasts `shortest_s`.

    An objective that not even such runs keep is not worth all of the throughput.
    """
    return limit_s if shortest_s <= limit_s else 2 * shortest_s


def worth_rows(curve: Curve, limit: int, enough: float = ENOUGH) -> int:
    """Rows worth a batch, up to the limit: more would take longer and bring next to nothing.

    The smallest measured batch with `enough` of the best throughput; 1 for the best itself. Twice the largest one where the
    throughput still grew.
    """
    if curve[-1][1] < WORTH_CAPPING_S:
        return limit
    rates = [rows / seconds for rows, seconds in curve]
    best = max(rates)
    if rates[-1] == best and (len(curve) == 1 or rates[-2] < enough * best):
        return min(limit, 2 * round(curve[-1][0]))  # it still grows: try more
    chosen = next(at for at, each in enumerate(rates) if each >= enough * best)
    return min(limit, max(1, round(curve[chosen][0])))


def rows_within(curve: Curve, most_value: float, most: int) -> int:
    """The most rows, up to `most`, before a value that follows the points first exceeds another; 0 if the first does."""
    fits = 0
    for at, (rows, value) in enumerate(curve):
        if value > most_value:
            if at:
                before, low = curve[at - 1]
                fits = int(before + (rows - before) * (most_value - low) / (value - low))
            return min(most, fits)
        fits = int(rows)
    return min(most, fits)
