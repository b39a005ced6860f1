"""The file with a skill's static answer: one JSON object, by output name, as callers of the skills API read it.

As in {"sentiment": {"label": "neutral", "score": 0.5}, "vector": [0, 0, 1]}.
"""

from pathlib import Path
from typing import Any

import msgspec

MOST_BYTES = 1 << 20
"""Of a file: it is read on the loop, and kept."""

_decode = msgspec.json.Decoder().decode


class Told(msgspec.Struct, forbid_unknown_fields=True):
    """A label, and how sure that is; both null where a threshold left none."""

    label: str | None
    score: float | None = None


class Labelled(Told, forbid_unknown_fields=True):
    """What a labels output is: the best of them, and all that are told, best first, if it tells several."""

    top: list[Told] | None = None


def read_answer(file: Path) -> dict[str, Any]:
    """What the file holds.

    Raises:
        ValueError: it is none, with what to do.
    """
    try:
        if not file.is_file():
            raise ValueError(f"there is no file {file.name}")
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as exc:
        raise ValueError(f"{file.name} cannot be read: {exc.strerror}") from exc
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"{file.name} has more than {MOST_BYTES} bytes: leave out what callers can do without"
        )
    try:
        answer = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(f"{file.name} is not JSON: {exc}") from exc
    if not isinstance(answer, dict):
        raise ValueError(  # noqa: TRY004 - of the content
            f'{file.name} is no JSON object: write the answer by output name, as in {{"y": [1, 2]}}'
        )
    return answer


def read_labels(value: Any) -> list[Told]:
    """The labels of a labels output, best first; empty where there are none.

    Raises:
        ValueError: it is no such answer.
    """
    try:
        given = msgspec.convert(value, Labelled)
    except (msgspec.ValidationError, RecursionError) as exc:
        raise ValueError(f'should have labels, as in {{"label": "good", "score": 0.9}}: {exc}') from exc
    told = given.top or [given]
    return [each for each in told if each.label is not None]
