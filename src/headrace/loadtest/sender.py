"""Starts the process that sends, hears from it while it does, and gives what it saw.

The sender is a process of its own, so that nothing else in this one delays a call: a fresh interpreter that imports no more
than it needs (sender_process.py), which ends with this process, and by itself when its time is over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.loadtest.plan import Caller, Schedule
from headrace.loadtest.record import Record

Requests = Sequence[Sequence[bytes]]
"""By caller and key (modulo how many there are): a whole HTTP/1.1 request, ready to send."""


@dataclass(frozen=True)
class Target:
    """Whom to call.

    Attributes:
        host: name or address.
        port: of it.
        max_connections: never more at a time; None: as many as the limit on open files leaves.
    """

    host: str
    port: int
    max_connections: int | None = None


@dataclass(frozen=True)
class ClosedLoop:
    """So many connections that each ask again when they have their answer.

    Attributes:
        connections: how many; callers have them in proportion to their parts.
        seconds: how long they ask.
        seed: of the order in which they go through the keys.
    """

    connections: int
    seconds: float
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """What the sender saw in about the last second. Counts are of attempts, times in seconds.

    Attributes:
        at_s: since the start of the run.
        offered: scheduled, retries among them.
        served: answered with 200.
        refused: answered with 429, 503 or 504.
        failed: answered with anything else, or lost.
        gave_up: given up by the client.
        not_sent: no connection was left to send on.
        out: on their way now.
        lag_p99_s: of what was sent, how late.
        p50_s: of what was served, since it was scheduled; 0 if nothing was.
        p99_s: likewise.
    """

    at_s: float
    offered: int
    served: int
    refused: int
    failed: int
    gave_up: int
    not_sent: int
    out: int
    lag_p99_s: float
    p50_s: float
    p99_s: float


def send(
    target: Target,
    schedule: Schedule,
    callers: Sequence[Caller],
    requests: Requests,
    *,
    core: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    sample: Callable[[], dict[str, float]] | None = None,
) -> Record:
    """Open loop: each call at its scheduled time, whatever became of those before. Blocks until the run is over.

    A call takes an idle connection, or a new one. After the schedule's end it waits for what is out, at most as long as
    its caller does; no retry begins then.

    Args:
        target: whom to call.
        schedule: what to send and when.
        callers: what its callers are like.
        requests: what they say.
        core: the CPU that the sender has to itself. It spins there while it waits for the next call.
        progress: called once a second, in this thread.
        sample: called once a second, in this thread: values by name, for Record.samples; {} if there are none now.

    Raises:
        ValueError: there are not as many lists of requests as callers, or one is empty.
        LoadTestFailed: the sender ended before it was done.
    """
    raise NotImplementedError


def send_closed(
    target: Target,
    loop: ClosedLoop,
    callers: Sequence[Caller],
    requests: Requests,
    *,
    core: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    sample: Callable[[], dict[str, float]] | None = None,
) -> Record:
    """Closed loop: each connection asks again as soon as it has its answer, after its caller's pause if that was none.

    A call is scheduled when it is sent, so its latency says nothing about those who would have come meanwhile.
    Otherwise as `send`.
    """
    raise NotImplementedError
