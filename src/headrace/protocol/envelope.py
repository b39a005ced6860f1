"""First stage of decoding: names, shapes and parameters, and where each tensor's data lies.

Enough to route, admit and refuse; the data itself is not looked at.
"""

import json
from typing import Any

import msgspec

from headrace.errors import InvalidRequest
from headrace.messages import Shape
from headrace.protocol.parameters import Parameters


class RawInput(msgspec.Struct, gc=False):
    """One input of a request, its data still JSON; empty where there is none."""

    name: str
    shape: Shape
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = msgspec.Raw()


class OutputEnvelope(msgspec.Struct):
    """One output a request asks for."""

    name: str
    parameters: Parameters | None = None


class Envelope(msgspec.Struct, gc=False):
    """A request without its data. Unknown keys are ignored, as clients send some."""

    inputs: list[RawInput]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[OutputEnvelope] | None = None


class LooseInput(msgspec.Struct):
    """An input whose data was parsed with everything else, because it has NaN or Infinity in it."""

    name: str
    shape: Shape
    datatype: str
    parameters: Parameters | None = None
    data: list[Any] | None = None


class LooseEnvelope(msgspec.Struct):
    """The same as Envelope, from Python values."""

    inputs: list[LooseInput]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[OutputEnvelope] | None = None


_decode = msgspec.json.Decoder(Envelope).decode
BARE_TOKENS = (b"NaN", b"Infinity")


def decode_envelope(header: bytes | memoryview) -> Envelope | LooseEnvelope:
    """Parse a request's JSON.

    Raises:
        InvalidRequest: it is not JSON, or not a request.
    """
    try:
        return _decode(header)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(explain(exc)) from exc
    except msgspec.DecodeError as exc:
        return _decode_loose(bytes(header), exc)
    except RecursionError as exc:
        raise InvalidRequest("JSON nesting depth exceeds maximum allowed limit (100)") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"failed to parse the request JSON buffer: {exc}") from exc


def peek_envelope(header: bytes | memoryview) -> Envelope | None:
    """As `decode_envelope`, but for what cannot be read without its data, or not at all: None.

    Raises:
        InvalidRequest: it is JSON, and not a request.
    """
    try:
        return _decode(header)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(explain(exc)) from exc
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _decode_loose(header: bytes, cause: msgspec.DecodeError) -> LooseEnvelope:
    """Bare NaN and Infinity are not JSON, but this protocol's clients write them."""
    if not any(token in header for token in BARE_TOKENS):
        raise InvalidRequest(f"failed to parse the request JSON buffer: {cause}") from cause
    try:
        values = json.loads(header)
        # Half a surrogate pair, which json takes and no answer could carry: a ValueError here.
        json.dumps(values, ensure_ascii=False).encode()
        return msgspec.convert(values, LooseEnvelope)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(explain(exc)) from exc
    except RecursionError as exc:
        raise InvalidRequest("JSON nesting depth exceeds maximum allowed limit (100)") from exc
    except ValueError as exc:
        raise InvalidRequest(f"failed to parse the request JSON buffer: {exc}") from exc


def explain(exc: msgspec.ValidationError) -> str:
    text = str(exc)
    if ".shape" in text and "Expected `int`" in text:
        return f"Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer ({text})"
    return f"failed to parse the request JSON: {text}"
