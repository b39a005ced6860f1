import numpy as np
import pytest
from fakes import Function

from headrace.backends.base import Declared
from headrace.execution import curve
from headrace.execution.curve import FEW_RUNS, LEAST_RUNS, MOST_RUNS, MOST_S, Sweep, is_enough
from headrace.execution.probe import Probe
from headrace.execution.profiles import Curve, Measured, ProfileStore
from headrace.messages import Datatype

X, Y = (Declared(name, Datatype.FP32, ("rows", 4)) for name in "xy")
POINT = Measured(1, 0.01, 0.01, 0.02, 30, 1 << 20)
CURVE = Curve("key", 4, 2, 1, (POINT,), "no more rows share a run")


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch):
    monkeypatch.setattr(curve, "LEAST_RUNS", 2)
    monkeypatch.setattr(curve, "ENOUGH_S", 0.0)


def sweep_of(function, most=8, memory_limit=None):
    probe = Probe(Function([X], [Y], function), max_batch_size=most, pads={})
    assert probe.first_run() is not None
    return Sweep(probe, most, memory_limit)


def double(arrays):
    return {"y": 2 * arrays["x"]}


def ended(sweep):
    return [each.rows for each in sweep.run()], sweep.end


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [1]), (8, [1, 2, 4, 8]), (6, [1, 2, 4, 6])], ids=["1", "8", "6"]
)
def test_sizes_double_up_to_the_largest(monkeypatch, most, sizes):
    monkeypatch.setattr(curve, "KNEE", 0.0)  # however fast this machine is just then
    assert ended(sweep_of(double, most)) == (sizes, "no more rows share a run")


def test_where_two_doublings_bring_nothing_no_more_are_tried(monkeypatch):
    took = {1: 1.0, 2: 1.0, 4: 2.0, 8: 4.0, 16: 8.0}
    monkeypatch.setattr(
        curve,
        "measured",
        lambda rows, run: Measured(rows, took[rows], took[rows], took[rows], 30, 1),
    )
    assert ended(sweep_of(double, 16)) == ([1, 2, 4, 8], "more rows bring no more throughput")


def test_a_size_that_would_take_more_memory_than_there_is_is_not_tried(monkeypatch):
    monkeypatch.setattr(
        curve, "measured", lambda rows, run: Measured(rows, 1.0, 1.0, 1.0, 30, 10_000_000 * (5 + rows))
    )
    sizes, end = ended(sweep_of(double, 64, memory_limit=200_000_000))
    assert sizes == [1, 2, 4, 8]
    assert "16 rows would take about 210 MB" in end


def test_a_run_that_fails_for_want_of_memory_ends_it(monkeypatch):
    monkeypatch.setattr(curve, "KNEE", 0.0)

    def small(arrays):
        if len(arrays["x"]) > 2:
            raise MemoryError
        return double(arrays)

    assert ended(sweep_of(small)) == ([1, 2], "a run of 4 rows failed: MemoryError")


def test_the_most_that_runs_took_is_seen_though_they_gave_it_back(monkeypatch):
    monkeypatch.setattr(curve, "KNEE", 0.0)

    def hungry(arrays):
        np.ones(len(arrays["x"]) * 5_000_000, "u1").sum()
        return double(arrays)

    first, *_, last = sweep_of(hungry, most=8).run()
    assert last.nbytes - first.nbytes > 34_000_000  # eight rows take 40 MB, one takes 5


def test_runs_are_enough_for_a_percentile_or_have_to_do_after_a_while(monkeypatch):
    monkeypatch.undo()
    assert not is_enough(LEAST_RUNS - 1, 5)
    assert not is_enough(LEAST_RUNS, 0.5)
    assert is_enough(LEAST_RUNS, 1)
    assert is_enough(MOST_RUNS, 0.1)
    assert is_enough(FEW_RUNS, MOST_S)
    assert not is_enough(FEW_RUNS - 1, 2 * MOST_S)


def test_a_curve_is_kept_between_starts(tmp_path):
    store = ProfileStore(tmp_path)
    assert store.read_curve("key") is None
    store.write_curve(CURVE)
    assert ProfileStore(tmp_path).read_curve("key") == CURVE
    (tmp_path / "key.curve").write_text("{")
    assert store.read_curve("key") is None
