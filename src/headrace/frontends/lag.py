"""Measures how late the loop runs what is due, while anybody asks for anything: an idle server is not woken up for it."""

import asyncio
from collections.abc import Callable

from headrace.admission.lag import LagGuard
from headrace.errors import GatewayBusy

PERIOD_S = 0.01


class LagWatch:
    """One timer for all requests. Lives on the loop.

    A request sees to it that a sample is due; after a late one the next is due by itself, so that what was standing is
    seen to be over also when nobody comes.
    """

    def __init__(self, most_lag_s: float, clock: Callable[[], float]) -> None:
        """`most_lag_s` as for LagGuard."""
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._guard = LagGuard(most_lag_s)
        # The mutable state: the timer, and when it is due; and what a request looks at: a sample is due, and the
        # gateway is not behind, so there is nothing to do.
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.is_calm = False

    @property
    def lag_s(self) -> float:
        """Seconds the last sample was late."""
        return self._guard.lag_s

    def refusal(self) -> GatewayBusy | None:
        """The reason to take nothing in now, or None. To be asked on each arrival, unless `is_calm`."""
        if self._timer is None:
            self._arm()
        return GatewayBusy(self._guard.lag_s) if self._guard.is_behind else None

    def _arm(self) -> None:
        self._due = self._clock() + PERIOD_S
        self._timer = self._loop.call_later(PERIOD_S, self._sample)
        self.is_calm = not self._guard.is_behind

    def _sample(self) -> None:
        self._timer, self.is_calm = None, False
        self._guard.observe(max(0.0, self._clock() - self._due))
        if self._guard.is_late:
            self._arm()
