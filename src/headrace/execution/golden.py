"""Golden inputs: one row that the model ran when it was loaded, to run again when nobody's request is to be risked.

Only what a fault would change is held against the first time: shapes, datatypes, and where elements are finite. Their
values may differ, since a model may draw them at random; so may the rest, if two runs of now differ as well.
"""

from dataclasses import dataclass

import numpy as np

from headrace.backends.base import Backend, ItemErrors
from headrace.errors import HeadraceError, InferenceFailed
from headrace.execution.finite import is_finite
from headrace.messages import Datatype

Arrays = dict[str, np.ndarray]
PREFIX = "golden inputs: "


@dataclass(frozen=True, slots=True)
class Expected:
    """An output of the golden run. `finite`: where its elements were; None if all were."""

    datatype: Datatype
    dtype: np.dtype
    shape: tuple[int, ...]
    finite: np.ndarray | None


class Golden:
    """Inputs of one row, and what came of them. Any instance may use it."""

    def __init__(self, backend: Backend, inputs: Arrays, outputs: Arrays) -> None:
        """`outputs` are all that the backend gave for the inputs."""
        datatypes = {each.name: each.datatype for each in backend.outputs}
        self._inputs = inputs
        self._expected = {name: expected(datatypes[name], array) for name, array in outputs.items()}
        self._random: set[str] = set()  # outputs that were seen to differ from one run to the next

    @property
    def cost(self) -> int:
        """Elements of the row, as Group.cost counts them."""
        return sum(array.size for array in self._inputs.values())

    def run(self, backend: Backend) -> None:
        """Run them once more.

        Raises:
            InferenceFailed: they fail, or give something else than they did; the sentence begins with PREFIX.
        """
        outputs = self._outputs(backend)
        found = {name: self._difference(name, array) for name, array in outputs.items()}
        found = {name: difference for name, difference in found.items() if difference is not None}
        if not found:
            return
        # A fault stays for a while: what is different again right away is drawn at random.
        for name, array in self._outputs(backend).items():
            if name in found and is_random(array, outputs[name], self._expected[name]):
                self._random.add(name)
                del found[name]
        for name, difference in found.items():
            raise InferenceFailed(f"{PREFIX}output '{name}' {difference}")

    def _difference(self, name: str, array: np.ndarray) -> str | None:
        return None if name in self._random else differs(array, self._expected[name])

    def _outputs(self, backend: Backend) -> Arrays:
        names = list(self._expected)
        try:
            outputs = backend.run(dict(self._inputs), names)
        except ItemErrors as exc:
            raise InferenceFailed(f"{PREFIX}{next(iter(exc.errors.values()))}") from exc
        except HeadraceError as exc:
            raise InferenceFailed(f"{PREFIX}{exc}") from exc
        except Exception as exc:
            raise InferenceFailed(f"{PREFIX}{type(exc).__name__}: {exc}") from exc
        return dict(zip(names, outputs, strict=True))


def expected(datatype: Datatype, array: np.ndarray) -> Expected:
    finite = is_finite(array, datatype)
    return Expected(datatype, array.dtype, array.shape, None if finite.all() else finite)


def is_random(array: np.ndarray, before: np.ndarray, first: Expected) -> bool:
    """Whether its shape differs between two runs of now, or, where not all was finite at first either, what is finite."""
    if array.shape != before.shape:
        return True
    finite, finite_before = is_finite(array, first.datatype), is_finite(before, first.datatype)
    return first.finite is not None and not np.array_equal(finite, finite_before)


def differs(array: np.ndarray, first: Expected) -> str | None:
    """What is not as it was when the model was loaded, or None."""
    if array.shape != first.shape:
        return f"has shape {list(array.shape)}, and had {list(first.shape)} when the model was loaded"
    if array.dtype != first.dtype:
        return f"is of {array.dtype}, and was of {first.dtype} when the model was loaded"
    finite = is_finite(array, first.datatype)
    if first.finite is not None:
        finite = finite | ~first.finite
    return None if finite.all() else "has NaN or an infinite number, and had none when the model was loaded"
