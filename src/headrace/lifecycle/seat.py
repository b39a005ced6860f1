"""One of the worker processes that serve a version: started, and started again with growing delays when it ends.

What its end means for the version is version.py's to say; here is only what concerns the one process.
"""

import asyncio
from collections.abc import Callable

from headrace.execution.supervisor import Worker
from headrace.lifecycle.state import restart_delay_s
from headrace.lifecycle.watchdog import Watchdog

NO_MEANS_DELAY_S = 1.0
"""Until the next try where there is no memory, descriptor or process number left for a worker."""


class Seat:
    """A place for a worker process. Lives on the loop."""

    def __init__(
        self, hire: Callable[[], Worker | None], clock: Callable[[], float], floors_s: tuple[float, float]
    ) -> None:
        """`hire` starts a process, or gives None if that cannot be done now; `floors_s` are its watchdog's."""
        self._hire = hire
        self._clock = clock
        self._floors_s = floors_s
        self._loop = asyncio.get_running_loop()
        # The mutable state: who sits here, since when, whether it serves, and what befell those before it.
        self.worker: Worker | None = None
        self.watchdog = Watchdog(*floors_s)
        self.is_serving = False
        self.deaths_in_a_row = 0
        self.refusal = ""
        self._since = 0.0
        self._restart: asyncio.TimerHandle | None = None

    @property
    def is_vacant(self) -> bool:
        """Nobody sits here, and nobody is to come."""
        return self.worker is None and self._restart is None

    @property
    def loading_s(self) -> float:
        """Seconds since the worker was started, while it does not serve yet; else 0."""
        return 0.0 if self.worker is None or self.is_serving else self._clock() - self._since

    def start(self) -> None:
        """Start a process now, or as soon as that can be done."""
        self._restart = None
        self._since = self._clock()
        self.worker = self._hire()
        self.watchdog = Watchdog(*self._floors_s)
        if self.worker is None:
            self.restart_after(NO_MEANS_DELAY_S)

    def leave(self, *, is_excused: bool) -> float:
        """The worker has ended, unasked; returns the seconds after which to start the next.

        Args:
            is_excused: its death says nothing of the model.
        """
        assert self.worker is not None, "only a worker leaves"
        has_served = any(channel.done for channel in self.worker.channels)
        if has_served or not self.deaths_in_a_row:
            self.deaths_in_a_row = 1
        elif not is_excused:
            self.deaths_in_a_row += 1
        self.vacate()
        return restart_delay_s(self.deaths_in_a_row)

    def vacate(self) -> None:
        """The worker has ended."""
        self.worker, self.is_serving = None, False

    def restart_after(self, delay_s: float) -> None:
        """Start the next process after so many seconds."""
        self._restart = self._loop.call_later(delay_s, self.start)

    def cancel(self) -> None:
        """No next process."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
