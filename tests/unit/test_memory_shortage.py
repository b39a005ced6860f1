"""The order in which something is done about too little memory, and how the cap comes back; time is a number here."""

import pytest

from headrace.faults.memory import CLEAN_RUNS, HOLD_S, MOST_SPLITS, RESTART_EVERY_S, FailedRun, Shortage, Step

COST = 8


def failing(rows=32, *, splits=0, cost=COST, has_died=False):
    return FailedRun(cost, rows, usual=32, splits=splits, is_lone=rows == 1, has_died=has_died)


def climb(shortage, now):
    """A single row fails until nothing is left to be done about it; what was done."""
    steps = []
    while not steps or steps[-1] is not Step.REFUSE:
        steps.append(shortage.failed(failing(1, splits=len(steps)), now))
        shortage.rebuilt()
    return steps


def test_a_batch_is_halved_three_times_before_its_session_is_rebuilt():
    shortage, rows, steps = Shortage(), 32, []
    for splits in range(MOST_SPLITS + 1):
        steps.append(shortage.failed(failing(rows, splits=splits), 0.0))
        rows //= 2
    assert steps == [Step.SPLIT] * MOST_SPLITS + [Step.REBUILD]


def test_one_row_that_fails_alone_is_run_again_then_the_session_is_rebuilt_the_worker_restarted_the_request_refused():
    assert climb(Shortage(), 0.0) == [Step.AGAIN, Step.REBUILD, Step.RESTART, Step.REFUSE]


def test_what_fitted_and_does_not_any_more_has_the_session_rebuilt_at_once():
    shortage = Shortage()
    assert shortage.failed(failing(32), 0.0) is Step.SPLIT
    shortage.passed(COST, 16, 0.1)
    assert shortage.failed(failing(12), 0.2) is Step.REBUILD


def test_a_single_request_that_never_fits_does_not_restart_the_worker_again_and_again():
    shortage = Shortage()
    climb(shortage, 0.0)
    later = HOLD_S + 1
    assert climb(shortage, later) == [Step.AGAIN, Step.REBUILD, Step.REFUSE]
    assert climb(shortage, RESTART_EVERY_S)[-2] is Step.RESTART


def test_several_requests_are_never_refused_together():
    shortage = Shortage()
    climb(shortage, 0.0)
    assert shortage.failed(failing(4, splits=MOST_SPLITS), 1.0) is Step.SPLIT


def test_what_ran_beside_a_rebuilding_is_run_again_after_it():
    shortage = Shortage()
    shortage.failed(failing(1), 0.0)
    assert shortage.failed(failing(1, splits=1), 0.1) is Step.REBUILD
    assert shortage.is_pending(0.2)
    assert shortage.failed(failing(16), 0.2) is Step.AGAIN
    shortage.rebuilt()
    assert not shortage.is_pending(0.3)


def test_a_session_that_cannot_be_rebuilt_has_its_worker_restarted():
    shortage = Shortage()
    shortage.failed(failing(1, splits=1), 0.0)
    shortage.not_rebuilt(1.0)
    assert shortage.is_pending(1.0)
    shortage.rebuilt()
    assert shortage.failed(failing(1, splits=2), 2.0) is Step.REFUSE


def test_nobody_waits_for_ever_for_a_worker_that_does_not_come():
    shortage = Shortage()
    shortage.failed(failing(1, splits=1), 0.0)
    assert shortage.is_pending(HOLD_S - 1)
    assert not shortage.is_pending(HOLD_S)


def test_a_worker_that_the_kernel_ended_needs_no_session():
    shortage = Shortage()
    assert shortage.failed(failing(32, has_died=True), 0.0) is Step.SPLIT
    assert shortage.failed(failing(1, splits=1, has_died=True), 1.0) is Step.RESTART
    assert shortage.failed(failing(1, splits=2, has_died=True), 2.0) is Step.REFUSE


def test_a_run_as_large_that_goes_well_makes_the_next_failure_a_first_one():
    shortage = Shortage()
    shortage.failed(failing(8, splits=MOST_SPLITS), 0.0)
    shortage.rebuilt()
    shortage.passed(COST, 8, 0.2)
    assert shortage.failed(failing(9, splits=MOST_SPLITS), 0.3) is Step.REBUILD


def test_a_smaller_run_that_goes_well_does_not():
    shortage = Shortage()
    shortage.failed(failing(8, splits=MOST_SPLITS), 0.0)
    shortage.rebuilt()
    shortage.passed(COST, 4, 0.2)
    assert shortage.failed(failing(9, splits=MOST_SPLITS), 0.3) is Step.RESTART


def test_the_next_run_gives_back_once():
    shortage = Shortage()
    assert not shortage.take_give_back()
    shortage.failed(failing(), 0.0)
    assert [shortage.take_give_back(), shortage.take_give_back()] == [True, False]


def test_the_cap_is_half_for_a_minute_and_then_grows_by_a_row_every_fifty_runs_until_it_is_back():
    shortage = Shortage()
    shortage.failed(failing(32), 0.0)
    assert shortage.most(COST, 32) == 16
    for _ in range(3 * CLEAN_RUNS):
        shortage.passed(COST, 16, HOLD_S - 1)
    assert shortage.most(COST, 32) == 16
    for at in range(16):
        assert shortage.most(COST, 32) == 16 + at
        for _ in range(CLEAN_RUNS):
            shortage.passed(COST, 16 + at, HOLD_S)
    assert shortage.most(COST, 32) == 32
    assert not shortage.is_on


def test_a_cap_that_is_halved_again_holds_for_another_minute():
    shortage = Shortage()
    shortage.failed(failing(32), 0.0)
    shortage.failed(failing(16, splits=1), 50.0)
    for _ in range(CLEAN_RUNS):
        shortage.passed(COST, 8, HOLD_S)
    assert shortage.most(COST, 32) == 8


@pytest.mark.parametrize(("cost", "rows"), [(COST // 4, 32), (COST, 16), (COST * 4, 16)])
def test_the_cap_is_for_rows_as_long_or_longer(cost, rows):
    shortage = Shortage()
    shortage.failed(failing(32), 0.0)
    assert shortage.most(cost, 32) == rows


def test_one_row_is_always_allowed():
    shortage = Shortage()
    shortage.failed(failing(1), 0.0)
    assert shortage.most(COST, 32) == 1
