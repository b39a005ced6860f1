"""How a version's workers died, and when they have died often enough to be left alone."""

from dataclasses import dataclass

from headrace.execution.death import Death

MOST_DEATHS_LOADING, MOST_DEATHS = 4, 8
"""In a row with no batch done in between; of a model that has never been ready, and of one that has."""
WAY_BACK = "it is tried again when its files change or it is loaded again"


@dataclass(frozen=True, slots=True)
class Crash:
    """The last of a version's deaths: how, when (seconds since 1970), and where its threads were, if it could say so."""

    reason: str
    at: float
    trace: str


def most_deaths(*, was_ready: bool) -> int:
    """After so many in a row it is parked."""
    return MOST_DEATHS if was_ready else MOST_DEATHS_LOADING


def parked_reason(death: Death, times: int, *, was_ready: bool) -> str:
    """Why a version is parked, and what to do about it."""
    often = f"{times} times in a row"
    if was_ready:
        return f"its worker {death.reason} {often} before it had answered anything: {WAY_BACK}"
    if death.is_memory:
        return f"its worker {death.reason}, {often}: {WAY_BACK}"
    if death.signal == "SIGKILL":
        return (
            f"its worker was killed while loading (SIGKILL) {often}, perhaps since memory ran out: {WAY_BACK}"
        )
    if death.signal:
        return f"crashed while loading ({death.signal}) {often}: {WAY_BACK}"
    return f"its worker {death.reason} while loading, {often}: {WAY_BACK}"
