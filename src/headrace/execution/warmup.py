"""Requests that a repository wants run before a version is ready."""

from pathlib import Path

import numpy as np

from headrace import strings
from headrace.backends.base import Backend, ItemErrors
from headrace.errors import HeadraceError, LoadFailed
from headrace.messages import NUMPY_TYPES, Datatype
from headrace.model_config import ModelConfig, WarmupInput


def warm_up(backend: Backend, config: ModelConfig) -> None:
    """Run the requests that the repository wants run before the version is ready.

    Raises:
        LoadFailed: one of them fails.
    """
    names = [each.name for each in backend.outputs]
    for warmup in config.warmups:
        try:
            inputs = {each.name: warmup_tensor(each, warmup.batch_size) for each in warmup.inputs}
            for _ in range(warmup.count):
                backend.run(inputs, names)
        except (HeadraceError, OSError, ValueError, ItemErrors) as exc:
            raise LoadFailed(f"its warm-up '{warmup.name}' failed: {exc}") from exc


def warmed_row(
    backend: Backend, config: ModelConfig
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """One row of a warm-up, and all that the backend gives for it; None if there is no warm-up that gives anything."""
    names = [each.name for each in backend.outputs]
    for warmup in config.warmups:
        try:
            inputs = {each.name: warmup_tensor(each, min(1, warmup.batch_size)) for each in warmup.inputs}
            return inputs, dict(zip(names, backend.run(inputs, names), strict=True))
        except (HeadraceError, OSError, ValueError, ItemErrors):
            continue  # as many rows as it says ran well, and one does not
    return None


def warmup_tensor(made: WarmupInput, rows: int) -> np.ndarray:
    """One input of a warm-up request; every row of a file's data is the same."""
    shape = (rows, *made.dims) if rows else made.dims
    if made.fill == "file":
        data = Path(made.file).read_bytes()
        if made.datatype is Datatype.BYTES:
            return np.broadcast_to(strings.split(data, made.dims), shape)
        row = np.frombuffer(data, NUMPY_TYPES[made.datatype]).reshape(made.dims)
        return np.ascontiguousarray(np.broadcast_to(row, shape))
    if made.datatype is Datatype.BYTES:
        return np.full(shape, b"", object)
    dtype = NUMPY_TYPES[made.datatype]
    if made.fill == "zero":
        return np.zeros(shape, dtype)
    rng = np.random.default_rng(0)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, 2 if dtype.kind == "b" else 128, shape).astype(dtype)
