"""What fills a model's inputs from what callers send, where that is cheap: texts, bytes, records.

A filler is made for one input of the skill and one model, and turns the values of a run's rows into the model's tensors;
a value that cannot be turned into any costs its own row only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from headrace.backends.base import Declared
from headrace.errors import InvalidItem, LoadFailed
from headrace.messages import NUMPY_TYPES, Datatype
from headrace.transforms.kinds import BytesStep, RecordStep, TextStep
from headrace.transforms.raw import EndsOf
from headrace.transforms.record import Records, range_of
from headrace.transforms.text import Tokens, padded_rows

Arrays = dict[str, np.ndarray]
Axis = int | str | None

USUAL_NAMES = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
FILE_BYTES = 3000
"""Of a made-up file: long enough to have both ends."""


class Filled(Protocol):
    """The tensors of a run's rows, still to be cut into runs.

    Attributes:
        errors: row → why it has none.
        lengths: tokens of each row; empty where rows are equally long.
    """

    errors: dict[int, Exception]
    lengths: list[int]

    def tensors(self, rows: Sequence[int]) -> Arrays:
        """The model's inputs for these rows, in this order."""


class Filler(Protocol):
    """Fills some of a model's inputs from one input of its skill.

    Attributes:
        fills: the model's inputs that callers no longer send.
        batch: the first axis of those inputs.
        joins_lengths: whether rows of different lengths can share a run.
        mask: the input that says which tokens count; None if there is none.
    """

    name: str
    fills: tuple[str, ...]
    batch: Axis
    joins_lengths: bool
    mask: str | None

    def fill(self, values: Sequence[bytes]) -> Filled:
        """Turn the values of all rows into tensors."""

    def made_up(self, seed: int, samples: Sequence[Any]) -> bytes:
        """A value that is taken; `samples` are what the skill has for examples of this input."""


@dataclass
class FilledRows:
    """Rows of equal shapes."""

    arrays: Arrays
    errors: dict[int, Exception] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)

    def tensors(self, rows: Sequence[int]) -> Arrays:
        count = len(next(iter(self.arrays.values())))
        if len(rows) == count and list(rows) == list(range(count)):
            return self.arrays
        return {name: array[list(rows)] for name, array in self.arrays.items()}


class FilledTexts:
    """Rows of tokens, padded to the longest of those that are asked for together."""

    def __init__(self, filler: "TextFiller", encodings: list[Any], errors: dict[int, Exception]) -> None:
        self.errors = errors
        self.lengths = [len(each) for each in encodings]
        self._filler = filler
        self._encodings = encodings

    def tensors(self, rows: Sequence[int]) -> Arrays:
        filler = self._filler
        length = filler.length or max(1, *(self.lengths[row] for row in rows))
        chosen = [self._encodings[row] for row in rows]
        return {
            name: padded_rows([getattr(each, attribute) for each in chosen], length, pad, dtype)
            for name, attribute, pad, dtype in filler.columns
        }


class TextFiller:
    """Token ids, attention mask and token types from a text."""

    def __init__(
        self, name: str, step: TextStep, inputs: dict[str, Declared], pads: dict[str, float]
    ) -> None:
        """Find the model's inputs for tokens.

        Raises:
            LoadFailed: the model has none of these names, or the tokenizer cannot be opened.
        """
        self.name = name
        named = {**USUAL_NAMES, **step.tensors}
        if unknown := set(step.tensors).difference(USUAL_NAMES):
            raise LoadFailed(
                f"input '{name}' has `tensors` for {', '.join(sorted(unknown))}: there are ids, mask and types"
            )
        for role, tensor in named.items():
            if tensor not in inputs and (role in step.tensors or role == "ids"):
                raise LoadFailed(
                    f"input '{name}' is to fill '{tensor}' with its {'token ids' if role == 'ids' else role}, and the "
                    f"model's inputs are {', '.join(inputs)}: name them with `tensors: {{{role}: NAME}}`"
                )
        roles = {role: inputs[tensor] for role, tensor in named.items() if tensor in inputs}
        self.fills = tuple(each.name for each in roles.values())
        for each in roles.values():
            check_integers(name, each)
        ids = roles["ids"]
        self.batch: Axis = ids.axes[0] if ids.axes else None
        sizes = [each.axes[-1] for each in roles.values() if each.axes]
        self.length = next((size for size in sizes if isinstance(size, int)), None)
        self.mask = roles["mask"].name if "mask" in roles else None
        self.joins_lengths = self.mask is not None or self.length is not None
        self._tokens = Tokens(name, step, self.length)
        attributes = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}
        padding = {"ids": self._tokens.pad_id, "mask": 0, "types": 0}
        self.columns = [
            (each.name, attributes[role], int(pads.get(each.name, padding[role])), NUMPY_TYPES[each.datatype])
            for role, each in roles.items()
        ]

    def fill(self, values: Sequence[bytes]) -> FilledTexts:
        return FilledTexts(self, *self._tokens.encode(values))

    def made_up(self, seed: int, samples: Sequence[Any]) -> bytes:
        return self._tokens.made_up(seed, [each for each in samples if isinstance(each, str)]).encode()

    def longest(self) -> bytes:
        """A text of as many tokens as there may be."""
        return self._tokens.longest().encode()


