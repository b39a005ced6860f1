"""Second stage of decoding: an envelope held against a model's spec, and its data as tensor bytes."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs

from headrace.errors import InvalidRequest
from headrace.messages import (
    InferRequest,
    ModelSpec,
    Wanted,
)
from headrace.protocol.binary import MOST_STRING_BYTES, cut_binary, deduce_shape
from headrace.protocol.classification import check_classified, read_class_count
from headrace.protocol.envelope import (
    Envelope,
    LooseEnvelope,
    LooseInput,
    OutputEnvelope,
    RawInput,
    decode_envelope,
    peek_envelope,
)
from headrace.protocol.parameters import (
    NOTHING_ASKED,
    Asked,
    Parameters,
    read_binary_size,
    read_parameters,
    refuse_extensions,
)
from headrace.protocol.plan import MOST_PLANS, Plan, Planner, Signature
from headrace.protocol.tensors import decode_data
from headrace.strings import LENGTH

LONGEST_HEADER = 4096


class Bound(NamedTuple):
    """A header of a binary request and what it means: a request without its tensors, and where they lie."""

    request: InferRequest
    places: tuple[tuple[int, int], ...]
    length: int


class Peek(NamedTuple):
    """What admission needs of a request, read without its data.

    Attributes:
        rows, cost: as in InferRequest and its Group; the least they can be where that is all that is known.
        nbytes: of its tensors, as far as their shapes say.
        asked: in its parameters; None where nobody has read them.
        envelope: to be decoded with, should the request be taken in; None where there is nothing to be gained.
    """

    rows: int
    cost: int
    nbytes: int
    asked: Asked | None
    envelope: Envelope | None = None


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
        self._no_data = (b"",) * len(spec.inputs)
        self.unseen = Peek(1, self._planner.fixed_group.cost, 0, None)
        """Of a body that nobody has looked at."""

    def peek(self, body: bytes, header_length: int | None) -> Peek:
        """What a request brings and asks for; its data is not looked at, and so it may yet turn out to be wrong.

        Args and errors as for `decode`.
        """
        if header_length == 0:
            plan = self._plan_raw(len(body))
            return Peek(plan.rows, self._cost(plan, self._all[True]), len(body), NOTHING_ASKED)
        header = body
        if header_length is not None:
            if not 0 <= header_length <= len(body):
                raise out_of_range(header_length, body)
            header = body[:header_length]
            known = self._bound.get(header)
            if known is not None and known.length == len(body):
                first = known.request
                asked = Asked(first.timeout_s, first.priority, first.tenant)
                return Peek(first.rows, self._cost(first, first.wanted), first.nbytes, asked)
        envelope = peek_envelope(header)
        if envelope is None:
            return self.unseen
        plan = self._planner.plan(tuple([(each.name, each.datatype, each.shape) for each in envelope.inputs]))
        nbytes = 0
        for place, each in enumerate(envelope.inputs):
            itemsize = self._spec.inputs[plan.order[place]].itemsize
            if itemsize is not None:
                nbytes += plan.elements[place] * itemsize
            else:
                nbytes += read_binary_size(each.name, each.parameters) or len(each.data)
        wanted, asked = self._asked(envelope)
        return Peek(plan.rows, self._cost(plan, wanted), nbytes, asked, envelope)

    def _cost(self, known: Plan | InferRequest, wanted: Wanted) -> int:
        """Of a group, which takes no data to be known."""
        if self._planner.is_fixed:
            return self._planner.fixed_group.cost
        return self._planner.group(known.shapes, self._no_data, wanted, known.absent)[0].cost

    def decode(self, body: bytes, header_length: int | None, peek: Peek | None = None) -> InferRequest:
        """A request from its body.

        Args:
            body: all of it.
            header_length: as in Inference-Header-Content-Length.
            peek: of the same body, if it was peeked at.

        Raises:
            InvalidRequest: with what is wrong, naming the input.
            Unsupported: it uses an extension this server does not have.
        """
        if header_length == 0:
            return self._decode_raw(body)
        peeked = None if peek is None else peek.envelope
        if header_length is None:
            envelope = decode_envelope(body) if peeked is None else peeked
            if len(envelope.inputs) == 1 and not envelope.parameters and not envelope.outputs:
                return self._bind_simple(envelope, body)
            return self._bind(envelope, body, len(body))
        if not 0 <= header_length <= len(body):
            raise out_of_range(header_length, body)
        header = body[:header_length]
        known = self._bound.get(header)
        if known is not None and known.length == len(body):
            return self._cut(known, body)
        envelope = decode_envelope(header) if peeked is None else peeked
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
        sizes = [read_binary_size(each.name, each.parameters) for each in inputs]
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
            size = read_binary_size(each.name, each.parameters) if each.parameters else None
            data: bytes | memoryview
            if size is not None:
                data = cut_binary(
                    self._spec.name, self._spec.inputs[at], body, cursor, size, plan.elements[place]
                )
                cursor += size
            elif type(each) is RawInput and each.data:
                data = plan.readers[place](each.data)
            else:
                data = self._odd_data(each, plan, place)
            tensors[at] = data
            nbytes += len(data)
        if cursor != len(body):
            raise InvalidRequest(f"unexpected additional input data for model '{self._spec.name}'")
        wanted, asked = self._asked(envelope)
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
        asked: Asked,
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
            asked.tenant,
        )

    def _decode_raw(self, body: bytes) -> InferRequest:
        """The whole body is the one input, of batch 1; all outputs go back in binary."""
        plan, tensor = self._plan_raw(len(body)), self._spec.inputs[0]
        if tensor.itemsize is None:
            body = LENGTH.pack(len(body)) + body
        elif plan.elements[0] * tensor.itemsize != len(body):
            raise InvalidRequest(
                f"unexpected size for input '{tensor.name}', expecting {plan.elements[0] * tensor.itemsize} bytes for "
                f"model '{self._spec.name}', got {len(body)}"
            )
        return self._request("", plan, [body], self._all[True], len(body), NOTHING_ASKED)

    def _plan_raw(self, nbytes: int) -> Plan:
        spec = self._spec
        if len(spec.inputs) != 1:
            raise InvalidRequest(
                f"Raw request must only have 1 input (found 1) to be deduced but got {len(spec.inputs)} inputs in "
                f"'{spec.name}' model configuration"
            )
        tensor = spec.inputs[0]
        return self._planner.plan(((tensor.name, tensor.datatype, deduce_shape(tensor, nbytes)),))

    def _asked(self, envelope: Envelope | LooseEnvelope) -> tuple[Wanted, Asked]:
        outputs, parameters = envelope.outputs, envelope.parameters
        if not outputs and not parameters:
            return self._all[False], NOTHING_ASKED
        return self._wanted(outputs, parameters), read_parameters(parameters) if parameters else NOTHING_ASKED

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


def out_of_range(header_length: int, body: bytes) -> InvalidRequest:
    return InvalidRequest(f"inference header size should be in range (0, {len(body)}), got: {header_length}")
