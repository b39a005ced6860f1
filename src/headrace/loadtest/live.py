"""What a person sees while a run lasts: a table that grows by a line a second on a terminal, plain lines elsewhere."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from headrace.loadtest.sender import Progress

COLUMNS = (
    *("s", "offered", "served", "good", "refused", "failed", "gave up", "out"),
    *("p50 ms", "p99 ms", "lag ms", "batch"),
)
LEAST_WIDTH = 80
"""Of a terminal on which a table cuts off nothing; on a narrower one, lines are wrapped."""
MOST_LINES = 15
"""What is older scrolls away; the report has all."""
NONE = "-"
LARGE = 999.5
"""From here on three digits would be an exponent."""


class LiveTable:
    """Shows each Progress as a line. A context manager: the terminal is its own while it is entered."""

    def __init__(self, console: Console, batch_size: Callable[[], float | None]) -> None:
        """Where to write, and what gives the latest mean batch size, if it is known."""
        self._console = console
        self._batch_size = batch_size
        # The mutable state: the lines that are shown, and whether the plain ones have got their heading.
        self._lines: deque[tuple[str, ...]] = deque(maxlen=MOST_LINES)
        self._has_heading = False
        self._is_table = console.is_terminal and console.width >= LEAST_WIDTH
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._is_table:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Show what the sender saw in the last second."""
        line = cells(progress, self._batch_size())
        self._lines.append(line)
        if self._is_table:
            self._live.update(self._table(), refresh=True)
            return
        if not self._has_heading:
            self._print(COLUMNS)
            self._has_heading = True
        self._print(line)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
        for name in COLUMNS:
            table.add_column(name, justify="right", no_wrap=True)
        for line in self._lines:
            table.add_row(*line)
        return table

    def _print(self, line: tuple[str, ...]) -> None:
        text = "  ".join(cell.rjust(len(name)) for cell, name in zip(line, COLUMNS, strict=True))
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def cells(progress: Progress, batch_size: float | None) -> tuple[str, ...]:
    """A line, in the order of COLUMNS."""
    counts = (
        *(progress.offered, progress.served, progress.good),
        *(progress.refused, progress.failed + progress.not_sent, progress.gave_up, progress.out),
    )
    return (
        f"{progress.at_s:.0f}",
        *map(str, counts),
        milliseconds(progress.p50_s) if progress.served else NONE,
        milliseconds(progress.p99_s) if progress.served else NONE,
        milliseconds(progress.lag_p99_s),
        NONE if batch_size is None else f"{batch_size:.1f}",
    )


def milliseconds(seconds: float) -> str:
    """Three digits and no exponent: 0.312, 12.4, 1250."""
    value = seconds * 1000
    return f"{value:.3g}" if value < LARGE else f"{value:.0f}"
