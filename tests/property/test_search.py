"""The search against servers of any capacity, sharp and noisy."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from headrace.loadtest.search import FULL, QUICK, Outcome, Search, Trial, find_max

limits = st.floats(0.5, 50_000)
starts = st.floats(1, 1000)
efforts = st.sampled_from([FULL, QUICK])


def spend(budget_s, run, limit, start, effort):
    """Search with a budget, and check that it is kept."""
    left = [budget_s]

    def spending(trial: Trial) -> Outcome:
        assert 0 < trial.seconds <= left[0]
        left[0] -= trial.seconds
        return run(trial)

    return find_max(Search(start, effort=effort), spending, lambda: left[0])


@given(limits, starts, efforts, st.floats(1, 3000))
def test_no_more_is_claimed_than_passed_and_no_more_time_taken_than_given(limit, start, effort, budget_s):
    def run(trial: Trial) -> Outcome:
        return Outcome(trial, 1000, 0 if trial.rate <= limit else 500, 1.0)

    found = spend(budget_s, run, limit, start, effort)
    assert found.rate <= limit
    if found.is_confirmed:
        assert found.rate * effort.ratio >= limit


@given(limits, starts, efforts, st.integers(0, 2**32))
def test_noise_at_the_limit_moves_what_is_found_by_little(limit, start, effort, seed):
    """A server within a tenth of its limit keeps the objective or not by chance."""
    random = Random(seed)

    def run(trial: Trial) -> Outcome:
        is_passed = trial.rate <= limit * random.uniform(0.9, 1.1)
        return Outcome(trial, 1000, 0 if is_passed else 500, 1.0)

    found = spend(1e9, run, limit, start, effort)
    if limit < start / 2**6:
        return  # it may give up on such a server
    assert found.is_confirmed
    assert 0.9 * limit * 0.97 / effort.ratio <= found.rate <= 1.1 * limit
