"""Answers on the wire: JSON, or JSON and binary tensors behind it."""

from functools import lru_cache

from headrace.errors import HeadraceError
from headrace.messages import Datatype, InferRequest, ModelSpec, Shape
from headrace.parts import Part
from headrace.protocol.tensors import BINARY_ONLY, encode_data, encode_values

LARGE_JSON = 1 << 16
"""Bytes of JSON from which on decoding and encoding would hold up the loop."""
BYTES_AN_ELEMENT = 12
"""Of JSON; for most floats it is about twice that and for most integers less."""


Body = tuple[bytes, int | None]
"""A response's bytes, and the length of the JSON in front where binary tensors follow it."""


class ResponseEncoder:
    """Encodes the answers of one version. What does not change between answers is rendered once."""

    def __init__(self, spec: ModelSpec) -> None:
        self._specs = spec.outputs
        name, version = encode_values(spec.name).decode(), encode_values(spec.version).decode()
        self._head = f'{{"model_name":{name},"model_version":{version},"outputs":['.encode()
        self._is_plain = [
            spec.datatype is not Datatype.BYTES and spec.datatype not in BINARY_ONLY for spec in spec.outputs
        ]
        self._is_simple = self._is_plain == [True]
        self._json_output = lru_cache(maxsize=4096)(self._render_json)
        self._binary_output = lru_cache(maxsize=4096)(self._render_binary)

    def encode(self, request: InferRequest, part: Part, *, mark_json: bool = False) -> Body:
        """The answer to a request from its part of the batch's outputs.

        With mark_json all outputs are binary, those asked for as JSON marked so, for transcode.py to finish.

        Raises:
            InferenceFailed: an output cannot be sent as JSON.
        """
        outputs, wanted = part.outputs, request.wanted
        if self._is_simple and not (wanted.binary[0] or request.id or mark_json) and outputs.is_finite(0):
            # One numeric output as JSON, the most frequent answer there is.
            shape, values = outputs.values(0, part)
            return b"%b%b%b}]}" % (self._head, self._json_output(0, shape), encode_values(values)), None
        pieces = [self._head]
        if request.id:
            pieces = [b'{"id":', encode_values(request.id), b",", self._head[1:]]
        tail: list[bytes | memoryview] = []
        for index, is_binary in zip(wanted.outputs, wanted.binary, strict=True):
            if is_binary or mark_json:
                shape, data = outputs.binary(index, part)
                pieces.append(self._binary_output(index, shape, len(data), not is_binary))
                tail.append(data)
            else:
                shape, values = outputs.values(index, part)
                is_finite = outputs.is_finite(index)
                if is_finite and self._is_plain[index]:
                    text = encode_values(values)
                else:
                    spec = self._specs[index]
                    text = encode_data(spec.name, spec.datatype, values, is_finite)
                pieces += (self._json_output(index, shape), text, b"},")
        header = b"".join(pieces)[:-1] + b"]}"
        if not tail or not any(map(len, tail)):
            return header, None
        return b"".join([header, *tail]), len(header)

    def json_size(self, request: InferRequest, part: Part) -> int:
        """Roughly how long the JSON of the outputs asked for as JSON will be, without rendering it."""
        elements = 0
        for index, is_binary in zip(request.wanted.outputs, request.wanted.binary, strict=True):
            if not is_binary:
                elements += part.outputs.elements(index, part)
        return elements * BYTES_AN_ELEMENT

    def _render_json(self, index: int, shape: Shape) -> bytes:
        """An output up to its data."""
        spec = self._specs[index]
        sizes = ",".join(map(str, shape))
        name = encode_values(spec.name).decode()
        return f'{{"name":{name},"datatype":"{spec.datatype}","shape":[{sizes}],"data":'.encode()

    def _render_binary(self, index: int, shape: Shape, nbytes: int, mark_json: bool) -> bytes:
        """An output whose data follows the JSON."""
        opening = self._render_json(index, shape).removesuffix(b'"data":')
        mark = b',"json":true' if mark_json else b""
        return b'%b"parameters":{"binary_data_size":%d%b}},' % (opening, nbytes, mark)


def encode_error(error: HeadraceError) -> bytes:
    """The body of every error: its sentence, and a code that does not change."""
    return encode_values({"error": str(error), "code": error.code})
