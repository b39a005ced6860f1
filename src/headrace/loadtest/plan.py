"""What is sent and when: made before the run, so that a slow server cannot slow its own load.

A schedule is three arrays of one length, by time: when, which input (key), whose call (caller).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Caller:
    """One kind of client.

    Attributes:
        name: for the report.
        part: of all calls, in relation to the other callers' parts.
        deadline_s: what counts as good: answered with success so many seconds after the scheduled time. None: any time.
        give_up_s: after so many seconds without an answer the client closes its connection.
        retries: how often it calls again after a refusal or after it gave up.
        pause_s: before it calls again, at least; what Retry-After says if `heeds_retry_after`.
        sends_deadline: whether the server is told the deadline (x-request-timeout-seconds).
        priority: request parameter, 0 for none.
        tenant: header x-tenant, empty for none.
    """

    name: str = "all"
    part: float = 1.0
    deadline_s: float | None = None
    give_up_s: float = 10.0
    retries: int = 0
    pause_s: float = 0.01
    heeds_retry_after: bool = False
    sends_deadline: bool = True
    priority: int = 0
    tenant: str = ""


@dataclass(frozen=True)
class Schedule:
    """Calls in the order of time.

    Attributes:
        times: float64, seconds from the start of the run, growing.
        keys: int32, which input of the workload (modulo how many there are).
        callers: int16, index into the run's callers.
        seconds: length of the run.
    """

    times: np.ndarray
    keys: np.ndarray
    callers: np.ndarray
    seconds: float
