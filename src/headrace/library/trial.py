"""Which trial the running code is part of: what a call on trial calls in turn is tried with it, not refused for it."""

from collections.abc import Iterator
from contextvars import ContextVar


class Trial:
    """A call on trial. While it runs it is its breaker's; what has ended is nobody's, and passed by."""

    __slots__ = ("breaker", "outer")

    def __init__(self, breaker: object) -> None:
        """It begins here."""
        self.breaker: object | None = breaker
        self.outer = next((each for each in trials_around() if each.breaker is not None), None)
        INNERMOST.set(self)

    def end(self) -> None:
        """The variable is not put back: a coroutine may be closed in another context than it began in."""
        self.breaker = None


INNERMOST: ContextVar[Trial | None] = ContextVar("headrace_trial", default=None)


def is_on_trial_here(breaker: object) -> bool:
    """The running code is part of a trial of that breaker."""
    return any(each.breaker is breaker for each in trials_around())


def trials_around() -> Iterator[Trial]:
    """The innermost first; some may have ended."""
    trial = INNERMOST.get()
    while trial is not None:
        yield trial
        trial = trial.outer
