import math

import pytest

from headrace.loadtest.search import (
    FULL,
    QUICK,
    Found,
    Outcome,
    Phase,
    Search,
    Trial,
    find_max,
    is_proved,
    least_count,
)

PUBLISHED = {0: 459, 1: 662, 2: 838, 5: 1307, 10: 2010, 20: 3304, 50: 6898, 100: 12571}


def exact_cdf(late: int, total: int) -> float:
    return sum(math.comb(total, each) * 0.01**each * 0.99 ** (total - each) for each in range(late + 1))


@pytest.mark.parametrize(("late", "count"), PUBLISHED.items())
def test_counts_are_those_of_mlperf(late, count):
    assert least_count(late) == count


@pytest.mark.parametrize("late", [0, 1, 2, 5])
def test_counts_are_where_the_exact_sum_crosses(late):
    count = least_count(late)
    assert exact_cdf(late, count) <= 0.01 < exact_cdf(late, count - 1)


def test_all_late_proves_nothing():
    assert not is_proved(0, 0)
    assert not is_proved(10_000, 10_000)


def outcome(trial: Trial, *, is_passed: bool, void: str = "") -> Outcome:
    return Outcome(trial, 1000, 0 if is_passed else 500, 1.0, void)


def sharp(limit: float, *, void_above: float = math.inf):
    """A server that keeps the objective up to its limit, asked by a generator that is on time up to its own."""

    def run(trial: Trial) -> Outcome:
        void = "the generator was late" if trial.rate > void_above else ""
        return outcome(trial, is_passed=trial.rate <= limit, void=void)

    return run


class Budget:
    """What is left after the trials it was shown, each as long as planned."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds
        self.trials: list[Trial] = []

    def spend(self, run):
        def spending(trial: Trial) -> Outcome:
            self.left_s -= trial.seconds
            self.trials.append(trial)
            return run(trial)

        return spending


def search(
    limit: float, *, budget_s: float = 600, start: float = 50, effort=FULL, **more
) -> tuple[Found, Budget]:
    budget = Budget(budget_s)
    found = find_max(Search(start, effort=effort), budget.spend(sharp(limit, **more)), lambda: budget.left_s)
    return found, budget


def test_the_limit_of_a_sharp_server_is_found_to_three_percent():
    found, _ = search(2777)
    assert found.is_confirmed
    assert 2777 / 1.03 <= found.rate <= 2777


def test_a_start_that_is_too_high_is_halved():
    found, _ = search(111, start=3000)
    assert 111 / 1.03 <= found.rate <= 111


def test_a_winner_is_confirmed_with_fresh_seeds():
    _, budget = search(500)
    assert [each.phase for each in budget.trials[-3:]] == [Phase.CONFIRM] * 3
    seeds = [each.seed for each in budget.trials]
    assert len(set(seeds)) == len(seeds)


def test_a_winner_that_fails_once_is_lowered_and_confirmed_anew():
    budget = Budget(6000)
    confirmations = []

    def run(trial: Trial) -> Outcome:
        if trial.phase is Phase.CONFIRM:
            confirmations.append(trial.rate)
            return outcome(trial, is_passed=len(confirmations) != 2)
        return outcome(trial, is_passed=trial.rate <= 500)

    found = find_max(Search(50), budget.spend(run), lambda: budget.left_s)
    first = confirmations[0]
    assert confirmations == [first, first, *[pytest.approx(0.97 * first)] * 3]
    assert found == Found(confirmations[-1], True, found.reason)


def test_a_server_that_keeps_nothing_is_said_so():
    found, _ = search(0, budget_s=1e6)
    assert found.rate == 0
    assert "fail the objective" in found.reason


def test_a_budget_that_ends_first_leaves_what_passed_unconfirmed():
    found, budget = search(1000, budget_s=40)
    assert not found.is_confirmed
    assert 0 < found.rate <= 1000
    assert "--budget-s" in found.reason
    assert budget.left_s >= 0


def test_a_budget_too_small_for_one_trial_runs_none():
    found, budget = search(1000, budget_s=1)
    assert (found.rate, budget.trials) == (0, [])
    assert "no rate passed" in found.reason


def test_trials_are_long_enough_to_prove_the_objective():
    _, budget = search(200, budget_s=600, start=20)
    assert all(each.rate * (each.seconds - each.warm_up_s) >= least_count(2) for each in budget.trials)


def test_quick_takes_less_and_finds_it_to_ten_percent():
    found, budget = search(2777, effort=QUICK)
    assert found.is_confirmed
    assert 2777 / 1.1 <= found.rate <= 2777
    assert [each.phase for each in budget.trials].count(Phase.CONFIRM) == 1


def test_a_void_trial_is_made_again():
    rates = []

    def run(trial: Trial) -> Outcome:
        rates.append(trial.rate)
        return outcome(trial, is_passed=trial.rate <= 300, void="busy" if len(rates) == 2 else "")

    found = find_max(Search(50), run, lambda: 6000.0)
    assert rates[1] == rates[2]
    assert 300 / 1.03 <= found.rate <= 300


def test_a_generator_at_its_limit_is_said_to_be_the_limit():
    found, _ = search(10_000, void_above=700)
    assert 700 / 1.03 <= found.rate <= 700
    assert "the server may do more" in found.reason
