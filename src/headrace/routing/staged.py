"""A skill whose images or user code have a worker of their own: before → model → after, one ticket handed on.

Each stage is an ordinary pipeline with its own queue, batches and restarts; the deadline is the request's own all the
way. What a stage gives is copied, since its memory is the next batch's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from msgspec.structs import replace

from headrace import strings
from headrace.admission.forecast import Arrival
from headrace.batching.ticket import State, Ticket
from headrace.errors import HeadraceError, InferenceFailed, InvalidRequest
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
from headrace.parts import Part
from headrace.pipeline import Pipeline
from headrace.protocol.plan import Planner
from headrace.transforms.steps import Tensors, as_array, decode_tensors, encode_after, encode_before

ANSWER = TensorSpec("answer", Datatype.BYTES, (-1,), batch_axis=0)
"""What `after` gives: JSON, one element an item."""
FIRST = Wanted((0,), (True,))
ITEM = Group(1)
"""For the transform worker, all items are alike."""
BEFORE = frozenset({"image", "value"})
"""Kinds of inputs that go through the transform worker; the others go to the model's."""


class Staged:
    """The stages of one version under its present spec. Lives on the loop."""

    def __init__(self, model: Pipeline, transforms: Pipeline, steps: dict[str, Any]) -> None:
        self._model = model
        self._transforms = transforms
        self._inner = model.spec
        self._planner = Planner(model.spec)
        before = {name: each for name, each in steps["inputs"].items() if each["kind"] in BEFORE}
        self._before = list(before)
        self._has_after = bool(steps.get("transform", {}).get("after"))
        filled = {each.get("to", name) for name, each in before.items()}
        has_code = any(each["kind"] == "value" for each in before.values())
        # What user code fills is known only when it has run, so with it everything else has to be declared.
        kept = [
            each
            for each in self._inner.inputs
            if each.name in steps["inputs"] or not (has_code or each.name in filled)
        ]
        self.spec = ModelSpec(
            self._inner.name,
            self._inner.version,
            self._inner.platform,
            (*(outer_input(name, each) for name, each in before.items()), *kept),
            (ANSWER,) if self._has_after else self._inner.outputs,
            self._inner.max_batch_size,
            joins_requests=True,
            notes=self._inner.notes,
        )
        # The mutable state: which stage's ticket stands for a request now.
        self._now: dict[Ticket, tuple[Pipeline, Ticket]] = {}

    @property
    def is_pressed(self) -> bool:
        """Either stage is: as of Pipeline."""
        return self._model.is_pressed or self._transforms.is_pressed

    @property
    def is_hungry(self) -> bool:
        """Both stages are: as of Pipeline."""
        return self._model.is_hungry and self._transforms.is_hungry

    def refusal(self, arrival: Arrival) -> HeadraceError | None:
        """The reason that either stage has by itself not to take it in; to both, an item is a row of their own cost."""
        return self._transforms.refusal(arrival._replace(cost=ITEM.cost, level=0)) or self._model.refusal(
            arrival._replace(cost=self._planner.fixed_group.cost)
        )

    def submit(self, ticket: Ticket) -> None:
        """Start the first stage."""
        ticket.state = State.RUNNING
        request = ticket.request
        if not self._before:
            self._run_model(ticket, [{}] * request.rows)
            return
        columns = [self._column(at, request) for at in range(len(self._before))]
        blobs = [
            encode_before(dict(zip(self._before, row, strict=True))) for row in zip(*columns, strict=True)
        ]
        self._stage(ticket, self._transforms, blob_request(blobs), partial(self._end_before, ticket))

    def drop(self, ticket: Ticket) -> None:
        """The client is gone: whatever stage has the request forgets it."""
        ticket.drop()
        found = self._now.pop(ticket, None)
        if found is not None:
            pipeline, inner = found
            pipeline.drop(inner)

    def _column(self, index: int, request: InferRequest) -> list[Any]:
        """The rows of an input that goes through the transform worker."""
        data = request.tensors[index]
        if self.spec.inputs[index].datatype is Datatype.BYTES:
            return list(strings.split(memoryview(data), (request.rows,)))
        return list(np.frombuffer(data, NUMPY_TYPES[Datatype.FP64]).tolist())

    def _end_before(self, ticket: Ticket, part: Part) -> None:
        rows = [decode_tensors(blob) for blob in part.outputs.array(0, part)]
        self._run_model(ticket, rows)

    def _run_model(self, ticket: Ticket, rows: list[Tensors]) -> None:
        request = ticket.request
        names = {each.name: at for at, each in enumerate(self.spec.inputs)}
        shapes, tensors = [], []
        for spec in self._inner.inputs:
            if spec.name in names and names[spec.name] >= len(self._before):
                shapes.append(request.shapes[names[spec.name]])
                tensors.append(request.tensors[names[spec.name]])
            else:
                shape, data = stacked(spec, rows)
                shapes.append(shape)
                tensors.append(data)
        signature = tuple(
            (spec.name, spec.datatype.value, shape)
            for spec, shape in zip(self._inner.inputs, shapes, strict=True)
        )
        try:
            plan = self._planner.plan(signature)
        except InvalidRequest as exc:
            if self._before:
                raise InferenceFailed(
                    f"what the skill's transform gives does not fit its model: {exc}"
                ) from exc
            raise
        wanted = request.wanted
        if self._has_after:
            count = len(self._inner.outputs)
            wanted = Wanted(tuple(range(count)), (True,) * count)
        group, lengths = self._planner.fixed_group, None
        if not self._planner.is_fixed:
            group, lengths = self._planner.group(plan.shapes, tensors, wanted)
        inner = replace(
            request,
            shapes=plan.shapes,
            tensors=tuple(tensors),
            rows=plan.rows,
            group=group,
            wanted=wanted,
            nbytes=sum(map(len, tensors)),
            lengths=lengths,
        )
        end = partial(self._end_model, ticket) if self._has_after else partial(self._answer, ticket)
        self._stage(ticket, self._model, inner, end)

    def _end_model(self, ticket: Ticket, part: Part) -> None:
        specs = self._inner.outputs
        datatypes = {each.name: each.datatype for each in specs}
        arrays = [(each, part.outputs.array(at, part)) for at, each in enumerate(specs)]
        blobs = [
            encode_after(
                {
                    each.name: array if each.batch_axis is None else array.take(row, each.batch_axis)
                    for each, array in arrays
                },
                datatypes,
            )
            for row in range(ticket.request.rows)
        ]
        self._stage(ticket, self._transforms, blob_request(blobs), partial(self._answer, ticket))

    def _answer(self, ticket: Ticket, part: Part) -> None:
        self._now.pop(ticket, None)
        ticket.answer(part)

    def _fail(self, ticket: Ticket, error: HeadraceError) -> None:
        self._now.pop(ticket, None)
        ticket.refuse(error)

    def _stage(
        self, ticket: Ticket, pipeline: Pipeline, request: InferRequest, end: Callable[[Part], None]
    ) -> None:
        reply = StageReply(end, partial(self._fail, ticket))
        inner = Ticket(request, reply, ticket.arrived, ticket.deadline, ticket.timeout_error)
        inner.level = ticket.level if pipeline is self._model else 0
        inner.tenant, inner.is_asked = ticket.tenant, ticket.is_asked
        if ticket.record is not None:
            stage = "after" if ticket in self._now else "before"
            inner.record = ticket.record.of(stage="model" if pipeline is self._model else stage)
        if ticket not in self._now:
            inner.target = ticket.target  # what has been taken in once may take until its deadline
        self._now[ticket] = (pipeline, inner)
        pipeline.submit(inner)


