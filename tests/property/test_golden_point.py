"""Whatever was measured: less memory or a tighter objective never means more rows, and no bound is exceeded."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.batching.golden_point import ENOUGH, OF_MEMORY, Bound, Point, of_curve

SIZES = (1, 2, 4, 8, 16, 32)
seconds = st.floats(1e-5, 10)


@st.composite
def curves(draw):
    """Points of a sweep; bytes and seconds grow with the rows, as they do but for noise."""
    sizes = SIZES[: draw(st.integers(1, len(SIZES)))]
    took = sorted(draw(st.lists(seconds, min_size=len(sizes), max_size=len(sizes))))
    nbytes = sorted(draw(st.lists(st.integers(1, 10**9), min_size=len(sizes), max_size=len(sizes))))
    slower = draw(st.floats(1, 5))
    return [Point(rows, t, t, slower * t, n) for rows, t, n in zip(sizes, took, nbytes, strict=True)]


@given(curves(), st.integers(1, 10**9), st.integers(0, 10**9), seconds)
def test_more_memory_never_means_fewer_rows(points, memory, more, objective_s):
    less, rest = (of_curve(points, each, objective_s).rows for each in (memory, memory + more))
    assert less <= rest


@given(curves(), st.integers(1, 10**9), seconds)
def test_every_bound_holds_at_the_measured_sizes(points, memory, objective_s):
    chosen = of_curve(points, memory, objective_s)
    assert 1 <= chosen.rows <= points[-1].rows
    assert chosen.rows == max(1, min(chosen.allowed.values()))
    for each in points:
        if 1 < each.rows <= chosen.rows:
            assert each.nbytes <= OF_MEMORY * memory
            assert each.p99_s <= max(objective_s / 2, 2 * points[0].p99_s)


@given(curves())
def test_with_nothing_else_in_the_way_nearly_the_best_throughput_is_had(points):
    chosen = of_curve(points)
    assert set(chosen.allowed) == {Bound.ROWS, Bound.THROUGHPUT}
    *_, largest = (each for each in points if each.rows <= chosen.rows)
    if points[-1].mean_s >= 1e-3:
        assert largest.rate >= ENOUGH * max(each.rate for each in points) or chosen.bound is Bound.ROWS
