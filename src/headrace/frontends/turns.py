"""Work that comes all at once, done a little in each turn of the loop, so that everything else goes on meanwhile.

A breaker that opens refuses a whole queue in one go, and each of those requests is to be decoded again for whoever
answers in its place.
"""

from collections import deque
from collections.abc import Callable

TURN_S = 0.005
"""Seconds of such work in one turn of the loop."""


class Turns:
    """Says whether there is time for more now, and later does what there was none for, in order. Lives on the loop."""

    def __init__(self, clock: Callable[[], float], call_soon: Callable[[Callable[[], None]], object]) -> None:
        """`call_soon` has something called in the loop's next turn."""
        self._clock = clock
        self._call_soon = call_soon
        # The mutable state: what waits, and when the time of this turn is over; None before anything came in it.
        self._waiting: deque[Callable[[], None]] = deque()
        self._until: float | None = None

    def has_time(self) -> bool:
        """Whether work may be done now. If not, it is to be `put` here."""
        if self._until is None:
            self._until = self._clock() + TURN_S
            self._call_soon(self._take)
            return True
        return not self._waiting and self._clock() < self._until

    def put(self, work: Callable[[], None]) -> None:
        """Have it done when its turn comes; after `has_time` has said no."""
        self._waiting.append(work)

    def _take(self) -> None:
        self._until = None
        if not self._waiting:
            return
        self._until = until = self._clock() + TURN_S
        self._call_soon(self._take)
        while self._waiting:
            self._waiting.popleft()()
            if self._clock() >= until:
                return
