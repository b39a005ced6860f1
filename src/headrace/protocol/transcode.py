"""Large JSON bodies ↔ the same in binary form, large bodies ↔ compressed ones; and the backend for it in a worker.

Parsing a megabyte of JSON takes milliseconds, which on the loop everybody would wait for. So a large body is turned
into the equivalent binary request by a worker, and a large JSON answer is made from the binary one there: the same
channel, queue, deadlines and restarts as for a model.
"""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headrace import strings
from headrace.backends.base import Declared
from headrace.errors import InvalidRequest, Unsupported
from headrace.messages import (
    NUMPY_TYPES,
    Datatype,
    Group,
    InferRequest,
    ModelSpec,
    Shape,
    TensorSpec,
    Wanted,
)
from headrace.model_config import ModelConfig
from headrace.protocol.classification import classify
from headrace.protocol.compression import Coding, deflate, inflate
from headrace.protocol.envelope import LooseInput, RawInput, decode_envelope
from headrace.protocol.parameters import read_binary_size
from headrace.protocol.response import render_classes
from headrace.protocol.tensors import decode_data, encode_data, encode_values
from headrace.strings import LENGTH

TO_BINARY, TO_JSON = 0, 1
INFLATE = {Coding.GZIP: 2, Coding.DEFLATE: 3}
DEFLATE = {Coding.GZIP: 4, Coding.DEFLATE: 5}
IN_FULL, TOO_MUCH = 0, 1
"""What comes with an inflated body in place of a length."""
LARGEST_NUMBER = (1 << 32) - 1
BODY = "body"
NAME = "transcoder"
EVERYTHING = Wanted((0,), (True,))
Work = Callable[[bytes, int], tuple[bytes, int]]

SPEC = ModelSpec(
    name=NAME,
    version="1",
    platform=NAME,
    inputs=(TensorSpec(BODY, Datatype.UINT8, (-1,)),),
    outputs=(TensorSpec(BODY, Datatype.UINT8, (-1,)),),
)
"""As what the pipeline in front of the workers sees it: bytes in, bytes out, one request at a time."""


def task(operation: int, number: int, body: bytes) -> InferRequest:
    """The request to the transcoder: operation, a number, then the body.

    The number is the length of the JSON header; of a body to be inflated, how many bytes it may become.
    """
    data = bytes([operation]) + LENGTH.pack(min(number, LARGEST_NUMBER)) + body
    return InferRequest("", ((len(data),),), (data,), 1, Group(len(data)), EVERYTHING, len(data))


def result(data: bytes | memoryview) -> tuple[bytes, int]:
    """The transcoder's answer: a body, and the length of its JSON header (or IN_FULL or TOO_MUCH)."""
    return bytes(data[LENGTH.size :]), LENGTH.unpack_from(data)[0]


class TranscoderBackend:
    """Runs `perform` on one body at a time."""

    platform = NAME
    inputs = (Declared(BODY, Datatype.UINT8, (None,)),)
    outputs = (Declared(BODY, Datatype.UINT8, (None,)),)

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:
        """Nothing to open."""

    def clone(self) -> "TranscoderBackend":
        return self

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:  # noqa: ARG002 - it has one
        return [np.frombuffer(perform(inputs[BODY].tobytes()), np.uint8)]


def perform(data: bytes) -> bytes:
    """Do one task.

    Raises:
        InvalidRequest: the body is not a request, as in decoding it directly.
    """
    if len(data) <= LENGTH.size or data[0] not in WORK:
        raise InvalidRequest("no such task")
    number = LENGTH.unpack_from(data, 1)[0]
    content, length = WORK[data[0]](data[1 + LENGTH.size :], number)
    return LENGTH.pack(length) + content


