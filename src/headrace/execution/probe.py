"""What a model can do, found out by running it: which axis is the batch, whether rows are independent, what pads.

A dynamic first dimension promises nothing: a model may normalise over it, or count along it. So rows are joined only
after a batch of two distinct rows has given the same as two runs of one, and a row the same beside another neighbour;
and they are padded only after a padded row has given the same as without. A model that cannot be run on made-up inputs is served as it is, one request at a time.

Runs in the worker, before it says that it is ready.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from headrace.backends.base import Backend, Declared, GivesExamples, GivesLongest, ItemErrors
from headrace.errors import HeadraceError, InferenceFailed, LoadFailed, OutOfMemory
from headrace.messages import NUMPY_TYPES, Datatype, ModelSpec, TensorSpec

SIZES = (16, 32, 64, 128, 256, 320, 512, 576, 640, 224, 1024, 8, 4, 2, 1)
"""Tried in turn for axes of unknown size, until the model runs. 320 and 640 are what convolutions over frames take."""
TOLERANCE = 1e-2
"""Largest difference that counts as equal between runs of different sizes, relative to the largest element: kernels
round differently by size, and a deep model makes more of that on inputs nobody has trained it for."""
NEIGHBOUR_TOLERANCE = 1e-5
"""The same between two runs of one size that differ in the other row: there, nothing rounds differently."""
LONGER = (1, 2, 4)
"""Memory is measured for rows so many times as long as those that are made up otherwise."""
MASK = "attention_mask"
"""An input of that name is the declaration that its lengths may be padded with zeros (the convention of exported
transformers); like every declaration of padding it is used only if a run confirms it."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Axes:
    """One tensor's axes by name: a size, or the name of what varies."""

    declared: Declared
    names: tuple[int | str, ...]
    batch: int | None

    def sizes(self, size: Callable[[str], int], rows: int) -> tuple[int, ...]:
        return tuple(
            rows if axis == self.batch else name if isinstance(name, int) else size(name)
            for axis, name in enumerate(self.names)
        )


