"""Holds what is served against the model by itself: the same verdicts, the same probabilities, the same accuracy."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from case import Case, Skill, Verdict

TOLERANCE = 1e-4
"""Of a probability: a batch is not summed in the same order as a single row."""


class Comparison(NamedTuple):
    """What came of one skill's cases.

    Attributes:
        right, bare_right: cases with the true label, served and by the model itself; None where no truth is known.
        usual: cases that have the commonest label: what somebody gets right who always says the same.
        agreed: cases whose two labels are the same.
        largest: difference between two probabilities.
    """

    skill: Skill
    cases: int
    right: int | None
    bare_right: int | None
    usual: int | None
    agreed: int
    largest: float

    @property
    def is_equal(self) -> bool:
        return self.agreed == self.cases and self.largest <= TOLERANCE


def compare(
    skill: Skill, cases: Sequence[Case], served: Sequence[Verdict], bare: Sequence[Verdict]
) -> Comparison:
    pairs = list(zip(served, bare, strict=True))
    agreed = sum(one.label == other.label for one, other in pairs)
    largest = max(abs(one.score - other.score) for one, other in pairs)
    if not all(case.truth for case in cases):
        return Comparison(skill, len(cases), None, None, None, agreed, largest)
    usual = Counter(case.truth for case in cases).most_common(1)[0][1]
    return Comparison(skill, len(cases), right(cases, served), right(cases, bare), usual, agreed, largest)


def right(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> int:
    return sum(case.truth == verdict.label for case, verdict in zip(cases, verdicts, strict=True))


def verdict(skill: Skill, answer: dict[str, Any]) -> Verdict:
    """The label in a served answer."""
    found = answer[skill.output]
    return Verdict(found["label"], found["score"])
