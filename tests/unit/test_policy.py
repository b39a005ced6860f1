import pytest

from headrace.batching.policy import LEAST_RUN_S, NARROWEST, SHORT_RUN_S, is_worth_staging, may_join
from headrace.messages import Group

LONG = Group(100, (100,), ((-1,),))


@pytest.mark.parametrize(
    ("rows", "run_s", "spare_s", "expected"),
    [
        (7, 1.0, 9, False),  # behind a long run, a batch waits until it is full
        (8, 1.0, 9, True),
        (1, SHORT_RUN_S / 2, 9, True),  # short runs: the way would show
        (1, SHORT_RUN_S, 9, False),
        (1, LEAST_RUN_S / 2, 9, False),  # so short that bigger batches are worth more
        (1, None, 9, False),  # nothing known: not taken for short
        (8, 1.0, 0, False),  # it would expire behind the running one, and be run all the same
        (8, SHORT_RUN_S / 2, -1, False),
    ],
)
def test_a_second_batch_is_sent_if_it_is_full_or_runs_are_short(rows, run_s, spare_s, expected):
    assert is_worth_staging(rows, 8, run_s, spare_s) is expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Group(80, (80,), ((-1,),)), True),
        (Group(round(100 * NARROWEST), (60,), ((-1,),)), True),
        (Group(round(100 * NARROWEST) - 1, (59,), ((-1,),)), False),  # too much would be padding
        (Group(125, (125,), ((-1,),)), False),  # longer
        (Group(80, (125,), ((-1,),)), False),  # longer along one length
        (Group(80, (80,), ((3,),)), False),  # another exact shape
        (Group(80, (80,), ((-1,),), (b"rate",)), False),  # another shared input
    ],
)
def test_a_group_is_filled_up_by_shorter_ones_that_fit(other, expected):
    assert may_join(LONG, other) is expected


def test_groups_without_lengths_are_not_filled_up():
    assert not may_join(Group(100), Group(100, (), ((1,),)))
