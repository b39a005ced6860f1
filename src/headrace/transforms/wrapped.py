"""A model's backend with the cheap steps of its skill around it: what callers send in, answers out.

To everything outside it is one more model, whose inputs are strings and whose outputs are labels: batches, queues,
probing and profiles work as for any other.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.backends.base import Backend, Declared, GivesBack, ItemErrors
from headrace.errors import InferenceFailed, InvalidRequest, LoadFailed
from headrace.messages import Datatype
from headrace.model_config import ModelConfig
from headrace.transforms.fill import Arrays, BytesFiller, Filled, Filler, RecordFiller, TextFiller
from headrace.transforms.kinds import (
    BytesStep,
    ImageStep,
    InputStep,
    RecordStep,
    Steps,
    TensorStep,
    TextStep,
    parse_steps,
)
from headrace.transforms.outputs import Output, make_output
from headrace.transforms.text import runs_of

USUAL_MASK = "attention_mask"


def wrap(backend: Backend, config: ModelConfig, pads: dict[str, float]) -> Backend:
    """The backend with the steps around it that run beside it; the backend itself where there are none.

    Args:
        backend: loaded.
        config: what the repository says of the model.
        pads: the model's input → what fills shorter rows, where that is declared.

    Raises:
        LoadFailed: the steps and the model do not fit together.
    """
    if not config.steps:
        return backend
    steps = parse_steps(config.steps)
    fillers = make_fillers(steps, backend.inputs, pads)
    outputs = [make_output(name, step, backend.outputs) for name, step in steps.outputs.items()]
    if not fillers and not outputs:
        return backend
    samples = [each.get("input", {}) for each in config.examples]
    return WrappedBackend(backend, fillers, outputs, samples)


class WrappedBackend:
    """Fills a backend's inputs, runs it, and makes answers of its outputs. As thread-safe as the backend."""

    def __init__(
        self, backend: Backend, fillers: list[Filler], outputs: list[Output], samples: list[dict[str, Any]]
    ) -> None:
        """Put the steps around the backend.

        Raises:
            LoadFailed: two outputs have one name.
        """
        self._backend = backend
        self._fillers = fillers
        self._samples = samples
        self._outputs = outputs or [as_it_is(each) for each in backend.outputs]
        self.platform = backend.platform
        self.filled = frozenset(name for each in fillers for name in each.fills)
        self.inputs = (
            *(Declared(each.name, Datatype.BYTES, (outer_axis(each),)) for each in fillers),
            *(each for each in backend.inputs if each.name not in self.filled),
        )
        self.outputs = tuple(each for output in self._outputs for each in output.declared)
        if twice := {
            each.name for each in self.outputs if [o.name for o in self.outputs].count(each.name) > 1
        }:
            raise LoadFailed(f"two outputs are called {', '.join(sorted(twice))}: rename one")
        self._masks = [each.mask for each in fillers if each.mask] or [USUAL_MASK]
        self._joins_lengths = all(each.joins_lengths for each in fillers)
        self._is_single = any(each.batch == 1 for each in fillers)

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:
        """It is loaded already."""

    def clone(self) -> "WrappedBackend":
        other = copy.copy(self)
        other._backend = self._backend.clone()  # noqa: SLF001 - its own kind
        return other

    def examples(self, seed: int, rows: int) -> Arrays:
        """Made-up values for the inputs that are filled here; as Backend's contract has it."""
        made: Arrays = {}
        for filler in self._fillers:
            samples = [each[filler.name] for each in self._samples if filler.name in each]
            column = np.empty(rows, object)
            column[:] = [filler.made_up(seed + row, samples) for row in range(rows)]
            made[filler.name] = column
        return made

    def longest(self, rows: int) -> Arrays:
        """The same, as long as they may be."""
        made: Arrays = {}
        for filler in self._fillers:
            value = filler.longest() if isinstance(filler, TextFiller) else filler.made_up(0, ())
            made[filler.name] = np.full(rows, value, object)
        return made

    def give_back_after_runs(self, wanted: bool) -> None:
        if isinstance(self._backend, GivesBack):
            self._backend.give_back_after_runs(wanted)

    def run(self, inputs: Arrays, wanted: list[str]) -> list[np.ndarray]:
        """Run the rows that could be turned into tensors.

        Raises:
            ItemErrors: some could not, or failed in the model.
            InvalidRequest: the inputs have different numbers of rows.
        """
        asked = [each for each in self._outputs if any(one.name in wanted for one in each.declared)]
        sources = list(dict.fromkeys(each.source for each in asked))
        count, filled = self._fill(inputs)
        errors = {row: why for each in filled for row, why in each.errors.items()}
        good = [row for row in range(count) if row not in errors]
        gathered = Gathered(count)
        others = {
            name: array for name, array in inputs.items() if all(name != each.name for each in self._fillers)
        }
        for rows in self._runs(filled, good):
            feed = rows_of(others, rows, count)
            for each in filled:
                feed.update(each.tensors(rows))
            try:
                results = self._backend.run(feed, sources)
            except ItemErrors as exc:
                errors |= {rows[at]: why for at, why in exc.errors.items()}
                if not exc.outputs:
                    continue
                results = exc.outputs
            mask = next((feed[name] for name in self._masks if name in feed), None)
            gathered.add(rows, answers_of(asked, dict(zip(sources, results, strict=True)), mask))
        outputs = [gathered.arrays[name] for name in wanted] if gathered.arrays else []
        if errors:
            raise ItemErrors(outputs, errors)
        return outputs

    def _fill(self, inputs: Arrays) -> tuple[int, list[Filled]]:
        """How many rows there are, and the filled inputs of all."""
        counts = {len(inputs[each.name]) for each in self._fillers}
        if len(counts) > 1:
            raise InvalidRequest(f"the inputs have different numbers of rows: {sorted(counts)}")
        if not counts:
            return rows_in(inputs), []
        return counts.pop(), [each.fill(inputs[each.name].ravel().tolist()) for each in self._fillers]

    def _runs(self, filled: list[Filled], good: list[int]) -> list[list[int]]:
        """Which of the rows run together."""
        if self._is_single:
            return [[row] for row in good]
        lengths = [each.lengths for each in filled if each.lengths]
        if not good or not lengths:
            return [good] if good else []
        if self._joins_lengths:
            sizes = [sum(each[row] for each in lengths) for row in good]
        else:
            # Equal in every one of the texts; which number stands for which lengths does not matter.
            kinds: dict[tuple[int, ...], int] = {}
            sizes = [kinds.setdefault(tuple(each[row] for each in lengths), len(kinds)) for row in good]
        return [[good[at] for at in run] for run in runs_of(sizes, is_padded=self._joins_lengths)]