class BytesFiller:
    """Both ends of a file as numbers."""

    joins_lengths = True
    mask: str | None = None

    def __init__(self, name: str, step: BytesStep, target: Declared) -> None:
        """Hold what is kept of a file against the model's input.

        Raises:
            LoadFailed: they have different widths.
        """
        self.name = name
        self.fills: tuple[str, ...] = (target.name,)
        self.batch: Axis = target.axes[0] if target.axes else None
        check_numbers(name, target)
        self._ends = EndsOf(step.ends, NUMPY_TYPES[target.datatype])
        check_width(name, target, self._ends.width, "`head` and `tail` together")

    def fill(self, values: Sequence[bytes]) -> FilledRows:
        return FilledRows({self.fills[0]: self._ends.rows(list(values))})

    def made_up(self, seed: int, samples: Sequence[Any]) -> bytes:  # noqa: ARG002 - examples of files are names
        rng = np.random.default_rng(seed)
        return rng.integers(32, 127, FILE_BYTES + int(rng.integers(FILE_BYTES)), np.uint8).tobytes()


class RecordFiller:
    """The features of a record, as one vector or as a column each."""

    joins_lengths = True
    mask: str | None = None

    def __init__(self, name: str, step: RecordStep, targets: list[Declared]) -> None:
        """Hold the features against the model's input, or its inputs where it has one a feature.

        Raises:
            LoadFailed: there are more or fewer features than the vector has elements.
        """
        self.name = name
        self._targets = targets
        self._is_vector = len(targets) == 1 and targets[0].name not in step.features
        columns = (
            dict.fromkeys(step.features, targets[0])
            if self._is_vector
            else {each.name: each for each in targets}
        )
        self.fills: tuple[str, ...] = tuple(each.name for each in targets)
        self.batch: Axis = targets[0].axes[0] if targets[0].axes else None
        for each in targets:
            if self._is_vector or each.datatype is not Datatype.BYTES:
                check_numbers(name, each)
        if self._is_vector:
            check_width(name, targets[0], len(step.features), "features")
        ranges = {
            feature: range_of(NUMPY_TYPES[each.datatype])
            for feature, each in columns.items()
            if each.datatype is not Datatype.BYTES
        }
        self._records = Records(step.features, ranges)

    def fill(self, values: Sequence[bytes]) -> FilledRows:
        errors: dict[int, Exception] = {}
        rows: list[list[Any]] = []
        for at, content in enumerate(values):
            try:
                rows.append(self._row(content))
            except InvalidItem as exc:
                errors[at] = exc
                rows.append([0] * len(self._records.features))
        if self._is_vector:
            target = self._targets[0]
            return FilledRows({target.name: np.array(rows, NUMPY_TYPES[target.datatype])}, errors)
        columns = zip(*rows, strict=True)
        return FilledRows(
            {each.name: as_column(each, values) for each, values in zip(self._targets, columns, strict=True)},
            errors,
        )

    def made_up(self, seed: int, samples: Sequence[Any]) -> bytes:  # noqa: ARG002 - any record is as long as any other
        return self._records.made_up(np.random.default_rng(seed))

    def _row(self, content: bytes) -> list[Any]:
        if self._is_vector:
            return self._records.numbers(content)
        row: list[Any] = []
        values = self._records.values(content)
        for feature, target, value in zip(self._records.features, self._targets, values, strict=True):
            number = feature.number(value)
            row.append(str(value).encode() if target.datatype is Datatype.BYTES else number)
        return row


def as_column(target: Declared, values: Sequence[Any]) -> np.ndarray:
    """One feature of all rows, [rows] or [rows, 1] as the model has it."""
    if target.datatype is Datatype.BYTES:
        column = np.empty(len(values), object)
        column[:] = [each or b"" for each in values]
    else:
        column = np.array(values, NUMPY_TYPES[target.datatype])
    is_flat = target.axes is not None and len(target.axes) == 1
    return column if is_flat else column[:, None]


def check_integers(name: str, target: Declared) -> None:
    if target.datatype is Datatype.BYTES or NUMPY_TYPES[target.datatype].kind not in "iuf":
        raise LoadFailed(
            f"input '{name}' is to fill '{target.name}', which is {target.datatype} and takes no tokens"
        )


def check_numbers(name: str, target: Declared) -> None:
    if target.datatype in {Datatype.BYTES, Datatype.BF16}:
        raise LoadFailed(
            f"input '{name}' is to fill '{target.name}', which is {target.datatype} and takes no numbers"
        )


def check_width(name: str, target: Declared, width: int, what: str) -> None:
    if target.axes is None:
        return
    if len(target.axes) != 2:  # noqa: PLR2004 - rows and elements
        raise LoadFailed(
            f"input '{name}' is to fill '{target.name}', which has {len(target.axes)} axes and not rows and elements"
        )
    size = target.axes[1]
    if isinstance(size, int) and size != width:
        raise LoadFailed(
            f"input '{name}' is to fill '{target.name}', which takes {size} numbers a row, and {what} make {width}"
        )
