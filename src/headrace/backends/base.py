"""The contract of a backend: load an artifact, say what it declares, run a batch.

Synchronous, and one object is never called twice at once: `clone()` gives each instance an object of its own, which
may share whatever its runtime allows to be shared.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from headrace.messages import Datatype


@dataclass(frozen=True, slots=True)
class Declared:
    """One input or output as the artifact declares it: a size, a name for a size, or None, for each axis.

    `axes` is None where the artifact does not even say how many there are.
    """

    name: str
    datatype: Datatype
    axes: tuple[int | str | None, ...] | None


class Backend(Protocol):
    """One loaded model on one runtime.

    Arrays are numpy arrays of the dtypes in messages.NUMPY_TYPES; BYTES are object arrays of `bytes`.
    """

    platform: str
    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]

    def load(self, path: Path, threads: int) -> None:
        """Open the artifact. Called once, before anything else.

        Raises:
            LoadFailed: with what is wrong and what to do about it.
        """

    def clone(self) -> "Backend":
        """Another object over the same model, for another instance."""

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        """Run one batch; the outputs come in the order of `wanted`.

        Raises:
            InvalidRequest: the runtime says that the inputs are at fault.
            InferenceFailed: anything else it says.
        """