class Gathered:
    """The outputs of several runs as if they had been one, in the order of the rows."""

    def __init__(self, count: int) -> None:
        self.arrays: Arrays = {}
        self._count = count

    def add(self, rows: Sequence[int], results: Arrays) -> None:
        """Take in what a run gave for these rows; rows that no run had stay 0."""
        for name, result in results.items():
            if len(rows) == self._count and list(rows) == list(range(self._count)):
                self.arrays[name] = result
                continue
            if not result.ndim or len(result) != len(rows):
                raise InferenceFailed(
                    f"output '{name}' has shape {list(result.shape)} for {len(rows)} rows: it cannot be taken apart"
                )
            self.arrays[name] = array = self._room(self.arrays.get(name), result)
            where: tuple[Any, ...] = (list(rows), *(slice(0, size) for size in result.shape[1:]))
            array[where] = result

    def _room(self, array: np.ndarray | None, result: np.ndarray) -> np.ndarray:
        """The output so far with room for the result: rows with more tokens make all rows longer."""
        sizes = result.shape[1:]
        if array is not None:
            if array.shape[1:] == sizes:
                return array
            sizes = tuple(map(max, array.shape[1:], sizes))
        room = np.full((self._count, *sizes), b"", object) if result.dtype == object else np.zeros(
            (self._count, *sizes), result.dtype
        )  # fmt: skip
        if array is not None:
            room[tuple(slice(0, size) for size in array.shape)] = array
        return room


