"""Invariants of schedules: what holds for every rate, length and seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.loadtest import schedules
from headrace.loadtest.plan import Caller

rates = st.floats(1, 5000)
lengths = st.floats(0.05, 5)
seeds = st.integers(0, 1 << 32)


def arrivals(rate: float, seconds: float, seed: int) -> dict[str, np.ndarray]:
    return {
        "poisson": schedules.poisson(rate, seconds, seed),
        "bursts": schedules.bursts(rate, seconds, seed),
        "even": schedules.even(rate, seconds),
        "steps": schedules.steps([(rate, seconds / 2), (0, seconds / 4), (2 * rate, seconds / 4)], seed),
    }


@given(rates, lengths, seeds)
def test_times_grow_within_the_run_and_are_the_same_for_the_same_seed(
    rate: float, seconds: float, seed: int
) -> None:
    first, again = arrivals(rate, seconds, seed), arrivals(rate, seconds, seed)
    for name, times in first.items():
        assert (np.diff(times) >= 0).all(), name
        assert ((times >= 0) & (times < seconds)).all(), name
        assert (times == again[name]).all(), name


@given(seeds)
def test_the_rate_is_what_was_asked_for(seed: int) -> None:
    """Counts of a minute at 1000 a second, within 6 standard deviations.

    Of bursts variance / mean is 1 + 2 (a - b)² uv / ((u + v)² (a * v + b * u)) = 231 (rates a and b, 1 / stays u and v).
    """
    assert abs(len(schedules.poisson(1000, 60, seed)) - 60_000) < 6 * 60_000**0.5
    assert abs(len(schedules.bursts(1000, 60, seed)) - 60_000) < 6 * (60_000 * 231) ** 0.5
    assert len(schedules.even(1000, 60)) == 60_000


def test_bursts_keep_their_mean_rate_and_are_burstier_than_poisson() -> None:
    def dispersion(times: np.ndarray) -> float:
        counts = np.bincount((times * 10).astype(int))
        return float(counts.var() / counts.mean())

    times = schedules.bursts(1000, 2000, 1)
    assert len(times) / 2000 == pytest.approx(1000, rel=0.03)
    assert dispersion(schedules.poisson(1000, 2000, 1)) == pytest.approx(1, abs=0.1)
    assert dispersion(times) > 30


def test_gaps_of_poisson_arrivals_are_exponential() -> None:
    gaps = np.diff(schedules.poisson(100, 1000, 3))
    assert gaps.mean() == pytest.approx(0.01, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)


def test_steps_have_their_own_rates() -> None:
    times = schedules.steps([(100, 20), (1000, 20), (0, 5), (100, 20)], 1)
    counts = np.histogram(times, [0, 20, 40, 45, 65])[0]
    assert counts[[0, 1, 3]] == pytest.approx([2000, 20_000, 2000], rel=0.15)
    assert counts[2] == 0


@given(st.integers(0, 2000), st.integers(1, 50), st.floats(0, 3), seeds)
def test_keys_are_inputs_that_there_are(n: int, count: int, s: float, seed: int) -> None:
    for keys in (schedules.keys_uniform(n, count, seed), schedules.keys_zipf(n, count, s, seed)):
        assert keys.dtype == np.int32
        assert len(keys) == n
        assert ((keys >= 0) & (keys < count)).all()


def test_zipf_keys_are_the_hotter_the_smaller() -> None:
    counts = np.bincount(schedules.keys_zipf(200_000, 100, 1.1, 1))
    assert counts[0] / counts[9] == pytest.approx(10**1.1, rel=0.1)


def test_a_viral_key_takes_its_part_of_the_calls_while_it_lasts() -> None:
    times = schedules.even(1000, 60)
    keys = schedules.keys_zipf(len(times), 1000, 1.1, 1)
    viral = schedules.keys_viral(times, keys, 20, 20, 0.3)
    coldest = keys.max()
    meanwhile = (times >= 20) & (times < 40)
    assert (viral[meanwhile] == coldest).mean() == pytest.approx(0.3, abs=0.02)
    assert (viral[~meanwhile] == keys[~meanwhile]).all()
    assert (schedules.keys_viral(times, keys, 20, 20, 1.0, key=7)[meanwhile] == 7).all()


def test_callers_come_by_their_parts() -> None:
    callers = [Caller("a", part=1), Caller("b", part=0), Caller("c", part=3)]
    counts = np.bincount(schedules.assign_callers(100_000, callers, 1), minlength=3)
    assert counts / 1000 == pytest.approx([25, 0, 75], abs=1)


@given(st.lists(st.floats(0, 10), max_size=50))
def test_a_schedule_is_in_the_order_of_time_and_keeps_what_belongs_together(times: list[float]) -> None:
    keys = np.arange(len(times))
    made = schedules.make(np.array(times, float), keys, keys, 5.0)
    assert made.times.tolist() == sorted(each for each in times if each < 5)
    assert [times[each] for each in made.keys] == made.times.tolist()
    assert (made.keys == made.callers).all()


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_no_rate_or_no_time_is_no_schedule(rate: float, seconds: float) -> None:
    for draw in (lambda: schedules.poisson(rate, seconds, 0), lambda: schedules.bursts(rate, seconds, 0)):
        with pytest.raises(ValueError, match="above 0"):
            draw()
    with pytest.raises(ValueError, match="above 0"):
        schedules.even(rate, seconds)


def test_what_cannot_be_a_schedule_is_refused() -> None:
    one = np.zeros(1)
    with pytest.raises(ValueError, match="at least one"):
        schedules.steps([], 0)
    with pytest.raises(ValueError, match="one of them above 0"):
        schedules.assign_callers(1, [Caller(part=0)], 0)
    with pytest.raises(ValueError, match="one of each a call"):
        schedules.make(one, np.zeros(2), one, 1)
    with pytest.raises(ValueError, match="before the start"):
        schedules.make(one - 1, one, one, 1)
