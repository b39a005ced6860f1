"""headrace serves AI models in real time and keeps what it promises of each."""

from importlib.metadata import version

__version__ = version("headrace")
__all__ = ["__version__"]
