"""What became of each call: the one thing a run leaves behind, and all figures are computed from."""

from dataclasses import dataclass, field
from http import HTTPStatus

import numpy as np

from headrace.loadtest.plan import Caller

GAVE_UP, LOST, NOT_SENT = 0, -1, -2
"""In place of an HTTP status: the client closed, the server did, no connection was left to send on."""
REFUSALS = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
"""Statuses that say that the server did not take the call in, or not in time."""


@dataclass(frozen=True)
class Record:
    """Arrays of one length, a row an attempt; times in seconds from the start of the run.

    Attributes:
        scheduled: when it was to be sent; a retry's is when the client decided to call again, plus its pause.
        sent: when it was given to a connection; to open one is the server's and the network's time.
        ended: when its last byte was read, or when the client gave up.
        status: int16, HTTP status, or GAVE_UP, LOST, NOT_SENT.
        callers: int16, index into `who`.
        keys: int32.
        attempt: int16, 0 for the first.
        who: the run's callers.
        seconds: of the schedule; what is answered after it still counts for the calls scheduled in it.
        own_cpu_s: the sender's CPU time.
        first_faults: up to ten different answers nobody expected, as text.
        samples: what was read from the server's metrics now and then, by name; may be empty.
    """

    scheduled: np.ndarray
    sent: np.ndarray
    ended: np.ndarray
    status: np.ndarray
    callers: np.ndarray
    keys: np.ndarray
    attempt: np.ndarray
    who: tuple[Caller, ...]
    seconds: float
    own_cpu_s: float = 0.0
    first_faults: tuple[str, ...] = ()
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
