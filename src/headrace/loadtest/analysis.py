"""From a record to figures: pure, so that the same record always says the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil, isclose

import numpy as np
from hdrh.histogram import HdrHistogram

from headrace.loadtest.record import GAVE_UP, LOST, NOT_SENT, REFUSALS, Record

LAG_LIMIT_S = 0.005
"""A run whose p99 send lag passes this is void: the sender, not the server, made its latencies."""
NOT_SENT_LIMIT = 0.01
"""So is one of whose calls more than this part was never sent: the load was not what the schedule says."""


OUTCOMES = {GAVE_UP: "gave_up", LOST: "lost", NOT_SENT: "not_sent"}
"""What ended without an HTTP status, by name."""
MICROSECONDS = 1e6
LONGEST_US, DIGITS = 100_000_000, 3
"""Of the histograms that percentiles come from: what is longer counts as that, and three digits are true."""


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
        fairness: Jain's index of the tenants' goodput by weight; None with fewer than two tenants.
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
    firsts = record.attempt == 0
    lag = percentiles((record.sent - record.scheduled)[firsts & (record.status != NOT_SENT)])
    good = is_good(record)
    everybody = np.ones(len(good), bool)
    callers = tuple(
        _summary(record, record.callers == at, good, each.name, each.tenant)
        for at, each in enumerate(record.who)
    )
    return Analysis(
        record.seconds,
        _void(record, lag),
        lag,
        _summary(record, everybody, good, "all", ""),
        callers,
        _fairness(callers, weights or {}),
        record.own_cpu_s,
        record.first_faults,
    )


def windows(record: Record, width_s: float = 1.0, caller: int | None = None) -> list[Window]:
    """The run as a series up to the end of its schedule, of one caller by its index or of all.

    The last window is shorter where the length is no multiple of the width.
    """
    chosen = np.ones(len(record.status), bool) if caller is None else record.callers == caller
    count = max(1, ceil(record.seconds / width_s - 1e-9))
    served = chosen & (record.status == HTTPStatus.OK)

    def by_window(times: np.ndarray) -> np.ndarray:
        at = (times / width_s).astype(int)
        return np.bincount(at[at < count], minlength=count)

    counts = [
        by_window(record.scheduled[chosen & (record.attempt == 0)]),
        by_window(record.scheduled[chosen]),
        by_window(record.ended[served]),
        by_window(record.ended[chosen & is_good(record)]),
        by_window(record.ended[chosen & np.isin(record.status, list(REFUSALS))]),
    ]
    series = []
    for at, latencies in enumerate(_by_window(record, served, width_s, count)):
        length = min(width_s, record.seconds - at * width_s)
        offered, attempted, answered, good, refused = (float(each[at]) / length for each in counts)
        times = percentiles(latencies)
        series.append(
            Window(
                at * width_s,
                length,
                offered,
                attempted,
                answered,
                good,
                refused,
                times.p50,
                times.p90,
                times.p99,
            )
        )
    return series


def is_good(record: Record) -> np.ndarray:
    """For each attempt whether it was answered with 200 within its caller's deadline, counted from when it was scheduled."""
    deadlines = np.array([np.inf if each.deadline_s is None else each.deadline_s for each in record.who])
    is_in_time = record.ended - record.scheduled <= deadlines[record.callers]
    good: np.ndarray = (record.status == HTTPStatus.OK) & is_in_time
    return good


