"""What the four skills have in common for the demo: how they are built, asked, and answered without a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

HOME = Path(__file__).with_name("skills")
"""Where the skills' own files lie: what their folders hold besides models and data."""


@dataclass(frozen=True)
class Case:
    """An item to ask with, and what is right.

    Attributes:
        item: input name → value, as callers send it; a Path is a file to send.
        truth: the label; empty if nobody knows.
    """

    item: dict[str, Any]
    truth: str = ""


class Verdict(NamedTuple):
    """A label and how sure the model is of it, from 0 to 1."""

    label: str
    score: float


class Skill(Protocol):
    """One of the four.

    Attributes:
        name: of its folder, and what it is served as.
        output: the one of its outputs that has the label.
        judged_on: what its cases are, in words.
        shown: how many of the cases it is shown with.
    """

    name: str
    output: str
    judged_on: str

    def build(self, folder: Path) -> None:
        """Write the model, and whatever else skill.yaml names, into the skill's folder."""

    def shown(self) -> list[Case]:
        """A few items that a reader understands."""

    def cases(self) -> list[Case]:
        """Items that the model was not trained on, always the same."""

    def bare(self, cases: Sequence[Case]) -> list[Verdict]:
        """What the model answers without headrace, prepared by other code than headrace's."""
