import pytest

from headrace.batching.policy import NARROWEST, SHORT_RUN_S, Candidates, choose_rows, may_join
from headrace.messages import Group

LONG = Group(100, (100,), ((-1,),))


@pytest.mark.parametrize(
    ("tickets", "is_alone", "is_idle", "run_s", "expected"),
    [
        (1, False, True, None, 8),  # an idle instance takes whatever waits
        (99, False, True, 1.0, 8),
        (7, False, False, 1.0, 0),  # behind a long run, a batch waits until it is full
        (8, False, False, 1.0, 8),
        (1, True, False, 1.0, 8),  # nobody could join it
        (1, False, False, SHORT_RUN_S / 2, 8),  # short runs: the way would show
        (1, False, False, SHORT_RUN_S, 0),
        (1, False, False, None, 0),  # nothing known: not taken for short
    ],
)
def test_a_batch_is_sent_or_waits_for_the_running_one(tickets, is_alone, is_idle, run_s, expected):
    assert choose_rows(Candidates(LONG, tickets, is_alone), 8, is_idle, run_s) == expected


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