def percentiles(seconds: np.ndarray) -> Percentiles:
    """Of times in seconds, true to three digits."""
    if not len(seconds):
        return Percentiles(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    histogram = HdrHistogram(1, LONGEST_US, DIGITS)
    values, counts = np.unique(np.clip(seconds * MICROSECONDS, 1, LONGEST_US).astype(int), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    # The histogram gives the end of the range in which it counts a value.
    most = float(seconds.max())
    p50, p90, p99, p999 = (
        min(most, histogram.get_value_at_percentile(each) / MICROSECONDS) for each in (50, 90, 99, 99.9)
    )
    return Percentiles(len(seconds), p50, p90, p99, p999, most)


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 where all are equal, 1/n where one has everything; 1 where nobody has anything."""
    squares = sum(each * each for each in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def recovery_s(series: Sequence[Window], burst_s: float, end_s: float, part: float = 0.95) -> float | None:
    """Seconds from a burst's end to the first window from which on goodput stays at `part` of the mean before the burst.

    Args:
        series: windows of the run.
        burst_s: when the burst began.
        end_s: when it ended.
        part: 0 to 1.

    Returns:
        None if it never does.

    Raises:
        ValueError: no window lies before the burst, or none after it.
    """
    before = [each.goodput for each in series if _ends_by(each, burst_s)]
    after = [each for each in series if each.start_s >= end_s or isclose(each.start_s, end_s)]
    if not before or not after:
        raise ValueError(
            "a recovery is from what there was before the burst to what there was after it: take narrower windows"
        )
    enough = part * sum(before) / len(before)
    recovered = None
    for each in reversed(after):
        if each.goodput < enough:
            break
        recovered = max(0.0, each.start_s - end_s)
    return recovered


def _ends_by(window: Window, at_s: float) -> bool:
    end_s = window.start_s + window.width_s
    return end_s <= at_s or isclose(end_s, at_s)


def _by_window(record: Record, chosen: np.ndarray, width_s: float, count: int) -> list[np.ndarray]:
    """For each window the latencies of what ended in it."""
    ended = record.ended[chosen]
    order = np.argsort(ended, kind="stable")
    latencies = (ended - record.scheduled[chosen])[order]
    bounds = np.searchsorted(ended[order], np.arange(1, count + 1) * width_s)
    return np.split(latencies[: bounds[-1]], bounds[:-1])


def _summary(record: Record, chosen: np.ndarray, good: np.ndarray, name: str, tenant: str) -> Summary:
    status, first = record.status[chosen], record.attempt[chosen] == 0
    took = (record.ended - record.scheduled)[chosen]
    codes, counts = np.unique(status, return_counts=True)
    good = good[chosen]
    seconds = record.seconds
    return Summary(
        name=name,
        tenant=tenant,
        calls=int(first.sum()),
        attempts=len(status),
        offered=float(first.sum() / seconds),
        attempted=len(status) / seconds,
        served=float((status == HTTPStatus.OK).sum() / seconds),
        good=int(good.sum()),
        good_calls=int((good & first).sum()),
        goodput=float(good.sum() / seconds),
        statuses={
            OUTCOMES.get(code, str(code)): count
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        },
        latency=percentiles(took[status == HTTPStatus.OK]),
        refusal=percentiles(took[np.isin(status, list(REFUSALS))]),
    )


def _void(record: Record, lag: Percentiles) -> str | None:
    if not len(record.status):
        return "nothing was scheduled"
    if lag.p99 > LAG_LIMIT_S:
        return (
            f"its calls were sent late: 1 in 100 by {lag.p99 * 1e3:.1f} ms or more, and {LAG_LIMIT_S * 1e3:g} ms is the limit; "
            "give the sender a core of its own, or send less"
        )
    unsent = (record.status == NOT_SENT).mean()
    if unsent > NOT_SENT_LIMIT:
        return f"{unsent:.0%} of its calls were never sent, for want of connections: raise the limit on open files (ulimit -n)"
    return None


def _fairness(callers: Sequence[Summary], weights: dict[str, float]) -> float | None:
    goodput: dict[str, float] = {}
    for each in callers:
        if each.tenant:
            goodput[each.tenant] = goodput.get(each.tenant, 0.0) + each.goodput
    if len(goodput) < 2:  # noqa: PLR2004 - one alone is fair
        return None
    return jain([value / weights.get(tenant, 1.0) for tenant, value in goodput.items()])
