"""The form of a skill.yaml's `fallback`: what answers, and why, where the skill cannot. skill_fallback.py checks it."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from headrace.repository.section import Name, Section

UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Unit of a duration → seconds."""
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d)")
LONGEST_S = 365 * UNITS["d"]
STEP_KINDS = ("variant", "stale", "static")


def seconds(given: Any) -> float:
    """A duration as it is written, 500ms, 30s, 10m, 6h, 7d or a number of seconds, in seconds.

    Raises:
        ValueError: it is none, nothing, or longer than a year.
    """
    if isinstance(given, str):
        match = DURATION.fullmatch(given)
        if match is None:
            raise ValueError(f"should be a duration, as in 500ms, 30s, 10m, 6h or 7d, and is {given[:50]}")
        value = float(match[1]) * UNITS[match[2]]
    elif isinstance(given, int | float) and not isinstance(given, bool):
        value = float(given)
    else:
        raise ValueError("should be a duration, as in 500ms, 30s, 10m, 6h, 7d, or a number of seconds")  # noqa: TRY004 - pydantic takes no other
    if not 0 < value <= LONGEST_S:
        raise ValueError(f"should be above 0 and at most 365d, and is {str(given)[:50]}")
    return value


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^{DURATION.pattern}$"},
                {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_S},
            ]
        }
    ),
]


def step_of(value: Any) -> str | None:
    keys = [key for key in STEP_KINDS if key in value] if isinstance(value, dict) else []
    return f"|{keys[0]}" if len(keys) == 1 else None


class VariantStep(Section):
    """Another variant of the skill."""

    variant: Name
    """Its name under variants."""


class StaleStep(Section):
    """The answer that the same request was given before."""

    stale: Duration = Field(examples=["6h"])
    """How old it may be: 500ms, 30s, 10m, 6h, 7d, or a number of seconds."""


class StaticStep(Section):
    """The same answer for everybody."""

    static: Name = Field(examples=["popular.json"])
    """JSON file beside skill.yaml with an answer as callers read it, by output name; read again when it changes."""


Step = Annotated[
    Annotated[VariantStep, Tag("|variant")]
    | Annotated[StaleStep, Tag("|stale")]
    | Annotated[StaticStep, Tag("|static")],
    Discriminator(step_of),
]


class FallbackSection(Section):
    """What answers where the skill cannot."""

    on: list[Literal["overload", "deadline", "breaker", "loading", "error"]] = Field(
        default=["overload", "deadline", "breaker", "loading", "error"], min_length=1
    )
    """When: too much waits, its time is over, its breaker is open, it is not loaded, or it failed; all of them if left out."""

    chain: list[Step] = Field(min_length=1, examples=[[{"variant": "small"}, {"static": "popular.json"}]])
    """What is tried, in turn, until one answers."""
