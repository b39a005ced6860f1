"""A model's curve as a drawing: throughput, the slowest runs and memory over the rows of a batch, and what bounds them.

Needs the extra `bench`, as plots.py does, whose look it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from headrace.batching.golden_point import ENOUGH, OF_MEMORY, GoldenPoint, Point
from headrace.batching.policy import OF_TIGHTEST
from headrace.loadtest.plots import COLOURS, HEIGHT, PAPER, RC, WIDTH, finished, plain

MILLISECONDS, MEGABYTE = 1e3, 1e6
AT_POINT = 0.35
"""How opaque the line through the golden point is."""
SHOWN = 1.3
"""A limit is drawn where it is no more than so many times what was measured; else the curve would be flat below it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What was asked for: bytes the model may have, and what is promised; None for nothing."""

    memory_bytes: int | None
    objective_s: float | None


def golden_plot(name: str, points: Sequence[Point], limits: Limits, golden: GoldenPoint) -> str:
    """A file of its own: three panels over the rows of a batch, the golden point marked in each."""
    with mpl.rc_context(RC):
        figure = Figure((WIDTH, 2 * HEIGHT), layout="constrained")
        first, second, third = figure.subplots(3, 1, sharex=True)
    rows = [each.rows for each in points]
    first.plot(
        rows, [each.rate for each in points], "-o", markersize=4, color=COLOURS[0], label="rows a second"
    )
    first.set_ylabel("rows a second")
    best = max(each.rate for each in points)
    limit(first, ENOUGH * best, best, f"{ENOUGH:.0%} of the best")
    slow = [each.p99_s * MILLISECONDS for each in points]
    second.plot(rows, [each.p50_s * MILLISECONDS for each in points], "--", color=COLOURS[1], label="p50")
    second.plot(rows, slow, "-o", markersize=4, color=COLOURS[1], label="p99")
    second.set_ylabel("ms a run")
    if limits.objective_s is not None:
        limit(second, OF_TIGHTEST * limits.objective_s * MILLISECONDS, max(slow), "half of the objective")
    sized = [(each.rows, each.nbytes / MEGABYTE) for each in points if each.nbytes is not None]
    if sized:
        third.plot(*zip(*sized, strict=True), "-o", markersize=4, color=COLOURS[2], label="peak MB")
        if limits.memory_bytes is not None:
            most = OF_MEMORY * limits.memory_bytes / MEGABYTE
            limit(third, most, max(nbytes for _, nbytes in sized), f"{OF_MEMORY:.0%} of the memory")
    third.set_ylabel("MB")
    third.set_xlabel("rows of a batch")
    third.set_xscale("log", base=2)
    third.set_xticks(rows, [str(each) for each in rows])
    third.xaxis.set_minor_formatter(NullFormatter())
    for axes in (first, second, third):
        axes.set_ylim(bottom=0)
        label = "golden point" if axes is first else ""
        axes.axvline(golden.rows, color=COLOURS[5], linewidth=5, alpha=AT_POINT, label=label or None)
    title = f"{name}: {golden.rows} rows, bound by {golden.bound.value}"
    words = (
        f"Throughput, p50 and p99 of runs, and memory of {name} over the rows of a batch, measured at {len(points)} sizes. "
        f"The golden point is at {golden.rows} rows; {', '.join(allowed(golden))}."
    )
    drawn = finished(figure, first, "golden", title, words, heading=plain(title))
    return drawn.replace("<title", f"{PAPER}<title", 1)


def limit(axes: Axes, value: float, highest: float, label: str) -> None:
    """A line across where there is a limit, if the curve comes near it."""
    if value <= SHOWN * highest:
        axes.axhline(value, color=COLOURS[3], linestyle=":", label=label)


def allowed(golden: GoldenPoint) -> list[str]:
    return [f"{bound.value} allows {rows}" for bound, rows in golden.allowed.items()]
