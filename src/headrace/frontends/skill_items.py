"""From one item of a caller's to one row of a skill's inputs: text, files, records, numbers, nested lists.

What is wrong with an item is said in the caller's words, all of it at once. Items are read into requests directly, not
by way of the protocol's JSON.
"""

import binascii
import json
import struct
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.errors import InvalidRequest
from headrace.messages import Datatype, InferRequest, ModelSpec, Shape, TensorSpec, Wanted
from headrace.protocol.plan import Planner
from headrace.protocol.tensors import decode_data
from headrace.strings import LENGTH

MOST_NUMBERS_BYTES = 1 << 18
"""Of JSON for tensors, in one input and in all items together: longer lists of numbers would hold up the loop."""
ONE_ROW: Shape = (1,)
TENSOR = "tensor"
"""The kind of inputs that are nested lists."""

_text = msgspec.json.Decoder(str).decode
_anything = msgspec.json.Decoder(Any).decode
_number = msgspec.json.Decoder(float).decode


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file in JSON."""

    b64: str


_file = msgspec.json.Decoder(File).decode


class Content(NamedTuple):
    """A file by itself, or a part of a form."""

    data: bytes


Item = Mapping[str, "msgspec.Raw | Content"]
"""By input name: JSON that is not parsed yet, or content as it is."""
Wire = tuple[Shape, bytes]
"""One row of an input: its shape with the batch axis, its tensor bytes."""
OfJson = Callable[[msgspec.Raw], Wire]
OfBytes = Callable[[bytes], Wire]


class Reader(NamedTuple):
    """What an input takes.

    Attributes:
        kind: text, image, bytes, record, json, number or tensor.
        wants: what a caller should send, for errors.
        of_json, of_bytes: raise ValueError, saying what is wrong.
    """

    name: str
    kind: str
    wants: str
    of_json: OfJson
    of_bytes: OfBytes
    is_optional: bool


class ItemReader:
    """Reads the items of one version. What can be worked out once is worked out here."""

    def __init__(self, spec: ModelSpec, steps: dict[str, Any]) -> None:
        self._planner = Planner(spec)
        self._spec = spec
        declared = steps.get("inputs", {})
        self.readers = {each.name: make_reader(each, declared.get(each.name)) for each in spec.inputs}
        self._wanted = Wanted(tuple(range(len(spec.outputs))), (True,) * len(spec.outputs))

    def read(self, item: Item) -> InferRequest:
        """A request of one row.

        Raises:
            InvalidRequest: the item is not what the skill takes.
        """
        wrong: list[str] = []
        rows: list[Wire] = []
        signature: list[tuple[str, str, Shape]] = []
        for spec, (name, reader) in zip(self._spec.inputs, self.readers.items(), strict=True):
            value = item.get(name)
            if value is None:
                rows.append(((), b""))
                if not reader.is_optional:
                    wrong.append(f"input '{name}' is missing: send {reader.wants}")
                continue
            try:
                row = reader.of_bytes(value.data) if isinstance(value, Content) else reader.of_json(value)
            except ValueError as exc:
                wrong.append(f"input '{name}' {exc}")
                continue
            except InvalidRequest as exc:
                wrong.append(str(exc))
                continue
            rows.append(row)
            signature.append((name, spec.datatype, row[0]))
        if len(signature) != len(item) or wrong:
            wrong += [f"there is no input '{name}'" for name in item if name not in self.readers]
            if wrong:
                raise InvalidRequest("; ".join(wrong) + self._there_are(item))
        return self._request(tuple(signature), rows)

    def check_numbers(self, items: list[Item]) -> None:
        """Hold the lists of numbers of all items against what is read here.

        Raises:
            InvalidRequest: together they are too long.
        """
        lists = [name for name, each in self.readers.items() if each.kind == TENSOR]
        values = [value for item in items for name in lists if (value := item.get(name)) is not None]
        nbytes = sum(
            len(value.data) if isinstance(value, Content) else len(memoryview(value)) for value in values
        )
        if nbytes > MOST_NUMBERS_BYTES:
            raise InvalidRequest(
                f"the items have {nbytes} bytes of JSON for tensors, and {MOST_NUMBERS_BYTES} are the limit: send fewer "
                "of them, or to /v2/models/…/infer as binary tensors"
            )

    def _request(self, signature: tuple[tuple[str, str, Shape], ...], rows: list[Wire]) -> InferRequest:
        planner = self._planner
        plan = planner.plan(signature)
        tensors = tuple([data for _, data in rows])
        if planner.is_fixed:
            group, lengths = planner.fixed_group, None
        else:
            group, lengths = planner.group(plan.shapes, tensors, self._wanted, plan.absent)
        return InferRequest(
            "",
            plan.shapes,
            tensors,
            plan.rows,
            group,
            self._wanted,
            sum(map(len, tensors)),
            lengths,
            is_alone=bool(plan.absent),
            absent=plan.absent,
        )

    def _there_are(self, item: Item) -> str:
        """What the skill takes, where a name is unknown."""
        if all(name in self.readers for name in item):
            return ""
        return (
            f"; the skill takes {', '.join(f'{each.name} ({each.wants})' for each in self.readers.values())}"
        )


def make_reader(spec: TensorSpec, step: dict[str, Any] | None) -> Reader:
    kind = kind_of(spec, step)
    wants, of_json, of_bytes = READERS.get(kind, (None, None, None))
    if (
        wants is None
        or of_json is None
        or of_bytes is None
        or (spec.datatype is Datatype.BYTES) == (kind == "number")
    ):
        kind, wants = TENSOR, wants_tensor(spec)

        def of_json(raw: msgspec.Raw) -> Wire:
            return tensor_of_json(spec, raw)

        def of_bytes(content: bytes) -> Wire:
            return tensor_of_json(spec, msgspec.Raw(content))

    return Reader(spec.name, kind, wants, of_json, of_bytes, spec.is_optional)


def kind_of(spec: TensorSpec, step: dict[str, Any] | None) -> str:
    """As declared; what nobody declares is a tensor, and one string a row is text."""
    if step is None:
        is_text = spec.datatype is Datatype.BYTES and spec.batch_axis == 0 and len(spec.shape) == 1
        return "text" if is_text else TENSOR
    kind: str = step["value"] if step["kind"] == "value" else step["kind"]
    return kind


def one(content: bytes) -> Wire:
    """A BYTES tensor of one element."""
    return ONE_ROW, LENGTH.pack(len(content)) + content


def text_of_json(raw: msgspec.Raw) -> Wire:
    try:
        return one(_text(raw).encode())
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise ValueError(f"should be text, and is {shown(raw)}") from exc


def text_of_bytes(content: bytes) -> Wire:
    try:
        content.decode()
    except UnicodeDecodeError as exc:
        raise ValueError("should be text in UTF-8, and is not") from exc
    return one(content)


def file_of_json(raw: msgspec.Raw) -> Wire:
    try:
        text = _file(raw).b64
    except msgspec.DecodeError as exc:
        raise ValueError(f'should be a file, as {{"b64": "..."}} in JSON, and is {shown(raw)}') from exc
    try:
        return one(binascii.a2b_base64(text, strict_mode=True))
    except ValueError as exc:
        raise ValueError("should have the file's content as base64, and that cannot be decoded") from exc


def record_of_json(raw: msgspec.Raw) -> Wire:
    content = bytes(memoryview(raw))
    if content[:1] != b"{":
        raise ValueError(f"should be a record, as an object in JSON, and is {shown(raw)}")
    return one(content)


def record_of_bytes(content: bytes) -> Wire:
    return record_of_json(checked_json(content))


def json_of_json(raw: msgspec.Raw) -> Wire:
    return one(bytes(memoryview(raw)))


def json_of_bytes(content: bytes) -> Wire:
    return json_of_json(checked_json(content))


def checked_json(content: bytes) -> msgspec.Raw:
    """A part of a form that should be JSON; other JSON was looked through with its whole body."""
    try:
        return msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ValueError(f"should be JSON, and is not: {exc}") from exc


def number_of_json(raw: msgspec.Raw) -> Wire:
    try:
        return ONE_ROW, struct.pack("<d", _number(raw))
    except msgspec.DecodeError as exc:
        raise ValueError(f"should be a number, and is {shown(raw)}") from exc


def number_of_bytes(content: bytes) -> Wire:
    return number_of_json(msgspec.Raw(content.strip() or b"null"))


def tensor_of_json(spec: TensorSpec, raw: msgspec.Raw) -> Wire:
    """Nested lists without the batch axis."""
    if len(memoryview(raw)) > MOST_NUMBERS_BYTES:
        raise ValueError(
            f"has more than {MOST_NUMBERS_BYTES} bytes of JSON: send it to /v2/models/…/infer as binary tensors"
        )
    try:
        values = _anything(raw)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ValueError(f"should be nested lists, and is no JSON: {exc}") from exc
    own = without_batch(spec)
    shape = shape_of(values)
    if len(shape) != len(own) or any(
        size not in {want, -1} and want != -1 for size, want in zip(shape, own, strict=True)
    ):
        raise ValueError(f"should be {wants_tensor(spec)}, and is {described(shape, raw)}")
    flat = np.array(values, object).ravel().tolist() if shape else [values]
    if len(flat) != prod(shape) or any(isinstance(each, list) for each in flat):
        raise ValueError("has lists of different lengths side by side")
    axis = spec.batch_axis
    full = shape if axis is None else (*shape[:axis], 1, *shape[axis:])
    if spec.datatype is Datatype.FP16:
        return full, half(flat)
    return full, decode_data(spec.name, spec.datatype, prod(shape), flat)


def half(values: list[Any]) -> bytes:
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in values):
        raise ValueError("should be numbers")
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype("<f2").tobytes()


def shape_of(values: Any) -> Shape:
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return tuple(shape)


def without_batch(spec: TensorSpec) -> Shape:
    axis = spec.batch_axis
    return spec.shape if axis is None else spec.shape[:axis] + spec.shape[axis + 1 :]


def wants_tensor(spec: TensorSpec) -> str:
    """What to send for a tensor."""
    what = {"BYTES": "text", "BOOL": "true or false"}.get(spec.datatype, "numbers")
    shape = without_batch(spec)
    if not shape:
        return {"numbers": "a number"}.get(what, what)
    sizes = " x ".join("any" if size < 0 else str(size) for size in shape)
    return f"{'a list' if len(shape) == 1 else 'nested lists'} of {sizes} {what}"


def described(shape: Shape, raw: msgspec.Raw) -> str:
    return f"{' x '.join(map(str, shape))}" if shape else shown(raw)


def shown(raw: msgspec.Raw) -> str:
    """A caller's JSON in a sentence."""
    content = bytes(memoryview(raw)[:100]).decode(errors="replace").strip()
    names = {"{": "an object", "[": "a list", '"': "text", "n": "null", "": "nothing"}
    if content[:1] in names:
        return names[content[:1]]
    return json.dumps(content) if len(content) > 30 or not content.isprintable() else content  # noqa: PLR2004 - a line


READERS: dict[str, tuple[str, OfJson, OfBytes]] = {
    "text": ("text", text_of_json, text_of_bytes),
    "image": ("an image file", file_of_json, one),
    "bytes": ("a file", file_of_json, one),
    "record": ("a record", record_of_json, record_of_bytes),
    "json": ("any JSON", json_of_json, json_of_bytes),
    "number": ("a number", number_of_json, number_of_bytes),
}
