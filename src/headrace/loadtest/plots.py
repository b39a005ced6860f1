"""Plots as SVG by matplotlib, for a page (inline, in the page's own colours) or a file of their own.

Each Figure is made by itself: pyplot, which keeps figures in a global, is not imported. Text stays text, so that it can be
read aloud, searched and copied; what is black in the drawing takes the colour of the text around it, so it can be read on
a dark page. Needs the extra `bench`.
"""

import html
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from math import log10
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from headrace.loadtest.analysis import Window

Points = Sequence[tuple[float, float]]

COLOURS = ("#3f7fd1", "#d9822b", "#2e9e6b", "#c94f7c", "#8a6fd1", "#a3852f", "#4aa3b5", "#8d8d8d")
"""To be told apart on white and on black; a line's style tells it apart from the next one where colours do not."""
STYLES = ("-", "--", "-.", ":")
INK = "#010203"
"""Replaced by the colour of the text around; no series has it."""
WIDTH, HEIGHT = 7.2, 3.2
RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "headrace",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
}
PAPER = (
    "<style>svg{color:#1f2328;background:#fff}"
    "@media(prefers-color-scheme:dark){svg{color:#e6edf3;background:#0d1117}}</style>"
)
NINES = ((0, "0"), (1, "90"), (2, "99"), (3, "99.9"), (4, "99.99"), (5, "99.999"))
"""Places on the axis of percentiles: -log10 of the part that is slower."""
STEPS = 400
"""Points of the distribution's line, however many calls there were."""


def rates(windows: Sequence[Window]) -> str:
    """Calls offered, answers served and good answers a second, over time."""
    figure, axes = drawing("seconds", "a second")
    times = [each.start_s + each.width_s / 2 for each in windows]
    shown = {"offered": "offered", "served": "served", "goodput": "good", "refused": "refused"}
    for (field, label), colour, style in zip(shown.items(), COLOURS, STYLES, strict=False):
        values = [getattr(each, field) for each in windows]
        if field != "refused" or any(values):
            axes.plot(times, values, style, color=colour, label=label)
    return finished(
        figure,
        axes,
        "rates",
        "Offered load, served rate and goodput over time",
        f"Calls a second over {len(windows)} windows; the gap between offered and good is what callers missed.",
    )


def latencies(windows: Sequence[Window], deadlines: Mapping[str, float]) -> str:
    """p50 and p99 of the answers in each window, with callers' deadlines (by name, in seconds) as lines."""
    figure, axes = drawing("seconds", "ms")
    answered = [each for each in windows if each.p99 > 0]
    times = [each.start_s + each.width_s / 2 for each in answered]
    for field, colour, style in zip(("p50", "p99"), COLOURS, STYLES, strict=False):
        axes.plot(times, [getattr(each, field) * 1000 for each in answered], style, color=colour, label=field)
    for seconds in sorted(set(deadlines.values())):
        names = ", ".join(name for name, deadline in deadlines.items() if deadline == seconds)
        label = "deadline" if len(deadlines) == 1 else f"deadline of {names}"
        axes.axhline(seconds * 1000, color=COLOURS[3], linestyle=":", label=label)
    if answered:
        logarithmic(axes)
    return finished(
        figure,
        axes,
        "latencies",
        "Latency percentiles over time",
        "Of accepted calls, counted from when each was scheduled; a logarithmic axis.",
    )


def distribution(seconds: np.ndarray, deadlines: Mapping[str, float]) -> str:
    """Latency by percentile, as HdrHistogram plots it: each step to the right is ten times rarer."""
    figure, axes = drawing("percentile", "ms")
    last = max(1.0, log10(max(1, len(seconds))))
    if len(seconds):
        places = np.linspace(0, last, STEPS)
        values = np.quantile(seconds, 1 - 10**-places, method="inverted_cdf") * 1000
        axes.plot(places, values, color=COLOURS[0], label="accepted calls")
        logarithmic(axes)
    axes.set_xticks([at for at, _ in NINES if at <= last], [label for at, label in NINES if at <= last])
    for deadline in sorted(set(deadlines.values())):
        axes.axhline(deadline * 1000, color=COLOURS[3], linestyle=":", label=f"{deadline * 1000:g} ms")
    return finished(
        figure,
        axes,
        "distribution",
        "Latency by percentile",
        f"Of {len(seconds)} accepted calls; each step to the right is ten times rarer.",
    )


