import pytest

from headrace.admission.lag import STANDING, LagGuard

MOST_S = 0.05
LATE, BARELY = 0.06, 0.05


def guard_after(*samples):
    guard = LagGuard(MOST_S)
    for each in samples:
        guard.observe(each)
    return guard


def test_a_gateway_that_nobody_has_measured_is_not_behind():
    assert not guard_after().is_behind


@pytest.mark.parametrize("spike_s", [LATE, 10.0])
def test_a_spike_however_long_is_no_standing_delay(spike_s):
    guard = guard_after(spike_s)
    assert guard.is_late
    assert not guard.is_behind


def test_it_is_behind_once_so_many_samples_in_a_row_were_late():
    assert not guard_after(*[LATE] * (STANDING - 1)).is_behind
    assert guard_after(*[LATE] * STANDING).is_behind
    assert guard_after(*[LATE] * 3 * STANDING).is_behind


def test_one_sample_that_is_not_late_ends_it_and_the_count_begins_again():
    guard = guard_after(*[LATE] * STANDING, BARELY)
    assert not guard.is_late
    assert not guard.is_behind
    for _ in range(STANDING - 1):
        guard.observe(LATE)
    assert not guard.is_behind


def test_the_last_sample_can_be_shown():
    assert guard_after(LATE, 0.001).lag_s == 0.001
