"""Which tickets run where not all can be in time, and how long a run may be. l(b) is 5 + 0.5 b ms unless told otherwise."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.batching.policy import PERIOD_S, Tightest, goodput_window, longest_rows, window_of_turn


def seconds(rows):
    return (5 + 0.5 * rows) * 1e-3


def window(deadlines_ms, cap=64, rows=None, now=0.0, base=0):
    deadlines = [deadline * 1e-3 for deadline in deadlines_ms]
    return goodput_window(deadlines, rows or [1] * len(deadlines), now, seconds, cap, base)


def test_what_can_all_be_in_time_all_goes():
    assert window([50] * 20) == (0, 20)


def test_no_more_than_the_cap_go():
    assert window([100] * 20, cap=8) == (0, 8)


def test_a_head_that_leaves_time_for_few_is_given_up_for_a_full_run():
    assert window([6] + [60] * 64) == (1, 65)


def test_a_head_that_costs_little_is_kept():
    assert window([35] + [60] * 59) == (0, 60)


def test_who_cannot_be_in_time_even_alone_does_not_go():
    assert window([1, 2, 5]) == (0, 0)
    assert window([1, 2, 6]) == (2, 3)


def test_one_of_more_rows_than_the_cap_travels_alone():
    assert window([50, 50], cap=4, rows=[9, 1]) == (0, 1)
    assert window([9, 50], cap=4, rows=[9, 1]) == (1, 2)


def test_who_brings_no_rows_travels_as_well():
    assert window([50], rows=[0]) == (0, 1)


def test_rows_that_are_in_the_run_already_leave_less_time():
    assert window([14] * 20) == (0, 18)
    assert window([14] * 20, base=10) == (0, 8)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.integers(5, 24), st.integers(0, 4))
def test_no_other_window_makes_more_of_the_device(deadlines_ms, cap, base):
    deadlines_ms.sort()

    def rate(first, last):
        """Rows in time a second; 0 if the first of them would be late."""
        count = base + last - first
        in_time = last > first and count <= cap and seconds(count) <= deadlines_ms[first] * 1e-3
        return count / seconds(count) if in_time else 0.0

    size = len(deadlines_ms)
    best = max(rate(first, last) for first in range(size) for last in range(first + 1, size + 1))
    assert rate(*window(deadlines_ms, cap=cap, base=base)) * 1.001 >= best


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 5)), min_size=1, max_size=20), st.integers(1, 12)
)
def test_whatever_requests_bring_their_run_is_in_time_and_no_longer_than_the_cap(offered, cap):
    offered.sort()
    rows = [count for _, count in offered]
    first, last = window([ms for ms, _ in offered], cap=cap, rows=rows)
    count = sum(rows[first:last])
    assert count <= cap or last == first + 1
    if last > first:
        assert seconds(count) <= offered[first][0] * 1e-3
    else:
        assert all(seconds(each) > ms * 1e-3 for ms, each in offered)


def turn(deadlines_ms, is_first, cap=64):
    rows = [1] * len(deadlines_ms)
    return window_of_turn([deadline * 1e-3 for deadline in deadlines_ms], rows, is_first, 0.0, seconds, cap)


def test_those_whose_turn_it_is_are_not_given_up_for_others():
    assert turn([6] * 2 + [60] * 60, [True] * 2 + [False] * 60) == {0, 1}
    assert 0 not in turn([6] * 2 + [60] * 60, [True] * 62)


def test_others_fill_up_what_is_left_and_do_not_make_it_late():
    assert turn([10] + [60] * 60, [True] + [False] * 60) == set(range(10))


def test_others_that_would_be_late_in_that_run_do_not_fill_it_up():
    found = turn([6, 60, 60, 60], [False, True, True, True])
    assert found == {1, 2, 3}


def test_where_none_of_them_can_be_in_time_it_is_the_others_turn():
    assert turn([1, 60, 60], [True, False, False]) == {1, 2}
    assert turn([1, 1], [True, False]) == set()


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 5), st.booleans()), min_size=1, max_size=20),
    st.integers(5, 24),
)
def test_whoever_is_chosen_is_in_time(offered, cap):
    offered.sort()
    deadlines, rows = [ms * 1e-3 for ms, _, _ in offered], [count for _, count, _ in offered]
    found = window_of_turn(deadlines, rows, [first for _, _, first in offered], 0.0, seconds, cap)
    count = sum(rows[at] for at in found)
    assert count <= cap
    assert all(seconds(count) <= deadlines[at] for at in found)
    assert bool(found) == any(seconds(each) <= due for due, each in zip(deadlines, rows, strict=True))


@given(st.integers(0, 100), st.integers(1, 64))
def test_the_longest_run_within_a_limit(limit_ms, cap):
    found = longest_rows(limit_ms * 1e-3, seconds, cap)
    fitting = [rows for rows in range(1, cap + 1) if seconds(rows) <= limit_ms * 1e-3]
    assert found == max(fitting, default=1)


def test_the_tightest_is_of_the_last_ten_seconds_and_of_no_more_than_twenty():
    tightest = Tightest()
    assert tightest.at(0.0) is None
    tightest.observe(0.03, 0.0)
    tightest.observe(0.10, 1.0)
    assert tightest.at(PERIOD_S) == 0.03
    tightest.observe(0.10, PERIOD_S + 1)
    assert tightest.at(PERIOD_S + 2) == 0.03
    assert tightest.at(2 * PERIOD_S + 2) == 0.10
    assert tightest.at(3 * PERIOD_S + 3) is None
