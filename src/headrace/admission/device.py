"""The device token: leave to run a batch on cores that several models share.

Models that run at once on the same cores learn each other's noise as their own l(b), and none can be predicted any more.
So runs take turns, by weight in device time, tight deadlines first within their share; as many at once as have cores.
Runs too short to be anybody's noise do not wait, as long as their model is within its share.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from headrace.batching.fairness import FairOrder

SHORT_RUN_S = 1e-3
"""A run so short does not wait for others to end."""
AHEAD_S = 0.02
"""Virtual seconds a model may be ahead of its share and still run short batches at once, or urgent ones first."""
OVERDUE, GRACE_S = 2.0, 0.05
"""A run that takes longer than so many times its upper bound, and a little, no longer holds its cores: it hangs, or waits
for something else, and the others go on."""
RECENT_S = 10.0
"""What has not run for so long is in nobody's way."""


class User(Protocol):
    """Whoever runs batches on a device: a pipeline."""

    def dispatch(self) -> None:
        """It is its turn: it may send what it asked leave for."""

    def holds_until(self) -> list[float]:
        """For each instance that runs something: when it holds its cores no longer, whatever comes."""


class Token:
    """One user's place at a device. Lives on the loop."""

    def __init__(self, device: "Device", user: User, weight: float, objective_s: float | None) -> None:
        self._device = device
        self.user = user
        self.weight = weight
        self.objective_s = objective_s
        # The mutable state: cores of a run, what it waits to run (device seconds, and when that has to begin), whether it
        # is its turn now, and when it last ran.
        self.cores = 1.0
        self.wants_s = 0.0
        self.latest_start = 0.0
        self.is_granted = False
        self.last_run = float("-inf")

    @property
    def is_contested(self) -> bool:
        """Somebody else runs there, or waits to."""
        return self._device.is_contested(self)

    def take(self, seconds: float, latest_start: float, now: float) -> bool:
        """Ask leave to run so many seconds now; if it is refused, `dispatch` is called when it is its turn."""
        return self._device.take(self, seconds, latest_start, now)

    def charge(self, seconds: float) -> None:
        """A run took so much longer than it was charged for when it began; negative if it was shorter."""
        self._device.charge(self, seconds)

    def pass_on(self) -> None:
        """Cores may have come free: whoever's turn it is goes first."""
        self._device.pass_on()

    def tightest_beside(self, now: float) -> float | None:
        """The tightest objective of those that ran there lately; None if nobody else has one."""
        return self._device.tightest_beside(self, now)

    def leave(self) -> None:
        """Run nothing there any more."""
        self._device.leave(self)


