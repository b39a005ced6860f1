"""Answers on the wire: JSON, or JSON and binary tensors behind it."""

from collections.abc import Mapping
from functools import lru_cache

from headrace.errors import HeadraceError
from headrace.messages import Datatype, InferRequest, ModelSpec, Shape
from headrace.parts import Part
from headrace.protocol.classification import Labels, classify, has_rows, is_much, join_texts
from headrace.protocol.tensors import BINARY_ONLY, encode_data, encode_values

LARGE_JSON = 1 << 16
"""Bytes of JSON from which on decoding and encoding would hold up the loop."""
BYTES_AN_ELEMENT = 12
"""Of JSON; for most floats it is about twice that and for most integers less."""


Body = tuple[bytes, int | None]
"""A response's bytes, and the length of the JSON in front where binary tensors follow it."""


class ResponseEncoder:
    """Encodes the answers of one version. What does not change between answers is rendered once."""

    def __init__(self, spec: ModelSpec, labels: Mapping[str, Labels] | None = None) -> None:
        """`labels`: output → what its classes are called."""
        self._specs = spec.outputs
        named = labels or {}
        self._labels = [named.get(each.name, ()) for each in spec.outputs]
        self._has_rows = [has_rows(spec, index) for index in range(len(spec.outputs))]
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

        With mark_json all outputs are binary, those asked for as JSON or as classes marked so, for transcode.py to
        finish.

        Raises:
            InferenceFailed: an output cannot be sent as JSON.
        """
        outputs, wanted = part.outputs, request.wanted
        if (
            self._is_simple
            and not (wanted.binary[0] or wanted.classes or request.id or mark_json)
            and outputs.is_finite(0)
        ):
            # One numeric output as JSON, the most frequent answer there is.
            shape, values = outputs.values(0, part)
            return b"%b%b%b}]}" % (self._head, self._json_output(0, shape), encode_values(values)), None
        pieces = [self._head]
        if request.id:
            pieces = [b'{"id":', encode_values(request.id), b",", self._head[1:]]
        tail: list[bytes | memoryview] = []
        classes = wanted.classes or (0,) * len(wanted.outputs)
        for index, is_binary, count in zip(wanted.outputs, wanted.binary, classes, strict=True):
            if count:
                piece, data = self._classes(index, part, count, is_binary=is_binary, mark=mark_json)
                pieces.append(piece)
                tail.append(data)
            elif is_binary or mark_json:
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

    def is_large(self, request: InferRequest, part: Part) -> bool:
        """Whether rendering the answer would hold up the loop."""
        wanted = request.wanted
        if wanted.classes and self._is_much_to_rank(request, part):
            return True
        if part.outputs.most_elements * BYTES_AN_ELEMENT <= LARGE_JSON:
            return False
        return self.json_size(request, part) > LARGE_JSON

    def _is_much_to_rank(self, request: InferRequest, part: Part) -> bool:
        wanted = request.wanted
        return any(
            count
            and is_much(
                part.outputs.elements(index, part), request.rows if self._has_rows[index] else 1, count
            )
            for index, count in zip(wanted.outputs, wanted.classes, strict=True)
        )

    def json_size(self, request: InferRequest, part: Part) -> int:
        """Roughly how long the JSON of the outputs asked for as JSON will be, without rendering it."""
        elements = 0
        wanted = request.wanted
        classes = wanted.classes or (0,) * len(wanted.outputs)
        for index, is_binary, count in zip(wanted.outputs, wanted.binary, classes, strict=True):
            if not is_binary and not count:
                elements += part.outputs.elements(index, part)
        return elements * BYTES_AN_ELEMENT

    def _classes(
        self, index: int, part: Part, count: int, *, is_binary: bool, mark: bool
    ) -> tuple[bytes, bytes | memoryview]:
        """An output's classes: its JSON, and what follows it in binary. With mark, what transcode.py needs for them."""
        spec, labels, by_row = self._specs[index], self._labels[index], self._has_rows[index]
        if mark:
            shape, data = part.outputs.binary(index, part)
            wish = {"count": count, "by_row": by_row, "json": not is_binary, "labels": labels}
            parameters = {"binary_data_size": len(data), "classes": wish}
            described = {
                "name": spec.name,
                "datatype": spec.datatype,
                "shape": shape,
                "parameters": parameters,
            }
            return encode_values(described) + b",", data
        shape, texts = classify(part.outputs.array(index, part), count, labels, by_row=by_row)
        piece, content = render_classes(spec.name, shape, texts, is_binary=is_binary)
        return piece + b",", content

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


def with_parameters(content: bytes, header_length: int | None, parameters: Mapping[str, str]) -> Body:
    """An answer with parameters of its own; arguments and what comes out as of Body."""
    piece = b'{"parameters":%b,' % encode_values(parameters)
    return piece + content[1:], None if header_length is None else header_length + len(piece) - 1


def render_classes(name: str, shape: Shape, texts: list[str], *, is_binary: bool) -> tuple[bytes, bytes]:
    """A classified output's JSON, and what follows it where it is binary."""
    described = {"name": name, "datatype": Datatype.BYTES, "shape": shape}
    if not is_binary:
        return encode_values({**described, "data": texts}), b""
    data = join_texts(texts)
    return encode_values({**described, "parameters": {"binary_data_size": len(data)}}), data


def encode_error(
    error: HeadraceError, request_id: str | None = None, retry_after_ms: int | None = None
) -> bytes:
    """The body of every error: its sentence and a code that does not change.

    Args:
        error: what went wrong.
        request_id: the request's, if it came with one.
        retry_after_ms: when to try again, if that is known better than in whole seconds.
    """
    content: dict[str, str | int] = {"error": str(error), "code": error.code}
    if retry_after_ms is not None:
        content["retry_after_ms"] = retry_after_ms
    if request_id is not None:
        content["request_id"] = request_id
    return encode_values(content)
