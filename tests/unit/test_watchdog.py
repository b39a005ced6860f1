"""When a run hangs, in virtual time: a look every half second."""

import pytest

from headrace.lifecycle.watchdog import Sight, Watchdog

TICK_S = 0.5


def ended_at(sights, *, ticks=100, tick_s=TICK_S, starved_of_tick=0.0):
    """When, and why, the watchdog ends a worker of which each look sees what `sights` gives for the time."""
    watchdog = Watchdog(2.0, 10.0)
    for tick in range(ticks):
        now = tick * tick_s
        if reason := watchdog.look(now, sights(now), starved_of_tick * now):
            return now, reason
    return None


def hanging(*, usual_s, done=0):
    return lambda now: {0: Sight(done, now, usual_s)}


@pytest.mark.parametrize(("usual_s", "after_s"), [(0.01, 2.0), (0.2, 2.0), (1.0, 10.0), (0.0, 10.0)])
def test_a_run_hangs_at_ten_times_its_usual_bound_and_never_before_the_floor(usual_s, after_s):
    found = ended_at(hanging(usual_s=usual_s))
    assert found is not None
    assert after_s < found[0] <= after_s + 2 * TICK_S


def test_the_reason_says_how_long_it_hung_and_how_long_it_usually_takes():
    assert ended_at(hanging(usual_s=0.01)) == (
        2.5,
        "was ended: a run that usually takes up to 10 ms hung for 2.5 s",
    )


def test_an_instance_that_is_idle_never_hangs():
    assert ended_at(lambda _: {}) is None


def test_an_instance_that_gets_something_done_does_not_hang_however_old_its_run_seems():
    assert ended_at(lambda now: {0: Sight(int(now / TICK_S), 60.0, 0.01)}) is None


def test_a_run_that_has_just_begun_does_not_count_for_the_one_before_it():
    assert ended_at(lambda now: {0: Sight(0, now % 1.0, 0.01)}) is None


def test_one_instance_hangs_while_another_goes_on():
    def sights(now):
        return {0: Sight(int(now / TICK_S), 0.1, 0.01), 1: Sight(3, now, 0.01)}

    assert ended_at(sights) is not None


def test_a_gateway_that_stood_still_takes_no_run_for_hanging():
    watchdog = Watchdog(2.0, 10.0)
    looks = [(0.0, 0.0), (0.5, 0.5), (60.0, 60.0)]
    assert [watchdog.look(now, {0: Sight(0, age, 0.01)}, 0.0) for now, age in looks] == [None] * 3


def test_a_worker_that_gets_no_core_is_given_as_much_longer():
    found = ended_at(hanging(usual_s=0.01), starved_of_tick=0.75)
    assert found is not None
    assert 8.0 < found[0] <= 9.0
