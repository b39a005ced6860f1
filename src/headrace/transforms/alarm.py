"""A time limit for each item of a transform worker, kept by its own process: nobody else sees when an item begins."""

import signal


class Alarm:
    """Ends the process if the item at hand takes too long, whatever it does meanwhile.

    The kernel's timer does that, for a thread here would wait for a lock that the item may hold. Where it hung is written
    down by execution/trace.py. Nothing is limited where somebody else uses the signal.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._is_ours = signal.getsignal(signal.SIGALRM) == signal.SIG_DFL

    def begin_item(self) -> None:
        """The time of an item begins; the one before has ended."""
        self._set(self._limit_s)

    def end(self) -> None:
        """There is no item."""
        self._set(0)

    def _set(self, seconds: float) -> None:
        if self._is_ours:
            signal.setitimer(signal.ITIMER_REAL, seconds)
