import pytest

from headrace.batching.golden_point import (
    ENOUGH,
    OF_MEMORY,
    Bound,
    GoldenPoint,
    Point,
    golden_point,
    longest_run_s,
    of_curve,
    rows_within,
)

MB = 1_000_000


def curve(
    seconds: dict[int, float], nbytes=lambda rows: 100 * MB + rows * 10 * MB, slower=1.0
) -> list[Point]:
    """Runs of so many seconds, of which the slowest take so many times longer."""
    return [Point(rows, took, took, slower * took, nbytes(rows)) for rows, took in seconds.items()]


GROWING = {1: 0.010, 2: 0.011, 4: 0.013, 8: 0.017, 16: 0.025}
"""More rows are always worth it: 640 a second by 16."""
FLAT = {1: 0.010, 2: 0.011, 4: 0.022, 8: 0.044}
"""Two rows are worth it, more are not."""


def test_what_allows_least_binds():
    allowed = {Bound.ROWS: 32, Bound.MEMORY: 7, Bound.OBJECTIVE: 9, Bound.THROUGHPUT: 8}
    assert golden_point(allowed) == GoldenPoint(7, Bound.MEMORY, allowed)


def test_of_bounds_that_allow_the_same_the_hardest_to_move_is_named():
    assert golden_point({Bound.MEMORY: 8, Bound.THROUGHPUT: 8}).bound is Bound.MEMORY
    assert golden_point(dict.fromkeys(Bound, 8)).bound is Bound.ROWS


def test_one_row_is_allowed_whatever_the_bounds_say():
    assert golden_point({Bound.ROWS: 8, Bound.MEMORY: 0}).rows == 1


def test_where_nothing_else_is_known_as_many_rows_as_were_measured():
    point = of_curve(curve(GROWING))
    assert (point.rows, point.bound) == (16, Bound.ROWS)


def test_the_knee_of_the_throughput_binds_where_more_rows_bring_nothing():
    point = of_curve(curve(FLAT), memory_bytes=1000 * MB, objective_s=10)
    assert (point.rows, point.bound) == (2, Bound.THROUGHPUT)
    assert point.allowed == {Bound.ROWS: 8, Bound.MEMORY: 8, Bound.OBJECTIVE: 8, Bound.THROUGHPUT: 2}


def test_seven_tenths_of_the_memory_bind_where_it_is_short():
    # 70 % of 200 MB are 140 MB: 100 for the model, and 40 for four rows.
    point = of_curve(curve(GROWING), memory_bytes=round(140 * MB / OF_MEMORY) + 1)
    assert (point.rows, point.bound) == (4, Bound.MEMORY)


def test_between_two_sizes_bytes_grow_along_a_line():
    point = of_curve(curve(GROWING), memory_bytes=round(151 * MB / OF_MEMORY) + 1)
    assert (point.rows, point.bound) == (5, Bound.MEMORY)


def test_too_little_memory_for_anything_leaves_one_row():
    assert of_curve(curve(GROWING), memory_bytes=MB).rows == 1


def test_half_of_the_objective_binds_the_slowest_runs_and_not_the_usual_ones():
    assert of_curve(curve(GROWING), objective_s=0.05).rows == 16
    point = of_curve(curve(GROWING, slower=2), objective_s=0.05)
    assert (point.rows, point.bound) == (3, Bound.OBJECTIVE)


def test_an_objective_that_single_rows_do_not_keep_is_not_worth_all_of_the_throughput():
    point = of_curve(curve(GROWING), objective_s=0.001)
    assert (point.rows, point.bound) == (11, Bound.OBJECTIVE)  # twice the 10 ms of one row
    assert longest_run_s(0.001, 0.010) == 0.020


def test_a_size_that_was_measured_beside_noise_does_not_end_what_the_objective_allows():
    points = curve(GROWING)
    points[1] = Point(2, 0.011, 0.011, 0.9, 120 * MB)
    assert of_curve(points, objective_s=0.05).rows == 16


def test_memory_that_nobody_measured_bounds_nothing():
    assert Bound.MEMORY not in of_curve(curve(GROWING, lambda rows: None), memory_bytes=MB).allowed


def test_what_takes_less_than_a_millisecond_has_no_knee():
    point = of_curve(curve({1: 1e-4, 2: 2e-4, 4: 4e-4}))
    assert (point.rows, point.bound) == (4, Bound.ROWS)


def test_a_sweep_of_one_size_is_a_curve():
    assert of_curve(curve({1: 0.010}), memory_bytes=1000 * MB, objective_s=1).rows == 1


@pytest.mark.parametrize(("most_value", "rows"), [(0.5, 0), (1, 1), (2.9, 1), (3, 2), (4, 2), (5, 3), (9, 4)])
def test_rows_whose_value_is_within_a_limit(most_value, rows):
    assert rows_within([(1, 1.0), (2, 3.0), (4, 7.0)], most_value, 8) == rows


def test_no_more_rows_than_are_asked_for():
    assert rows_within([(1, 1.0), (8, 2.0)], 9, 3) == 3


def test_the_point_gives_up_almost_no_throughput():
    points = curve({rows: 0.008 + 0.002 * rows for rows in (1, 2, 4, 8, 16, 32)})
    chosen = of_curve(points).rows
    assert chosen / (0.008 + 0.002 * chosen) >= ENOUGH * max(each.rate for each in points)
