"""What a real model takes is measured beside its worker, kept, and given back where that is asked for."""

import os

import numpy as np

from headrace.backends.base import giving_back
from headrace.backends.onnx import OnnxBackend
from headrace.execution.linux import trim_heap
from headrace.execution.process_memory import private_bytes
from headrace.lifecycle import residency
from headrace.model_config import ModelConfig
from headrace.testing import run_server
from tests.integration.packages import model_file
from tests.integration.process import eventually

MB = 1_000_000
ROWS = np.zeros((16, 2048), np.int32)


def version_of(server):
    return next(iter(server.server.catalog))


def test_a_footprint_is_measured_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(residency, "QUIET_S", 0.0)
    settings = {"profile_dir": tmp_path / "profiles", "max_rows": 4}
    with run_server([model_file("magika")], **settings) as server:
        version = version_of(server)
        eventually(lambda: version.footprint is not None and not version.is_measuring, "measured")
        measured = version.footprint
    assert 2 * MB < measured.weights < 40 * MB
    assert 10 * MB < measured.context < 80 * MB
    assert all(sizes[1] <= sizes[max(sizes)] for sizes in measured.peaks.values())
    with run_server([model_file("magika")], **settings) as server:
        assert version_of(server).footprint == measured


def test_what_runs_took_is_given_back():
    backend = OnnxBackend()
    backend.load(model_file("magika"), 1, ModelConfig())
    with giving_back(backend):
        backend.run({"bytes": ROWS[:1]}, ["target_label"])
    trim_heap()
    before = private_bytes(os.getpid())
    backend.run({"bytes": ROWS}, ["target_label"])
    assert private_bytes(os.getpid()) - before > 30 * MB
    with giving_back(backend):
        backend.run({"bytes": ROWS}, ["target_label"])
    trim_heap()
    assert private_bytes(os.getpid()) - before < 10 * MB


def test_without_an_arena_there_is_nothing_to_give_back():
    backend = OnnxBackend()
    backend.load(model_file("magika"), 1, ModelConfig(options={"enable_mem_arena": "0"}))
    with giving_back(backend):
        assert backend.run({"bytes": ROWS[:2]}, ["target_label"])[0].shape == (2, 214)
