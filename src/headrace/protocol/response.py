"""Answers on the wire: JSON, or JSON and binary tensors behind it."""

from functools import lru_cache

from headrace import strings
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
        self._opening = lru_cache(maxsize=4096)(self._render_opening)

    def encode(self, request: InferRequest, part: Part, *, mark_json: bool = False) -> Body:
        """The answer to a request from its part of the batch's outputs.

        With mark_json all outputs are binary, those asked for as JSON marked so, for transcode.py to finish.

        Raises:
            InferenceFailed: an output cannot be sent as JSON.
        """
        wanted = request.wanted
        request_id = request.id
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
            return header, None
        return b"".join([header, *tail]), len(header)

    def json_size(self, request: InferRequest, part: Part) -> int:
        """Roughly how long the JSON of the outputs asked for as JSON will be, without rendering it."""
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


def encode_error(error: HeadraceError) -> bytes:
    """The body of every error: its sentence, and a code that does not change."""
    return encode_values({"error": str(error), "code": error.code})
