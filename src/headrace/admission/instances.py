"""Who serves a model: its instances, what each was given, and when it should be done with it."""

from collections.abc import Callable, Iterable, Iterator

from headrace.admission.device import GRACE_S, OVERDUE
from headrace.admission.outlook import Outlook
from headrace.batching.batch import Batch
from headrace.execution.channel import Instance

OF_USUAL, SLOWER_S = 3.0, 0.05
"""A run that takes so many times what nearly all take, and so much longer, is slow."""
UNKNOWN_RUN_S = 2.0
"""In place of that where nothing is known of how long runs take."""


def too_slow_s(usual_s: float) -> float:
    """Seconds from which on a run is slow, where nearly all take no longer than `usual_s`."""
    return max(OF_USUAL * usual_s, usual_s + SLOWER_S)


class Instances:
    """Those of one pipeline. Lives on the loop; not thread-safe."""

    def __init__(self, outlook: Outlook, clock: Callable[[], float]) -> None:
        self._outlook = outlook
        self._clock = clock
        # The mutable state: who serves; since when nobody does, and how long that took the last time; whether batches
        # are staged behind others; and what every arrival asks: whether nobody serves, or somebody takes far too long.
        self._channels: list[Instance] = []
        self.away_since: float | None = clock()
        self.return_s: float | None = None
        self.has_staged = False
        self.are_away = self.are_in_doubt = True
        self.has_overdue = False
        # Whether the model is not in memory, or being loaded again since it was asked for; seconds of loads that go before its
        # own; whom to tell that it is asked for, and how many requests found it so.
        self.are_absent = False
        self.ahead_s = 0.0
        self.on_wanted: Callable[[], None] = nobody_is_told
        self.absent_requests = self.absent_refusals = 0

    def __iter__(self) -> Iterator[Instance]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def are_idle(self) -> bool:
        """None runs anything."""
        return all(channel.is_idle for channel in self._channels)

    @property
    def is_any_idle(self) -> bool:
        return any(channel.is_idle for channel in self._channels)

    def put(self, channels: Iterable[Instance]) -> None:
        """These serve, and nobody else."""
        self._channels = list(channels)
        self.are_away = self.are_in_doubt = self.has_overdue = self.are_absent = False
        if self.away_since is not None:
            self.return_s = max(0.0, self._clock() - self.away_since)
            self.away_since = None

    def add(self, channels: Iterable[Instance]) -> None:
        """These serve, too."""
        self._channels += channels
        self.are_away = False
        self.note_overdue()

    def remove(self, gone: list[Instance]) -> bool:
        """They serve no more; True if nobody does now, and somebody did."""
        was_there = bool(self._channels)
        self._channels = [each for each in self._channels if each not in gone]
        if not was_there or self._channels:
            return False
        self.away_since = self._clock()
        self.are_away = self.are_in_doubt = True
        return True

    def leave(self, return_s: float | None) -> None:
        """They go, and nothing runs, until the model is asked for; then it is there again after about so many seconds."""
        assert not any(self.batches()), "nobody leaves who has something to do"
        self._channels = []
        self.are_away = self.are_in_doubt = self.are_absent = True
        self.has_overdue = self.has_staged = False
        self.away_since, self.ahead_s = None, 0.0
        if return_s is not None:
            self.return_s = return_s

    def expect(self) -> None:
        """They are on their way, from now on."""
        self.away_since = self._clock()

    def absent_s(self, now: float) -> float | None:
        """Seconds until an absent model is there again, if that is known."""
        if self.return_s is None:
            return None
        if self.away_since is None:
            return self.ahead_s + self.return_s
        return max(0.0, self.return_s - (now - self.away_since))

    def batches(self) -> Iterator[Batch]:
        """All that run or are staged."""
        for channel in self._channels:
            yield from batches_of(channel)

    def running(self, channel: Instance) -> tuple[float, float]:
        """Since when the channel has been busy, and how long what it was given takes; now and 0 if it is idle."""
        batches = batches_of(channel)
        if not batches:
            return self._clock(), 0.0
        # Not what was expected when they were sent: more may be known by now.
        return batches[0].begins, sum(self._outlook.upper(each.cost, each.rows) for each in batches)

    def expected_end(self, channel: Instance) -> float:
        """When the channel should be done with what it was given."""
        since, seconds = self.running(channel)
        now, batches = self._clock(), batches_of(channel)
        if batches and now >= overdue_at(batches[0]):
            return 2 * now - since  # what takes far too long will, for all that is known, take as long again
        return since + seconds

    def free_s(self, now: float) -> float:
        """Seconds until an instance can begin another run."""
        ends = (self.expected_end(channel) for channel in self._channels)
        return max(0.0, min(ends, default=now) - now)

    def holds_until(self) -> list[float]:
        """For each instance that runs something: when it holds its cores no longer, whatever comes."""
        held = []
        for channel in self._channels:
            if not channel.is_idle:
                since, seconds = self.running(channel)
                held.append(since + OVERDUE * seconds + GRACE_S)
        return held

    def oldest_run_s(self, channels: Iterable[Instance]) -> tuple[float, float] | None:
        """For the watchdog: seconds since the oldest batch there began, and seconds it was expected to take."""
        batches = [batch for channel in channels for batch in batches_of(channel)]
        if not batches:
            return None
        oldest = min(batches, key=lambda batch: batch.begins)
        return self._clock() - oldest.begins, self._outlook.upper(oldest.cost, oldest.rows)

    def note_overdue(self) -> None:
        """See whether any run takes far too long; what is expected of it changes then."""
        now = self._clock()
        self.has_overdue = any(now >= overdue_at(batch) for batch in self.batches())
        self.are_in_doubt = self.are_away or self.has_overdue

    def note_begun(self) -> None:
        """What was staged behind a run that has ended runs now."""
        now = self._clock()
        self.has_staged = False
        for channel in self._channels:
            for at, batch in enumerate(batches_of(channel)):
                if at:
                    self.has_staged = True
                else:
                    batch.begins = min(batch.begins, now)


def nobody_is_told() -> None:
    """A model that is always in memory is not asked to come."""


def overdue_at(batch: Batch) -> float:
    """When a batch's run has taken far longer than such runs do."""
    return batch.begins + (too_slow_s(batch.expected_s) if batch.expected_s else UNKNOWN_RUN_S)


def batches_of(channel: Instance) -> list[Batch]:
    """What it was given, the one that runs first."""
    return [each for each in channel.in_flight() if isinstance(each, Batch)]