def request_to_binary(body: bytes, header_length: int) -> tuple[bytes, int]:
    """A request with its JSON data moved behind the header; data that is binary already stays."""
    envelope = decode_envelope(body[:header_length])
    cursor = header_length
    inputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for each in envelope.inputs:
        described: dict[str, Any] = {"name": each.name, "shape": each.shape, "datatype": each.datatype}
        inputs.append(described)
        try:
            size = read_binary_size(each.name, each.parameters)
        except Unsupported:
            # Whoever decodes what comes out of here says so again; a worker could only say that it failed.
            described["parameters"] = each.parameters
            continue
        if size is None:
            data = json_data(each)
        else:
            data = body[cursor : cursor + size]
            cursor += size
        tail.append(data)
        described["parameters"] = {"binary_data_size": len(data) if size is None else size}
    header: dict[str, Any] = {"inputs": inputs}
    for key in ("id", "parameters", "outputs"):
        if (value := getattr(envelope, key)) is not None:
            header[key] = value
    encoded = encode_values(header)
    return b"".join([encoded, *tail, body[cursor:]]), len(encoded)


def json_data(each: RawInput | LooseInput) -> bytes:
    if each.data is None or (not each.data and not isinstance(each.data, list)):
        raise InvalidRequest(f"input '{each.name}' has neither 'data' nor the parameter 'binary_data_size'")
    if each.datatype not in Datatype.__members__:
        raise InvalidRequest(f"input '{each.name}' has the unknown datatype '{each.datatype}'")
    if any(size < 0 for size in each.shape):
        raise InvalidRequest(
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer "
            f"(input '{each.name}' has {list(each.shape)})"
        )
    return decode_data(each.name, Datatype(each.datatype), prod(each.shape), each.data)


def response_to_json(body: bytes, header_length: int) -> tuple[bytes, int]:
    """An answer with the binary tensors that are marked for it as JSON data."""
    header = msgspec.json.decode(body[:header_length])
    cursor = header_length
    rendered: list[bytes] = []
    tail: list[bytes] = []
    for output in header.pop("outputs"):
        size = output["parameters"]["binary_data_size"]
        data = body[cursor : cursor + size]
        cursor += size
        if wish := output["parameters"].get("classes"):
            piece, content = classes(output, data, wish)
            rendered.append(piece)
            tail.append(content)
            continue
        if not output["parameters"].pop("json", False):
            rendered.append(encode_values(output))
            tail.append(data)
            continue
        del output["parameters"]
        values, is_finite = python_values(Datatype(output["datatype"]), data, tuple(output["shape"]))
        encoded = encode_data(output["name"], Datatype(output["datatype"]), values, is_finite)
        rendered.append(b'%s,"data":%s}' % (encode_values(output)[:-1], encoded))
    encoded_header = b'%s,"outputs":[%s]}' % (encode_values(header)[:-1], b",".join(rendered))
    return b"".join([encoded_header, *tail]), len(encoded_header) if any(tail) else 0


def classes(output: dict[str, Any], data: bytes, wish: dict[str, Any]) -> tuple[bytes, bytes]:
    """A marked output as its greatest elements, as ResponseEncoder writes them."""
    array = np.frombuffer(data, NUMPY_TYPES[Datatype(output["datatype"])]).reshape(output["shape"])
    shape, texts = classify(array, wish["count"], tuple(wish["labels"]), by_row=wish["by_row"])
    return render_classes(output["name"], shape, texts, is_binary=not wish["json"])


def python_values(datatype: Datatype, data: bytes, shape: Shape) -> tuple[list[Any], bool]:
    """A tensor's elements, and whether all are finite."""
    if datatype is Datatype.BYTES:
        return list(strings.split(data, shape).ravel()), True
    array = np.frombuffer(data, NUMPY_TYPES[datatype])
    return array.tolist(), array.dtype.kind != "f" or bool(np.isfinite(array).all())


def inflate_body(coding: Coding) -> Work:
    """As it was, if it is not more than the number of bytes it may become."""

    def work(body: bytes, limit: int) -> tuple[bytes, int]:
        content = inflate(body, coding, limit)
        return (b"", TOO_MUCH) if content is None else (content, IN_FULL)

    return work


def deflate_body(coding: Coding) -> Work:
    """Compressed."""
    return lambda body, _: (deflate(body, coding), 0)


WORK: dict[int, Work] = {
    TO_BINARY: request_to_binary,
    TO_JSON: response_to_json,
    **{operation: inflate_body(coding) for coding, operation in INFLATE.items()},
    **{operation: deflate_body(coding) for coding, operation in DEFLATE.items()},
}
"""Operation → what does it, from a body and a number to a body and a number."""
