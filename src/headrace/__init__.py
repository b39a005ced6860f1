"""headrace serves AI models in real time and keeps what it promises of each."""

from importlib.metadata import version

from headrace.backends.python_model import ModelContext, PythonModel, Tensor
from headrace.errors import InvalidItem
from headrace.library.batched import batched
from headrace.transforms.user import Transform

__version__ = version("headrace")
__all__ = ["InvalidItem", "ModelContext", "PythonModel", "Tensor", "Transform", "__version__", "batched"]