class Probe:
    """Finds out a model's ModelSpec. One use: `Probe(...).spec()`."""

    def __init__(self, backend: Backend, *, max_batch_size: int, pads: dict[str, float]) -> None:
        unknown = set(pads).difference(each.name for each in backend.inputs)
        if unknown:
            names = ", ".join(each.name for each in backend.inputs)
            raise LoadFailed(
                f"padding is declared for {', '.join(sorted(unknown))}, and the inputs are {names}"
            )
        self.backend = backend
        self._max_batch_size = max_batch_size
        self._pads = pads
        self.inputs = name_axes(backend.inputs)
        self.notes: list[str] = []
        self.size = 0
        self._first: Arrays | None = None
        self._was_run = False

    @property
    def runs(self) -> bool:
        """Whether the model could be run on made-up inputs."""
        return self._first is not None

    def unjoined_spec(self, name: str, version: str) -> ModelSpec:
        """The spec of a model too slow to probe before it is ready: right, and one request at a time."""
        self.notes.append("slow to run: what it can do is being found out beside it")
        outputs = [spec_of(each) for each in self.backend.outputs]
        if (first := self.first_run()) is not None:
            outputs = [shaped(spec, first[spec.name]) for spec in outputs]
        inputs = tuple(spec_of(each.declared) for each in self.inputs)
        return ModelSpec(
            name, version, self.backend.platform, inputs, tuple(outputs), notes=tuple(self.notes)
        )

    def spec(self, name: str, version: str) -> ModelSpec:
        outputs = [spec_of(each) for each in self.backend.outputs]
        inputs = [spec_of(each.declared) for each in self.inputs]
        joins = False
        for each in self.backend.inputs:
            if each.axes is None and each.name:
                self.notes.append(
                    f"input '{each.name}' has no declared shape, or is a scalar: scalars are taken"
                )
        if (first := self.first_run()) is not None:
            outputs = [shaped(spec, first[spec.name]) for spec in outputs]
            if not self._max_batch_size:
                self.notes.append("max_batch_size is 0: one request at a time")
            elif any(each.batch is not None for each in self.inputs):
                batch_axes = self._batch_axes(first)
                joins = batch_axes is not None
                if batch_axes is not None:
                    inputs = [with_batch(i, axes.batch) for i, axes in zip(inputs, self.inputs, strict=True)]
                    outputs = [with_batch(spec, batch_axes[spec.name]) for spec in outputs]
                    inputs, outputs = self._padding(inputs, outputs)
            else:
                self.notes.append("no input has a variable first axis: one request at a time")
        return ModelSpec(
            name=name,
            version=version,
            platform=self.backend.platform,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            max_batch_size=self._max_batch_size if joins else 0,
            joins_requests=joins,
            notes=tuple(self.notes),
        )

    def row(self, seed: int, lengths: dict[str, int] | None = None, rows: int = 1) -> Arrays:
        """Made-up inputs of one request; other seeds give other rows."""
        chosen = lengths or {}
        given = self.backend.examples(seed, rows) if isinstance(self.backend, GivesExamples) else {}
        return {
            each.declared.name: given[each.declared.name]
            if each.declared.name in given
            else made_up(
                each.declared, each.sizes(lambda name: chosen.get(name, self.size), rows), seed + 7919 * at
            )
            for at, each in enumerate(self.inputs)
        }

    def rows_by_length(self) -> list[Arrays]:
        """Rows to see by how memory grows with their length: one where all are equally long, else some, ascending.

        A text of a skill is one element however long it is, so its longest stands for all.
        """
        if isinstance(self.backend, GivesLongest):
            return [self.row(0) | self.backend.longest(1)]
        varying = {
            name
            for each in self.inputs
            for at, name in enumerate(each.names)
            if isinstance(name, str) and at != each.batch
        }
        if not varying:
            return [self.row(0)]
        return [self.row(0, dict.fromkeys(varying, factor * self.size)) for factor in LONGER]

    def batch(self, rows: list[Arrays]) -> Arrays:
        """The rows joined along each input's batch axis; an input without one is the first row's."""
        return {
            each.declared.name: rows[0][each.declared.name]
            if each.batch is None
            else np.concatenate([row[each.declared.name] for row in rows], each.batch)
            for each in self.inputs
        }

    def run(self, inputs: Arrays) -> Arrays:
        """All outputs.

        Raises:
            HeadraceError: the model says no.
            MemoryError: there is too little memory, which says nothing of the model.
        """
        names = [each.name for each in self.backend.outputs]
        try:
            return dict(zip(names, self.backend.run(inputs, names), strict=True))
        except ItemErrors as exc:
            raise InferenceFailed(str(next(iter(exc.errors.values())))) from exc
        except OutOfMemory as exc:
            raise MemoryError(str(exc)) from exc

    def row_cost(self) -> int:
        """Elements of a made-up row, as Group.cost counts them."""
        return sum(array.size for array in self.row(0).values())

    def first_run(self) -> Arrays | None:
        """The outputs of one made-up row, or None (and a note) if the model takes none of them."""
        if not self._was_run:
            self._was_run = True
            first = self._try_sizes()
            # In memory of our own: the runtime's could not be given back as long as they lie in it.
            self._first = None if first is None else {name: array.copy() for name, array in first.items()}
        return self._first

    def _try_sizes(self) -> Arrays | None:
        reason = ""
        varies = any(isinstance(n, str) for each in self.inputs for n in each.names)
        for size in SIZES if varies else SIZES[:1]:
            self.size = size
            try:
                return self.run(self.row(0))
            except LoadFailed:
                raise  # the steps around the model do not fit what it gives
            except HeadraceError as exc:
                reason = str(exc)
        self.notes.append(f"could not be run on made-up inputs ({reason[:200]}): one request at a time")
        return None

    def _batch_axes(self, first: Arrays) -> dict[str, int] | None:
        """Each output's batch axis, or None (and a note) where rows cannot be joined."""
        rows = [self._row_like_first(seed) for seed in (0, 1, 4)]
        try:
            second, both, other, swapped = (
                self.run(rows[1]),
                self.run(self.batch(rows[:2])),
                self.run(self.batch([rows[0], rows[2]])),
                self.run(self.batch(rows[1::-1])),
            )
        except HeadraceError as exc:
            self.notes.append(f"two rows in one run fail ({str(exc)[:200]}): one request at a time")
            return None
        axes: dict[str, int] = {}
        for name, joined in both.items():
            axis = doubled_axis(first[name].shape, joined.shape)
            if axis is None:
                self.notes.append(f"output '{name}' does not grow with the rows: one request at a time")
                return None
            ours = joined.take([0], axis)
            if not is_close(ours, other[name].take([0], axis), NEIGHBOUR_TOLERANCE):
                self.notes.append(f"rows change each other in output '{name}': one request at a time")
                return None
            if not (is_close(ours, first[name]) and is_close(joined.take([1], axis), second[name])):
                self.notes.append(f"output '{name}' changes with the number of rows: one request at a time")
                return None
            if swapped[name].shape != joined.shape or not is_close(
                swapped[name].take([1], axis), first[name]
            ):
                self.notes.append(f"rows change places in output '{name}': one request at a time")
                return None
            axes[name] = axis
        return axes

    def _row_like_first(self, seed: int) -> Arrays:
        """A row as it may share a batch with row 0: inputs without a batch axis have to be equal."""
        shared = {each.declared.name for each in self.inputs if each.batch is None}
        return {
            name: self.row(0)[name] if name in shared else array for name, array in self.row(seed).items()
        }

    def _padding(
        self, inputs: list[TensorSpec], outputs: list[TensorSpec]
    ) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Lengths of padded inputs and of the outputs they crop, as far as a run confirms them."""
        pads = self._pads or self._conventional_pads()
        lengths = {
            name
            for each in self.inputs
            if each.declared.name in pads
            for axis, name in enumerate(each.names)
            if isinstance(name, str) and axis != each.batch
        }
        if not lengths:
            return inputs, outputs
        try:
            confirmed = self._confirm_padding(lengths, pads, outputs)
        except HeadraceError as exc:
            self.notes.append(f"padding is not used: {str(exc)[:200]}")
            return inputs, outputs
        if not any(each.survives_padding for each in confirmed):
            self.notes.append("padding is not used: no output stays the same when a row is padded")
            return inputs, outputs
        padded = [
            replace(spec, lengths=tuple(n if n in lengths else None for n in each.names),
                         pad_value=pads.get(spec.name, 0))
            if any(n in lengths for n in each.names)
            else spec
            for spec, each in zip(inputs, self.inputs, strict=True)
        ]  # fmt: skip
        self.notes.append(f"rows are padded along {', '.join(sorted(lengths))}, and a run confirmed it")
        return padded, confirmed

    def _conventional_pads(self) -> dict[str, float]:
        mask = next((each for each in self.inputs if each.declared.name == MASK), None)
        if mask is None:
            return {}
        varying = {n for axis, n in enumerate(mask.names) if isinstance(n, str) and axis != mask.batch}
        return {each.declared.name: 0 for each in self.inputs if varying.intersection(each.names)}

    def _confirm_padding(
        self, lengths: set[str], pads: dict[str, float], outputs: list[TensorSpec]
    ) -> list[TensorSpec]:
        """Outputs with the lengths they are cropped to; one that padding changes is marked so."""
        short, long = dict.fromkeys(lengths, self.size), dict.fromkeys(lengths, 2 * self.size)
        alone, other = self.row(2, short), self.row(3, long)
        padded = {name: pad_to(array, other[name].shape, pads.get(name, 0)) for name, array in alone.items()}
        expected, longer, both = self.run(alone), self.run(other), self.run(self.batch([padded, other]))
        confirmed = []
        for spec in outputs:
            ours, axis = expected[spec.name], spec.batch_axis
            crops = tuple(
                next(iter(lengths)) if a != axis and n != m and len(lengths) == 1 else None
                for a, (n, m) in enumerate(zip(ours.shape, longer[spec.name].shape, strict=True))
            )
            assert axis is not None, "padding is asked about joined outputs only"
            cut = tuple(slice(0, 1) if a == axis else slice(0, n) for a, n in enumerate(ours.shape))
            safe = is_close(both[spec.name][cut], ours)
            if not safe:
                self.notes.append(
                    f"output '{spec.name}' changes with padding: asked for, it keeps lengths apart"
                )
            confirmed.append(replace(spec, lengths=crops if safe else (), survives_padding=safe))
        return confirmed


def name_axes(inputs: tuple[Declared, ...]) -> list[Axes]:
    """Names for unnamed axes, and each input's batch axis as the declarations suggest it."""
    named = [
        tuple(f"{each.name}.{at}" if size is None else size for at, size in enumerate(each.axes or ()))
        for each in inputs
    ]
    batch_names = {names[0] for names in named if names and isinstance(names[0], str)}
    axes = []
    for each, names in zip(inputs, named, strict=True):
        batch = next((at for at, name in enumerate(names) if name in batch_names), None)
        if batch is None and batch_names:
            # Nothing says what an unnamed axis is: the first one is taken for the batch, and the probe decides.
            batch = next((at for at, size in enumerate(each.axes or ()) if size is None), None)
        axes.append(Axes(each, names, batch))
    return axes


