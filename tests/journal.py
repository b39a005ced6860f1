"""What a fake backend was given to run, as it wrote it down (`journal` of headrace.testing's FakeBackend)."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple


class Ran(NamedTuple):
    """A run: when it began, in which process, and the number each of its rows begins with."""

    at: float
    pid: int
    numbers: list[float]


def read(path: Path) -> list[Ran]:
    """All runs so far; none if there is no journal yet."""
    if not path.exists():
        return []
    return [Ran(*json.loads(line)) for line in path.read_text().splitlines()]


def with_any(runs: list[Ran], numbers: Collection[float]) -> list[Ran]:
    """Those that had one of the numbers among their rows."""
    return [each for each in runs if not set(numbers).isdisjoint(each.numbers)]
