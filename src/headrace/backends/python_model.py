"""What somebody writes in model.py: a class `Model`, with or without this one as its base.

Light on purpose: `import headrace` brings it along. What loads and runs such a class is python.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # for the annotations of this file only: numpy takes longer to import than the rest of it
    import numpy as np

    Arrays = Mapping[str, np.ndarray]
    Failures = Mapping[int, Exception]


class Tensor(NamedTuple):
    """An input or output: its name, its datatype by the protocol's name (FP32, INT64, BYTES ...), its shape.

    -1 is any size; -1 in front is the batch. A plain tuple of the three does as well.
    """

    name: str
    datatype: str
    shape: Sequence[int]


@dataclass(frozen=True, slots=True)
class ModelContext:
    """What a model is told when it is loaded.

    Attributes:
        folder: where model.py lies; also the first place where it imports from.
        parameters: what the repository's configuration gives, as text.
        threads: how many the model may use.
    """

    folder: Path
    parameters: Mapping[str, str]
    threads: int


class PythonModel:
    """A model in Python: `class Model(headrace.PythonModel)` in NAME/model.py or NAME/1/model.py.

    ```python
    class Model(headrace.PythonModel):
        inputs = [headrace.Tensor("x", "FP32", [-1, 4])]
        outputs = [headrace.Tensor("y", "FP32", [-1])]

        def infer(self, inputs):
            return {"y": inputs["x"].sum(axis=1)}
    ```

    It runs in a process of its own; with `instances: 3` in three, each of which loads it once and runs one batch at a
    time. What it prints goes to the server's standard error.

    Attributes:
        inputs, outputs: what callers send and get. They may be left out where the repository's configuration names them.
        batched: whether rows of different requests may share a call. Left at None it is found out at load, by calls
            with made-up rows that show whether they change each other. True or False is believed, and nothing is run
            before the first request.
        max_batch_size: rows a request may bring where `batched` is True.
    """

    inputs: Sequence[Tensor | tuple[str, str, Sequence[int]]] = ()
    outputs: Sequence[Tensor | tuple[str, str, Sequence[int]]] = ()
    batched: bool | None = None
    max_batch_size: int = 1024

    def load(self, context: ModelContext) -> None:
        """Open what the model needs; called once. What it raises makes the model unavailable, and is its reason."""

    def infer(self, inputs: dict[str, np.ndarray]) -> Arrays | tuple[Arrays, Failures]:
        """Answer a batch.

        Args:
            inputs: an array a declared input, joined along the first axis; BYTES as object arrays of `bytes`. They are
                valid during the call only: copy what is to be kept.

        Returns:
            An array a declared output, of the declared datatype, with the rows in the same order; BYTES as arrays of
            `bytes` or `str`. Or such a mapping and beside it the rows that failed, by number: `outputs, {2:
            headrace.InvalidItem("no such country")}`. Only the request with that row gets the error (422 for an
            InvalidItem, 500 for anything else), and what the outputs hold in that row does not matter.

        Raises:
            headrace.InvalidItem: the sender has to change the request. Of a batch of several requests each is then
                tried alone, so naming the rows instead is quicker.
            Exception: the same, and the culprit is answered with 500.
        """
        raise NotImplementedError
