"""headrace serves AI models in real time and keeps what it promises of each."""

from importlib.metadata import version

from headrace.errors import InvalidItem

__version__ = version("headrace")
__all__ = ["InvalidItem", "__version__"]
