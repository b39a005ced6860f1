"""Models in Python: the class `Model` of a model.py, loaded and run (python_model.py says what it looks like).

Everything here is foreign code, so whatever it raises or returns is held against what it declares, and said with file,
line, name and what to write instead.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import index
from pathlib import Path
from types import ModuleType
from typing import Any, SupportsIndex

import numpy as np

from headrace.backends.base import Declared, ItemErrors
from headrace.backends.python_model import ModelContext, PythonModel
from headrace.errors import HeadraceError, InferenceFailed, LoadFailed, NoMemoryToLoad, OutOfMemory
from headrace.messages import NUMPY_TYPES, Datatype, ModelSpec, TensorSpec
from headrace.model_config import DeclaredTensor, ModelConfig

CLASS = "Model"
HOW_TO_DECLARE = 'write for example inputs = [("x", "FP32", [-1, 4])] in the class, -1 in front for the batch'


class PythonBackend:
    """One object of the user's class."""

    platform = "python"
    describe: Callable[[str, str], ModelSpec]
    """There only after loading a class that says itself whether it is batched: base.DescribesItself."""

    def __init__(self) -> None:
        self.inputs: tuple[Declared, ...] = ()
        self.outputs: tuple[Declared, ...] = ()
        self._model: PythonModel
        self._open: Callable[[], PythonBackend]
        self._folder = Path()
        self._counts_rows = False

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:
        self._folder = path.parent
        self._open = lambda: opened(path, threads, config)
        with load_errors(path):
            made = class_of(path)
            self._model = made()
        self.inputs = declared_tensors(path, "inputs", self._model, config.inputs, config)
        self.outputs = declared_tensors(path, "outputs", self._model, config.outputs, config)
        batched = getattr(self._model, "batched", None)
        if batched is not None:
            self._counts_rows = bool(batched)
            self.describe = self._describe
        with load_errors(path):
            if hasattr(self._model, "load"):
                self._model.load(ModelContext(path.parent, dict(config.parameters), threads))

    def clone(self) -> "PythonBackend":
        """Another object, loaded as the first one: nothing says that Python code may be shared between threads."""
        return self._open()

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        with run_errors(self._folder):
            returned: Any = self._model.infer(inputs)
        rows = next((len(array) for array in inputs.values() if array.ndim), 1)
        outputs, errors = parted(returned, rows)
        if errors and not outputs and len(errors) == rows:
            raise ItemErrors([], errors)
        results = self._checked(outputs, wanted, rows)
        if errors:
            raise ItemErrors(results, errors)
        return results

    def _checked(self, outputs: object, wanted: list[str], rows: int) -> list[np.ndarray]:
        """The wanted outputs, each as it was declared."""
        if not isinstance(outputs, Mapping):
            raise InferenceFailed(
                f"infer returned {type(outputs).__name__}: return a dict of arrays by the outputs' names"
            )
        names = [each.name for each in self.outputs]
        if unknown := [str(name) for name in outputs if name not in names]:
            raise InferenceFailed(
                f"infer returned {', '.join(unknown)}, and the outputs are {', '.join(names)}"
            )
        if missing := [name for name in wanted if name not in outputs]:
            raise InferenceFailed(f"infer did not return {', '.join(missing)}")
        by_name = {each.name: each for each in self.outputs}
        results = [as_declared(by_name[name], outputs[name]) for name in wanted]
        for name, array in zip(wanted, results, strict=True):
            if self._counts_rows and is_batch(by_name[name]) and len(array) != rows:
                raise InferenceFailed(
                    f"output '{name}' has {len(array)} rows, and {rows} went in: return one for each, in their order"
                )
        return results

    def _describe(self, name: str, version: str) -> ModelSpec:
        joins = self._counts_rows
        most = int(getattr(self._model, "max_batch_size", PythonModel.max_batch_size)) if joins else 0
        return ModelSpec(
            name,
            version,
            self.platform,
            tuple(spec_of(each, joins=joins) for each in self.inputs),
            tuple(spec_of(each, joins=joins) for each in self.outputs),
            max_batch_size=most,
            joins_requests=joins,
            notes=(f"its class says that it is {'' if joins else 'not '}batched",),
        )


