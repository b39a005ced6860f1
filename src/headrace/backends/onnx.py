"""ONNX Runtime on the CPU."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import string_at
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from headrace.backends.base import Declared
from headrace.errors import InferenceFailed, InvalidRequest, LoadFailed, NoMemoryToLoad, OutOfMemory
from headrace.messages import Datatype
from headrace.model_config import ModelConfig

ELEMENT_TYPES = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(bfloat16)": Datatype.BF16,
    "tensor(string)": Datatype.BYTES,
}
SWITCH = {"0": False, "1": True, "false": False, "true": True}
CHOICES: dict[str, tuple[str, dict[str, Any]]] = {
    "graph_optimization_level": (
        "graph_optimization_level",
        {
            "-1": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
            "0": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
            "1": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
            "2": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
        },
    ),
    "execution_mode": (
        "execution_mode",
        {"0": ort.ExecutionMode.ORT_SEQUENTIAL, "1": ort.ExecutionMode.ORT_PARALLEL},
    ),
    "enable_mem_arena": ("enable_cpu_mem_arena", SWITCH),
    "enable_mem_pattern": ("enable_mem_pattern", SWITCH),
}
"""Option → attribute of SessionOptions, and what each value means."""
SAYS_NO_MEMORY = (
    "Failed to allocate memory",
    "BFCArena",
    "std::bad_alloc",
    "bad allocation",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA failure 2: out of memory",
)
"""Onnxruntime has no error of its own for it."""
DOUBLES, USUAL = 0, -1
"""Of an arena's settings: how it grows, and what onnxruntime takes where nothing is said."""
REGION_BYTES = 512 << 20
"""Of address space, by which the arena grows at first; 1/32 of it is what the arena keeps of a region, and takes memory."""
ONNX_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16, without importing onnx


class OnnxBackend:
    """One InferenceSession. Its Run is thread-safe, so clones share it and its weights."""

    platform = "onnxruntime_onnx"

    def __init__(self) -> None:
        self.inputs: tuple[Declared, ...] = ()
        self.outputs: tuple[Declared, ...] = ()
        self._session: ort.InferenceSession
        self._bfloat16: frozenset[str] = frozenset()
        self._has_arena = True
        self._run_options: ort.RunOptions | None = None

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:
        with load_errors(path):
            options = session_options(threads, config.options)
            self._has_arena = bool(options.enable_cpu_mem_arena)
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            # What has a value in the graph may be left out of a run; it is an input only where that is declared.
            optional = {each.name for each in config.inputs if each.is_optional}
            overridable = [
                each for each in self._session.get_overridable_initializers() if each.name in optional
            ]
            self.inputs = (
                *map(declared, self._session.get_inputs()),
                *(replace(declared(each), is_optional=True) for each in overridable),
            )
            self.outputs = tuple(map(declared, self._session.get_outputs()))
        self._bfloat16 = frozenset(
            each.name for each in self.inputs + self.outputs if each.datatype is Datatype.BF16
        )

    def clone(self) -> "OnnxBackend":
        other = OnnxBackend()
        other.inputs, other.outputs = self.inputs, self.outputs
        other._session, other._bfloat16 = self._session, self._bfloat16
        other._has_arena = self._has_arena
        return other

    def give_back_after_runs(self, wanted: bool) -> None:
        """As GivesBack has it; without an arena nothing is kept in the first place."""
        self._run_options = shrinking() if wanted and self._has_arena else None

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        feed = {
            name: decode_strings(array) if array.dtype == object else array for name, array in inputs.items()
        }
        with run_errors():
            if self._bfloat16:
                return self._run_bfloat16(feed, wanted)
            return [encode_strings(each) for each in self._session.run(wanted, feed, self._run_options)]

    def _run_bfloat16(self, feed: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        """Numpy has no bfloat16: its bits go in and out as uint16 inside OrtValues."""
        values = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, ONNX_BFLOAT16)
            if name in self._bfloat16
            else ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in feed.items()
        }
        results = self._session.run_with_ort_values(wanted, values, self._run_options)
        return [
            bfloat16_bits(value) if name in self._bfloat16 else encode_strings(value.numpy())
            for name, value in zip(wanted, results, strict=True)
        ]


