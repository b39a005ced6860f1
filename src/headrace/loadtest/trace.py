"""Recorded arrivals from a CSV file: when each call came, and if the file says so whose it was, of what, and how long.

Columns are found by their headers, so that published traces are read as they are: Azure's of LLM inference (TIMESTAMP,
ContextTokens, GeneratedTokens) as well as an access log with a time in seconds.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil, isfinite
from pathlib import Path
from typing import TextIO

import numpy as np

from headrace.errors import ConfigurationError

TIME = ("time", "timestamp", "arrival", "seconds")
KEY = ("key", "input", "func", "url")
CALLER = ("caller", "tenant", "user", "app")
LENGTH = ("length", "tokens", "contexttokens", "size")
"""What the columns may be called, in any case of letters."""
MOST_CALLERS = (1 << 15) - 1
MOST_LENGTH = (1 << 31) - 1


@dataclass(frozen=True)
class Trace:
    """Calls in the order of time, as they were recorded.

    Attributes:
        times: float64, seconds from the first call on, growing.
        keys: int32, calls with equal entries in the file have equal keys, numbered as they first come; None without
            such a column.
        callers: int16, index into `names`; None without such a column.
        names: of the callers.
        lengths: int32, as recorded; None without such a column.
    """

    times: np.ndarray
    keys: np.ndarray | None = None
    callers: np.ndarray | None = None
    names: tuple[str, ...] = ()
    lengths: np.ndarray | None = None

    @property
    def seconds(self) -> float:
        """From the first call to the last, and as long again as there is between two on average."""
        return float(self.times[-1]) * len(self.times) / max(1, len(self.times) - 1) or 1.0

    def scaled(self, rate: float) -> "Trace":
        """The same calls, faster or slower, so that on average `rate` come a second.

        Raises:
            ConfigurationError: they came all at once, which no factor changes.
        """
        if not self.times[-1]:
            raise ConfigurationError("the trace's calls came all at once: it has no rate to change")
        return replace(self, times=self.times * (len(self.times) / (rate * self.seconds)))

    def repeated(self, seconds: float) -> "Trace":
        """The same calls from the beginning again as often as it takes, up to that length."""
        times = self.times
        rounds = max(1, ceil(seconds / self.seconds))
        joined = (np.arange(rounds)[:, None] * self.seconds + times).ravel()
        kept = joined < seconds
        return Trace(
            joined[kept],
            None if self.keys is None else np.tile(self.keys, rounds)[kept],
            None if self.callers is None else np.tile(self.callers, rounds)[kept],
            self.names,
            None if self.lengths is None else np.tile(self.lengths, rounds)[kept],
        )


def read_trace(path: Path) -> Trace:
    """The trace of a CSV file with a header line; its rows may stand in any order.

    Times are numbers of seconds or ISO 8601 (of which those without a zone are in UTC).

    Raises:
        ConfigurationError: it cannot be read, has no such column or no row, or a cell is wrong; with the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _trace(path, _rows(file))
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise ConfigurationError(f"{path} is not a CSV file in UTF-8: {exc}") from exc


def _rows(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the number of its line."""
    reader = csv.reader(file)
    return ((reader.line_num, row) for row in reader if row)


def _trace(path: Path, rows: Iterator[tuple[int, list[str]]]) -> Trace:
    header = [each.strip().lower() for each in next(rows, (1, []))[1]]
    time_at, key_at, caller_at, length_at = (_column(header, each) for each in (TIME, KEY, CALLER, LENGTH))
    if time_at is None:
        raise ConfigurationError(
            f"{path}: line 1 names no column of times: call one of them time, in seconds, or timestamp"
        )
    times, keys, callers, lengths = [], [], [], []
    for line, row in rows:
        if len(row) != len(header):
            raise ConfigurationError(
                f"{path}: line {line} has {len(row)} cells and the header has {len(header)}"
            )
        times.append(_time(path, line, row[time_at]))
        keys.append(row[key_at] if key_at is not None else "")
        callers.append(_caller(path, line, row[caller_at]) if caller_at is not None else "")
        lengths.append(_length(path, line, row[length_at]) if length_at is not None else 0)
    if not times:
        raise ConfigurationError(f"{path} has no line after its header: a trace is one line a call")
    order = np.argsort(times, kind="stable")
    from_first = np.array(times, float)[order]
    names, indices = _numbered([callers[each] for each in order])
    if len(names) > MOST_CALLERS:
        raise ConfigurationError(f"{path} has {len(names)} callers: at most {MOST_CALLERS} can be told apart")
    return Trace(
        from_first - from_first[0],
        None if key_at is None else np.array(_numbered([keys[each] for each in order])[1], np.int32),
        None if caller_at is None else np.array(indices, np.int16),
        () if caller_at is None else names,
        None if length_at is None else np.array(lengths, np.int32)[order],
    )


def _column(header: list[str], names: Sequence[str]) -> int | None:
    return next((header.index(each) for each in names if each in header), None)


def _time(path: Path, line: int, cell: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        try:
            found = datetime.fromisoformat(cell.strip())
        except ValueError:
            raise ConfigurationError(
                f"{path}: line {line}: '{cell}' is neither a number of seconds nor a time like 2026-01-31T12:00:00.5"
            ) from None
        seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not isfinite(seconds):
        raise ConfigurationError(f"{path}: line {line}: '{cell}' is no time")
    return seconds


def _length(path: Path, line: int, cell: str) -> int:
    try:
        length = int(cell)
    except ValueError:
        length = MOST_LENGTH + 1
    if abs(length) > MOST_LENGTH:
        raise ConfigurationError(
            f"{path}: line {line}: '{cell}' is not a whole number for a length, up to {MOST_LENGTH}"
        )
    return length


def _caller(path: Path, line: int, cell: str) -> str:
    if not cell.isprintable():
        raise ConfigurationError(
            f"{path}: line {line}: {cell!r} is no name of a caller: headers cannot carry it"
        )
    return cell


def _numbered(cells: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """The distinct cells as they first come, and for each cell which it is."""
    numbers: dict[str, int] = {}
    indices = [numbers.setdefault(each, len(numbers)) for each in cells]
    return tuple(numbers), indices
