"""Every way a breaker goes from one state to another, and what each state lets through."""

from math import inf

import pytest

from headrace.faults.breaker import FIRST_PART, Breaker, BreakerPolicy, BreakerState, Outcome
from headrace.faults.window import SLOTS, Window

OK, SLOW, FAILED, EXCLUDED = Outcome.OK, Outcome.SLOW, Outcome.FAILED, Outcome.EXCLUDED
MIDDLE = 0.5
"""Drawn for jitter, it is none."""


def breaker(draw=MIDDLE, **policy) -> Breaker:
    return Breaker(BreakerPolicy(**policy), lambda: draw)


def run(one: Breaker, now: float, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        one.record(one.permit(now), outcome, now)


def opened(now: float = 0.0, **policy) -> Breaker:
    one = breaker(**{"trials": 1, **policy})
    one.trip("told to", now)
    return one


def test_it_is_closed_and_plain_at_first():
    one = breaker()
    assert one.state(0) is BreakerState.CLOSED
    assert one.is_plain
    assert not one.is_refusing(0)
    assert one.most(8) == 8


def test_so_many_failures_in_a_row_open_it():
    one = breaker(max_failures=3, min_calls=100)
    run(one, 0, FAILED, FAILED, OK, FAILED, FAILED)
    assert one.state(0) is BreakerState.CLOSED
    run(one, 0, FAILED)
    assert one.state(0) is BreakerState.OPEN
    assert one.reason == "3 runs in a row failed"


def test_slow_runs_are_no_failures_in_a_row():
    one = breaker(max_failures=2, min_calls=100)
    run(one, 0, FAILED, SLOW, FAILED)
    assert one.state(0) is BreakerState.CLOSED


def test_the_rate_of_failures_opens_it_once_enough_has_run():
    one = breaker(max_failures=None, min_calls=4, failure_rate=0.5)
    run(one, 0, FAILED, FAILED, OK)
    assert one.state(0) is BreakerState.CLOSED
    run(one, 0, FAILED)
    assert one.state(0) is BreakerState.OPEN
    assert one.reason == "3 of 4 runs failed"


def test_a_run_that_goes_well_opens_nothing():
    one = breaker(max_failures=None, min_calls=4, failure_rate=0.5)
    run(one, 0, FAILED, FAILED, FAILED, OK)
    assert one.state(0) is BreakerState.CLOSED


def test_the_rate_of_slow_runs_opens_it():
    one = breaker(min_calls=5, slow_rate=0.8)
    run(one, 0, OK, SLOW, SLOW, SLOW)
    assert one.state(0) is BreakerState.CLOSED
    run(one, 0, SLOW)
    assert one.reason == "4 of 5 runs were slow"


def test_slow_runs_in_a_row_open_it_whatever_went_well_before():
    one = breaker(max_slow=3)
    run(one, 0, *[OK] * 50, SLOW, SLOW, OK, SLOW, SLOW)
    assert one.state(0) is BreakerState.CLOSED
    run(one, 0, SLOW)
    assert one.reason == "3 runs in a row were slow"


@pytest.mark.parametrize("without", ["max_failures", "failure_rate", "slow_rate"])
def test_what_is_none_does_not_open_it(without):
    bad = SLOW if without == "slow_rate" else FAILED
    others = {"max_failures": None, "failure_rate": None, "slow_rate": None}
    told = {"max_failures": 10, "failure_rate": 0.5, "slow_rate": 0.5, "min_calls": 10}
    one = breaker(**{**others, "min_calls": 10})
    run(one, 0, *[bad] * 100)
    assert one.state(0) is BreakerState.CLOSED
    one = breaker(**{**others, without: told[without], "min_calls": 10})
    run(one, 0, *[bad] * 10)
    assert one.state(0) is BreakerState.OPEN


def test_what_has_left_the_window_is_not_counted():
    one = breaker(max_failures=None, min_calls=4, window_s=10)
    run(one, 0, FAILED, FAILED)
    run(one, 11, OK, FAILED)
    counts = one.snapshot(11)
    assert (counts.ok, counts.failed) == (1, 1)
    assert one.state(11) is BreakerState.CLOSED


def test_excluded_runs_say_nothing():
    one = breaker(max_failures=2, min_calls=3)
    run(one, 0, FAILED, *[EXCLUDED] * 10)
    assert one.snapshot(0).failed == 1
    run(one, 0, FAILED)
    assert one.state(0) is BreakerState.OPEN, "an excluded run is no success that ends a row of failures"


def test_open_it_gives_no_leave():
    one = opened(reset_s=1)
    assert one.permit(0.9) is None
    assert one.is_refusing(0.9)
    assert one.retry_after_s(0.9) == pytest.approx(0.1)


def test_after_its_time_it_is_half_open_and_one_trial_runs_at_a_time():
    one = opened(reset_s=1)
    trial = one.permit(1)
    assert one.state(1) is BreakerState.HALF_OPEN
    assert trial.is_trial
    assert one.is_on_trial
    assert one.permit(1) is None
    assert not one.is_refusing(1), "who waits, waits for the trial"


def test_trials_in_a_row_close_it():
    one = opened(trials=3)
    run(one, 1, OK, OK)
    assert one.state(1) is BreakerState.HALF_OPEN
    run(one, 1, OK)
    assert one.state(1) is BreakerState.CLOSED
    assert one.reason == ""


def test_a_trial_that_fails_opens_it_for_twice_as_long():
    one = opened(reset_s=1, trials=3)
    run(one, 1, OK, FAILED)
    assert one.reason == "on trial it failed"
    assert one.state(2.9) is BreakerState.OPEN
    assert one.state(3) is BreakerState.HALF_OPEN


def test_a_slow_trial_opens_it():
    one = opened()
    run(one, 1, SLOW)
    assert one.reason == "on trial it was slow"
    assert one.state(1) is BreakerState.OPEN


def test_a_slow_trial_goes_well_where_slowness_is_not_counted_any_more():
    one = opened(max_slow_trips=1)
    assert not one.counts_slowness(1)
    run(one, 1, SLOW)
    assert one.state(1) is BreakerState.CLOSED


def test_slowness_is_counted_again_once_a_trip_is_forgiven():
    one = opened(max_slow_trips=1, reset_s=1, heal_s=60)
    run(one, 1, OK)
    assert not one.counts_slowness(60.9)
    assert one.counts_slowness(61)


def test_an_excluded_trial_makes_room_for_another():
    one = opened()
    run(one, 1, EXCLUDED)
    assert one.state(1) is BreakerState.HALF_OPEN
    assert one.permit(1) is not None


def test_a_trial_given_back_twice_takes_nobody_elses_place():
    one = opened(trials=3)
    first = one.permit(1)
    one.record(first, OK, 1)
    second = one.permit(1)
    one.record(first, EXCLUDED, 1)
    assert one.permit(1) is None, "the second still runs"
    one.record(second, OK, 1)
    assert one.permit(1) is not None


def test_an_overdue_trial_holds_nobody_up_and_still_has_its_say():
    one = opened(trials=2, trial_s=5)
    first = one.permit(1)
    assert one.permit(5.9) is None
    second = one.permit(6)
    assert second is not None
    assert one.permit(6) is None, "there is one at a time again"
    one.record(first, OK, 7)
    assert one.permit(7) is None, "the place is the second's"
    one.record(second, OK, 7)
    assert one.state(7) is BreakerState.CLOSED


def test_what_began_before_it_opened_is_not_counted_after():
    one = breaker(trials=1)
    late = one.permit(0)
    one.trip("told to", 0)
    one.record(late, FAILED, 1)
    assert one.state(1) is BreakerState.HALF_OPEN
    one.record(late, OK, 1)
    assert one.state(1) is BreakerState.HALF_OPEN
    run(one, 1, OK)
    one.record(late, FAILED, 1)
    assert one.snapshot(1).failed == 0


def test_a_trip_in_the_middle_of_a_trial_is_not_taken_back_by_it():
    one = opened(reset_s=1)
    trial = one.permit(1)
    one.trip("its worker died", 1)
    one.record(trial, OK, 1)
    assert one.state(1) is BreakerState.OPEN
    assert one.permit(3) is not None, "the trial that was cut off holds no place"


def test_the_time_open_doubles_up_to_the_longest():
    one, now, lengths = breaker(reset_s=1, longest_reset_s=6), 0.0, []
    for _ in range(5):
        one.trip("again", now)
        lengths.append(one.retry_after_s(now))
        now += lengths[-1]
    assert lengths == [1, 2, 4, 6, 6]


@pytest.mark.parametrize(("draw", "length"), [(0.0, 8), (0.5, 10), (0.999999, 12)])
def test_the_time_open_is_longer_or_shorter_at_random(draw, length):
    one = breaker(draw, reset_s=10, jitter=0.2)
    one.trip("told to", 0)
    assert one.retry_after_s(0) == pytest.approx(length, abs=1e-3)


def test_open_it_is_not_tripped_again():
    one = opened(reset_s=1)
    one.trip("another reason", 0.5)
    assert one.reason == "told to"
    assert one.snapshot(0.5).trips == 1
    assert one.state(1) is BreakerState.HALF_OPEN


def test_trips_are_forgiven_one_by_one_but_not_while_it_is_open():
    one = breaker(reset_s=60, longest_reset_s=1000, heal_s=60, trials=1)
    one.trip("first", 0)
    one.trip("second", 60)
    assert one.retry_after_s(60) == 120, "being open for a minute was no minute that went well"
    run(one, 180, OK)
    assert [one.snapshot(at).trips for at in (239, 240, 299, 300, 1000)] == [2, 1, 1, 0, 0]


def test_tripped_until_told_it_waits_for_that():
    one = breaker()
    one.trip("its worker died", 0, until=inf)
    assert one.state(1e9) is BreakerState.OPEN
    assert one.retry_after_s(1e9) == 0, "nobody can tell"
    assert one.snapshot(0).trips == 0
    one.trip("another fault", 1)
    assert one.state(1e9) is BreakerState.OPEN
    one.renew()
    assert one.state(1e9) is BreakerState.CLOSED


def test_renewed_in_the_middle_of_a_trial_it_forgets_the_trial():
    one = opened()
    trial = one.permit(1)
    one.renew()
    one.record(trial, FAILED, 1)
    assert one.state(1) is BreakerState.CLOSED


def test_closed_again_it_takes_small_batches_first_and_more_with_each_that_goes_well():
    one = opened()
    assert one.permit(1).is_trial
    assert one.most(32) == 32 * FIRST_PART
    assert one.most(1) == 1
    one.renew()
    assert not one.is_plain
    sizes = []
    for outcome in (OK, FAILED, SLOW, OK):
        sizes.append(one.most(32))
        run(one, 1, outcome)
    assert sizes == [8, 16, 16, 32]
    assert one.is_plain


def test_forced_open_it_stays_so_whatever_happens():
    one = breaker()
    one.force(BreakerState.FORCED_OPEN)
    assert one.permit(1e9) is None
    assert one.retry_after_s(0) == 60
    one.renew()
    one.trip("a fault", 0)
    assert one.snapshot(0).state is BreakerState.FORCED_OPEN
    assert one.reason == "forced by the operator"


def test_forced_closed_it_counts_and_stays_so_whatever_happens():
    one = breaker(max_failures=2)
    one.force(BreakerState.FORCED_CLOSED)
    run(one, 0, *[FAILED] * 20)
    one.trip("a fault", 0)
    assert one.snapshot(0).state is BreakerState.FORCED_CLOSED
    assert one.snapshot(0).failed == 20
    assert not one.counts_slowness(0)


def test_let_go_it_is_closed_as_if_new_and_knows_nothing_of_what_ran_before():
    one = opened(max_failures=2)
    one.force(BreakerState.FORCED_CLOSED)
    before = one.permit(0)
    one.force(None)
    one.record(before, FAILED, 0)
    assert one.is_plain
    assert one.snapshot(0) == breaker().snapshot(0)


def test_a_trial_from_before_it_was_forced_says_nothing():
    one = opened()
    trial = one.permit(1)
    one.force(BreakerState.FORCED_CLOSED)
    one.record(trial, FAILED, 1)
    assert one.snapshot(1).failed == 0
    assert one.permit(1) is not None


def test_a_day_of_runs_that_go_well_keeps_no_more_than_a_window():
    one = breaker()
    for second in range(86_400):
        run(one, float(second), OK)
    assert len(one._window._counts) <= SLOTS


def test_a_window_takes_time_that_goes_back_a_little_for_the_latest_it_saw():
    window = Window(10)
    window.at(5).ok += 1
    window.at(3).failed += 1
    total = window.total(5)
    assert (total.ok, total.failed) == (1, 1)
