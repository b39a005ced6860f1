"""A circuit breaker: what keeps failing is not asked again for a while. Pure: what happened and the time in, leave out.

Of the known ones it has resilience4j's rolling window with a failure rate and a slow-call rate, gobreaker's generations
(what began before a change of state says nothing after it) and outcome that counts as neither, Envoy's time open that
grows with each trip and heals; and of none that a result is lost: whoever got a permit gives it back, whatever happened.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from math import inf
from typing import NamedTuple

BUCKETS = 10
"""Parts of the window, the oldest of which is forgotten at once."""
FIRST_PART = 0.25
"""Of its usual batch, that a variant gets on trial, and first when it is closed again; twice as much each time."""


class BreakerState(StrEnum):
    """The forced ones are the operator's, and stay until the operator lets go."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


class Outcome(Enum):
    """How a run went. EXCLUDED says nothing of what was run: cancelled, never begun, or the sender's fault."""

    OK = auto()
    SLOW = auto()
    FAILED = auto()
    EXCLUDED = auto()


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When it opens, and for how long.

    Attributes:
        window_s: seconds that rates are counted over.
        min_calls: runs in the window before a rate means anything.
        failure_rate, slow_rate: of the runs in the window, from which on it opens.
        max_failures: in a row, at which it opens whatever the rates.
        reset_s: how long it stays open the first time; twice as long each time after that.
        longest_reset_s: the longest it stays open.
        jitter: part of that time by which it is made longer or shorter at random.
        trials: runs in a row that have to go well before it closes again.
        heal_s: seconds without another trip after which one is forgiven.
        max_slow_trips: trips, not forgiven yet, after which it does not open for slowness any more: that is how fast it is now.
    """

    window_s: float = 10.0
    min_calls: int = 10
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    max_failures: int = 5
    reset_s: float = 1.0
    longest_reset_s: float = 60.0
    jitter: float = 0.2
    trials: int = 3
    heal_s: float = 60.0
    max_slow_trips: int = 3


class Permit(NamedTuple):
    """Leave for one run, to be given back with its outcome, once."""

    generation: int
    is_trial: bool


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """What is to be seen of it. Counts are those of the window; `retry_after_s` is 0 unless it refuses."""

    state: BreakerState
    reason: str
    ok: int
    slow: int
    failed: int
    trips: int
    retry_after_s: float


@dataclass(slots=True)
class Counts:
    """Of one bucket of the window."""

    ok: int = 0
    slow: int = 0
    failed: int = 0


class Breaker:
    """One variant's. Not thread-safe; holds no clock: `now` is in seconds and never goes back."""

    def __init__(self, policy: BreakerPolicy, draw: Callable[[], float]) -> None:
        """`draw` gives a number from 0 up to 1, another one each time."""
        self._policy = policy
        self._draw = draw
        # The mutable state: where it stands and since which change, what was counted when, and what is on trial.
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._until = 0.0
        self.reason = ""
        self._window: dict[int, Counts] = {}
        self._in_a_row = 0
        self._trips = 0
        self._healed_at = 0.0
        self._on_trial = False
        self._passed = 0
        self._part = 1.0

    def state(self, now: float) -> BreakerState:
        """Where it stands: open, once its time is over, is half open."""
        if self._state is BreakerState.OPEN and now >= self._until:
            self._state = BreakerState.HALF_OPEN
            self._passed, self._on_trial = 0, False
        return self._state

    @property
    def is_plain(self) -> bool:
        """Closed, and as before it ever opened: nothing has to be asked before a run."""
        return self._state is BreakerState.CLOSED and self._part == 1.0

    def is_refusing(self, now: float) -> bool:
        """Nobody is to wait for it."""
        return self.state(now) in {BreakerState.OPEN, BreakerState.FORCED_OPEN}

    def permit(self, now: float) -> Permit | None:
        """Leave for one run, or None. Half open, one trial runs at a time."""
        state = self.state(now)
        if state in {BreakerState.OPEN, BreakerState.FORCED_OPEN}:
            return None
        if state is BreakerState.HALF_OPEN:
            if self._on_trial:
                return None
            self._on_trial = True
            return Permit(self._generation, is_trial=True)
        return Permit(self._generation, is_trial=False)

    def record(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Give a permit back. What began before the last change of state is not counted."""
        if permit.generation != self._generation:
            return
        state = self.state(now)
        if permit.is_trial:
            self._on_trial = False
            if state is BreakerState.HALF_OPEN:
                self._record_trial(outcome, now)
        elif state is BreakerState.CLOSED and outcome is not Outcome.EXCLUDED:
            self._count(outcome, now)

    def trip(self, reason: str, now: float, *, until: float | None = None) -> None:
        """Open, whatever was counted; until then, or else for as long as it is its turn. Forced, it stays as it is."""
        if self._state in {BreakerState.FORCED_OPEN, BreakerState.FORCED_CLOSED}:
            return
        self._heal(now)
        if until is None:
            length = min(self._policy.longest_reset_s, self._policy.reset_s * 2.0 ** min(self._trips, 32))
            until = now + length * (1 + self._policy.jitter * (2 * self._draw() - 1))
            self._trips += 1
            self._healed_at = now
        self._move(BreakerState.OPEN, reason)
        self._until = until

    def renew(self) -> None:
        """What was to be run is another one now, and has been seen to run: close, gently. Forced, it stays as it is."""
        if self._state in {BreakerState.OPEN, BreakerState.HALF_OPEN}:
            self._close()

    def force(self, state: BreakerState | None) -> None:
        """The operator's word: FORCED_OPEN or FORCED_CLOSED; None for closed and by itself again."""
        assert state in {BreakerState.FORCED_OPEN, BreakerState.FORCED_CLOSED, None}, (
            "others come by themselves"
        )
        self._trips, self._part = 0, 1.0
        self._move(state or BreakerState.CLOSED, "forced by the operator" if state else "")

    def most(self, rows: int) -> int:
        """Rows of the next run at most, of so many that would be usual: after a fault, few first."""
        part = FIRST_PART if self._state is BreakerState.HALF_OPEN else self._part
        return rows if part == 1.0 else max(1, int(rows * part))

    def counts_slowness(self, now: float) -> bool:
        """Whether a slow run is held against it; if not, that is how fast it is now, and to be learned."""
        self._heal(now)
        return self._state is not BreakerState.FORCED_CLOSED and self._trips < self._policy.max_slow_trips

    def retry_after_s(self, now: float) -> float:
        """Seconds until it may be worth asking again."""
        if self._state is BreakerState.FORCED_OPEN:
            return self._policy.longest_reset_s
        return (
            0.0 if self._state is not BreakerState.OPEN or self._until == inf else max(0.0, self._until - now)
        )

    def snapshot(self, now: float) -> BreakerSnapshot:
        counts = self._counted(now)
        return BreakerSnapshot(
            self.state(now),
            self.reason,
            counts.ok,
            counts.slow,
            counts.failed,
            self._trips,
            self.retry_after_s(now),
        )

    def _record_trial(self, outcome: Outcome, now: float) -> None:
        if outcome is Outcome.FAILED or (outcome is Outcome.SLOW and self.counts_slowness(now)):
            self.trip(f"on trial it {'failed' if outcome is Outcome.FAILED else 'was slow'}", now)
        elif outcome is not Outcome.EXCLUDED:
            self._passed += 1
            if self._passed >= self._policy.trials:
                self._close()

    def _count(self, outcome: Outcome, now: float) -> None:
        policy = self._policy
        bucket = self._window.setdefault(self._slot(now), Counts())
        if outcome is Outcome.FAILED:
            bucket.failed += 1
            self._in_a_row += 1
        else:
            self._in_a_row = 0
            self._part = min(1.0, 2 * self._part)
            if outcome is Outcome.SLOW:
                bucket.slow += 1
            else:
                bucket.ok += 1
                return
        counts = self._counted(now)
        calls = counts.ok + counts.slow + counts.failed
        if self._in_a_row >= policy.max_failures:
            self.trip(f"{self._in_a_row} runs in a row failed", now)
        elif calls >= policy.min_calls and counts.failed >= policy.failure_rate * calls:
            self.trip(f"{counts.failed} of {calls} runs failed", now)
        elif (
            calls >= policy.min_calls
            and counts.slow >= policy.slow_rate * calls
            and self.counts_slowness(now)
        ):
            self.trip(f"{counts.slow} of {calls} runs were slow", now)

    def _counted(self, now: float) -> Counts:
        """In the window; what has left it is forgotten."""
        oldest = self._slot(now) - BUCKETS + 1
        for slot in [each for each in self._window if each < oldest]:
            del self._window[slot]
        total = Counts()
        for each in self._window.values():
            total.ok += each.ok
            total.slow += each.slow
            total.failed += each.failed
        return total

    def _slot(self, now: float) -> int:
        return int(now * BUCKETS / self._policy.window_s)

    def _heal(self, now: float) -> None:
        """Forgive a trip for each time that went well since."""
        if not self._trips:
            return
        healed = int((now - self._healed_at) / self._policy.heal_s)
        if healed > 0:
            self._trips = max(0, self._trips - healed)
            self._healed_at += healed * self._policy.heal_s

    def _close(self) -> None:
        self._move(BreakerState.CLOSED, "")
        self._part = FIRST_PART

    def _move(self, state: BreakerState, reason: str) -> None:
        """The only writer of the state but for time. Nothing counted before has a say any more."""
        self._state, self.reason = state, reason
        self._generation += 1
        self._window.clear()
        self._in_a_row = self._passed = 0
        self._on_trial = False
