"""The backend of a transform worker: decodes images and runs a skill's own code, one item a row.

An item is a row of BYTES: one byte of operation, then what steps.py encodes. `before` gives the model's tensors of one
row, `after` an answer in JSON. What is wrong with an item costs that item only.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headrace.backends.base import Declared, ItemErrors
from headrace.errors import InferenceFailed, InvalidItem, InvalidRequest, LoadFailed
from headrace.messages import Datatype, ModelSpec, TensorSpec
from headrace.model_config import ModelConfig
from headrace.transforms.alarm import Alarm
from headrace.transforms.code import UserCode, datatype_of
from headrace.transforms.image import Photos
from headrace.transforms.kinds import (
    MOST_ROWS,
    ImageStep,
    Picture,
    Steps,
    ValueStep,
    item_limit_s,
    parse_steps,
)
from headrace.transforms.steps import (
    AFTER,
    BEFORE,
    Tensors,
    as_array,
    decode_item,
    decode_tensors,
    encode_tensors,
)

ITEM = "item"
NAME = "transform"


class TransformBackend:
    """Runs the steps of one skill that have a worker of their own."""

    platform = NAME
    inputs: tuple[Declared, ...] = (Declared(ITEM, Datatype.BYTES, (None,)),)
    outputs: tuple[Declared, ...] = (Declared(ITEM, Datatype.BYTES, (None,)),)

    def __init__(self) -> None:
        self._steps = Steps()
        self._photos: dict[str, tuple[str, Photos]] = {}
        self._values: dict[str, tuple[str, Photos | None]] = {}
        self._code: UserCode | None = None
        self._alarm: Alarm

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:  # noqa: ARG002 - the files are in the steps
        """Read the steps.

        Raises:
            LoadFailed: an image step contradicts itself, or transform.py cannot be loaded.
        """
        self._steps = parse_steps(config.steps)
        for name, step in self._steps.inputs.items():
            if isinstance(step, ImageStep):
                self._photos[name] = (step.to or name, Photos(name, step.image))
            elif isinstance(step, ValueStep):
                photos = Photos(name, Picture(resize="none")) if step.value == "image" else None
                self._values[name] = (step.value, photos)
        self._alarm = Alarm(item_limit_s(config.steps))
        if self._steps.transform is not None:
            self._code = UserCode(self._steps.transform)
        if self._values and (self._code is None or not self._code.has_before):
            raise LoadFailed(
                f"inputs {', '.join(self._values)} are values for the skill's own code: "
                "write transform.py with a class Transform that has before(self, item)"
            )

    def clone(self) -> "TransformBackend":
        """Another with an object of the skill's class of its own."""
        other = TransformBackend()
        other._steps, other._photos, other._values = self._steps, self._photos, self._values
        other._alarm = self._alarm
        if self._steps.transform is not None:
            other._code = UserCode(self._steps.transform)
        return other

    def describe(self, name: str, version: str) -> ModelSpec:
        """Rows share a run, since each is transformed by itself; nothing is tried out on made-up items."""
        item = TensorSpec(ITEM, Datatype.BYTES, (-1,), batch_axis=0)
        return ModelSpec(name, version, NAME, (item,), (item,), MOST_ROWS, joins_requests=True)

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:  # noqa: ARG002 - it has one
        """Transform each row.

        Raises:
            ItemErrors: some rows failed.
        """
        items = inputs[ITEM].ravel().tolist()
        results = np.full(len(items), b"", object)
        errors: dict[int, Exception] = {}
        try:
            for row, item in enumerate(items):
                self._alarm.begin_item()
                try:
                    results[row] = self._perform(item)
                except (InvalidRequest, InferenceFailed) as exc:
                    errors[row] = exc
        finally:
            self._alarm.end()
        if errors:
            raise ItemErrors([results], errors)
        return [results]

    def _perform(self, item: bytes) -> bytes:
        operation, content = item[:1], item[1:]
        try:
            if operation == BEFORE:
                return self._before(decode_item(content))
            if operation == AFTER:
                return self._after(decode_tensors(content))
        except msgspec.DecodeError as exc:
            raise InvalidRequest(f"the item is not what the gateway sends: {exc}") from exc
        raise InvalidRequest("there is no such operation")

    def _before(self, item: dict[str, Any]) -> bytes:
        arrays = {to: photos.tensor(given(name, item)) for name, (to, photos) in self._photos.items()}
        if self._values and self._code is not None:
            values = {name: value_of(name, item, *each) for name, each in self._values.items()}
            arrays |= self._code.before(values)
        return encode_tensors(arrays, {name: datatype_of(array) for name, array in arrays.items()})

    def _after(self, tensors: Tensors) -> bytes:
        if self._code is None:
            raise InvalidRequest("the skill has no code of its own")
        return self._code.after({name: as_array(*each) for name, each in tensors.items()})


def given(name: str, item: dict[str, Any]) -> Any:
    if name not in item:
        raise InvalidItem(f"'{name}' is missing")
    return item[name]


def value_of(name: str, item: dict[str, Any], kind: str, photos: Photos | None) -> Any:
    """One value as the skill's code gets it.

    Raises:
        InvalidItem: it is not what the skill declares.
    """
    value = given(name, item)
    if kind == "number" or not isinstance(value, bytes):
        return value
    if photos is not None:
        return np.asarray(photos.decoded(value))
    try:
        if kind == "text":
            return value.decode()
        return msgspec.json.decode(value) if kind == "json" else value
    except UnicodeDecodeError as exc:
        raise InvalidItem(f"'{name}' is not UTF-8: {exc}") from exc
    except (msgspec.DecodeError, RecursionError) as exc:
        raise InvalidItem(f"'{name}' is no JSON: {exc}") from exc
