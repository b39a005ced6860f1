"""The contract of a backend: load an artifact, say what it declares, run a batch.

Synchronous, and one object is never called twice at once: `clone()` gives each instance an object of its own, which
may share whatever its runtime allows to be shared.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from headrace.errors import NoMemoryToLoad, OutOfMemory
from headrace.messages import Datatype, ModelSpec
from headrace.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Declared:
    """One input or output as the artifact declares it: a size, a name for a size, or None, for each axis.

    `axes` is None where the artifact does not even say how many there are; an optional input may be left out of a run.
    """

    name: str
    datatype: Datatype
    axes: tuple[int | str | None, ...] | None
    is_optional: bool = False


def ran_out_of_memory(exc: BaseException | None) -> bool:
    """Whether an exception, or what it came of, says that there was too little memory."""
    while exc is not None:
        if isinstance(exc, MemoryError | OutOfMemory | NoMemoryToLoad):
            return True
        if isinstance(exc, OSError) and exc.errno == errno.ENOMEM:
            return True
        exc = exc.__cause__
    return False


class ItemErrors(Exception):
    """Raised by a backend's run: these rows failed, and here are the outputs of the others."""

    def __init__(self, outputs: list[np.ndarray], errors: Mapping[int, Exception]) -> None:
        """Hold what a run came to.

        Args:
            outputs: in the order of `wanted`, with a row for each row that went in; those of rows that failed may hold
                anything. Empty if every row failed.
            errors: row → why: InvalidItem (or another InvalidRequest) where the sender has to change it, any other
                error where the run is at fault.
        """
        super().__init__(f"{len(errors)} rows failed")
        self.outputs = outputs
        self.errors = dict(errors)


class Backend(Protocol):
    """One loaded model on one runtime.

    Arrays are numpy arrays of the dtypes in messages.NUMPY_TYPES; BYTES are object arrays of `bytes`.
    """

    platform: str
    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:
        """Open the artifact, with the options its repository gives. Called once, before anything else.

        Raises:
            LoadFailed: with what is wrong and what to do about it.
        """

    def clone(self) -> "Backend":
        """Another object over the same model, for another instance."""

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        """Run one batch; the outputs come in the order of `wanted`.

        Raises:
            ItemErrors: some rows failed; the others have outputs.
            InvalidRequest: the runtime says that the inputs are at fault.
            InferenceFailed: anything else it says.
        """


@runtime_checkable
class GivesExamples(Protocol):
    """A backend whose inputs cannot be made up by datatype alone, and which makes up some itself."""

    def examples(self, seed: int, rows: int) -> dict[str, np.ndarray]:
        """So many rows of the inputs that it can make up; other seeds give other rows.

        Of rows that are joined to see whether they change each other, those of seeds 1 and 4 are equally long.
        """


@runtime_checkable
class GivesLongest(Protocol):
    """A backend whose made-up inputs can be longer than usual, which their shapes do not show."""

    def longest(self, rows: int) -> dict[str, np.ndarray]:
        """So many rows of the inputs that it makes up, as long as it takes them."""


@runtime_checkable
class DescribesItself(Protocol):
    """A backend that runs code which must not be tried out on made-up inputs: what it says it can do is believed."""

    def describe(self, name: str, version: str) -> ModelSpec:
        """The spec it is served with. Called after load."""


@runtime_checkable
class GivesBack(Protocol):
    """A backend that keeps what runs took for the next one, and can give it back instead."""

    def give_back_after_runs(self, wanted: bool) -> None:
        """Whether this object's runs from now on give back what they took beyond the weights, at their end.

        Of a runtime that keeps it for all clones together, that of all.
        """


@contextmanager
def giving_back(backend: Backend) -> Iterator[None]:
    """Have runs give back what they took, where the backend can."""
    if not isinstance(backend, GivesBack):
        yield
        return
    backend.give_back_after_runs(True)
    try:
        yield
    finally:
        backend.give_back_after_runs(False)
