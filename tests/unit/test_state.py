import pytest

from headrace.lifecycle.state import LONGEST_DELAY_S, MOVES, VersionState, restart_delay_s

INDEX_STATES = {"LOADING", "READY", "UNAVAILABLE", "UNLOADING"}


def test_every_state_has_its_moves():
    assert set(MOVES) == set(VersionState)
    assert {state.value for state in VersionState} - INDEX_STATES == {"RESTARTING", "ABSENT"}


@pytest.mark.parametrize("state", VersionState)
def test_every_state_but_the_last_can_be_unloaded(state):
    assert VersionState.UNLOADING in MOVES[state] or state is VersionState.UNLOADING


@pytest.mark.parametrize("state", VersionState)
def test_no_state_follows_itself(state):
    assert state not in MOVES[state]


@pytest.mark.parametrize(
    ("state", "after", "is_legal"),
    [
        ("LOADING", "READY", True),
        ("LOADING", "UNAVAILABLE", True),
        ("READY", "RESTARTING", True),
        (
            "READY",
            "UNAVAILABLE",
            True,
        ),  # its transforms cannot be loaded any more; a worker is started again instead
        ("READY", "LOADING", False),
        ("RESTARTING", "READY", True),
        ("UNAVAILABLE", "READY", False),
        ("UNLOADING", "READY", False),
        ("READY", "ABSENT", True),
        ("ABSENT", "LOADING", True),
        ("ABSENT", "READY", False),
        ("UNAVAILABLE", "ABSENT", False),
        ("UNLOADING", "UNAVAILABLE", True),
    ],
)
def test_moves(state, after, is_legal):
    assert (VersionState(after) in MOVES[VersionState(state)]) is is_legal


@pytest.mark.parametrize(
    ("deaths", "delay_s"), [(0, 0), (1, 0), (2, 0.1), (3, 0.2), (4, 0.4), (7, 3.2), (8, 5), (10**9, 5)]
)
def test_the_first_restart_is_at_once_and_each_next_takes_twice_as_long_to_a_limit(deaths, delay_s):
    assert restart_delay_s(deaths) == pytest.approx(delay_s)
    assert restart_delay_s(deaths) <= LONGEST_DELAY_S
