"""Runs a skill's own transform.py: loaded from its file, and whatever it does wrong said in its own terms."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from headrace.errors import HeadraceError, InferenceFailed, LoadFailed
from headrace.messages import NUMPY_TYPES, Datatype
from headrace.transforms.kinds import CodeStep
from headrace.transforms.user import Transform

CLASS = "Transform"
DATATYPES = {
    dtype.newbyteorder("="): datatype
    for datatype, dtype in NUMPY_TYPES.items()
    if datatype is not Datatype.BF16
}
LONGEST = 400
"""Characters of a foreign exception's text that are shown."""

Arrays = dict[str, np.ndarray]


class UserCode:
    """One object of a skill's class. Not to be called twice at once."""

    def __init__(self, step: CodeStep) -> None:
        """Import the file and make the object.

        Raises:
            LoadFailed: it cannot be imported, has no class Transform, or its methods take something else.
        """
        self._path = Path(step.path)
        module = self._imported()
        kind = getattr(module, CLASS, None)
        if not isinstance(kind, type):
            raise LoadFailed(
                f"{self._path} has no class {CLASS}: write `class {CLASS}:` with before, after or both"
            )
        with loading(self._path):
            self._object = kind()
            if hasattr(self._object, "load"):
                self._object.load(self._path.parent)
        self._before = self._method("before")
        self._after = self._method("after")
        for name, is_there in (("before", self._before), ("after", self._after)):
            if getattr(step, name) and is_there is None:
                raise LoadFailed(
                    f"class {CLASS} in {self._path} has no method {name}, and the skill needs one"
                )

    @property
    def has_before(self) -> bool:
        return self._before is not None

    def before(self, item: dict[str, Any]) -> Arrays:
        """The tensors of an item.

        Raises:
            InvalidItem: the class says that the item is at fault.
            InferenceFailed: anything else it raises, or what it gives are no arrays.
        """
        if self._before is None:
            raise InferenceFailed(f"class {CLASS} in {self._path.name} has no before")
        given = self._call("before", self._before, item)
        if not isinstance(given, Mapping):
            raise InferenceFailed(
                f"before in {self._path.name} gave {kind_of(given)}, and must give a dict of the model's inputs: name → array"
            )
        return {str(name): self._array(str(name), value) for name, value in given.items()}

    def after(self, outputs: Arrays) -> bytes:
        """The answer to an item, as JSON.

        Raises:
            InvalidItem, InferenceFailed: as `before`.
        """
        if self._after is None:
            raise InferenceFailed(f"class {CLASS} in {self._path.name} has no after")
        given = self._call("after", self._after, outputs)
        try:
            return msgspec.json.encode(given, enc_hook=as_json)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
            raise InferenceFailed(f"after in {self._path.name} gave what JSON does not have: {exc}") from exc

    def _imported(self) -> ModuleType:
        """The file as a module; what lies beside it can be imported by it."""
        sys.path.insert(0, str(self._path.parent))
        spec = importlib.util.spec_from_file_location(
            f"headrace_transform_{self._path.parent.name}", self._path
        )
        if spec is None or spec.loader is None:
            raise LoadFailed(f"{self._path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        with loading(self._path):
            spec.loader.exec_module(module)
        return module

    def _method(self, name: str) -> Callable[[Any], object] | None:
        """A method that takes one argument; None if the class has none of its own."""
        method = getattr(self._object, name, None)
        if method is None or getattr(type(self._object), name, None) is getattr(Transform, name):
            return None
        if not callable(method):
            raise LoadFailed(f"{CLASS}.{name} in {self._path} is {kind_of(method)} and no method")
        if inspect.iscoroutinefunction(method):
            raise LoadFailed(
                f"{CLASS}.{name} in {self._path} is async: write `def {name}`, nothing awaits it"
            )
        try:
            inspect.signature(method).bind({})
        except TypeError as exc:
            argument = "item" if name == "before" else "outputs"
            raise LoadFailed(
                f"{where_of(method, self._path)}: write `def {name}(self, {argument})` ({exc})"
            ) from exc
        except ValueError:
            pass  # nothing is known of its signature
        checked: Callable[[Any], object] = method
        return checked

    def _call(self, name: str, method: Callable[[Any], object], argument: object) -> object:
        try:
            return method(argument)
        except HeadraceError:
            raise
        except (Exception, SystemExit) as exc:
            raise InferenceFailed(f"{name} failed at {fault_of(exc, self._path)}") from exc

    def _array(self, name: str, value: object) -> np.ndarray:
        """What `before` gave for one input, in a datatype that can travel."""
        try:
            array = np.asarray(value)
            if array.dtype.kind in "USO":
                return as_bytes(array, name, self._path.name)
        except InferenceFailed:
            raise
        except Exception as exc:  # what is no array of numpy's turns itself into one
            raise InferenceFailed(f"before in {self._path.name} gave no array for '{name}': {exc}") from exc
        if array.dtype.newbyteorder("=") not in DATATYPES:
            raise InferenceFailed(
                f"before in {self._path.name} gave {array.dtype} for '{name}', which cannot be sent: "
                f"there are {', '.join(map(str, DATATYPES))} and strings"
            )
        return array.astype(NUMPY_TYPES[datatype_of(array)], copy=False)


def datatype_of(array: np.ndarray) -> Datatype:
    """How an array of `before` is called."""
    return Datatype.BYTES if array.dtype == object else DATATYPES[array.dtype.newbyteorder("=")]


def as_bytes(array: np.ndarray, name: str, file: str) -> np.ndarray:
    """Strings as objects of bytes."""
    elements = [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
    wrong = [each for each in elements if not isinstance(each, bytes)]
    if wrong:
        raise InferenceFailed(f"before in {file} gave no array for '{name}': it holds {kind_of(wrong[0])}")
    strings = np.empty(len(elements), object)
    strings[:] = elements
    return strings.reshape(array.shape)


def as_json(value: object) -> object:
    """What msgspec does not know: numpy's numbers and arrays."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{kind_of(value)} cannot be written as JSON")


class loading:  # noqa: N801 - reads as a verb
    """Translates whatever a skill's code raises while it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing is to be done first."""

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, OSError) and exc.filename == str(self._path):
            raise LoadFailed(f"{self._path} cannot be read: {exc.strerror}") from exc
        if isinstance(exc, Exception | SystemExit) and not isinstance(exc, LoadFailed):
            raise LoadFailed(f"{self._path} cannot be loaded: {fault_of(exc, self._path)}") from exc


def fault_of(exc: BaseException, path: Path) -> str:
    """Where in the file something was raised, and what."""
    text = " ".join(str(exc).split())[:LONGEST]
    if isinstance(exc, SyntaxError) and exc.filename == str(path):
        return f"{path.name}, line {exc.lineno}: {type(exc).__name__}: {exc.msg}"
    lines = [each.lineno for each in traceback.extract_tb(exc.__traceback__) if each.filename == str(path)]
    where = f"{path.name}, line {lines[-1]}" if lines else path.name
    return f"{where}: {type(exc).__name__}" + (f": {text}" if text else "")


def where_of(method: object, path: Path) -> str:
    code = getattr(method, "__code__", None)
    return f"{path.name}, line {code.co_firstlineno}" if code is not None else path.name


def kind_of(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
