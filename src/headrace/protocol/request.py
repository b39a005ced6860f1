"""Second stage of decoding: an envelope held against a model's spec, and its data as tensor bytes."""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import structs

from headrace.errors import InvalidRequest, Unsupported
from headrace.messages import (
    Datatype,
    Group,
    InferRequest,
    ModelSpec,
    Shape,
    TensorSpec,
    Wanted,
    bucket_edge,
)
from headrace.protocol.envelope import (
    Envelope,
    LooseEnvelope,
    LooseInput,
    OutputEnvelope,
    Parameters,
    RawInput,
    decode_envelope,
)
from headrace.protocol.tensors import decode_data, make_reader
from headrace.strings import LENGTH

MOST_ELEMENTS = (1 << 63) - 1
MICROSECONDS = 1e-6
LONGEST_TIMEOUT_US = 1 << 64
MOST_PLANS = 4096
LONGEST_HEADER = 4096
MOST_STRING_BYTES = 1 << 16
"""Longer BYTES tensors are looked through by the worker, since the loop would be held up; so they travel alone."""


T = TypeVar("T")

Signature = tuple[tuple[str, str, Shape], ...]
"""Name, datatype and shape of each input, in the order of the request."""


class Plan(NamedTuple):
    """What a signature means for a model.

    Attributes:
        order: for each input of the request its position in the spec.
        elements: for each input of the request how many elements it has.
        readers: for each input of the request what decodes its JSON data.
        shapes: in the order of the spec.
        rows: along the batch axis.
    """

    order: tuple[int, ...]
    elements: tuple[int, ...]
    readers: tuple[Callable[[msgspec.Raw], bytes], ...]
    shapes: tuple[Shape, ...]
    rows: int


class Bound(NamedTuple):
    """A header of a binary request and what it means: a request without its tensors, and where they lie."""

    request: InferRequest
    places: tuple[tuple[int, int], ...]
    length: int


