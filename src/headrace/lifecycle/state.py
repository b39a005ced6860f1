"""The states of a version, and which may follow which."""

from enum import StrEnum


class VersionState(StrEnum):
    """As the repository index calls them; RESTARTING and ABSENT are UNAVAILABLE there.

    ABSENT: not in memory, and loaded when it is asked for.
    """

    ABSENT = "ABSENT"

    LOADING = "LOADING"
    READY = "READY"
    RESTARTING = "RESTARTING"
    UNAVAILABLE = "UNAVAILABLE"
    UNLOADING = "UNLOADING"


MOVES: dict[VersionState, frozenset[VersionState]] = {
    VersionState.ABSENT: frozenset({VersionState.LOADING, VersionState.UNAVAILABLE, VersionState.UNLOADING}),
    VersionState.LOADING: frozenset(
        {
            VersionState.READY,
            VersionState.RESTARTING,
            VersionState.UNAVAILABLE,
            VersionState.UNLOADING,
            VersionState.ABSENT,
        }
    ),
    VersionState.READY: frozenset(
        {VersionState.RESTARTING, VersionState.UNAVAILABLE, VersionState.UNLOADING, VersionState.ABSENT}
    ),
    VersionState.RESTARTING: frozenset(
        {VersionState.READY, VersionState.UNAVAILABLE, VersionState.UNLOADING, VersionState.ABSENT}
    ),
    VersionState.UNAVAILABLE: frozenset({VersionState.UNLOADING}),
    VersionState.UNLOADING: frozenset({VersionState.UNAVAILABLE}),
}
"""State → what may come next."""

FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0


def restart_delay_s(deaths_without_a_batch: int) -> float:
    """How long to wait before starting a worker again: not at all the first time, then twice as long each time."""
    if deaths_without_a_batch <= 1:
        return 0.0
    return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(16, deaths_without_a_batch - 2))
