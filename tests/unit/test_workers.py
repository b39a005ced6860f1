"""Which models may share a process."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from headrace.execution.stamps import Stamp
from headrace.execution.wire import Load
from headrace.execution.workers import SMALL_BYTES, identity, may_share
from headrace.model_config import ModelConfig


@pytest.fixture
def small(tmp_path: Path) -> Load:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"0" * 100)
    return Load("m", "1", str(path), "onnxruntime", 2, 8, 8)


def test_a_small_model_that_only_its_runtime_runs_may(small):
    assert may_share(small)
    options = {"graph_optimization_level": "1", "inter_op_thread_count": "2"}
    assert may_share(replace(small, config=ModelConfig(options=options)))


@pytest.mark.parametrize(
    "said",
    [
        {"backend": "python"},
        {"backend": "transform"},
        {"backend": "transcoder"},
        {"backend": "fake"},
        {"measure_only": True},
        {"config": ModelConfig(steps={"inputs": {"text": {"kind": "text"}}})},
        {"config": ModelConfig(options={"session.use_env_allocators": "1"})},
    ],
)
def test_what_runs_other_code_or_concerns_the_whole_process_may_not(small, said):
    assert not may_share(replace(small, **said))


def test_what_is_large_may_not_and_all_its_files_count(small):
    half = SMALL_BYTES // 2
    stamps = (Stamp(small.path, 1, half, 1), Stamp(small.path + ".data", 2, half, 1))
    assert may_share(replace(small, stamps=stamps))
    assert not may_share(replace(small, stamps=(*stamps, Stamp("labels.txt", 3, 1, 1))))


def test_what_is_not_there_may_not(small):
    assert not may_share(replace(small, path="/nowhere/m.onnx"))


def test_with_other_files_it_is_another_model(small):
    stamped = replace(small, stamps=(Stamp(small.path, 1, 100, 1),))
    assert identity(stamped) == identity(replace(stamped, max_rows=1))
    assert identity(stamped) != identity(replace(stamped, stamps=(Stamp(small.path, 1, 100, 2),)))