class RequestDecoder:
    """Decodes the requests of one version. What can be worked out once is worked out here."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._inputs = {tensor.name: (at, tensor) for at, tensor in enumerate(spec.inputs)}
        self._has_strings = any(each.itemsize is None for each in spec.inputs)
        self._plans: dict[Signature, Plan] = {}
        self._wanted_before: dict[Wanted, Wanted] = {}
        self._bound: dict[bytes, Bound] = {}
        self._outputs = {tensor.name: at for at, tensor in enumerate(spec.outputs)}
        everything = tuple(range(len(spec.outputs)))
        self._all = {binary: Wanted(everything, (binary,) * len(everything)) for binary in (False, True)}
        self._is_fixed = all(
            -1 not in without(each.shape, each.batch_axis)
            and (each.batch_axis is not None or not spec.joins_requests)
            for each in spec.inputs
        )
        cost = sum(prod(without(each.shape, each.batch_axis)) for each in spec.inputs)
        self._fixed_group = Group(cost if self._is_fixed else 0)

    def decode(self, body: bytes, header_length: int | None) -> InferRequest:
        """A request from its body; header_length as in Inference-Header-Content-Length.

        Raises:
            InvalidRequest: with what is wrong, naming the input.
            Unsupported: it uses an extension this server does not have.
        """
        if header_length == 0:
            return self._decode_raw(body)
        if header_length is None:
            envelope = decode_envelope(body)
            if len(envelope.inputs) == 1 and not envelope.parameters and not envelope.outputs:
                return self._bind_simple(envelope, body)
            return self._bind(envelope, body, len(body))
        if not 0 <= header_length <= len(body):
            raise InvalidRequest(
                f"inference header size should be in range (0, {len(body)}), got: {header_length}"
            )
        header = body[:header_length]
        known = self._bound.get(header)
        if known is not None and known.length == len(body):
            return self._cut(known, body)
        envelope = decode_envelope(header)
        request = self._bind(envelope, body, header_length)
        self._remember(header, envelope, request, len(body))
        return request

    def _cut(self, known: "Bound", body: bytes) -> InferRequest:
        """A binary request whose header was read before: only the data is new."""
        first, view = known.request, memoryview(body)
        tensors = tuple([view[begin:end] for begin, end in known.places])
        if self._is_fixed:
            return structs.replace(first, tensors=tensors)
        group, lengths = self._group(first.shapes, tensors, first.wanted)
        return structs.replace(first, tensors=tensors, group=group, lengths=lengths)

    def _remember(
        self, header: bytes, envelope: Envelope | LooseEnvelope, request: InferRequest, length: int
    ) -> None:
        """Headers of binary requests repeat to the letter; what one means need not be worked out again."""
        inputs: Sequence[RawInput | LooseInput] = envelope.inputs
        sizes = [binary_size(each) for each in inputs]
        if self._has_strings or None in sizes or len(header) > LONGEST_HEADER:
            return
        places: list[tuple[int, int]] = [(0, 0)] * len(sizes)
        begin = len(header)
        for each, size in zip(inputs, sizes, strict=True):
            end = begin + (size or 0)
            places[self._inputs[each.name][0]] = (begin, end)
            begin = end
        if len(self._bound) >= MOST_PLANS:
            self._bound.clear()
        self._bound[header] = Bound(structs.replace(request, tensors=()), tuple(places), length)

    def _bind_simple(self, envelope: Envelope | LooseEnvelope, body: bytes) -> InferRequest:
        """One input and no wishes, the most frequent request there is: `_bind` without what cannot be."""
        only = envelope.inputs[0]
        signature = ((only.name, only.datatype, only.shape),)
        plan = self._plans.get(signature)
        if (
            plan is None
            or only.parameters
            or not self._is_fixed
            or type(only) is not RawInput
            or not only.data
        ):
            return self._bind(envelope, body, len(body))
        data = plan.readers[0](only.data)
        return InferRequest(
            envelope.id or "",
            plan.shapes,
            (data,),
            plan.rows,
            self._fixed_group,
            self._all[False],
            len(data),
            None,
            None,
            plan.rows == 0 or (self._has_strings and len(data) > MOST_STRING_BYTES),
        )

    def _bind(self, envelope: Envelope | LooseEnvelope, body: bytes, cursor: int) -> InferRequest:
        inputs: Sequence[RawInput | LooseInput] = envelope.inputs
        if len(inputs) == 1:
            only = inputs[0]
            signature: Signature = ((only.name, only.datatype, only.shape),)
        else:
            signature = tuple([(each.name, each.datatype, each.shape) for each in inputs])
        plan = self._plans.get(signature) or self._plan(signature)
        tensors: list[bytes | memoryview] = [b""] * len(inputs)
        nbytes = 0
        for place, each in enumerate(inputs):
            at = plan.order[place]
            size = binary_size(each) if each.parameters else None
            data: bytes | memoryview
            if size is not None:
                data = self._binary_data(self._spec.inputs[at], body, cursor, size, plan.elements[place])
                cursor += size
            elif type(each) is RawInput and each.data:
                data = plan.readers[place](each.data)
            else:
                data = self._odd_data(each, plan, place)
            tensors[at] = data
            nbytes += len(data)
        if cursor != len(body):
            raise InvalidRequest(f"unexpected additional input data for model '{self._spec.name}'")
        wanted, timeout_s = self._all[False], None
        if envelope.outputs or envelope.parameters:
            wanted = self._wanted(envelope.outputs, envelope.parameters)
            timeout_s = read_parameters(envelope.parameters) if envelope.parameters else None
        return self._request(envelope.id or "", plan, tensors, wanted, nbytes, timeout_s)

    def _odd_data(self, each: RawInput | LooseInput, plan: "Plan", place: int) -> bytes:
        """Data that was parsed with the rest of the request, or none at all."""
        if isinstance(each, RawInput) or each.data is None:
            raise InvalidRequest(
                f"input '{each.name}' has neither 'data' nor the parameter 'binary_data_size'"
            )
        datatype = self._spec.inputs[plan.order[place]].datatype
        return decode_data(each.name, datatype, plan.elements[place], each.data)

    def _plan(self, signature: Signature) -> "Plan":
        """What names, datatypes and shapes mean for this model; requests repeat them, so it is kept.

        Raises:
            InvalidRequest: they are not the model's.
        """
        order, elements = [], []
        shapes: list[Shape] = [()] * len(self._inputs)
        for name, datatype, shape in signature:
            found = self._inputs.get(name)
            if found is None:
                raise self._unexpected_input(signature, name)
            at, tensor = found
            if at in order:
                raise InvalidRequest(f"input '{name}' already exists in request")
            self._check_type(tensor, datatype)
            elements.append(self._check_shape(tensor, shape))
            order.append(at)
            shapes[at] = shape
        if len(order) != len(self._inputs):
            raise self._wrong_inputs(signature)
        readers = [
            make_reader(name, self._spec.inputs[at].datatype, count)
            for (name, _, _), at, count in zip(signature, order, elements, strict=True)
        ]
        plan = Plan(tuple(order), tuple(elements), tuple(readers), tuple(shapes), self._rows(shapes))
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        self._plans[signature] = plan
        return plan

    def _request(
        self,
        request_id: str,
        plan: "Plan",
        tensors: list[bytes | memoryview],
        wanted: Wanted,
        nbytes: int,
        timeout_s: float | None,
    ) -> InferRequest:
        group, lengths = self._fixed_group, None
        if not self._is_fixed:
            group, lengths = self._group(plan.shapes, tensors, wanted)
        return InferRequest(
            request_id,
            plan.shapes,
            tuple(tensors),
            plan.rows,
            group,
            wanted,
            nbytes,
            lengths,
            timeout_s,
            plan.rows == 0 or (self._has_strings and nbytes > MOST_STRING_BYTES),
        )

    def _decode_raw(self, body: bytes) -> InferRequest:
        """The whole body is the one input, of batch 1; all outputs go back in binary."""
        spec = self._spec
        if len(spec.inputs) != 1:
            raise InvalidRequest(
                f"Raw request must only have 1 input (found 1) to be deduced but got {len(spec.inputs)} inputs in "
                f"'{spec.name}' model configuration"
            )
        tensor = spec.inputs[0]
        shape = deduce_shape(tensor, len(body))
        if tensor.datatype is Datatype.BYTES:
            body = LENGTH.pack(len(body)) + body
        plan = self._plan(((tensor.name, tensor.datatype, shape),))
        itemsize = tensor.itemsize
        if itemsize is not None and prod(shape) * itemsize != len(body):
            raise InvalidRequest(
                f"unexpected size for input '{tensor.name}', expecting {prod(shape) * itemsize} bytes for model "
                f"'{spec.name}', got {len(body)}"
            )
        return self._request("", plan, [body], self._all[True], len(body), None)

    def _check_type(self, tensor: TensorSpec, datatype: str) -> None:
        if datatype != tensor.datatype:
            raise InvalidRequest(
                f"inference input '{tensor.name}' data-type is '{datatype}', but model '{self._spec.name}' expects "
                f"'{tensor.datatype}'"
            )

    def _check_shape(self, tensor: TensorSpec, shape: Shape) -> int:
        """Elements of the shape, if the tensor may have it."""
        elements = 1
        for size in shape:
            if size < 0:
                raise InvalidRequest(
                    "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer "
                    f"(input '{tensor.name}' has {list(shape)})"
                )
            elements *= size
        if elements > MOST_ELEMENTS:
            raise InvalidRequest(
                f"shape {list(shape)} of input '{tensor.name}' causes total element count to exceed maximum size of "
                f"{MOST_ELEMENTS}"
            )
        if elements * (tensor.itemsize or 1) > MOST_ELEMENTS:
            raise InvalidRequest(f"byte size overflow for input '{tensor.name}' of shape {list(shape)}")
        expected = tensor.shape
        if len(shape) != len(expected) or any(m not in {n, -1} for n, m in zip(shape, expected, strict=True)):
            raise InvalidRequest(
                f"unexpected shape for input '{tensor.name}' for model '{self._spec.name}'. Expected "
                f"{list(expected)}, got {list(shape)}"
            )
        return elements

    def _binary_data(
        self, tensor: TensorSpec, body: bytes, cursor: int, size: int, elements: int
    ) -> memoryview:
        if cursor + size > len(body):
            missing = cursor + size - len(body)
            raise InvalidRequest(
                f"unexpected size for input '{tensor.name}', expecting {missing} additional bytes for model "
                f"'{self._spec.name}'"
            )
        data = memoryview(body)[cursor : cursor + size]
        if tensor.itemsize is None:
            if size <= MOST_STRING_BYTES:
                check_strings(tensor.name, self._spec.name, data, elements)
        elif elements * tensor.itemsize != size:
            raise InvalidRequest(
                f"unexpected size for input '{tensor.name}': its shape needs {elements * tensor.itemsize} bytes of "
                f"{tensor.datatype}, binary_data_size is {size}"
            )
        return data

    def _rows(self, shapes: list[Shape]) -> int:
        spec = self._spec
        if not spec.max_batch_size:
            return 1
        rows = -1
        for tensor, shape in zip(spec.inputs, shapes, strict=True):
            axis = tensor.batch_axis
            if axis is None:
                continue
            if rows not in {-1, shape[axis]}:
                raise InvalidRequest(
                    f"input '{tensor.name}' brings {shape[axis]} rows and another input {rows} for model '{spec.name}'"
                )
            rows = shape[axis]
        if rows > spec.max_batch_size:
            raise InvalidRequest(
                f"inference request batch-size must be <= {spec.max_batch_size} for '{spec.name}'"
            )
        return rows

    def _group(
        self, shapes: tuple[Shape, ...], tensors: Sequence[bytes | memoryview], wanted: Wanted
    ) -> tuple[Group, dict[str, int] | None]:
        """With whom the request may share a batch, and its own lengths where it may be padded."""
        spec = self._spec
        is_padded = all(spec.outputs[at].survives_padding for at in wanted.outputs)
        lengths: dict[str, int] = {}
        exact, shared, cost = [], [], 0
        for tensor, shape, data in zip(spec.inputs, shapes, tensors, strict=True):
            if tensor.batch_axis is None:
                if spec.joins_requests:
                    shared.append(bytes(data))
                exact.append(shape)
                cost += prod(shape)
                continue
            row = without(shape, tensor.batch_axis)
            names = without(tensor.lengths, tensor.batch_axis) if is_padded else ()
            for size, name in zip(row, names, strict=False):
                if name is not None:
                    agree(lengths, name, size, tensor.name)
            exact.append(tuple(-1 if name else size for size, name in padded_sizes(row, names)))
            cost += prod(bucket_edge(size) if name else size for size, name in padded_sizes(row, names))
        edges = tuple(bucket_edge(lengths[name]) for name in sorted(lengths))
        return Group(cost, edges, tuple(exact), tuple(shared)), lengths or None

    def _wanted(self, outputs: list[OutputEnvelope] | None, parameters: Parameters | None) -> Wanted:
        if not outputs:
            return self._all[bool(parameters and parameters.get("binary_data_output"))]
        positions: list[int] = []
        binary: list[bool] = []
        for each in outputs:
            at = self._outputs.get(each.name)
            if at is None:
                raise InvalidRequest(
                    f"unexpected inference output '{each.name}' for model '{self._spec.name}'"
                )
            if at in positions:
                raise InvalidRequest(f"output '{each.name}' already exists in request")
            chosen = each.parameters or {}
            refuse_extensions(chosen, "output", each.name)
            positions.append(at)
            binary.append(bool(chosen.get("binary_data", False)))
        wanted = Wanted(tuple(positions), tuple(binary))
        if len(self._wanted_before) >= MOST_PLANS:
            self._wanted_before.clear()
        return self._wanted_before.setdefault(wanted, wanted)

    def _unexpected_input(self, signature: Signature, name: str) -> InvalidRequest:
        if len(signature) != len(self._inputs):
            return self._wrong_inputs(signature)
        return InvalidRequest(
            f"unexpected inference input '{name}' for model '{self._spec.name}'; it has "
            f"{', '.join(map(repr, self._inputs))}"
        )

    def _wrong_inputs(self, signature: Signature) -> InvalidRequest:
        got = [name for name, _, _ in signature]
        missing = [name for name in self._inputs if name not in got]
        return InvalidRequest(
            f"expected {len(self._inputs)} inputs but got {len(got)} inputs for model '{self._spec.name}'. Got "
            f"input(s) {got}, but missing required input(s) {missing}. Please provide all required input(s)."
        )


def binary_size(each: RawInput | LooseInput) -> int | None:
    """The input's binary_data_size, or None if its data is JSON."""
    if not each.parameters:
        return None
    refuse_extensions(each.parameters, "input", each.name)
    size = each.parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidRequest(
            f"Unable to parse 'binary_data_size' of input '{each.name}': expected an unsigned integer"
        )
    return size


