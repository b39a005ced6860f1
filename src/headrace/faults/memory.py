"""What is done about a run that failed for want of memory, step by step, and how long batches stay smaller for it.

In this order: batches of that cost are halved for a minute, and the next run gives back what it took; the batch is run
again in parts; the session is rebuilt; the worker is restarted; then its requests hear of it. Why in this order, and what
was measured, is docs/decisions/0019. Pure: what failed and the time in, the step out.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from headrace.batching.latency import cost_bucket

HOLD_S = 60.0
"""For which a smaller cap holds; and after which, if nothing fails meanwhile, a failure is a first one again."""
CLEAN_RUNS = 50
"""That go well after that, for one row more."""
MOST_SPLITS = 3
"""Times that a batch is halved before more is done than that."""
RESTART_EVERY_S = 600.0
"""At most so often is a worker restarted since single requests do not fit: whoever sends them costs the others no more."""


class Step(StrEnum):
    """What becomes of a batch that failed so; each implies a smaller cap, and that the next run gives back."""

    SPLIT = "split"
    """Its halves are run."""
    AGAIN = "again"
    """It is run once more as it is: one request cannot be split, or it ran beside what is being done already."""
    REBUILD = "rebuild"
    """The session is opened anew; then its halves are run."""
    RESTART = "restart"
    """Another process takes over; then each of its requests is run alone."""
    REFUSE = "refuse"
    """Nothing has helped: its request gets the error."""


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed for want of memory.

    Attributes:
        cost, rows: of a row, and how many there were.
        usual: rows that such batches have while memory is plenty.
        splits: times that it has been split, or run again, before.
        is_lone: of one request, which cannot be split.
        has_died: the kernel ended the worker for it.
    """

    cost: int
    rows: int
    usual: int
    splits: int = 0
    is_lone: bool = False
    has_died: bool = False


@dataclass(slots=True)
class Cap:
    """Rows of a batch at most, until when at least, and what has gone well since.

    `usual` are the rows at which there is no cap any more; `fitted` the most that have gone well since it was last lowered.
    """

    rows: int
    usual: int
    until: float
    clean: int = 0
    fitted: int = 0


class Shortage:
    """One pipeline's. Not thread-safe; `now` is in seconds and never goes back."""

    def __init__(self) -> None:
        # The mutable state: caps by cost bucket; whether the next run is to give back; what is being done now and since when;
        # the most that was done since a run as large as the smallest that failed then has gone well; and when.
        self._caps: dict[int, Cap] = {}
        self._gives_back = False
        self._pending_since: float | None = None
        self._done: Step | None = None
        self._too_large = inf
        self._failed_at = self._restarted_at = -inf

    @property
    def is_on(self) -> bool:
        """Something has failed, and batches are smaller for it."""
        return bool(self._caps)

    def is_pending(self, now: float) -> bool:
        """A session is being rebuilt, or a worker restarted: what failed waits for it, but not for ever."""
        return self._pending_since is not None and now < self._pending_since + HOLD_S

    def most(self, cost: int, rows: int) -> int:
        """Rows of the next batch at most, of so many that would be usual: what is too much of short rows is of longer ones."""
        bucket = cost_bucket(cost)
        return min([rows, *(cap.rows for each, cap in self._caps.items() if each <= bucket)])

    def take_give_back(self) -> bool:
        """Whether the run that begins now is to give back what it takes; asked once a run."""
        gives_back, self._gives_back = self._gives_back, False
        return gives_back

    def failed(self, run: FailedRun, now: float) -> Step:
        """A run has failed; what becomes of its batch."""
        if now > self._failed_at + HOLD_S:
            self._done = None
        self._failed_at, self._gives_back = now, True
        has_fitted = self._lower(run, now)
        if self.is_pending(now) and not run.has_died:
            return Step.AGAIN
        if run.splits < (1 if run.is_lone else MOST_SPLITS) and not has_fitted:
            return Step.AGAIN if run.is_lone else Step.SPLIT
        return self._do_more(run, now)

    def passed(self, cost: int, rows: int, now: float) -> None:
        """A run went well. To be called while `is_on`."""
        if cost * rows >= self._too_large:
            self._done, self._too_large = None, inf
        bucket = cost_bucket(cost)
        cap = self._caps.get(bucket)
        if cap is None:
            return
        cap.fitted = max(cap.fitted, rows)
        if now < cap.until:
            return
        cap.clean += 1
        if cap.clean >= CLEAN_RUNS:
            cap.rows, cap.clean = cap.rows + 1, 0
        if cap.rows >= cap.usual:
            del self._caps[bucket]

    def rebuilt(self) -> None:
        """The session was opened anew, or another worker is there."""
        self._pending_since = None

    def not_rebuilt(self, now: float) -> None:
        """The session could not be opened anew: its worker has none, and is restarted however short ago the last one was."""
        self._done, self._pending_since, self._restarted_at = Step.RESTART, now, now

    def _lower(self, run: FailedRun, now: float) -> bool:
        """Halve the cap; True if as many rows have gone well since it was last halved, so that it is not their number."""
        bucket = cost_bucket(run.cost)
        before = self._caps.get(bucket)
        rows, usual = max(1, run.rows // 2), max(run.rows, run.usual)
        if before is not None:
            rows, usual = min(rows, before.rows), max(usual, before.usual)
        self._caps[bucket] = Cap(rows, usual, now + HOLD_S)
        return before is not None and run.rows <= before.fitted

    def _do_more(self, run: FailedRun, now: float) -> Step:
        """Smaller batches alone do not help: one row does not fit, or what did fit does not any more."""
        may_restart = run.has_died or now >= self._restarted_at + RESTART_EVERY_S
        if self._done is None and not run.has_died:
            step = Step.REBUILD
        elif self._done is not Step.RESTART and may_restart:
            step, self._restarted_at = Step.RESTART, now
        else:
            return Step.REFUSE if run.is_lone else Step.SPLIT
        self._done, self._too_large = step, run.cost * run.rows
        self._pending_since = now
        return step