def opened(path: Path, threads: int, config: ModelConfig) -> PythonBackend:
    backend = PythonBackend()
    backend.load(path, threads, config)
    return backend


def class_of(path: Path) -> Callable[[], PythonModel]:
    """The class in a model.py. Its folder comes first where it imports from.

    Raises:
        LoadFailed: there is no such class, or it cannot infer.
        Exception: whatever its module raises.
    """
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.dont_write_bytecode = True  # the repository is not ours to write into
    found = getattr(module_of(path), CLASS, None)
    if not isinstance(found, type):
        raise LoadFailed(
            f"{path} has no class {CLASS}: write 'class {CLASS}(headrace.PythonModel):' with inputs, outputs and infer"
        )
    if getattr(found, "infer", PythonModel.infer) is PythonModel.infer:
        raise LoadFailed(
            f"{CLASS} in {path} has no infer: write 'def infer(self, inputs):' that returns a dict of arrays"
        )
    made: Callable[[], PythonModel] = found
    return made


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # what is pickled, or imports it again, finds the same one
    spec.loader.exec_module(module)
    return module


def declared_tensors(
    path: Path, kind: str, model: PythonModel, configured: tuple[DeclaredTensor, ...], config: ModelConfig
) -> tuple[Declared, ...]:
    """What the class declares, or else what the repository does."""
    own = getattr(model, kind, ())
    if not own and not configured:
        raise LoadFailed(f"{CLASS} in {path} declares no {kind}: {HOW_TO_DECLARE}")
    if not own:
        return tuple(from_config(path, each, batched=bool(config.max_batch_size)) for each in configured)
    try:
        return tuple(declared(name, datatype, shape) for name, datatype, shape in own)
    except (TypeError, ValueError) as exc:
        raise LoadFailed(f"{kind} of {CLASS} in {path}: {exc}; {HOW_TO_DECLARE}") from exc


def declared(name: str, datatype: str, shape: Any) -> Declared:
    if datatype not in set(Datatype):
        raise ValueError(f"'{name}' has datatype {datatype!r}, and there are {', '.join(Datatype)}")
    sizes = tuple(int(size) for size in shape)
    if any(size < -1 for size in sizes):
        raise ValueError(f"'{name}' has shape {list(sizes)}, and a size is -1 for any or a number from 0 on")
    axes = tuple(size if size >= 0 else "batch" if at == 0 else None for at, size in enumerate(sizes))
    return Declared(name, Datatype(datatype), axes)


def from_config(path: Path, tensor: DeclaredTensor, *, batched: bool) -> Declared:
    if tensor.datatype is None or tensor.dims is None:
        raise LoadFailed(
            f"'{tensor.name}' has no datatype or no dims in the configuration of {path}, and {CLASS} declares nothing"
        )
    return declared(tensor.name, tensor.datatype, (-1, *tensor.dims) if batched else tensor.dims)


def spec_of(tensor: Declared, *, joins: bool) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in tensor.axes or ())
    return TensorSpec(
        tensor.name, tensor.datatype, shape, batch_axis=0 if joins and is_batch(tensor) else None
    )


def is_batch(tensor: Declared) -> bool:
    return bool(tensor.axes) and not isinstance((tensor.axes or (0,))[0], int)