def refuse_extensions(parameters: Parameters, kind: str, name: str) -> None:
    if "shared_memory_region" in parameters:
        raise Unsupported(f"{kind} '{name}' is in shared memory, which this server does not offer")
    if "classification" in parameters:
        raise Unsupported(f"{kind} '{name}' asks for classification, which this server does not offer")


def read_parameters(parameters: Parameters) -> float | None:
    """The request's own timeout in seconds, if it names one."""
    for name in parameters:
        if name.startswith("triton_"):
            raise InvalidRequest(f"parameter keys starting with 'triton_' are reserved: '{name}'")
    if parameters.get("sequence_id"):
        raise Unsupported("sequences ('sequence_id') are not supported: send the state as an input")
    timeout_us = parameters.get("timeout")
    if timeout_us is None:
        return None
    if type(timeout_us) is not int or not 0 <= timeout_us < LONGEST_TIMEOUT_US:
        raise InvalidRequest("Unable to parse 'timeout': expected microseconds as an unsigned integer")
    return timeout_us * MICROSECONDS or None


def deduce_shape(tensor: TensorSpec, nbytes: int) -> Shape:
    """A raw request's shape: batch 1, and at most one more variable axis."""
    shape = [1 if at == tensor.batch_axis else size for at, size in enumerate(tensor.shape)]
    if tensor.itemsize is None:
        if any(size not in {1, -1} for size in shape):
            raise InvalidRequest(
                f"For BYTE datatype raw input '{tensor.name}', the model must have input shape [1]"
            )
        return (1,) * len(shape)
    if shape.count(-1) > 1:
        raise InvalidRequest(
            f"The shape of the raw input '{tensor.name}' can not be deduced because there are more than one "
            "variable-sized dimension"
        )
    known = prod(size for size in shape if size != -1) * tensor.itemsize
    return tuple(nbytes // max(1, known) if size == -1 else size for size in shape)


def check_strings(name: str, model: str, data: memoryview, elements: int) -> None:
    """Lengths add up to the data's end, and there are as many elements as the shape says."""
    at = found = 0
    while at < len(data):
        if at + LENGTH.size > len(data):
            raise InvalidRequest(f"incomplete string length indicator for inference input '{name}'")
        at += LENGTH.size + LENGTH.unpack_from(data, at)[0]
        found += 1
    if at != len(data):
        raise InvalidRequest(f"incomplete string data for inference input '{name}'")
    if found != elements:
        raise InvalidRequest(
            f"expected {elements} string elements for inference input '{name}' for model '{model}', got {found}"
        )


def agree(lengths: dict[str, int], name: str, length: int, tensor: str) -> None:
    if lengths.setdefault(name, length) != length:
        raise InvalidRequest(
            f"input '{tensor}' has length {length} along '{name}' and another input has {lengths[name]}"
        )


def padded_sizes(row: Shape, names: tuple[str | None, ...]) -> list[tuple[int, str | None]]:
    """Each size of a row with the name of the length it is padded along, if it is."""
    return list(zip(row, names or (None,) * len(row), strict=True))


def without(values: tuple[T, ...], axis: int | None) -> tuple[T, ...]:
    """All but the one at the axis."""
    return values if axis is None else values[:axis] + values[axis + 1 :]
