"""From a record to figures: pure, so that the same record always says the same."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.loadtest.record import Record

LAG_LIMIT_S = 0.005
"""A run whose p99 send lag passes this is void: the sender, not the server, made its latencies."""
NOT_SENT_LIMIT = 0.01
"""So is one of whose calls more than this part was never sent: the load was not what the schedule says."""


@dataclass(frozen=True)
class Percentiles:
    """Of times in seconds, all 0 where there are none."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True)
class Summary:
    """What a caller, or all of them, sent and got. Rates are per second of the schedule.

    Attributes:
        name: the caller's; "all" of all.
        tenant: the caller's, empty of all.
        calls: first attempts.
        attempts: with retries.
        offered: first attempts a second.
        attempted: attempts a second.
        served: attempts answered with 200, a second.
        good: attempts answered with 200 within the caller's deadline, counted from when each was scheduled.
        good_calls: those of them that are first attempts.
        goodput: good ones a second.
        statuses: attempts by HTTP status; gave_up, lost and not_sent beside.
        latency: of attempts answered with 200.
        refusal: of attempts answered with 429, 503 or 504.
    """

    name: str
    tenant: str
    calls: int
    attempts: int
    offered: float
    attempted: float
    served: float
    good: int
    good_calls: int
    goodput: float
    statuses: dict[str, int]
    latency: Percentiles
    refusal: Percentiles


@dataclass(frozen=True)
class Analysis:
    """A whole run; JSON-able by dataclasses.asdict.

    Attributes:
        seconds: of the schedule.
        void: why the run says nothing about the server; None if it does.
        lag: how late first attempts were sent.
        whole: all callers together.
        callers: each, in the order of Record.who.
        fairness: Jain's index of the tenants' goodput (callers' where there are no tenants); None with fewer than two.
        own_cpu_s: the sender's.
        first_faults: answers nobody expected.
    """

    seconds: float
    void: str | None
    lag: Percentiles
    whole: Summary
    callers: tuple[Summary, ...]
    fairness: float | None
    own_cpu_s: float
    first_faults: tuple[str, ...]

    @property
    def is_void(self) -> bool:
        return self.void is not None


@dataclass(frozen=True)
class Window:
    """A piece of the run: attempts belong to where they were scheduled, answers to where they ended.

    Attributes:
        start_s: it is [start_s, start_s + width_s).
        width_s: how long it is.
        offered: first attempts scheduled in it, a second.
        attempted: attempts scheduled in it, a second.
        served: 200s that ended in it, a second.
        goodput: good ones that ended in it, a second.
        refused: refusals that ended in it, a second.
        p50, p90, p99: seconds, of the 200s that ended in it; 0 if none.
    """

    start_s: float
    width_s: float
    offered: float
    attempted: float
    served: float
    goodput: float
    refused: float
    p50: float
    p90: float
    p99: float


def analyse(record: Record, weights: dict[str, float] | None = None) -> Analysis:
    """All figures of a run. `weights`: of tenants, 1 where missing; a fair goodput is in proportion to them."""
    raise NotImplementedError


def windows(record: Record, width_s: float = 1.0, caller: int | None = None) -> list[Window]:
    """The run as a series, of one caller by its index or of all."""
    raise NotImplementedError


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 where all are equal, 1/n where one has everything; 1 where nobody has anything."""
    raise NotImplementedError


def recovery_s(series: Sequence[Window], burst_s: float, end_s: float, part: float = 0.95) -> float | None:
    """Seconds from a burst's end to the first window from which on goodput stays at `part` of the mean before the burst.

    Args:
        series: windows of the run.
        burst_s: when the burst began.
        end_s: when it ended.
        part: 0 to 1.

    Returns:
        None if it never does.
    """
    raise NotImplementedError
