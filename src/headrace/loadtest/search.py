"""The highest rate that keeps an objective: bracket, bisect, confirm, as MLPerf's early stopping counts.

A trial is one run at one rate; it passes when the calls that were late are too few to be chance: with confidence
CONFIDENCE at least PERCENTILE of all calls would be in time (mlcommons/inference_policies, "early stopping"). Whoever runs
the trials is told one after the other; nothing here sends, waits or reads a clock.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

PERCENTILE = 0.99
CONFIDENCE = 0.99
WARM_UP_PART, MAX_WARM_UP_S = 0.1, 5.0
"""Of a trial, what is sent and not counted: connections are made, and caches filled."""
MARGIN = 1.1
"""More calls than counting needs: how many a Poisson schedule has is chance, too."""
DOUBLINGS_AHEAD = 3
"""While rates are doubled, how many more times are expected, for dividing the budget."""
HALVINGS = 8
REPEATS = 2
"""So often a void trial is made again: the machine may have been busy for a moment. Then the rate counts as failed."""
STEP_DOWN = 0.97
"""A rate that was not confirmed is reduced by so much."""


def is_proved(total: int, late: int) -> bool:
    """Whether BinomCDF(late; total, 1 - PERCENTILE) <= 1 - CONFIDENCE: so few would hardly be late by luck."""
    if late >= total:
        return False
    one = math.log1p(-PERCENTILE)
    other = math.log(PERCENTILE)
    logs = (
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        + count * one
        + (total - count) * other
        for count in range(late + 1)
    )
    return math.fsum(map(math.exp, logs)) <= 1 - CONFIDENCE


def least_count(late: int) -> int:
    """How many calls prove the objective when so many of them were late: 459 for none, 662 for one."""
    low, high = late + 1, 1000 * (late + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_proved(middle, late) else (middle + 1, high)
    return low


class Phase(Enum):
    """What a trial is for: find both ends, move them together, make sure of the lower one."""

    BRACKET = "bracket"
    BISECT = "bisect"
    CONFIRM = "confirm"


@dataclass(frozen=True)
class Effort:
    """How exactly to search.

    Attributes:
        ratio: the bracket is narrow enough when its ends are so close.
        confirmations: runs with fresh seeds that must all pass.
        late_allowed: trials are at least long enough to prove the objective with so many late calls.
        shares: of the time that is left, in relation to each other, for a trial of each phase.
        enough_s: a trial takes no longer, unless it needs to for counting.
    """

    ratio: float = 1.03
    confirmations: int = 3
    late_allowed: int = 2
    shares: tuple[float, float, float] = (0.5, 1.0, 1.5)
    enough_s: float = 60.0


FULL = Effort()
QUICK = Effort(ratio=1.1, confirmations=1, late_allowed=0, shares=(0.5, 1.0, 1.0), enough_s=10.0)


@dataclass(frozen=True)
class Trial:
    """A run to make: `seconds` in all, of which the calls scheduled in the first `warm_up_s` do not count."""

    rate: float
    seconds: float
    seed: int
    phase: Phase

    @property
    def warm_up_s(self) -> float:
        return min(WARM_UP_PART * self.seconds, MAX_WARM_UP_S)


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        total: calls that count.
        late: those answered after the objective, refused, failed, given up or lost.
        p99_ms: latency of the accepted ones; None if there was none.
        void: why the run says nothing of the server (the sender was late); empty if it does.
    """

    trial: Trial
    total: int
    late: int
    p99_ms: float | None
    void: str = ""

    @property
    def is_passed(self) -> bool:
        return not self.void and is_proved(self.total, self.late)


@dataclass(frozen=True)
class Found:
    """The end of a search: the highest rate that passed, 0.0 if none did, and what is to be said of it."""

    rate: float
    is_confirmed: bool
    reason: str


