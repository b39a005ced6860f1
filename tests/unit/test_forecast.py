"""When a request would be answered. l(b) is 10 + b ms."""

import pytest

from headrace.admission.forecast import FADES, FASTEST, SLOWEST, Pace, expected_s, fair_ahead_s
from headrace.batching.fairness import Flow

ONE, OTHER = Flow(0, "one", 0), Flow(0, "other", 0)
FIRST, LAST = Flow(1, "", 0), Flow(2, "", 0)


def seconds(rows):
    return (10 + rows) * 1e-3


def expected_ms(ahead=0, rows=1, cap=10, others=0.0, pace=None, **more):
    return 1e3 * expected_s(ahead, rows, cap, seconds, others * 1e-3, pace or Pace(), **more)


def test_alone_it_takes_its_own_run():
    assert expected_ms() == pytest.approx(11)
    assert expected_ms(rows=4) == pytest.approx(14)


def test_where_much_waits_its_batch_will_be_full():
    assert expected_ms(ahead=12, is_filled=True) == pytest.approx(20 + 20)


def test_those_ahead_of_it_travel_in_full_runs_and_the_last_ones_with_it():
    assert expected_ms(ahead=9) == pytest.approx(20)
    assert expected_ms(ahead=10) == pytest.approx(20 + 11)
    assert expected_ms(ahead=25) == pytest.approx(20 + 20 + 16)


def test_what_no_longer_fits_in_a_run_goes_with_the_next():
    assert expected_ms(ahead=8, rows=3) == pytest.approx(20 + 13)


def test_runs_of_others_and_the_way_back_come_on_top():
    pace = Pace()
    pace.after_s = 0.002
    assert expected_ms(others=5, pace=pace) == pytest.approx(5 + 11 + 2 * 2)


def test_of_two_instances_each_does_half_of_what_is_ahead():
    assert expected_ms(ahead=40, pace=Pace(2)) == pytest.approx(0.5 * 80 + 11)


def test_the_pace_is_learned_where_something_waited_when_the_run_before_ended():
    pace = Pace()
    for run in range(1, 60):
        pace.observe(0.02 * run - 0.05, 0.02 * run, 0.01, 0.02 * run)
    assert pace.stretch == pytest.approx(2.0, rel=0.02)


def test_an_idle_time_is_no_slow_run():
    pace = Pace()
    for run in range(1, 60):
        pace.observe(run, run + 0.01, 0.01, run + 0.01)
    assert pace.stretch == 1.0


@pytest.mark.parametrize(("cycle_s", "bound"), [(1e6, SLOWEST), (1e-6, FASTEST)])
def test_no_single_run_makes_the_pace_absurd(cycle_s, bound):
    pace = Pace()
    pace.observe(0.0, 1.0, 0.01, 1.0)
    pace.observe(0.0, 1.0 + cycle_s, 0.01, 1.0)
    assert min(1.0, bound) <= pace.stretch <= max(1.0, bound)


def test_a_slow_way_back_is_forgotten_slowly():
    pace = Pace()
    for run in range(1, 5):
        pace.observe(run - 1, run, 0.01, run + 0.005)
    assert pace.after_s == pytest.approx(0.005)
    pace.observe(4.0, 5.0, 0.01, 5.001)
    assert pace.after_s == pytest.approx(FADES * 0.005)


def test_a_gateway_that_stood_still_once_is_not_believed_to_do_so_always():
    pace = Pace()
    for run in range(1, 5):
        pace.observe(run - 1, run, 0.01, run + 0.005)
    pace.observe(4.0, 5.0, 0.01, 65.0)
    assert pace.after_s <= 0.015
    for run in range(66, 80):
        pace.observe(run - 1, run, 0.01, run + 60)
    assert pace.after_s == pytest.approx(60)


def fair_ahead(own_s, flow, backlog, weights=None, shares=None):
    weights, shares = weights or {}, shares or {}
    return fair_ahead_s(
        own_s, flow, backlog, lambda tenant: weights.get(tenant, 1.0), lambda level: shares.get(level, 1.0)
    )


def test_beside_a_long_queue_of_another_tenant_one_waits_for_as_much_as_one_brings():
    assert fair_ahead(0.1, ONE, {OTHER: 60.0}) == pytest.approx(0.1)
    assert fair_ahead(0.1, ONE, {OTHER: 0.02}) == pytest.approx(0.02)


def test_a_tenant_of_more_weight_waits_for_less():
    assert fair_ahead(0.3, ONE, {OTHER: 60.0}, {"one": 3.0}) == pytest.approx(0.1)


def test_its_own_flow_is_counted_once():
    assert fair_ahead(0.1, ONE, {ONE: 60.0}) == 0.0


def test_other_lengths_of_a_tenant_take_turns_with_it():
    long = Flow(0, "one", 9)
    assert fair_ahead(0.1, ONE, {long: 60.0}) == pytest.approx(0.1)
    # And what another tenant may have in the meantime is as much as both together.
    assert fair_ahead(0.1, ONE, {long: 60.0, OTHER: 60.0}) == pytest.approx(0.1 + 0.2)


def test_a_level_waits_for_those_before_it_by_their_share_and_not_for_those_after():
    shares = {1: 0.8, 2: 0.2}
    assert fair_ahead(0.1, LAST, {FIRST: 60.0}, shares=shares) == pytest.approx(0.4)
    assert fair_ahead(0.1, LAST, {FIRST: 0.3}, shares=shares) == pytest.approx(0.3)
    assert fair_ahead(0.1, FIRST, {LAST: 60.0}, shares=shares) == 0.0
