"""Second stage of decoding: an envelope held against a model's spec, and its data as tensor bytes."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from msgspec import structs

from headrace.errors import InvalidRequest, Unsupported
from headrace.messages import (
    Datatype,
    InferRequest,
    ModelSpec,
    Shape,
    TensorSpec,
    Wanted,
)
from headrace.protocol.classification import check_classified, read_class_count
from headrace.protocol.envelope import (
    Envelope,
    LooseEnvelope,
    LooseInput,
    OutputEnvelope,
    Parameters,
    RawInput,
    decode_envelope,
)
from headrace.protocol.plan import MOST_PLANS, Plan, Planner, Signature
from headrace.protocol.tensors import decode_data
from headrace.strings import LENGTH

MICROSECONDS = 1e-6
LONGEST_TIMEOUT_US = 1 << 64
LONGEST_HEADER = 4096
MOST_STRING_BYTES = 1 << 16
"""Longer BYTES tensors are looked through by the worker, since the loop would be held up; so they travel alone."""


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
        self._planner = Planner(spec)
        self._wanted_before: dict[Wanted, Wanted] = {}
        self._bound: dict[bytes, Bound] = {}
        self._outputs = {tensor.name: at for at, tensor in enumerate(spec.outputs)}
        everything = tuple(range(len(spec.outputs)))
        self._all = {binary: Wanted(everything, (binary,) * len(everything)) for binary in (False, True)}

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

    def _cut(self, known: Bound, body: bytes) -> InferRequest:
        """A binary request whose header was read before: only the data is new."""
        first, view = known.request, memoryview(body)
        tensors = tuple([view[begin:end] for begin, end in known.places])
        if self._planner.is_fixed:
            return structs.replace(first, tensors=tensors)
        group, lengths = self._planner.group(first.shapes, tensors, first.wanted, first.absent)
        return structs.replace(first, tensors=tensors, group=group, lengths=lengths)

    def _remember(
        self, header: bytes, envelope: Envelope | LooseEnvelope, request: InferRequest, length: int
    ) -> None:
        """Headers of binary requests repeat to the letter; what one means need not be worked out again."""
        inputs: Sequence[RawInput | LooseInput] = envelope.inputs
        sizes = [binary_size(each) for each in inputs]
        if self._has_strings or None in sizes or len(header) > LONGEST_HEADER:
            return
        places: list[tuple[int, int]] = [(0, 0)] * len(self._spec.inputs)
        begin = len(header)
        for each, size in zip(inputs, sizes, strict=True):
            end = begin + (size or 0)
            places[self._inputs[each.name][0]] = (begin, end)
            begin = end
        if len(self._bound) >= MOST_PLANS:
            self._bound.clear()
        # The group is kept only where it is the same for all: else it is worked out from the data again.
        group = self._planner.fixed_group
        self._bound[header] = Bound(structs.replace(request, tensors=(), group=group), tuple(places), length)

    def _bind_simple(self, envelope: Envelope | LooseEnvelope, body: bytes) -> InferRequest:
        """One input and no wishes, the most frequent request there is: `_bind` without what cannot be."""
        only = envelope.inputs[0]
        planner = self._planner
        if only.parameters or not planner.is_fixed or type(only) is not RawInput or not only.data:
            return self._bind(envelope, body, len(body))
        plan = planner.plan(((only.name, only.datatype, only.shape),))
        data = plan.readers[0](only.data)
        return InferRequest(
            envelope.id or "",
            plan.shapes,
            (data,),
            plan.rows,
            planner.fixed_group,
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
        plan = self._planner.plan(signature)
        tensors: list[bytes | memoryview] = [b""] * len(self._spec.inputs)
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
        wanted, asked = self._all[False], NOTHING_ASKED
        if envelope.outputs or envelope.parameters:
            wanted = self._wanted(envelope.outputs, envelope.parameters)
            asked = read_parameters(envelope.parameters) if envelope.parameters else NOTHING_ASKED
        return self._request(envelope.id or "", plan, tensors, wanted, nbytes, asked)

    def _odd_data(self, each: RawInput | LooseInput, plan: Plan, place: int) -> bytes:
        """Data that was parsed with the rest of the request, or none at all."""
        if isinstance(each, RawInput) or each.data is None:
            raise InvalidRequest(
                f"input '{each.name}' has neither 'data' nor the parameter 'binary_data_size'"
            )
        datatype = self._spec.inputs[plan.order[place]].datatype
        return decode_data(each.name, datatype, plan.elements[place], each.data)

    def _request(
        self,
        request_id: str,
        plan: Plan,
        tensors: list[bytes | memoryview],
        wanted: Wanted,
        nbytes: int,
        asked: "Asked",
    ) -> InferRequest:
        group, lengths = self._planner.fixed_group, None
        if not self._planner.is_fixed:
            group, lengths = self._planner.group(plan.shapes, tensors, wanted, plan.absent)
        return InferRequest(
            request_id,
            plan.shapes,
            tuple(tensors),
            plan.rows,
            group,
            wanted,
            nbytes,
            lengths,
            asked.timeout_s,
            # What the model takes in place of an input that is left out need not have rows.
            plan.rows == 0 or bool(plan.absent) or (self._has_strings and nbytes > MOST_STRING_BYTES),
            plan.absent,
            asked.priority,
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
        plan = self._planner.plan(((tensor.name, tensor.datatype, shape),))
        itemsize = tensor.itemsize
        if itemsize is not None and prod(shape) * itemsize != len(body):
            raise InvalidRequest(
                f"unexpected size for input '{tensor.name}', expecting {prod(shape) * itemsize} bytes for model "
                f"'{spec.name}', got {len(body)}"
            )
        return self._request("", plan, [body], self._all[True], len(body), NOTHING_ASKED)

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

    def _wanted(self, outputs: list[OutputEnvelope] | None, parameters: Parameters | None) -> Wanted:
        if not outputs:
            return self._all[bool(parameters and parameters.get("binary_data_output"))]
        positions: list[int] = []
        binary: list[bool] = []
        classes: list[int] = []
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
            classes.append(self._class_count(chosen, at) if "classification" in chosen else 0)
        wanted = Wanted(tuple(positions), tuple(binary), tuple(classes) if any(classes) else ())
        if len(self._wanted_before) >= MOST_PLANS:
            self._wanted_before.clear()
        return self._wanted_before.setdefault(wanted, wanted)

    def _class_count(self, chosen: Parameters, at: int) -> int:
        output = self._spec.outputs[at]
        count = read_class_count(chosen["classification"], output.name)
        check_classified(output.datatype)
        return count


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
    if "classification" in parameters and kind == "input":
        raise InvalidRequest(f"input '{name}' has the parameter 'classification', which is one of outputs")


class Asked(NamedTuple):
    """What a request asks for beside its outputs."""

    timeout_s: float | None = None
    priority: int = 0


NOTHING_ASKED = Asked()


def read_parameters(parameters: Parameters) -> Asked:
    """The request's own timeout and priority, if it names them."""
    for name in parameters:
        if name.startswith("triton_"):
            raise InvalidRequest(f"parameter keys starting with 'triton_' are reserved: '{name}'")
    if parameters.get("sequence_id"):
        raise Unsupported("sequences ('sequence_id') are not supported: send the state as an input")
    priority = parameters.get("priority", 0)
    if type(priority) is not int or priority < 0:
        raise InvalidRequest("Unable to parse 'priority': expected an unsigned integer, 1 first")
    timeout_us = parameters.get("timeout")
    if timeout_us is None:
        return Asked(None, priority)
    if type(timeout_us) is not int or not 0 <= timeout_us < LONGEST_TIMEOUT_US:
        raise InvalidRequest("Unable to parse 'timeout': expected microseconds as an unsigned integer")
    return Asked(timeout_us * MICROSECONDS or None, priority)


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