class Device:
    """A group of cores, and who runs there. Lives on the loop; not thread-safe."""

    def __init__(self, cores: int, clock: Callable[[], float]) -> None:
        self._cores = float(cores)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        # The mutable state: everybody's place, who has something running or had until just now, who waits for cores, and
        # the timer for runs that hang.
        self._order: FairOrder[Token] = FairOrder(lambda token: token.weight)
        self._tokens: set[Token] = set()
        self._running: dict[Token, None] = {}
        self._waiting: dict[Token, None] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._is_passing = False

    def join(self, user: User, weight: float = 1.0, objective_s: float | None = None) -> Token:
        """A place for one more user, with its weight and, if it has one, the latency it promises."""
        token = Token(self, user, weight, objective_s)
        self._tokens.add(token)
        return token

    def leave(self, token: Token) -> None:
        self._tokens.discard(token)
        self._running.pop(token, None)
        self._waiting.pop(token, None)
        self._order.forget(token)
        self.pass_on()

    def part(self, cores: float) -> float:
        return min(1.0, cores / self._cores)

    def is_contested(self, token: Token) -> bool:
        return any(each is not token for each in self._waiting) or any(
            each is not token and each.user.holds_until() for each in list(self._running)
        )

    def take(self, token: Token, seconds: float, latest_start: float, now: float) -> bool:
        if len(self._tokens) == 1:
            return True
        if token.is_granted:
            token.is_granted = False
            self._begin(token, seconds, now)
            return True
        if not self._others_hold(token, now) and not any(each is not token for each in self._waiting):
            self._begin(token, seconds, now)
            return True
        token.wants_s, token.latest_start = seconds * self.part(token.cores), latest_start
        self._waiting[token] = None
        is_short = seconds <= SHORT_RUN_S and self._within_share(token)
        if is_short or (self._whose_turn(now) is token and self._has_room(token, now)):
            self._begin(token, seconds, now)
            return True
        self._watch_holders(now)
        return False

    def charge(self, token: Token, seconds: float) -> None:
        if len(self._tokens) > 1:
            self._order.charge(token, seconds * self.part(token.cores))

    def pass_on(self) -> None:
        if self._is_passing:
            return  # whoever has just been given its turn looks for the next one; the loop below goes on itself
        self._is_passing = True
        try:
            while self._waiting and self._pass_to_next():
                pass
        finally:
            self._is_passing = False

    def _pass_to_next(self) -> bool:
        """It is somebody's turn, and there is room: it goes. False if not."""
        now = self._clock()
        token = self._whose_turn(now)
        if not self._has_room(token, now):
            self._watch_holders(now)
            return False
        del self._waiting[token]
        token.is_granted = True
        try:
            token.user.dispatch()
        finally:
            token.is_granted = False  # it may have had nothing to send after all
        return True

    def tightest_beside(self, token: Token, now: float) -> float | None:
        tight = [
            each.objective_s
            for each in self._tokens
            if each is not token and each.objective_s is not None and now - each.last_run < RECENT_S
        ]
        return min(tight, default=None)

    def _begin(self, token: Token, seconds: float, now: float) -> None:
        self._waiting.pop(token, None)
        self._running[token] = None
        token.last_run = now
        self._note_wanting(token)
        self._order.charge(token, seconds * self.part(token.cores))

    def _within_share(self, token: Token) -> bool:
        self._note_wanting()
        return self._order.lead(token) <= AHEAD_S

    def _note_wanting(self, *begin: Token) -> None:
        """Who runs wants its turns as much as who waits: between two runs it has not been idle.

        Not so who hangs: what the others use meanwhile is not their debt.
        """
        now = self._clock()
        running = (each for each in self._running if any(until > now for until in each.user.holds_until()))
        self._order.want([*begin, *self._waiting, *running])

    def _whose_turn(self, now: float) -> Token:
        """By share; but who would miss its deadline behind that one goes first, if it is not far ahead of its share."""
        self._note_wanting()
        chosen = self._order.pick({token: token.wants_s for token in self._waiting})
        until = now + chosen.wants_s
        urgent = [
            token
            for token in self._waiting
            if token.latest_start < min(until, chosen.latest_start) and self._order.lead(token) <= AHEAD_S
        ]
        return min(urgent, key=lambda token: token.latest_start, default=chosen)

    def _has_room(self, token: Token, now: float) -> bool:
        held = sum(each.cores * self._holding(each, now) for each in list(self._running))
        return not held or held + token.cores <= self._cores

    def _others_hold(self, token: Token, now: float) -> bool:
        return any(each is not token and self._holding(each, now) for each in list(self._running))

    def _holding(self, token: Token, now: float) -> int:
        """Its runs that count; who has none leaves the list of those that run."""
        holds = token.user.holds_until()
        if not holds:
            self._running.pop(token, None)
        return sum(until > now for until in holds)

    def _watch_holders(self, now: float) -> None:
        """Look again when the first of those that hold the cores has hung long enough."""
        ends = [until for each in self._running for until in each.user.holds_until() if until > now]
        if not ends or (self._alarm is not None and self._alarm.when() <= min(ends)):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(self._loop.time() + min(ends) - now, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self.pass_on()
