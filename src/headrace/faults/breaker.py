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

from headrace.faults.window import Window

FIRST_PART = 0.25
"""Of its usual batch, that a variant gets on trial, and first when it is closed again; twice as much each time."""


class BreakerState(StrEnum):
    """The forced ones are the operator's, and stay until the operator lets go."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


# Looked up once: of an Enum's members that is the longest part of a permit.
CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED = BreakerState
REFUSING = (OPEN, FORCED_OPEN)
FORCED = (FORCED_OPEN, FORCED_CLOSED)


class Outcome(Enum):
    """How a run went. EXCLUDED says nothing of what was run: cancelled, never begun, or the sender's fault."""

    OK = auto()
    SLOW = auto()
    FAILED = auto()
    EXCLUDED = auto()


OK, SLOW, FAILED, EXCLUDED = Outcome


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When it opens, and for how long. What is None does not make it open.

    Attributes:
        window_s: seconds that rates are counted over.
        min_calls: runs in the window before a rate means anything.
        failure_rate, slow_rate: of the runs in the window, from which on it opens.
        max_failures, max_slow: in a row, at which it opens whatever the rates: those may take long to show what long runs do.
        reset_s: how long it stays open the first time; twice as long each time after that.
        longest_reset_s: the longest it stays open, before jitter.
        jitter: part of that time by which it is made longer or shorter at random.
        trials: runs in a row that have to go well before it closes again.
        trial_s: seconds after which a trial that has not come back no longer keeps the next one from being made.
        heal_s: seconds since it was last open, after which one trip is forgiven.
        max_slow_trips: trips, not forgiven yet, after which it is not held against it that it is slow: that is how fast it is
            now. None for always held.
    """

    window_s: float = 10.0
    min_calls: int = 10
    failure_rate: float | None = 0.5
    slow_rate: float | None = 0.8
    max_failures: int | None = 5
    max_slow: int | None = None
    reset_s: float = 1.0
    longest_reset_s: float = 60.0
    jitter: float = 0.2
    trials: int = 3
    trial_s: float = inf
    heal_s: float = 60.0
    max_slow_trips: int | None = 3


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


class Breaker:
    """One variant's. Not thread-safe; holds no clock: `now` is in seconds and never goes back."""

    def __init__(self, policy: BreakerPolicy, draw: Callable[[], float]) -> None:
        """`draw` gives a number from 0 up to 1, another one each time."""
        self._policy = policy
        self._draw = draw
        # The mutable state: where it stands and since which change, what was counted when, and what is on trial.
        self._state = CLOSED
        self._generation = 0
        self._leave = Permit(0, is_trial=False)
        self._until = 0.0
        self.reason = ""
        self._window = Window(policy.window_s)
        self._in_a_row = self._slow_in_a_row = 0
        self._trips = 0
        self._heals_from = 0.0
        self._trial: Permit | None = None
        self._next_trial_at = 0.0
        self._passed = 0
        self._part = 1.0

    def state(self, now: float) -> BreakerState:
        """Where it stands: open, once its time is over, is half open."""
        if self._state is OPEN and now >= self._until:
            self._state = HALF_OPEN  # of the same generation: open, it gave no permits
        return self._state

    @property
    def is_plain(self) -> bool:
        """Closed, and as before it ever opened: nothing has to be asked before a run."""
        return self._state is CLOSED and self._part == 1.0

    @property
    def is_on_trial(self) -> bool:
        """A trial runs: there is no leave for another, unless it is overdue."""
        return self._trial is not None

    def is_refusing(self, now: float) -> bool:
        """Nobody is to wait for it."""
        return self.state(now) in REFUSING

    def permit(self, now: float) -> Permit | None:
        """Leave for one run, or None. Half open, one trial runs at a time, but for those that are overdue."""
        if self._state is CLOSED:
            return self._leave
        state = self.state(now)
        if state in REFUSING:
            return None
        if state is FORCED_CLOSED:
            return self._leave
        if self._trial is not None and now < self._next_trial_at:
            return None
        self._trial = Permit(self._generation, is_trial=True)
        self._next_trial_at = now + self._policy.trial_s
        return self._trial

    def record(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Give a permit back. What began before the last change of state is not counted."""
        if permit.generation != self._generation:
            return
        if permit.is_trial:
            self._record_trial(permit, outcome, now)
        elif outcome is not EXCLUDED:
            self._count(outcome, now)

    def trip(self, reason: str, now: float, *, until: float | None = None) -> None:
        """Open, whatever was counted; until then, or else for as long as it is its turn.

        Forced, it stays as it is; so it does if it is open already and no time is given.
        """
        state = self.state(now)
        if state in FORCED or (state is OPEN and until is None):
            return
        if until is None:
            self._heal(now)
            policy = self._policy
            length = min(policy.longest_reset_s, policy.reset_s * 2.0 ** min(self._trips, 32))
            until = now + length * (1 + policy.jitter * (2 * self._draw() - 1))
            self._trips += 1
            self._heals_from = until
        self._move(OPEN, reason)
        self._until = until

    def renew(self) -> None:
        """What was to be run is another one now, and has been seen to run: close, gently. Forced, it stays as it is."""
        if self._state in (OPEN, HALF_OPEN):
            self._close()

    def force(self, state: BreakerState | None) -> None:
        """The operator's word: FORCED_OPEN or FORCED_CLOSED; None for closed and by itself again, as if new."""
        assert state is None or state in FORCED, "others come by themselves"
        self._trips, self._part = 0, 1.0
        self._move(state or CLOSED, "forced by the operator" if state else "")

    def most(self, rows: int) -> int:
        """Rows of the next run at most, of so many that would be usual: after a fault, few first."""
        part = FIRST_PART if self._state is HALF_OPEN else self._part
        return rows if part == 1.0 else max(1, int(rows * part))

    def counts_slowness(self, now: float) -> bool:
        """Whether a slow run is held against it; if not, that is how fast it is now, and to be learned."""
        self._heal(now)
        most = self._policy.max_slow_trips
        return self._state is not FORCED_CLOSED and (most is None or self._trips < most)

    def retry_after_s(self, now: float) -> float:
        """Seconds until it may be worth asking again; 0 if it does not refuse, or nobody can tell."""
        if self._state is FORCED_OPEN:
            return self._policy.longest_reset_s
        if self._state is not OPEN or self._until == inf:
            return 0.0
        return max(0.0, self._until - now)

    def snapshot(self, now: float) -> BreakerSnapshot:
        self._heal(now)
        counts = self._window.total(now)
        return BreakerSnapshot(
            self.state(now),
            self.reason,
            counts.ok,
            counts.slow,
            counts.failed,
            self._trips,
            self.retry_after_s(now),
        )

    def _record_trial(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """An overdue one has its say too, but the place it had is another's by now."""
        if permit is self._trial:
            self._trial = None
        if outcome is FAILED:
            self.trip("on trial it failed", now)
        elif outcome is SLOW and self.counts_slowness(now):
            self.trip("on trial it was slow", now)
        elif outcome is not EXCLUDED:
            self._passed += 1
            if self._passed >= self._policy.trials:
                self._close()

    def _count(self, outcome: Outcome, now: float) -> None:
        """Closed or forced so. What went well opens nothing, even where it completes the runs that rates need."""
        counts = self._window.at(now)
        if outcome is FAILED:
            counts.failed += 1
            self._in_a_row += 1
            self._slow_in_a_row = 0
        else:
            self._in_a_row = 0
            self._part = min(1.0, 2 * self._part)
            if outcome is OK:
                counts.ok += 1
                self._slow_in_a_row = 0
                return
            counts.slow += 1
            self._slow_in_a_row += 1
        if reason := self._fault(now):
            self.trip(reason, now)

    def _fault(self, now: float) -> str:
        """What is reason enough to open, if anything is."""
        policy, counts = self._policy, self._window.total(now)
        if policy.max_failures is not None and self._in_a_row >= policy.max_failures:
            return f"{self._in_a_row} runs in a row failed"
        is_lasting = policy.max_slow is not None and self._slow_in_a_row >= policy.max_slow
        if is_lasting and self.counts_slowness(now):
            return f"{self._slow_in_a_row} runs in a row were slow"
        if counts.all < policy.min_calls:
            return ""
        if policy.failure_rate is not None and counts.failed >= policy.failure_rate * counts.all:
            return f"{counts.failed} of {counts.all} runs failed"
        is_slow = policy.slow_rate is not None and counts.slow >= policy.slow_rate * counts.all
        if is_slow and self.counts_slowness(now):
            return f"{counts.slow} of {counts.all} runs were slow"
        return ""

    def _heal(self, now: float) -> None:
        """Forgive a trip for each time that went well since it was last open."""
        healed = int((now - self._heals_from) / self._policy.heal_s) if self._trips else 0
        if healed > 0:
            self._trips = max(0, self._trips - healed)
            self._heals_from += healed * self._policy.heal_s

    def _close(self) -> None:
        self._move(CLOSED, "")
        self._part = FIRST_PART

    def _move(self, state: BreakerState, reason: str) -> None:
        """The only writer of the state but for time. Nothing begun or counted before has a say any more."""
        self._state, self.reason = state, reason
        self._generation += 1
        self._leave = Permit(self._generation, is_trial=False)
        self._window.clear()
        self._in_a_row = self._slow_in_a_row = self._passed = 0
        self._trial = None
