"""A backend that takes what its file says, run in a process of its own: in that of the tests others have pages come and go."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from headrace.execution.memory_sweep import MemorySweep, alike, doubling, is_past_knee, sweep_memory
from headrace.execution.probe import Probe
from headrace.execution.process_memory import private_bytes
from headrace.model_config import ModelConfig
from headrace.testing import FakeBackend

MB = 1_000_000
COST = 4


def probe_of(folder, **script):
    path = folder / "model.fake"
    path.write_text(json.dumps(script))
    backend = FakeBackend()
    backend.load(path, 1, ModelConfig())
    probe = Probe(backend, max_batch_size=64, pads={})
    probe.first_run()
    return probe


def swept(folder, most, *, instances=1, more=None, budget_s=20.0, **script):
    """Peaks by rows, and what was too much; `more` bytes are allowed on top of what the process has then."""
    order = json.dumps([str(folder), most, instances, more, budget_s, script])
    found = subprocess.run([sys.executable, __file__, order], check=True, capture_output=True)
    return [{int(rows): nbytes for rows, nbytes in sizes.items()} for sizes in json.loads(found.stdout)]


def sweep_as_told(folder, most, instances, more, budget_s, script):
    probe = probe_of(Path(folder), **script)
    limit = None if more is None else private_bytes(os.getpid()) + more
    taken = sweep_memory(probe, instances, most, limit, budget_s)
    print(json.dumps([taken.peaks.get(COST, {}), taken.over.get(COST, {})]))


@pytest.mark.parametrize("instances", [1, 2])
def test_runs_take_what_they_take_of_each_instance(tmp_path, instances):
    # Pieces of that size are given back to the system when they are freed; and so long that runs overlap.
    peaks, _ = swept(tmp_path, 2, instances=instances, row_bytes=40 * MB, seconds=0.1)
    assert peaks[1] == pytest.approx(40 * MB, rel=0.2)
    assert peaks[2] == pytest.approx(80 * MB, rel=0.2)


def test_weights_are_not_counted_again(tmp_path):
    peaks, _ = swept(tmp_path, 4, weights_bytes=100 * MB, row_bytes=4 * MB)
    assert peaks[4] < 40 * MB


def test_no_more_is_tried_than_will_fit(tmp_path):
    peaks, over = swept(tmp_path, 64, more=100 * MB, row_bytes=8 * MB)
    assert 4 <= max(peaks) <= 8
    assert not over


def test_a_run_that_fails_for_want_of_memory_ends_it_and_is_remembered(tmp_path):
    peaks, over = swept(tmp_path, 64, more=500 * MB, most_rows_in_memory=4)
    assert list(peaks) == [1, 2, 4]
    assert over[8] == pytest.approx(500 * MB, rel=0.1)


def test_without_a_time_to_spend_only_one_row_is_run(tmp_path):
    peaks, _ = swept(tmp_path, 64, budget_s=0.0)
    assert list(peaks) == [1]


def test_a_size_that_fails_for_another_reason_is_not_remembered(tmp_path):
    probe = probe_of(tmp_path, error_value=float(probe_of(tmp_path).row(0)["x"][0, 0]))
    sweep = MemorySweep([probe.backend], None)
    sweep.run(partial(alike, probe, probe.row(0)), doubling(4))
    assert not sweep.taken.peaks
    assert not sweep.taken.over


def test_sizes_double_up_to_the_most():
    assert list(doubling(6)) == [1, 2, 4, 6]
    assert list(doubling(1)) == [1]


def test_more_rows_are_past_the_knee_where_they_bring_no_throughput():
    assert is_past_knee({4: 0.04, 8: 0.079})
    assert not is_past_knee({4: 0.04, 8: 0.06})


def test_the_knee_is_not_looked_for_among_few_rows():
    assert not is_past_knee({1: 0.01, 2: 0.02, 4: 0.04})


if __name__ == "__main__":
    sweep_as_told(*json.loads(sys.argv[1]))
