"""Rows of modules that can also be run by themselves: each has `rows() -> list[dict]`, a dictionary a line of its table.

The keys are the columns, in their order. Beside them a line may have

    "target"   what was to be reached, in words; lines with the same words are one target
    "found"    what was found of it, in words
    "reached"  whether it was, or None where it could not be judged
"""

from collections.abc import Sequence
from typing import Any

from report import Row, Target

JUDGED = ("target", "found", "reached")


def as_row(title: str, how: str, lines: Sequence[dict[str, Any]]) -> Row:
    """For the report."""
    row = Row(title, how)
    row.columns = list(dict.fromkeys(key for line in lines for key in line if key not in JUDGED))
    row.lines = [[shown(line.get(key)) for key in row.columns] for line in lines]
    texts = dict.fromkeys(str(line["target"]) for line in lines if line.get("target"))
    row.targets = [judged(text, [line for line in lines if line.get("target") == text]) for text in texts]
    row.raw = {"lines": list(lines)}
    return row


def judged(text: str, lines: Sequence[dict[str, Any]]) -> Target:
    """Reached if every line did; what is said is what those said that did not, or all if all did."""
    reached = [line.get("reached") for line in lines]
    verdict = False if False in reached else None if None in reached else True
    told = [str(line["found"]) for line in lines if line.get("found") and line.get("reached") is verdict]
    return Target(text, verdict, "; ".join(dict.fromkeys(told)))


def shown(value: object) -> str:
    """A cell."""
    if value is None:
        return "-"
    return f"{value:,.3g}" if isinstance(value, float) else str(value)