def as_declared(tensor: Declared, value: object) -> np.ndarray:
    """An output as it was declared.

    Raises:
        InferenceFailed: it is something else.
    """
    array = np.asarray(value)
    axes = tensor.axes or ()
    if array.ndim != len(axes) or any(
        isinstance(size, int) and size != has for size, has in zip(axes, array.shape, strict=True)
    ):
        shown = [size if isinstance(size, int) else -1 for size in axes]
        raise InferenceFailed(
            f"output '{tensor.name}' has shape {list(array.shape)}, and {shown} is declared"
        )
    if tensor.datatype is Datatype.BYTES:
        return as_strings(tensor.name, array)
    expected = NUMPY_TYPES[tensor.datatype]
    if array.dtype != expected:
        raise InferenceFailed(
            f"output '{tensor.name}' is {array.dtype}, and {tensor.datatype} is declared: "
            f"return it with .astype('{expected.name}')"
        )
    return array


def as_strings(name: str, array: np.ndarray) -> np.ndarray:
    elements: list[bytes] = []
    for each in array.ravel().tolist():
        if not isinstance(each, str | bytes):
            raise InferenceFailed(
                f"output '{name}' has a {type(each).__name__} in it, and BYTES is declared: return bytes or str"
            )
        elements.append(each.encode(errors="replace") if isinstance(each, str) else each)
    encoded = np.empty(len(elements), object)
    encoded[:] = elements
    return encoded.reshape(array.shape)


def parted(returned: Any, rows: int) -> tuple[Any, dict[int, Exception]]:
    """The outputs that infer returned, and which rows it says have failed.

    Raises:
        InferenceFailed: it says so in another way than it should.
    """
    if not isinstance(returned, tuple):
        return returned, {}
    if len(returned) != 2:  # noqa: PLR2004 - what is unpacked below
        raise InferenceFailed(
            f"infer returned a tuple of {len(returned)}: return a dict of arrays by the outputs' names, or that and the "
            "rows that failed"
        )
    outputs, errors = returned
    if not errors:
        return outputs, {}
    if not isinstance(errors, Mapping) or not all(isinstance(each, Exception) for each in errors.values()):
        raise InferenceFailed("beside the outputs, infer returns a dict of exceptions by the row that failed")
    failed = {}
    for row, error in errors.items():
        if isinstance(row, bool) or not isinstance(row, SupportsIndex) or not 0 <= (at := index(row)) < rows:
            raise InferenceFailed(f"infer says that row {row!r} failed, and {rows} went in")
        failed[at] = error
    return outputs, failed


@contextmanager
def load_errors(path: Path) -> Iterator[None]:
    """What the module or class raises, as the reason why the model is unavailable."""
    try:
        yield
    except HeadraceError as exc:
        raise exc if isinstance(exc, LoadFailed) else LoadFailed(f"{path}: {exc}") from exc
    except SyntaxError as exc:
        raise LoadFailed(f"{exc.filename}:{exc.lineno}: {type(exc).__name__}: {exc.msg}") from exc
    except (Exception, SystemExit) as exc:
        traceback.print_exc()
        place = place_of(exc, path.parent) or path
        if is_out_of_memory(exc):
            raise NoMemoryToLoad(place, said_by(exc)) from exc
        raise LoadFailed(f"{place}: {said_by(exc)}") from exc


@contextmanager
def run_errors(folder: Path) -> Iterator[None]:
    """What infer raises: our own errors as they are, all else with its place; the trace is for the operator."""
    try:
        yield
    except HeadraceError:
        raise
    except (Exception, SystemExit) as exc:
        traceback.print_exc()
        where = place_of(exc, folder)
        kind = OutOfMemory if is_out_of_memory(exc) else InferenceFailed
        raise kind(f"{Path(where).name}: {said_by(exc)}" if where else said_by(exc)) from exc


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether that is what Python, numpy, or a runtime that the code uses means; torch and others name theirs so."""
    return isinstance(exc, MemoryError) or any(
        each.__name__ in {"OutOfMemoryError", "ResourceExhaustedError"} for each in type(exc).__mro__
    )


def place_of(exc: BaseException, folder: Path) -> str:
    """File and line of the last step that was in the model's own folder; empty if there was none."""
    frames = traceback.extract_tb(exc.__traceback__)
    own = [each for each in frames if Path(each.filename).is_relative_to(folder)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def said_by(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
