"""Whether a run kept what was asked of it: counted over first attempts, since a caller waits from its first one on."""

from dataclasses import dataclass
from http import HTTPStatus

import numpy as np

from headrace.loadtest.analysis import Analysis
from headrace.loadtest.record import Record
from headrace.loadtest.search import PERCENTILE, Found, Outcome, Trial, is_proved

KEPT, FAILED, VOID = "kept", "failed", "void"


@dataclass(frozen=True)
class Verdict:
    """What is said last of a run: one of KEPT, FAILED, VOID, and why."""

    state: str
    text: str

    @property
    def is_kept(self) -> bool:
        return self.state == KEPT


def count_late(record: Record, objective_s: float, since_s: float = 0.0) -> tuple[int, int]:
    """Calls scheduled from `since_s` on, and those of them not answered with success within the objective."""
    calls = (record.attempt == 0) & (record.scheduled >= since_s)
    is_good = (record.status == HTTPStatus.OK) & (record.ended - record.scheduled <= objective_s)
    return int(calls.sum()), int((calls & ~is_good).sum())


def judge(record: Record, analysis: Analysis, objective_s: float | None) -> Verdict:
    """A single run. Without an objective it is kept as long as it is not void, and anything was answered with success."""
    if analysis.void is not None:
        return Verdict(VOID, analysis.void)
    whole = analysis.whole
    if not whole.latency.count:
        return Verdict(FAILED, "nothing was answered with success")
    if objective_s is None:
        return Verdict(
            KEPT, f"goodput {whole.goodput:.4g}/s of {whole.offered:.4g}/s offered; no objective was given"
        )
    total, late = count_late(record, objective_s)
    in_time = (
        f"{1 - late / total:.2%} of {total} calls were answered with success within {objective_s * 1000:g} ms"
    )
    if late > (1 - PERCENTILE) * total:
        return Verdict(FAILED, f"{in_time}; the objective is {PERCENTILE:.0%}")
    if not is_proved(total, late):
        return Verdict(KEPT, f"{in_time}; too few calls to be sure of it: give more --seconds")
    return Verdict(KEPT, in_time)


def judge_search(found: Found, objective_s: float) -> Verdict:
    """A search: kept if its rate is confirmed."""
    text = f"{found.rate:.4g} calls/s with p99 within {objective_s * 1000:g} ms: {found.reason}"
    return Verdict(KEPT if found.is_confirmed else FAILED, text)


def outcome_of(trial: Trial, record: Record, analysis: Analysis, objective_s: float) -> Outcome:
    """A trial of a search, for its next step."""
    total, late = count_late(record, objective_s, trial.warm_up_s)
    is_shown = (
        (record.status == HTTPStatus.OK) & (record.scheduled >= trial.warm_up_s) & (record.attempt == 0)
    )
    latencies = (record.ended - record.scheduled)[is_shown]
    p99_ms = float(np.quantile(latencies, PERCENTILE)) * 1000 if len(latencies) else None
    return Outcome(trial, total, late, p99_ms, analysis.void or "")
