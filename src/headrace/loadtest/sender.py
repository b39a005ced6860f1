"""Starts the process that sends, hears from it while it does, and gives what it saw.

The sender is a process of its own, so that nothing else in this one delays a call: a fresh interpreter that imports no more
than it needs (sender_process.py), which ends with this process, and by itself when its time is over.
"""

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.loadtest.plan import Caller, Schedule
from headrace.loadtest.record import Record

GRACE_S = 20.0
"""How much longer than a run can last its process may live."""

Requests = Sequence[Sequence[bytes]]
"""By caller and key (modulo how many there are): a whole HTTP/1.1 request, ready to send."""


Address = tuple[socket.AddressFamily, tuple[Any, ...]]
"""Family and address, as socket.getaddrinfo gives them."""


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
class SharedCore:
    """A CPU that others have work on as well."""

    number: int


@dataclass(frozen=True)
class Progress:
    """What the sender saw in about the last second. Counts are of attempts, times in seconds.

    Attributes:
        at_s: since the start of the run.
        offered: first attempts.
        served: answered with 200.
        good: those of them within their caller's deadline.
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
    good: int
    refused: int
    failed: int
    gave_up: int
    not_sent: int
    out: int
    lag_p99_s: float
    p50_s: float
    p99_s: float


@dataclass(frozen=True)
class Order:
    """What the sender process is told.

    Attributes:
        address: family and address of whom to call.
        most: connections at a time, None for as many as the limit on open files leaves.
        load: what to send and when.
        callers: what its callers are like.
        requests: what they say.
        core: the CPU it runs on, first of all that do.
        budget_s: it ends by itself after so long, whatever happens.
        spins: it waits awake for the last of the time before a call.
    """

    address: Address
    most: int | None
    load: Schedule | ClosedLoop
    callers: tuple[Caller, ...]
    requests: Requests
    core: int | None
    budget_s: float
    spins: bool = False


@dataclass(frozen=True)
class Started:
    """What the sender process tells first: when its run begins, by the clock that all processes share."""

    zero: float


class LoadTestFailed(Exception):
    """The load could not be sent; the message says why."""


def send(
    target: Target,
    schedule: Schedule,
    callers: Sequence[Caller],
    requests: Requests,
    *,
    core: "int | SharedCore | None" = None,
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
        core: the CPU that the sender has to itself. It is awake there shortly before each call. On a shared one it
            sleeps until then, and goes first.
        progress: called once a second, in this thread.
        sample: called once a second and at both ends, in this thread: values by name, for Record.samples; {} if there
            are none now.

    Raises:
        ValueError: there are not as many lists of requests as callers, or one is empty.
        LoadTestFailed: nobody knows the host, or the sender ended before it was done.
    """
    return _run(target, schedule, callers, requests, core, progress, sample)


def send_closed(
    target: Target,
    loop: ClosedLoop,
    callers: Sequence[Caller],
    requests: Requests,
    *,
    core: "int | SharedCore | None" = None,
    progress: Callable[[Progress], None] | None = None,
    sample: Callable[[], dict[str, float]] | None = None,
) -> Record:
    """Closed loop: each connection asks again as soon as it has its answer, after its caller's pause if that was none.

    A call is scheduled when it is sent, so its latency says nothing about those who would have come meanwhile.
    Otherwise as `send`.
    """
    return _run(target, loop, callers, requests, core, progress, sample)


def _run(
    target: Target,
    load: Schedule | ClosedLoop,
    callers: Sequence[Caller],
    requests: Requests,
    core: "int | SharedCore | None",
    progress: Callable[[Progress], None] | None,
    sample: Callable[[], dict[str, float]] | None,
) -> Record:
    if len(requests) != len(callers) or not all(requests):
        raise ValueError(
            f"{len(callers)} callers and requests of {len(requests)}: give each caller one or more"
        )
    number = core.number if isinstance(core, SharedCore) else core
    if number is not None and number not in os.sched_getaffinity(0):
        raise ValueError(
            f"this process may not run on core {number}, but on {sorted(os.sched_getaffinity(0))}"
        )
    order = Order(
        _resolve(target),
        target.max_connections,
        load,
        tuple(callers),
        requests,
        number,
        load.seconds + max(each.give_up_s for each in callers) + GRACE_S,
        spins=isinstance(core, int),
    )
    with subprocess.Popen(  # noqa: S603 - our own module, no input of anybody's
        [sys.executable, "-m", "headrace.loadtest.sender_process", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # An interrupt at the terminal is for this process, which ends the other; and the kernel shares cores by session.
        start_new_session=True,
    ) as process:
        try:
            return _listen(process, order, progress, sample)
        except (EOFError, BrokenPipeError) as exc:
            status = process.wait()
            raise LoadTestFailed(
                f"the process that sends the load ended with status {status}; its reason is above"
            ) from exc
        finally:
            process.kill()


def _listen(
    process: "subprocess.Popen[bytes]",
    order: Order,
    progress: Callable[[Progress], None] | None,
    sample: Callable[[], dict[str, float]] | None,
) -> Record:
    """Give the order, and hear until the record comes. What it tells comes once a second, and samples are taken then."""
    assert process.stdin is not None
    assert process.stdout is not None
    pickle.dump(order, process.stdin)
    process.stdin.flush()
    samples: dict[str, list[tuple[float, float]]] = {}
    zero = 0.0
    while True:
        told: Any = pickle.load(process.stdout)  # noqa: S301 - from the process that was started for it
        if isinstance(told, Started):
            zero = told.zero
        now = time.perf_counter() - zero
        for name, value in (sample() if sample is not None else {}).items():
            samples.setdefault(name, []).append((now, value))
        # After the sample, which is of the same second.
        if isinstance(told, Progress) and progress is not None:
            progress(told)
        if isinstance(told, Record):
            return replace(told, samples=samples)


def _resolve(target: Target) -> Address:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise LoadTestFailed(f"nobody knows a host '{target.host}': {exc.strerror}") from exc
    # A name like localhost has an address of each family, and servers mostly listen on the older one's.
    family, _, _, _, address = min(found, key=lambda each: each[0])
    return family, address