def make_fillers(steps: Steps, inputs: tuple[Declared, ...], pads: dict[str, float]) -> list[Filler]:
    """A filler for each input whose step runs beside the model, each of the model's inputs filled at most once."""
    by_name = {each.name: each for each in inputs}
    taken: dict[str, str] = {}
    fillers: list[Filler] = []
    # Those that say what they fill come first; the others get what is left.
    ordered = sorted(steps.inputs.items(), key=lambda each: target_of(each[0], each[1], by_name) is None)
    for name, step in ordered:
        target = target_of(name, step, by_name)
        free = [each for each in inputs if each.name not in taken]
        match step:
            case TextStep():
                fillers.append(TextFiller(name, step, by_name, pads))
                filled = list(fillers[-1].fills)
            case BytesStep():
                fillers.append(BytesFiller(name, step, chosen(name, target, free, by_name)))
                filled = list(fillers[-1].fills)
            case RecordStep():
                fillers.append(RecordFiller(name, step, record_targets(name, step, free, by_name)))
                filled = list(fillers[-1].fills)
            case ImageStep() | TensorStep():
                filled = [chosen(name, target, [], by_name).name]
            case _:
                filled = []
        for each in filled:
            if each in taken:
                raise LoadFailed(f"inputs '{taken[each]}' and '{name}' both fill the model's '{each}'")
            taken[each] = name
    order = list(steps.inputs)
    return sorted(fillers, key=lambda each: order.index(each.name))


def target_of(name: str, step: InputStep, by_name: dict[str, Declared]) -> str | None:
    """The model's input that a step names, or that is called as it is; None if neither."""
    if isinstance(step, TextStep):
        return name
    to = getattr(step, "to", None)
    return to or (name if name in by_name or isinstance(step, ImageStep | TensorStep) else None)


def chosen(name: str, target: str | None, free: list[Declared], by_name: dict[str, Declared]) -> Declared:
    """The model's input for a step: the one it names, or the only one left."""
    if target is None and len(free) == 1:
        return free[0]
    found = by_name.get(target or "")
    if found is None:
        says = f"is to fill '{target}'" if target else "does not say what it fills"
        raise LoadFailed(
            f"input '{name}' {says}, and the model's inputs are {', '.join(by_name)}: write `to: NAME`"
        )
    return found


def record_targets(
    name: str, step: RecordStep, free: list[Declared], by_name: dict[str, Declared]
) -> list[Declared]:
    """One input a feature where the model has them all, else the one vector."""
    if step.to is None and all(feature in by_name for feature in step.features):
        return [by_name[feature] for feature in step.features]
    return [chosen(name, step.to or (name if name in by_name else None), free, by_name)]


def outer_axis(filler: Filler) -> int | str | None:
    """The first axis of what callers send. A model of single rows is run once a row, so any number may come."""
    return None if filler.batch == 1 else filler.batch


def as_it_is(declared: Declared) -> Output:
    return Output(declared.name, (declared,), lambda array, _: [array])


def answers_of(outputs: list[Output], results: Arrays, mask: np.ndarray | None) -> Arrays:
    answers: Arrays = {}
    for output in outputs:
        arrays = output.answers(results[output.source], mask)
        answers.update({each.name: array for each, array in zip(output.declared, arrays, strict=True)})
    return answers


def rows_of(arrays: Arrays, rows: Sequence[int], count: int) -> Arrays:
    """The rows of inputs that are not filled here; those that have other rows go as they are."""
    if len(rows) == count and list(rows) == list(range(count)):
        return dict(arrays)
    return {
        name: array[list(rows)] if array.ndim and len(array) == count else array
        for name, array in arrays.items()
    }


def rows_in(inputs: Arrays) -> int:
    return next((len(array) for array in inputs.values() if array.ndim), 1)
