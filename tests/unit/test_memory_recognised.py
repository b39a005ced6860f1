"""What each backend says when memory runs out, as it is recognised."""

import errno
from pathlib import Path

import pytest

from headrace.backends import onnx, python
from headrace.backends.base import ran_out_of_memory
from headrace.errors import InferenceFailed, InvalidItem, LoadFailed, NoMemoryToLoad, OutOfMemory
from headrace.execution.death import NO_MEMORY, Suspect, judge
from headrace.execution.instance import failed

ARENA = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'c' Status Message: "
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, "
    "bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 67371008"
)
TEXTS = [
    ARENA,
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc",
    "bad allocation",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; expr=cudaMalloc",
    "[ONNXRuntimeError] : 1 : FAIL : CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
]


@pytest.mark.parametrize("text", TEXTS)
def test_onnxruntimes_texts(text):
    with pytest.raises(OutOfMemory), onnx.run_errors():
        raise RuntimeError(text)
    with pytest.raises(NoMemoryToLoad, match="--memory-budget"), onnx.load_errors(Path("m.onnx")):
        raise RuntimeError(text)


def test_numpys_memory_error_in_onnxruntime():
    with pytest.raises(OutOfMemory), onnx.run_errors():
        raise MemoryError("Unable to allocate 18.4 MiB for an array")


def test_any_other_failure_is_none():
    with pytest.raises(InferenceFailed) as raised, onnx.run_errors():
        raise RuntimeError("a memory of something else was allocated")
    assert type(raised.value) is InferenceFailed


class OutOfMemoryError(RuntimeError):
    """As torch's."""


@pytest.mark.parametrize("error", [MemoryError("of its own"), OutOfMemoryError("CUDA out of memory.")])
def test_a_python_models_own(error, tmp_path, capsys):
    with pytest.raises(OutOfMemory), python.run_errors(tmp_path):
        raise error
    with pytest.raises(NoMemoryToLoad), python.load_errors(tmp_path / "model.py"):
        raise error
    assert type(error).__name__ in capsys.readouterr().err


def test_what_came_of_it_counts_too():
    caused = InferenceFailed("before in transform.py failed")
    caused.__cause__ = MemoryError()
    assert ran_out_of_memory(caused)
    assert ran_out_of_memory(OSError(errno.ENOMEM, "no memory"))
    assert not ran_out_of_memory(OSError(errno.EMFILE, "no descriptors"))
    assert not ran_out_of_memory(LoadFailed("another reason"))
    assert failed(1, caused).is_memory


def test_what_the_sender_has_to_make_smaller_is_the_senders():
    item = InvalidItem("'photo' is no image that can be read")
    item.__cause__ = MemoryError()
    assert not failed(1, item).is_memory


def test_a_worker_that_ends_itself_or_is_ended_by_the_kernel_ran_out_of_memory():
    (by_itself,) = judge(NO_MEMORY, "", [Suspect("m/1")])
    (killed,) = judge(-9, "", [Suspect("m/1")], is_memory=True)
    (by_hand,) = judge(-9, "", [Suspect("m/1")])
    assert (by_itself.death.is_memory, killed.death.is_memory, by_hand.death.is_memory) == (True, True, False)
    assert killed.death.reason == "was killed by the kernel: out of memory"
    assert not killed.death.is_own_doing
