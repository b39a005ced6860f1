"""JSON data ↔ tensor bytes (messages.py says in which form)."""

import json
import struct
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from headrace.errors import InferenceFailed, InvalidRequest
from headrace.messages import Datatype
from headrace.strings import LENGTH

DEEPEST = 100
BINARY_ONLY = frozenset({Datatype.FP16, Datatype.BF16})

_FLOATS = msgspec.json.Decoder(list[float]).decode
_INTEGERS = msgspec.json.Decoder(list[int]).decode
_STRINGS = msgspec.json.Decoder(list[str]).decode
_BOOLS = msgspec.json.Decoder(list[bool]).decode
_ANYTHING = msgspec.json.Decoder(list[Any]).decode

_FORMS: dict[Datatype, tuple[str, Callable[[bytes], list[Any]]]] = {
    Datatype.BOOL: ("?", _BOOLS),
    Datatype.UINT8: ("B", _INTEGERS),
    Datatype.UINT16: ("H", _INTEGERS),
    Datatype.UINT32: ("I", _INTEGERS),
    Datatype.UINT64: ("Q", _INTEGERS),
    Datatype.INT8: ("b", _INTEGERS),
    Datatype.INT16: ("h", _INTEGERS),
    Datatype.INT32: ("i", _INTEGERS),
    Datatype.INT64: ("q", _INTEGERS),
    Datatype.FP32: ("f", _FLOATS),
    Datatype.FP64: ("d", _FLOATS),
    Datatype.BYTES: ("", _STRINGS),
}
encode_values = msgspec.json.Encoder().encode


def make_reader(name: str, datatype: Datatype, count: int) -> Callable[[msgspec.Raw], bytes]:
    """`decode_data` of one input and shape, with all that can be worked out before the data comes."""
    form = _FORMS.get(datatype)
    if form is None or datatype is Datatype.BYTES:
        return lambda data: decode_data(name, datatype, count, data)
    code, decode = form
    pack = struct.Struct(f"<{count}{code}").pack

    def read(data: msgspec.Raw) -> bytes:
        try:
            return pack(*decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, struct.error, OverflowError):
            return decode_data(name, datatype, count, data)  # nested, or at fault: this says how

    return read


def decode_data(name: str, datatype: Datatype, count: int, data: msgspec.Raw | list[Any]) -> bytes:
    """A tensor's bytes from its JSON data, flat or nested.

    Raises:
        InvalidRequest: wrong number of elements, wrong type, or out of the datatype's range.
    """
    if datatype in BINARY_ONLY:
        raise InvalidRequest(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input {name}"
        )
    code, decode = _FORMS[datatype]
    values: list[Any]
    if isinstance(data, list):
        values = checked(name, datatype, flatten(name, data))
    else:
        try:
            values = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            values = checked(name, datatype, flatten(name, parse(name, data)))
    if len(values) != count:
        raise InvalidRequest(
            f"unexpected number of elements for input '{name}': its shape needs {count}, its data has {len(values)}"
        )
    if datatype is Datatype.BYTES:
        return join_strings(values)
    try:
        return struct.pack(f"<{count}{code}", *values)
    except (struct.error, OverflowError) as exc:
        raise InvalidRequest(f"a value of input '{name}' does not fit {datatype}: {exc}") from exc


def encode_data(name: str, datatype: Datatype, values: list[Any], is_finite: bool) -> bytes:
    """A tensor's values as flat JSON.

    NaN and Infinity are written as the bare tokens clients of this protocol read.

    Raises:
        InferenceFailed: the datatype has no JSON form, or a string is not UTF-8.
    """
    if datatype in BINARY_ONLY:
        raise InferenceFailed(
            f"sending {datatype} data via JSON is not supported. Please use the binary data format for output {name}"
        )
    if datatype is Datatype.BYTES:
        try:
            values = [element.decode() for element in values]
        except UnicodeDecodeError as exc:
            raise InferenceFailed(
                f"output '{name}' is not UTF-8 and cannot be sent as JSON: ask for it with binary_data true"
            ) from exc
    if not is_finite:
        return json.dumps(values, separators=(",", ":")).encode()
    return encode_values(values)


def parse(name: str, data: msgspec.Raw) -> list[Any]:
    try:
        return _ANYTHING(data)
    except RecursionError as exc:
        raise too_deep(name) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"failed to parse the data of input '{name}': {exc}") from exc


def flatten(name: str, values: list[Any], depth: int = 1) -> list[Any]:
    """Row-major elements of nested lists."""
    if depth > DEEPEST:
        raise too_deep(name)
    if not any(isinstance(each, list) for each in values):
        return values
    flat: list[Any] = []
    for each in values:
        if not isinstance(each, list):
            raise InvalidRequest(f"the data of input '{name}' mixes lists and elements")
        flat += flatten(name, each, depth + 1)
    return flat


def checked(name: str, datatype: Datatype, values: list[Any]) -> list[Any]:
    """The values, if they are of a kind the datatype takes: 0 and 1 for BOOL, integers for floats."""
    kinds: tuple[type, ...]
    if datatype is Datatype.BOOL:
        kinds = (bool, int)
        is_fit = all(type(value) in kinds and value in {0, 1} for value in values)
    elif datatype is Datatype.BYTES:
        kinds = (str,)
        is_fit = all(isinstance(value, str) for value in values)
    else:
        kinds = (int, float) if datatype in {Datatype.FP32, Datatype.FP64} else (int,)
        is_fit = all(type(value) in kinds for value in values)
    if not is_fit:
        wrong = next(
            (v for v in values if type(v) not in kinds or (datatype is Datatype.BOOL and v not in {0, 1})),
            None,
        )
        shown = "an object" if isinstance(wrong, dict) else json.dumps(wrong)[:100]
        raise InvalidRequest(f"input '{name}' is {datatype}, and its data has {shown}")
    return values


def join_strings(values: Iterable[str]) -> bytes:
    encoded = [value.encode() for value in values]
    return b"".join(LENGTH.pack(len(each)) + each for each in encoded)


def too_deep(name: str) -> InvalidRequest:
    return InvalidRequest(f"JSON nesting depth exceeds maximum allowed limit ({DEEPEST}) in input '{name}'")