class StageReply:
    """Where one stage's answer goes."""

    def __init__(self, end: Callable[[Part], None], fail: Callable[[HeadraceError], None]) -> None:
        self._end = end
        self.fail = fail

    def end(self, part: Part) -> None:
        """Go on; a fault between the stages costs this request only."""
        try:
            self._end(part)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - the batch-mates' answers come next
            self.fail(InferenceFailed(f"between the stages of the skill: {type(exc).__name__}: {exc}"))


def outer_input(name: str, step: dict[str, Any]) -> TensorSpec:
    """What a caller sends for an input that goes through the transform worker."""
    is_number = step["kind"] == "value" and step["value"] == "number"
    return TensorSpec(name, Datatype.FP64 if is_number else Datatype.BYTES, (-1,), batch_axis=0)


def blob_request(blobs: list[bytes]) -> InferRequest:
    """Items for the transform worker."""
    column = np.empty(len(blobs), object)
    column[:] = blobs
    data = strings.join(column)
    return InferRequest("", ((len(blobs),),), (data,), len(blobs), ITEM, FIRST, len(data))


def stacked(spec: TensorSpec, rows: list[Tensors]) -> tuple[Shape, bytes]:
    """One input of all rows, from what `before` gave for each.

    Raises:
        InvalidRequest: a row lacks it, or has it in a datatype or shape that cannot be joined.
    """
    arrays = [as_spec(spec, row) for row in rows]
    shape = tuple(max(sizes) for sizes in zip(*(each.shape for each in arrays), strict=False))
    if any(each.shape != shape for each in arrays):
        if not spec.is_padded or any(each.ndim != len(shape) for each in arrays):
            seen = ", ".join(sorted({str(list(each.shape)) for each in arrays}))
            raise InvalidRequest(
                f"the items give different shapes for '{spec.name}' ({seen}): send them one by one"
            )
        arrays = [
            np.pad(
                each,
                [(0, m - n) for n, m in zip(each.shape, shape, strict=True)],
                constant_values=spec.pad_value,
            )
            for each in arrays
        ]
    axis = spec.batch_axis
    if axis is None:
        # A model without a batch axis takes the row as it is.
        if len(arrays) != 1:
            raise InvalidRequest(f"'{spec.name}' has no batch axis: send the items one by one")
        joined = arrays[0] if arrays[0].ndim == len(spec.shape) else arrays[0][np.newaxis]
    else:
        joined = np.stack(arrays, axis)
    data = strings.join(joined) if joined.dtype == object else joined.tobytes()
    return joined.shape, data


def as_spec(spec: TensorSpec, row: Tensors) -> np.ndarray:
    """One row's tensor in the datatype the model takes; numbers are cast, as numpy's defaults are the widest ones."""
    found = row.get(spec.name)
    if found is None:
        raise InferenceFailed(
            f"the transform gives no '{spec.name}', which the model takes; it gives {', '.join(row)}"
        )
    datatype, shape, data = found
    array = as_array(datatype, shape, data)
    if datatype is spec.datatype:
        return array
    if Datatype.BYTES in {datatype, spec.datatype} or Datatype.BF16 in {datatype, spec.datatype}:
        raise InferenceFailed(
            f"the transform gives {datatype} for '{spec.name}', and the model takes {spec.datatype}"
        )
    return array.astype(NUMPY_TYPES[spec.datatype])
