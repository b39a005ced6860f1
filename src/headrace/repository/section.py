"""What all sections of a skill.yaml have in common."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Name = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Unit of a duration → seconds."""
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d)")
LONGEST_S = 365 * UNITS["d"]


class Section(BaseModel):
    """Part of a skill.yaml: unknown keys are mistakes, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


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
