import pytest

from headrace.batching.golden_point import ENOUGH
from headrace.batching.latency import (
    LEAST_FACTOR,
    REFIT_AFTER,
    LatencyModel,
    cost_bucket,
    interpolate,
)

COST = 100


def learned(points, cost=COST):
    return LatencyModel({cost: points})


def test_nothing_is_predicted_before_anything_was_measured():
    model = LatencyModel()
    assert (model.predict(COST, 1), model.upper(COST, 1), model.best_rows(COST, 64)) == (None, None, 64)


def test_a_prediction_is_the_median_so_that_a_hiccup_does_not_count():
    model = LatencyModel()
    for seconds in (0.010, 0.010, 9.0, 0.010, 0.010, 0.010, 0.010, 0.010, 0.010):
        model.observe(COST, 4, seconds)
    assert model.predict(COST, 4) == pytest.approx(0.010)


def test_between_measured_sizes_it_is_a_straight_line():
    model = learned({1: 0.010, 4: 0.040})
    assert model.predict(COST, 2) == pytest.approx(0.020)
    assert model.predict(COST, 3) == pytest.approx(0.030)


@pytest.mark.parametrize(("rows", "seconds"), [(1, 0.02), (2, 0.02), (4, 0.03), (8, 0.06), (16, 0.12)])
def test_before_the_first_point_it_is_level_and_beyond_the_last_proportional(rows, seconds):
    assert interpolate([(2, 0.02), (4, 0.03)], rows) == pytest.approx(seconds)


def test_more_rows_are_never_predicted_to_be_faster():
    model = learned({1: 0.010, 2: 0.030, 4: 0.020, 8: 0.050})
    times = [model.predict(COST, rows) for rows in range(1, 12)]
    assert times == sorted(times)


def test_a_cost_without_measurements_is_scaled_from_the_nearest():
    model = learned({1: 0.010})
    assert model.predict(4 * COST, 1) == pytest.approx(0.040)
    assert model.predict(COST + 1, 1) == pytest.approx(0.010)  # the same bucket


def test_the_upper_bound_rises_with_runs_above_it_and_falls_back():
    model = learned({1: 0.010})
    assert model.upper(COST, 1) == pytest.approx(0.010 * LEAST_FACTOR)
    for _ in range(3):
        model.observe(COST, 1, 0.100)
    raised = model.upper(COST, 1) / model.predict(COST, 1)
    assert raised > LEAST_FACTOR
    for _ in range(1000):
        model.observe(COST, 1, 0.010)
    assert model.upper(COST, 1) / model.predict(COST, 1) == pytest.approx(LEAST_FACTOR)


def test_the_upper_bound_follows_the_95th_percentile():
    model = LatencyModel()
    for _ in range(200):
        for at in range(20):
            model.observe(COST, 1, 0.030 if at == 0 else 0.010)
    above = sum(seconds > model.upper(COST, 1) for seconds in [0.030] + [0.010] * 19)
    assert above <= 1


@pytest.mark.parametrize(
    ("points", "limit", "expected"),
    [
        ({1: 0.010, 2: 0.020, 4: 0.040}, 64, 1),  # no row is saved by a batch
        ({1: 0.010, 2: 0.011, 4: 0.022}, 64, 2),  # the knee is at 2
        ({1: 0.010, 2: 0.012, 4: 0.0125, 8: 0.026}, 64, 4),
        ({1: 0.010, 2: 0.011, 4: 0.012}, 64, 8),  # still growing: try twice as many
        ({1: 0.010, 2: 0.011, 4: 0.012}, 6, 6),
        ({1: 0.010}, 64, 2),  # one point says nothing of the next
        ({1: 0.0001, 2: 0.0002, 4: 0.0004}, 64, 64),  # below a millisecond nothing is capped
        ({1: 0.010, 2: 0.020}, 1, 1),
    ],
)
def test_the_cap_is_the_smallest_batch_with_about_the_best_throughput(points, limit, expected):
    assert learned(points).best_rows(COST, limit) == expected


def test_a_run_too_short_for_the_clock_is_a_run_all_the_same():
    assert learned({1: 0.0, 2: 0.010, 4: 0.010}).best_rows(COST, 64) == 1
    assert learned({1: 0.0}).best_rows(COST, 64) == 64


def test_the_cap_gives_up_almost_no_throughput():
    model = learned({rows: 0.008 + 0.002 * rows for rows in (1, 2, 4, 8, 16, 32)})
    rows = model.best_rows(COST, 32)
    best = 32 / model.predict(COST, 32)
    assert rows / model.predict(COST, rows) >= ENOUGH * best


def test_new_measurements_replace_old_ones():
    model = learned({1: 0.010})
    for _ in range(4 * REFIT_AFTER):
        model.observe(COST, 1, 0.050)
    assert model.predict(COST, 1) == pytest.approx(0.050)


def test_what_it_knows_starts_another_like_it():
    known = learned({1: 0.010, 4: 0.030}).known()
    assert known == {COST: {1: 0.010, 4: 0.030}}
    assert LatencyModel(known).predict(COST, 2) == learned({1: 0.010, 4: 0.030}).predict(COST, 2)


def test_costs_a_length_bucket_apart_are_told_apart():
    assert cost_bucket(100) == cost_bucket(105)
    assert cost_bucket(100) != cost_bucket(130)
    assert cost_bucket(0) == cost_bucket(1)