def session_options(threads: int, given: Mapping[str, str]) -> ort.SessionOptions:
    """Our defaults, then what the repository says, by the names of Triton's onnxruntime backend.

    Raises:
        LoadFailed: an option has no such value.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # One block for a whole run would come on top of the pieces that the first run took, for each number of rows anew: up to
    # twice the memory, for nothing that can be measured (docs/decisions/0016-what-a-model-takes.md).
    options.enable_mem_pattern = False
    # Weights lie outside the arena, which can then be given back as a whole.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.log_severity_level = 4  # what fails is raised as well, and said by whoever asked
    # Spinning would take the core from the gateway and from the other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, value in given.items():
        set_option(options, name, value)
    if options.enable_cpu_mem_arena:
        make_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def make_arena() -> None:
    """One arena for all sessions of this process, that grows by regions larger than what most models' runs take together.

    By default it begins small and doubles, and pieces of one region cannot be joined with those of another: a run of another
    size then finds no room in what is free, and takes new memory, up to twice what it needs. What is not touched of a large
    region takes no memory. The first region is small, since it is the one that is never given back; growth begins with the
    large ones after the first run that gives back, as workers do when they open a model.
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    settings = {
        "max_mem": 0,
        "arena_extend_strategy": DOUBLES,
        "initial_chunk_size_bytes": USUAL,
        "max_dead_bytes_per_chunk": USUAL,
        "initial_growth_chunk_size_bytes": REGION_BYTES,
    }
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(settings))


def shrinking() -> ort.RunOptions:
    """How to run where memory is short: what is free in the arena is given back at the end."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def set_option(options: ort.SessionOptions, name: str, value: str) -> None:
    if name in CHOICES:
        attribute, values = CHOICES[name]
        if value not in values:
            raise LoadFailed(f"option '{name}' is '{value}', and may be {', '.join(values)}")
        setattr(options, attribute, values[value])
    elif name == "inter_op_thread_count":
        if not value.isascii() or not value.isdigit():
            raise LoadFailed(f"option '{name}' is '{value}', and is a number of threads")
        options.inter_op_num_threads = int(value)
    elif "." in name:
        options.add_session_config_entry(name, value)


def declared(argument: ort.NodeArg) -> Declared:
    datatype = ELEMENT_TYPES.get(argument.type)
    if datatype is None:
        raise LoadFailed(
            f"'{argument.name}' is a {argument.type}, and headrace carries tensors only: {', '.join(Datatype)}"
        )
    axes = tuple(
        size if isinstance(size, int) and size >= 0 else size if isinstance(size, str) else None
        for size in argument.shape
    )
    # onnxruntime gives [] for a scalar and for a tensor of unknown rank alike; the first run tells them apart.
    return Declared(argument.name, datatype, axes or None)


def bfloat16_bits(value: ort.OrtValue) -> np.ndarray:
    """OrtValue.numpy() refuses bfloat16, so its bits are copied from where they lie."""
    shape = value.shape()
    return np.frombuffer(string_at(value.data_ptr(), 2 * prod(shape)), "<u2").reshape(shape)


def decode_strings(array: np.ndarray) -> np.ndarray:
    """Bytes → str, the only form in which onnxruntime takes strings."""
    try:
        texts = [element.decode() for element in array.ravel()]
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"a BYTES element is not UTF-8, which onnxruntime needs: {exc}") from exc
    decoded = np.empty(len(texts), object)
    decoded[:] = texts
    return decoded.reshape(array.shape)


def encode_strings(array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return array
    encoded = np.empty(array.size, object)
    encoded[:] = [element.encode() for element in array.ravel()]
    return encoded.reshape(array.shape)


@contextmanager
def load_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (state.NoSuchFile, FileNotFoundError) as exc:
        raise LoadFailed(f"{path} is not there: {sentence(exc)}") from exc
    except (state.InvalidProtobuf, state.InvalidGraph, state.InvalidArgument) as exc:
        raise LoadFailed(
            f"{path} is not a whole ONNX file (copied only in part, or damaged?): {sentence(exc)}"
        ) from exc
    except LoadFailed:
        raise
    except Exception as exc:
        if is_out_of_memory(exc):
            raise NoMemoryToLoad(path, sentence(exc)) from exc
        raise LoadFailed(f"onnxruntime cannot load {path}: {sentence(exc)}") from exc


@contextmanager
def run_errors() -> Iterator[None]:
    try:
        yield
    except state.InvalidArgument as exc:
        raise InvalidRequest(sentence(exc)) from exc
    except InvalidRequest:
        raise
    except Exception as exc:
        kind = OutOfMemory if is_out_of_memory(exc) else InferenceFailed
        raise kind(sentence(exc)) from exc


def is_out_of_memory(exc: Exception) -> bool:
    """Whether that is what onnxruntime, or numpy, means."""
    return isinstance(exc, MemoryError) or any(each in str(exc) for each in SAYS_NO_MEMORY)


def sentence(exc: Exception) -> str:
    """Onnxruntime's messages without their '[ONNXRuntimeError] : 2 : INVALID_ARGUMENT :' in front."""
    text = str(exc)
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    return " ".join(text.split())