def batch_sizes(sizes: Points) -> str:
    """Mean rows of a batch between two looks at the server's metrics, over time."""
    figure, axes = drawing("seconds", "rows")
    axes.plot(*coordinates(sizes), color=COLOURS[2], label="mean rows of a batch")
    return finished(
        figure,
        axes,
        "batches",
        "Batch size over time",
        "Mean rows that ran together, from the server's own metrics.",
    )


def goodput_by_caller(callers: Mapping[str, Sequence[Window]]) -> str:
    """Good answers a second over time, a line a caller."""
    figure, axes = drawing("seconds", "good answers a second")
    for at, (name, windows) in enumerate(callers.items()):
        colour, style = look(at)
        times = [each.start_s + each.width_s / 2 for each in windows]
        axes.plot(times, [each.goodput for each in windows], style, color=colour, label=plain(name))
    return finished(
        figure,
        axes,
        "callers",
        "Goodput by caller over time",
        f"Good answers a second of {len(callers)} callers.",
    )


def goodput_plot(
    series: Mapping[str, Points],
    *,
    title: str = "Goodput over offered load",
    description: str = "",
    x_label: str = "offered load",
    y_label: str = "goodput",
) -> str:
    """A file of its own: goodput over offered load, one line a server; readable on white and on dark pages.

    Args:
        series: by the server's name: (offered, goodput), in any unit.
        title: above the plot.
        description: for whoever cannot see it.
        x_label: with the unit.
        y_label: likewise.
    """
    figure, axes = drawing(x_label, y_label)
    for at, (name, points) in enumerate(series.items()):
        colour, style = look(at)
        axes.plot(
            *coordinates(sorted(points)), style, marker="o", markersize=4, color=colour, label=plain(name)
        )
    words = description or f"One line each: {', '.join(series)}."
    drawn = finished(figure, axes, "goodput", title, words, heading=title)
    return drawn.replace("<title", f"{PAPER}<title", 1)


def drawing(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    with mpl.rc_context(RC):
        figure = Figure((WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
    axes.set_xlabel(plain(x_label))
    axes.set_ylabel(plain(y_label))
    return figure, axes


def finished(
    figure: Figure, axes: Axes, name: str, title: str, description: str, *, heading: str = ""
) -> str:
    """The SVG element, whose ids begin with the name, so that several can stand in one page; a heading only if it is drawn."""
    if axes.get_legend_handles_labels()[0]:
        with mpl.rc_context(RC):
            # Beside the plot, where it covers no line.
            figure.legend(
                loc="outside upper left",
                ncols=4,
                title=plain(heading) or None,
                title_fontsize=12,
                alignment="left",
            )
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    text = StringIO()
    with mpl.rc_context(RC):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>\s*", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg).replace(INK, "currentColor")
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"|<svg ([^>]*?)height="[^"]*"', r"<svg \1\2", svg)
    svg = re.sub(r'height="[^"]*pt" ', "", svg, count=1)
    label = f'role="img" aria-labelledby="{name}-title {name}-description"'
    words = (
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-description">{html.escape(description)}</desc>'
    )
    return re.sub(r"<svg ([^>]*)>", rf"<svg {label} \1>{words}", svg, count=1)


def logarithmic(axes: Axes) -> None:
    """A logarithmic axis that says 200 and not 2·10²."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def look(at: int) -> tuple[str, str]:
    """Colour and style of a line; all differ up to as many as there are of both."""
    return COLOURS[at % len(COLOURS)], STYLES[(at + at // len(COLOURS)) % len(STYLES)]


def coordinates(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def plain(text: str) -> str:
    """Text as it is: matplotlib reads what stands between dollars as formulas, and leaves out labels with an underscore."""
    shown = text.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