def spec_of(declared: Declared) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in declared.axes or ())
    return TensorSpec(declared.name, declared.datatype, shape, is_optional=declared.is_optional)


def shaped(spec: TensorSpec, array: np.ndarray) -> TensorSpec:
    """An output whose number of axes is declared nowhere has as many as a run gave it."""
    return spec if len(spec.shape) == array.ndim else replace(spec, shape=(-1,) * array.ndim)


def with_batch(spec: TensorSpec, axis: int | None) -> TensorSpec:
    if axis is None:
        return spec
    shape = tuple(-1 if at == axis else size for at, size in enumerate(spec.shape))
    return replace(spec, shape=shape, batch_axis=axis)


def made_up(declared: Declared, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random elements that most models accept: small integers are valid tokens, flags and sizes."""
    rng = np.random.default_rng(seed)
    if declared.name == MASK:
        return np.ones(shape, NUMPY_TYPES[declared.datatype])
    match declared.datatype:
        case Datatype.BYTES:
            return rng.choice(np.array([b"a", b"b"], object), shape)
        case Datatype.BF16:
            return (rng.standard_normal(shape).astype("<f4").view("<u4") >> 16).astype("<u2")
        case Datatype.FP16 | Datatype.FP32 | Datatype.FP64:
            return rng.standard_normal(shape).astype(NUMPY_TYPES[declared.datatype])
        case _:
            return rng.integers(0, 2, shape).astype(NUMPY_TYPES[declared.datatype])


def pad_to(array: np.ndarray, shape: tuple[int, ...], value: float) -> np.ndarray:
    return np.pad(array, [(0, m - n) for n, m in zip(array.shape, shape, strict=True)], constant_values=value)


def doubled_axis(one: tuple[int, ...], two: tuple[int, ...]) -> int | None:
    """The only axis in which the shapes differ, if it is twice as long in the second."""
    if len(one) != len(two):
        return None
    differing = [at for at, (n, m) in enumerate(zip(one, two, strict=True)) if n != m]
    if len(differing) != 1 or two[differing[0]] != 2 * one[differing[0]]:
        return None
    return differing[0]


def is_close(ours: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    if ours.shape != expected.shape:
        return False
    if expected.dtype.kind != "f":
        return bool(np.array_equal(ours, expected))
    finite = expected[np.isfinite(expected)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    return bool(np.allclose(ours, expected, rtol=0, atol=tolerance * max(largest, 1e-6), equal_nan=True))
