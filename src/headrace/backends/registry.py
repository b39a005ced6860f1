"""Which backend opens which file, and the only place that imports one."""

from importlib import import_module
from pathlib import Path

from headrace.backends.base import Backend
from headrace.errors import LoadFailed

BACKENDS: dict[str, tuple[str, str]] = {
    "onnxruntime": (".onnx", "headrace.backends.onnx:OnnxBackend"),
    "transform": (".transform", "headrace.transforms.backend:TransformBackend"),
    "python": ("model.py", "headrace.backends.python:PythonBackend"),
    "transcoder": (".transcoder", "headrace.protocol.transcode:TranscoderBackend"),
    "fake": (".fake", "headrace.testing:FakeBackend"),
}
"""Backend name → (file suffix or whole file name, where its class lives)."""

IN_PROCESSES = frozenset({"python", "transform"})
"""Backends whose instances are processes and not threads: they run Python code, and that has one lock a process."""

EXTRAS = {"onnxruntime": "onnx"}
"""Backend name → the extra that installs its runtime."""


def backend_for(path: Path) -> str | None:
    """The backend that opens a file of that suffix or name, or None."""
    return next((name for name, (end, _) in BACKENDS.items() if end in {path.suffix, path.name}), None)


def create(name: str) -> Backend:
    """Import a backend and make an empty object of it.

    Raises:
        LoadFailed: there is no such backend, or its runtime is not installed.
    """
    if name not in BACKENDS:
        raise LoadFailed(f"there is no backend '{name}'; there are {', '.join(sorted(BACKENDS))}")
    module, _, attribute = BACKENDS[name][1].partition(":")
    try:
        backend: Backend = getattr(import_module(module), attribute)()
    except ModuleNotFoundError as exc:
        raise LoadFailed(
            f"backend '{name}' needs {exc.name}; install it with: pip install 'headrace[{EXTRAS.get(name, name)}]'"
        ) from exc
    return backend