class Search:
    """Which rate to try next. Not thread-safe: one caller asks `next`, runs the trial and `tell`s its outcome."""

    def __init__(self, start_rate: float, *, effort: Effort = FULL, seed: int = 1) -> None:
        self._effort = effort
        self._start = start_rate
        # The mutable state: where to look, between what passed and what did not; how often that rate was confirmed, and was
        # void; and how many rates were given up as void.
        self._seed = seed
        self._rate = start_rate
        self._passed = 0.0
        self._failed = math.inf
        self._phase = Phase.BRACKET
        self._confirmed = 0
        self._voids = 0
        self._lost = 0

    def next(self, left_s: float) -> Trial | Found:
        """The next trial, in the time that is left for all of them; or the end."""
        if found := self._end():
            return found
        needed_s = MARGIN * least_count(self._effort.late_allowed) / self._rate / (1 - WARM_UP_PART)
        seconds = max(needed_s, min(self._share(left_s), self._effort.enough_s))
        if seconds > left_s:
            return self._out_of_time(needed_s, left_s)
        return Trial(self._rate, seconds, self._seed, self._phase)

    def tell(self, outcome: Outcome) -> None:
        """Take in what became of the trial that `next` gave."""
        self._seed += 1
        if outcome.void and self._voids < REPEATS:
            self._voids += 1
            return
        self._lost += bool(outcome.void)
        self._voids = 0
        match self._phase:
            case Phase.BRACKET | Phase.BISECT:
                self._narrow(is_passed=outcome.is_passed)
            case Phase.CONFIRM:
                self._confirm(is_passed=outcome.is_passed)

    def _narrow(self, *, is_passed: bool) -> None:
        if is_passed:
            self._passed = self._rate
        else:
            self._failed = self._rate
        if not self._passed:
            self._rate /= 2
        elif math.isinf(self._failed):
            self._rate *= 2
        elif self._failed <= self._passed * self._effort.ratio:
            self._phase, self._rate = Phase.CONFIRM, self._passed
        else:
            self._phase, self._rate = Phase.BISECT, math.sqrt(self._passed * self._failed)

    def _confirm(self, *, is_passed: bool) -> None:
        if is_passed:
            self._confirmed += 1
        else:
            self._confirmed = 0
            self._rate *= STEP_DOWN

    def _end(self) -> Found | None:
        if self._confirmed == self._effort.confirmations:
            times = f"{self._confirmed} of {self._confirmed} runs" if self._confirmed > 1 else "a run"
            reason = f"confirmed by {times} with fresh seeds"
            return self._found(self._rate, reason, is_confirmed=True)
        if not self._passed and self._rate < self._start / 2**HALVINGS:
            return Found(
                0.0, is_confirmed=False, reason=f"even {self._rate * 2:.3g} calls/s fail the objective"
            )
        return None

    def _share(self, left_s: float) -> float:
        """This trial's part of the time that is left, by what is still expected to come."""
        bracket, bisect, confirm = self._effort.shares
        width = self._failed / self._passed if self._passed and math.isfinite(self._failed) else 2.0
        bisections = max(0, math.ceil(math.log2(max(1.0, math.log(width) / math.log(self._effort.ratio)))))
        # One round more than hoped for: the rate that was found may have been lucky.
        confirmations = (2 * self._effort.confirmations - self._confirmed) * confirm
        match self._phase:
            case Phase.BRACKET:
                return left_s * bracket / (bracket * DOUBLINGS_AHEAD + bisections * bisect + confirmations)
            case Phase.BISECT:
                return left_s * bisect / (bisections * bisect + confirmations)
            case Phase.CONFIRM:
                return left_s * confirm / confirmations

    def _out_of_time(self, needed_s: float, left_s: float) -> Found:
        best = min(self._passed, self._rate) if self._phase is Phase.CONFIRM else self._passed
        passed = "not confirmed" if best else "no rate passed"
        what = f"a trial at {self._rate:.3g} calls/s takes {needed_s:.0f} s, and {max(0.0, left_s):.0f} s are left"
        return self._found(best, f"{passed}: {what}; raise --budget-s")

    def _found(self, rate: float, reason: str, *, is_confirmed: bool = False) -> Found:
        if self._lost:
            reason += (
                f"; the generator itself was late at {self._lost} of the rates, so the server may do more"
            )
        return Found(rate, is_confirmed, reason)


def find_max(search: Search, run: Callable[[Trial], Outcome], left_s: Callable[[], float]) -> Found:
    """Run trials until the search ends.

    Args:
        search: a new one.
        run: makes a trial.
        left_s: how much of the time budget is left now.
    """
    while isinstance(step := search.next(left_s()), Trial):
        search.tell(run(step))
    return step
