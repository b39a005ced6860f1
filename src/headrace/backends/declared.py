"""A backend as its repository declares it: only the tensors it lists, in the shapes it gives them.

What the repository says is held against the artifact here, so that a mistake is an error at load with both shapes in
it, and everything after works with one set of shapes: the declared ones.
"""

from pathlib import Path

import numpy as np

from headrace.backends.base import Backend, Declared, GivesBack, ItemErrors
from headrace.errors import LoadFailed
from headrace.messages import Shape
from headrace.model_config import DeclaredTensor, ModelConfig

Axes = tuple[int | str | None, ...]


class DeclaredBackend:
    """A loaded backend behind the tensors a ModelConfig declares."""

    def __init__(self, backend: Backend, config: ModelConfig) -> None:
        """Hold the declarations against the artifact.

        Raises:
            LoadFailed: they do not agree.
        """
        self._backend = backend
        self._config = config
        self.platform = backend.platform
        batched = bool(config.max_batch_size)
        # A name that the model does not have says more than the one that is then missing.
        self.inputs = declared_tensors("input", config.inputs, backend.inputs, batched=batched)
        check_inputs(config.inputs, backend.inputs)
        self.outputs = declared_tensors("output", config.outputs, backend.outputs, batched=batched)
        lead = 1 if batched else 0
        self._reshaped_inputs = {
            each.name: (each, lead) for each in config.inputs if each.reshape is not None
        }
        self._reshaped_outputs = {
            each.name: (each, lead) for each in config.outputs if each.reshape is not None
        }

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:
        """It is loaded already."""

    def clone(self) -> "DeclaredBackend":
        return DeclaredBackend(self._backend.clone(), self._config)

    def give_back_after_runs(self, wanted: bool) -> None:
        if isinstance(self._backend, GivesBack):
            self._backend.give_back_after_runs(wanted)

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        if self._reshaped_inputs:
            inputs = {
                name: inward(array, *self._reshaped_inputs[name]) if name in self._reshaped_inputs else array
                for name, array in inputs.items()
            }
        try:
            return self._declared(self._backend.run(inputs, wanted), wanted)
        except ItemErrors as exc:
            raise ItemErrors(self._declared(exc.outputs, wanted), exc.errors) from exc

    def _declared(self, outputs: list[np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        """Outputs in their declared shapes; where all rows failed there may be none."""
        if not self._reshaped_outputs:
            return outputs
        return [
            outward(array, *self._reshaped_outputs[name]) if name in self._reshaped_outputs else array
            for name, array in zip(wanted, outputs, strict=False)
        ]


def check_inputs(declared: tuple[DeclaredTensor, ...], found: tuple[Declared, ...]) -> None:
    """All inputs that the artifact needs are declared, if any are."""
    names = {each.name for each in declared}
    missing = [each.name for each in found if each.name not in names and not each.is_optional]
    if declared and missing:
        raise LoadFailed(
            f"the configuration declares {len(declared)} inputs and the model needs {len(declared) + len(missing)}: "
            f"{', '.join(missing)} too"
        )


def declared_tensors(
    kind: str, declared: tuple[DeclaredTensor, ...], found: tuple[Declared, ...], *, batched: bool
) -> tuple[Declared, ...]:
    """The tensors that callers see; those of the artifact where nothing is declared."""
    if not declared:
        return tuple(each for each in found if not each.is_optional)
    by_name = {each.name: each for each in found}
    tensors = []
    for each in declared:
        artifact = by_name.get(each.name)
        if artifact is None:
            raise LoadFailed(
                f"unexpected inference {kind} '{each.name}', allowed {kind}s are: {', '.join(sorted(by_name))}"
            )
        if each.is_optional and not artifact.is_optional:
            raise LoadFailed(
                f"{kind} '{each.name}' is declared optional, and the model has no value for it when it is left out"
            )
        tensors.append(declared_tensor(kind, each, artifact, batched=batched))
    return tuple(tensors)


def declared_tensor(kind: str, declared: DeclaredTensor, artifact: Declared, *, batched: bool) -> Declared:
    if declared.datatype is not None and declared.datatype is not artifact.datatype:
        raise LoadFailed(
            f"{kind} '{declared.name}' is declared as {declared.datatype}, and the model has {artifact.datatype}"
        )
    if declared.dims is None:
        return Declared(artifact.name, artifact.datatype, artifact.axes, is_optional=declared.is_optional)
    inner = declared.dims if declared.reshape is None else declared.reshape
    whole = (-1, *inner) if batched else inner
    found = artifact.axes
    if found is not None and not fits(whole, found):
        raise LoadFailed(
            f"{kind} '{declared.name}': the model has shape {shown(found)}, and the configuration gives "
            f"{list(whole)} ({'-1 for the batch, since max_batch_size is above 0, then ' if batched else ''}"
            f"{'dims' if declared.reshape is None else 'reshape'})"
        )
    axes: Axes = tuple(None if size == -1 else size for size in declared.dims)
    if found is not None and declared.reshape is None:
        named = found[1:] if batched else found
        axes = tuple(name if size is None else size for size, name in zip(axes, named, strict=True))
    if batched:
        axes = (found[0] if found else None, *axes)
    return Declared(artifact.name, artifact.datatype, axes, is_optional=declared.is_optional)


def fits(whole: Shape, found: Axes) -> bool:
    """A declared size may narrow an axis of any size; an axis of fixed size is declared as it is."""
    return len(whole) == len(found) and all(
        not isinstance(axis, int) or axis == size for size, axis in zip(whole, found, strict=True)
    )


def shown(axes: Axes) -> str:
    return f"[{', '.join(str(axis) if isinstance(axis, int) else '-1' for axis in axes)}]"


def inward(array: np.ndarray, declared: DeclaredTensor, lead: int) -> np.ndarray:
    """From the declared dims to what the artifact takes."""
    return reshaped(array, declared.dims or (), declared.reshape or (), lead)


def outward(array: np.ndarray, declared: DeclaredTensor, lead: int) -> np.ndarray:
    """From what the artifact gives to the declared dims."""
    return reshaped(array, declared.reshape or (), declared.dims or (), lead)


def reshaped(array: np.ndarray, before: Shape, after: Shape, lead: int) -> np.ndarray:
    """The same elements in another shape; sizes that vary are the same, in the same order."""
    varying = iter([size for size, dim in zip(array.shape[lead:], before, strict=True) if dim == -1])
    shape = [next(varying, -1) if dim == -1 else dim for dim in after]
    return array.reshape(*array.shape[:lead], *shape)
