"""What the names, datatypes and shapes of a request mean for a model; and with whom the request may share a batch."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import prod
from typing import NamedTuple, TypeVar

import msgspec

from headrace.errors import InvalidRequest
from headrace.messages import Group, ModelSpec, Shape, TensorSpec, Wanted, bucket_edge
from headrace.protocol.tensors import make_reader

MOST_ELEMENTS = (1 << 63) - 1
MOST_PLANS = 4096
DIGEST_BYTES = 16

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
        absent: positions of the optional inputs that are left out.
    """

    order: tuple[int, ...]
    elements: tuple[int, ...]
    readers: tuple[Callable[[msgspec.Raw], bytes], ...]
    shapes: tuple[Shape, ...]
    rows: int
    absent: tuple[int, ...] = ()


class Planner:
    """Holds signatures against one version's spec. Requests repeat them, so what one means is kept."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._inputs = {tensor.name: (at, tensor) for at, tensor in enumerate(spec.inputs)}
        self._plans: dict[Signature, Plan] = {}
        self.is_fixed = not any(each.is_optional for each in spec.inputs) and all(
            -1 not in without(each.shape, each.batch_axis)
            and (each.batch_axis is not None or not spec.joins_requests)
            for each in spec.inputs
        )
        cost = sum(prod(without(each.shape, each.batch_axis)) for each in spec.inputs)
        self.fixed_group = Group(cost if self.is_fixed else 0)

    def plan(self, signature: Signature) -> "Plan":
        """What names, datatypes and shapes mean for this model.

        Raises:
            InvalidRequest: they are not the model's.
        """
        known = self._plans.get(signature)
        if known is not None:
            return known
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
        absent: tuple[int, ...] = ()
        if len(order) != len(self._inputs):
            absent = tuple(at for at in range(len(self._inputs)) if at not in order)
            if not all(self._spec.inputs[at].is_optional for at in absent):
                raise self._wrong_inputs(signature)
        readers = [
            make_reader(name, self._spec.inputs[at].datatype, count)
            for (name, _, _), at, count in zip(signature, order, elements, strict=True)
        ]
        rows = self._rows(shapes, absent)
        plan = Plan(tuple(order), tuple(elements), tuple(readers), tuple(shapes), rows, absent)
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        self._plans[signature] = plan
        return plan

    def group(
        self,
        shapes: tuple[Shape, ...],
        tensors: Sequence[bytes | memoryview],
        wanted: Wanted,
        absent: tuple[int, ...] = (),
    ) -> tuple[Group, dict[str, int] | None]:
        """With whom the request may share a batch, and its own lengths where it may be padded."""
        spec = self._spec
        is_padded = all(spec.outputs[at].survives_padding for at in wanted.outputs)
        lengths: dict[str, int] = {}
        exact, shared, cost = [], [], 0
        for at, (tensor, shape, data) in enumerate(zip(spec.inputs, shapes, tensors, strict=True)):
            if at in absent:
                continue
            if tensor.batch_axis is None:
                if spec.joins_requests:
                    shared.append(digest(data))
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

    def _rows(self, shapes: list[Shape], absent: tuple[int, ...]) -> int:
        spec = self._spec
        if not spec.max_batch_size:
            return 1
        rows = -1
        for at, (tensor, shape) in enumerate(zip(spec.inputs, shapes, strict=True)):
            axis = tensor.batch_axis
            if axis is None or at in absent:
                continue
            if rows not in {-1, shape[axis]}:
                raise InvalidRequest(
                    f"input '{tensor.name}' brings {shape[axis]} rows and another input {rows} for model '{spec.name}'"
                )
            rows = shape[axis]
        if rows == -1:
            return 1  # every input with rows is left out: the model has values of its own, of one row
        if rows > spec.max_batch_size:
            raise InvalidRequest(
                f"inference request batch-size must be <= {spec.max_batch_size} for '{spec.name}'"
            )
        return rows

    def _unexpected_input(self, signature: Signature, name: str) -> InvalidRequest:
        if len(signature) != len(self._inputs):
            return self._wrong_inputs(signature)
        return InvalidRequest(
            f"unexpected inference input '{name}' for model '{self._spec.name}'; it has "
            f"{', '.join(map(repr, self._inputs))}"
        )

    def _wrong_inputs(self, signature: Signature) -> InvalidRequest:
        got = [name for name, _, _ in signature]
        optional = sum(each.is_optional for each in self._spec.inputs)
        missing = [each.name for each in self._spec.inputs if each.name not in got and not each.is_optional]
        if optional:
            most = len(self._inputs)
            return InvalidRequest(
                f"expected number of inputs between {most - optional} and {most} but got {len(got)} inputs for model "
                f"'{self._spec.name}'. Got input(s) {got}, but missing required input(s) {missing}. Please provide all "
                "required input(s)."
            )
        return InvalidRequest(
            f"expected {len(self._inputs)} inputs but got {len(got)} inputs for model '{self._spec.name}'. Got "
            f"input(s) {got}, but missing required input(s) {missing}. Please provide all required input(s)."
        )


def digest(data: bytes | memoryview) -> bytes:
    """What equal inputs have in common, without keeping them: groups outlive their requests."""
    return bytes(data) if len(data) <= DIGEST_BYTES else blake2b(data, digest_size=DIGEST_BYTES).digest()


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
