"""The answer that a skill has in a file, for when nothing else can answer: as JSON, and as tensors.

The file is looked at when it is asked for, and at most once a second, so that who changes it need not tell anybody. What
cannot be used any more takes nothing away: the answer read before goes on being given.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog

from headrace.execution.stamps import Stamp, stamp_of
from headrace.messages import Datatype, ModelSpec, TensorSpec, Wanted
from headrace.parts import BatchOutputs, Part
from headrace.protocol.arrays import array_of
from headrace.repository.static_answer import read_answer, read_labels
from headrace.transforms.outputs import SCORES

LOOK_EVERY_S = 1.0
"""Seconds between two looks at the file."""

log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode


class NoStaticAnswer(Exception):
    """The file has no answer, or none to this request; the text says why."""


class StaticAnswers:
    """What a static file answers in place of one version. Lives on the loop; reading up to 1 MiB is done there too."""

    def __init__(self, file: Path, steps: dict[str, Any]) -> None:
        """`steps` are the version's (ModelConfig.steps): which outputs are labels, and whether code writes the answer."""
        self._file = file
        outputs = steps.get("outputs", {})
        self._labelled = {name for name, step in outputs.items() if step["kind"] == "labels"}
        self._is_of_code = bool(steps.get("transform", {}).get("after"))
        # The mutable state: the last look, what was read, and its row of each output under the last spec, or why not.
        self._looked_at: float | None = None
        self._stamp: Stamp | None = None
        self._problem = ""
        self._answer: dict[str, Any] | None = None
        self._json = b""
        self._spec: ModelSpec | None = None
        self._rows: dict[int, np.ndarray | str] = {}

    def json(self, now: float) -> bytes:
        """The whole answer, as the skills API writes one.

        Raises:
            NoStaticAnswer: the file could not be used up to now.
        """
        self._look(now)
        return self._json

    def part(self, spec: ModelSpec, wanted: Wanted, rows: int, now: float) -> Part:
        """The outputs that are wanted, the same for each row. Those that are not are not there.

        Raises:
            NoStaticAnswer: the file could not be used up to now, or does not fit what the model gives.
        """
        answer = self._look(now)
        if self._spec is not spec:
            self._spec = spec
            self._rows = {}
        arrays = {at: repeated(self._row(answer, at), spec.outputs[at], rows) for at in wanted.outputs}
        return Part(BatchOutputs(spec.outputs, arrays), 0, rows, is_whole=True, lengths=None)

    def _look(self, now: float) -> dict[str, Any]:
        """The newest answer that could be read."""
        if self._looked_at is None or now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            stamp = stamp_of(self._file)
            if stamp != self._stamp or self._problem:
                self._stamp = stamp
                self._read()
        if self._answer is None:
            raise NoStaticAnswer(self._problem)
        return self._answer

    def _read(self) -> None:
        try:
            self._answer = read_answer(self._file)
        except ValueError as exc:
            problem = str(exc)
            if problem != self._problem:
                still = "the one read before" if self._answer is not None else "none"
                log.warning("static_answer_unusable", file=str(self._file), reason=problem, given=still)
            self._problem = problem
            return
        self._problem = ""
        self._json = _encode(self._answer)
        self._rows = {}

    def _row(self, answer: dict[str, Any], at: int) -> np.ndarray:
        """One row of an output."""
        assert self._spec is not None, "set by whom calls this"
        row = self._rows.get(at)
        if row is None:
            try:
                row = self._fitted(answer, self._spec, at)
            except (ValueError, RecursionError) as exc:
                row = f"{self._file.name}: output '{self._spec.outputs[at].name}' {exc}"
                log.warning("static_answer_does_not_fit", file=str(self._file), reason=row)
            self._rows[at] = row
        if isinstance(row, str):
            raise NoStaticAnswer(row)
        return row

    def _fitted(self, answer: dict[str, Any], spec: ModelSpec, at: int) -> np.ndarray:
        output = spec.outputs[at]
        if self._is_of_code:
            return typed_row(self._json.decode(), output)
        names = {each.name for each in spec.outputs}
        pairs = {name for name in self._labelled if {name, name + SCORES} <= names}
        labels = output.name.removesuffix(SCORES)
        if output.name in pairs:
            return labels_row(value_of(answer, output.name), output)
        if labels != output.name and labels in pairs:
            return labels_row(value_of(answer, labels), output)
        return typed_row(value_of(answer, output.name), output)


def value_of(answer: dict[str, Any], name: str) -> Any:
    if name not in answer:
        raise ValueError(f"is asked for, and there is no {name} in the file: add it")
    return answer[name]


def typed_row(value: Any, output: TensorSpec) -> np.ndarray:
    """A row of an output that callers get as it is, from nested lists without the batch axis.

    Raises:
        ValueError: it is of other elements or of another shape.
    """
    is_text = output.datatype is Datatype.BYTES
    array = array_of(without_base64(value) if is_text else value, output.datatype)
    axis = output.batch_axis
    sizes = [size for at, size in enumerate(output.shape) if at != axis]
    if len(sizes) != array.ndim or any(0 <= n != m for n, m in zip(sizes, array.shape, strict=True)):
        raise ValueError(f"has the shape {list(array.shape)} in the file, and {sizes} in the model")
    return array if axis is None else np.expand_dims(array, axis)


def without_base64(value: Any) -> Any:
    """Bytes for {"b64": ...}, which stands for what is no text."""
    if isinstance(value, list):
        return [without_base64(each) for each in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        try:
            return msgspec.convert(value["b64"], bytes)
        except msgspec.ValidationError as exc:
            raise ValueError(f"has what is no base64: {exc}") from exc
    return value


def labels_row(value: Any, output: TensorSpec) -> np.ndarray:
    """A row of labels or of their scores: "" and 0 for those that are not told.

    Raises:
        ValueError: they are none, or more than the model tells.
    """
    told = read_labels(value)
    width = output.shape[-1] if len(output.shape) > 1 else 1
    if width < 0:
        width = max(len(told), 1)
    if len(told) > width:
        raise ValueError(f"has {len(told)} labels in the file, and {width} in the model")
    is_text = output.datatype is Datatype.BYTES
    filled: list[Any] = [each.label if is_text else each.score or 0.0 for each in told]
    filled += [("" if is_text else 0.0)] * (width - len(told))
    return array_of(filled, output.datatype).reshape((1,) * (len(output.shape) - 1) + (width,))


def repeated(row: np.ndarray, output: TensorSpec, rows: int) -> np.ndarray:
    """The row for each row of a request."""
    return row if rows == 1 or output.batch_axis is None else np.repeat(row, rows, output.batch_axis)
