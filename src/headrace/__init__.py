"""headrace serves AI models in real time and keeps what it promises of each."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.backends.python_model import ModelContext, PythonModel, Tensor
    from headrace.errors import InvalidItem
    from headrace.library.batched import batched
    from headrace.library.breaker import CircuitBreaker
    from headrace.transforms.user import Transform

    __version__: str

__all__ = [
    "CircuitBreaker",
    "InvalidItem",
    "ModelContext",
    "PythonModel",
    "Tensor",
    "Transform",
    "__version__",
    "batched",
]

PLACES = {
    "CircuitBreaker": "headrace.library.breaker",
    "InvalidItem": "headrace.errors",
    "ModelContext": "headrace.backends.python_model",
    "PythonModel": "headrace.backends.python_model",
    "Tensor": "headrace.backends.python_model",
    "Transform": "headrace.transforms.user",
    "batched": "headrace.library.batched",
}
"""Imported when they are asked for: every worker imports this package, and none needs all of it."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("headrace")
    if name not in PLACES:
        raise AttributeError(f"module 'headrace' has no attribute '{name}'")
    return getattr(import_module(PLACES[name]), name)
