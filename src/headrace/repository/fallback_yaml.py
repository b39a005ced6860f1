"""The form of a skill.yaml's `fallback`: what answers, and why, where the skill cannot. skill_fallback.py checks it."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from headrace.repository.section import Duration, Name, Section

STEP_KINDS = ("variant", "stale", "static")


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
