"""Answers on the wire: JSON, or JSON and binary tensors behind it."""

from functools import lru_cache
from typing import NamedTuple

from headrace import strings
from headrace.errors import HeadraceError
from headrace.messages import Datatype, InferRequest, ModelSpec, Shape, Wanted
from headrace.parts import Part
from headrace.protocol.tensors import BINARY_ONLY, encode_data, encode_values

LARGE_JSON = 1 << 16
"""Bytes of JSON from which on decoding and encoding would hold up the loop."""


class Body(NamedTuple):
    """A response body; header_length is set where binary tensors follow the JSON."""

    content: bytes
    header_length: int | None


class ResponseEncoder:
    """Encodes the answers of one version. What does not change between answers is rendered once."""

    def __init__(self, spec: ModelSpec) -> None:
        self._specs = spec.outputs
        name, version = encode_values(spec.name).decode(), encode_values(spec.version).decode()
        self._head = f'{{"model_name":{name},"model_version":{version},"outputs":['.encode()
        self._is_plain = [
            spec.datatype is not Datatype.BYTES and spec.datatype not in BINARY_ONLY for spec in spec.outputs
        ]
        self._opening = lru_cache(maxsize=4096)(self._render_opening)

    def encode(self, request: InferRequest, part: Part) -> Body:
        """The answer to a request from its part of the batch's outputs.

        Raises:
            InferenceFailed: an output cannot be sent as JSON.
        """
        return self._render(request.id, request.wanted, part)

    def encode_binary(self, request: InferRequest, part: Part) -> Body:
        """The same with all outputs binary, those asked for as JSON marked so, for transcode.py to finish."""
        return self._render(request.id, request.wanted, part, mark_json=True)

    def _render(self, request_id: str, wanted: Wanted, part: Part, *, mark_json: bool = False) -> Body:
        head = self._head
        if request_id:
            head = b'{"id":' + encode_values(request_id) + b"," + head[1:]
        pieces = [head]
        tail: list[bytes] = []
        outputs = part.outputs
        for index, is_binary in zip(wanted.outputs, wanted.binary, strict=True):
            if is_binary or mark_json:
                shape, data = self._binary(index, part)
                mark = b"}}," if is_binary else b',"json":true}},'
                pieces += (
                    self._opening(index, shape),
                    b',"parameters":{"binary_data_size":%d' % len(data),
                    mark,
                )
                tail.append(data)
            else:
                shape, values = outputs.values(index, part)
                if self._is_plain[index] and outputs.is_finite(index):
                    data = encode_values(values)
                else:
                    spec = self._specs[index]
                    data = encode_data(spec.name, spec.datatype, values, outputs.is_finite(index))
                pieces += (self._opening(index, shape), b',"data":', data, b"},")
        pieces[-1] = pieces[-1][:-1] + b"]}"
        header = b"".join(pieces)
        if not tail or not any(tail):
            return Body(header, None)
        return Body(b"".join([header, *tail]), len(header))

    def json_bytes(self, request: InferRequest, part: Part) -> int:
        """Roughly how long the JSON of the outputs asked for as JSON will be, without rendering it."""
        if part.outputs.most_elements * BYTES_AN_ELEMENT <= LARGE_JSON:
            return 0
        elements = 0
        for index, is_binary in zip(request.wanted.outputs, request.wanted.binary, strict=True):
            if not is_binary:
                elements += part.outputs.elements(index, part)
        return elements * BYTES_AN_ELEMENT

    def _binary(self, index: int, part: Part) -> tuple[Shape, bytes]:
        array = part.outputs.array(index, part)
        if self._specs[index].datatype is Datatype.BYTES:
            return array.shape, strings.join(array)
        return array.shape, array.tobytes()

    def _render_opening(self, index: int, shape: Shape) -> bytes:
        """An output up to its data, without the closing brace."""
        spec = self._specs[index]
        sizes = ",".join(map(str, shape))
        name = encode_values(spec.name).decode()
        return f'{{"name":{name},"datatype":"{spec.datatype}","shape":[{sizes}]'.encode()


BYTES_AN_ELEMENT = 12
"""Of JSON, for most floats about twice that and for most integers less."""


def encode_error(error: HeadraceError) -> bytes:
    """The body of every error: its sentence, and a code that does not change."""
    return encode_values({"error": str(error), "code": error.code})
