"""What the sender keeps of each attempt, and what it tells of the last second."""

from array import array
from collections.abc import Sequence
from http import HTTPStatus
from math import inf

import numpy as np

from headrace.loadtest.plan import Caller
from headrace.loadtest.record import GAVE_UP, NOT_SENT, REFUSALS, Record
from headrace.loadtest.sender import Progress

OUT = -3
"""In place of a status, of an attempt that has not ended."""
MOST_FAULTS = 10


class Rows:
    """One row an attempt. Times are of the clock; the record's count from `zero`."""

    def __init__(self, zero: float, who: Sequence[Caller]) -> None:
        self.zero = zero
        self._who = tuple(who)
        self._deadlines = [inf if each.deadline_s is None else each.deadline_s for each in who]
        # Columns that grow together.
        self.scheduled, self.sent, self.ended = array("d"), array("d"), array("d")
        self.status, self.callers, self.attempt = array("h"), array("h"), array("h")
        self.keys = array("i")
        # What is told of the last second: where it begins in the columns, the statuses, what was served how fast, and how
        # much of it in time.
        self._told = 0
        self._statuses: dict[int, int] = {}
        self._latencies = array("d")
        self._good = 0
        self._out = 0
        self._faults: list[str] = []

    def add(self, scheduled: float, caller: int, key: int, attempt: int) -> int:
        """An attempt that is to be sent now; its row."""
        row = len(self.status)
        self.scheduled.append(scheduled)
        self.sent.append(scheduled)
        self.ended.append(scheduled)
        self.status.append(OUT)
        self.callers.append(caller)
        self.keys.append(key)
        self.attempt.append(attempt)
        self._out += 1
        return row

    def end(self, row: int, status: int, now: float) -> None:
        """What became of it; once for each."""
        self.status[row] = status
        self.ended[row] = now
        self._out -= 1
        self._statuses[status] = self._statuses.get(status, 0) + 1
        if status == HTTPStatus.OK:
            took = now - self.scheduled[row]
            self._latencies.append(took)
            self._good += took <= self._deadlines[self.callers[row]]

    def is_out(self, row: int) -> bool:
        return self.status[row] == OUT

    def add_fault(self, text: str) -> None:
        """Remember it, if it is one of the first that differ."""
        if len(self._faults) < MOST_FAULTS and text not in self._faults:
            self._faults.append(text)

    def progress(self, now: float) -> Progress:
        """What happened since this was called last."""
        statuses, latencies = self._statuses, np.array(self._latencies)
        lags = np.array(self.sent[self._told :]) - np.array(self.scheduled[self._told :])
        offered, good = self.attempt[self._told :].count(0), self._good
        self._told, self._statuses, self._latencies, self._good = len(self.status), {}, array("d"), 0
        served, refused = statuses.get(HTTPStatus.OK, 0), sum(statuses.get(each, 0) for each in REFUSALS)
        gave_up, not_sent = statuses.get(GAVE_UP, 0), statuses.get(NOT_SENT, 0)
        return Progress(
            at_s=now - self.zero,
            offered=offered,
            served=served,
            good=good,
            refused=refused,
            failed=sum(statuses.values()) - served - refused - gave_up - not_sent,
            gave_up=gave_up,
            not_sent=not_sent,
            out=self._out,
            lag_p99_s=percentile(lags, 99),
            p50_s=percentile(latencies, 50),
            p99_s=percentile(latencies, 99),
        )

    def record(self, seconds: float, own_cpu_s: float) -> Record:
        """All of it; every attempt must have ended."""
        return Record(
            scheduled=np.array(self.scheduled) - self.zero,
            sent=np.array(self.sent) - self.zero,
            ended=np.array(self.ended) - self.zero,
            status=np.array(self.status, np.int16),
            callers=np.array(self.callers, np.int16),
            keys=np.array(self.keys, np.int32),
            attempt=np.array(self.attempt, np.int16),
            who=self._who,
            seconds=seconds,
            own_cpu_s=own_cpu_s,
            first_faults=tuple(self._faults),
        )


def percentile(values: np.ndarray, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else 0.0
