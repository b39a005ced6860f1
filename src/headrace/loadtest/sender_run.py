"""A run: sends what is due, takes what comes, gives up for who has waited too long. Alone in its process, on one thread."""

import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from http import HTTPStatus
from itertools import cycle
from math import inf
from typing import NamedTuple, Protocol

import numpy as np

from headrace.loadtest.plan import Caller, Schedule
from headrace.loadtest.record import GAVE_UP, LOST, NOT_SENT, REFUSALS, Record
from headrace.loadtest.sender import Address, ClosedLoop, Order, Progress, Requests, Started
from headrace.loadtest.sender_answers import Head, retry_after
from headrace.loadtest.sender_connections import Connections
from headrace.loadtest.sender_rows import Rows

MOST_SENT = 64
"""Calls sent before answers are looked at."""
LOOK_S = 0.005
"""How often it looks for who gives up, and so how late one may be."""
LATEST_S = 5.0
"""What could not be sent so long after the schedule's end never is."""
TELL_S = 1.0
LONGEST_FAULT = 400
PREPARATION_S, PREPARATION_A_CALL_S = 0.1, 1e-6
"""How long it takes from reading the clock to the first call."""
SPIN_S = 0.0002
"""How long before a call is due a sender with a core to itself is awake: it takes the kernel about so long to wake it."""
RETRIED = REFUSALS | {LOST, GAVE_UP}


class Call(NamedTuple):
    """An attempt to come. Ordered by time."""

    scheduled: float
    caller: int
    key: int
    attempt: int


class Calls(Protocol):
    """Which calls come when; times of the clock."""

    def next_at(self) -> float:
        """When the next one is due; infinity when there is none."""

    def take(self) -> Call:
        """The next one."""

    def add(self, after: Call, status: int, now: float, pause_s: float) -> None:
        """What became of one, and for how long its caller would pause before it calls again."""


class OpenCalls:
    """A schedule, and the retries of who was refused, lost its connection or gave up."""

    def __init__(self, schedule: Schedule, callers: Sequence[Caller], zero: float) -> None:
        self._times: list[float] = [*(schedule.times + zero).tolist(), inf]
        self._keys: list[int] = schedule.keys.tolist()
        self._callers: list[int] = schedule.callers.tolist()
        self._retries = [each.retries for each in callers]
        self._ends = zero + schedule.seconds
        self._at = 0
        self._again: list[Call] = []

    def next_at(self) -> float:
        first = self._times[self._at]
        return min(first, self._again[0].scheduled) if self._again else first

    def take(self) -> Call:
        at = self._at
        if self._again and self._again[0].scheduled < self._times[at]:
            return heappop(self._again)
        self._at += 1
        return Call(self._times[at], self._callers[at], self._keys[at], 0)

    def add(self, after: Call, status: int, now: float, pause_s: float) -> None:
        at = now + pause_s
        if status in RETRIED and after.attempt < self._retries[after.caller] and at < self._ends:
            heappush(self._again, Call(at, after.caller, after.key, after.attempt + 1))


class ClosedCalls:
    """As many calls as connections, each made again when it was answered."""

    def __init__(self, loop: ClosedLoop, callers: Sequence[Caller], keys: int, zero: float) -> None:
        rng = np.random.default_rng(loop.seed)
        self._keys = cycle(rng.permutation(keys).tolist())
        self._ends = zero + loop.seconds
        parts = np.array([each.part for each in callers], float)
        bounds = np.cumsum(parts) / parts.sum()
        lanes = np.searchsorted(bounds, (np.arange(loop.connections) + 0.5) / loop.connections)
        self._again = [Call(zero, caller, next(self._keys), 0) for caller in lanes.tolist()]

    def next_at(self) -> float:
        return self._again[0].scheduled if self._again else inf

    def take(self) -> Call:
        return heappop(self._again)

    def add(self, after: Call, status: int, now: float, pause_s: float) -> None:
        at = now if status == HTTPStatus.OK else now + pause_s
        if at < self._ends:
            heappush(self._again, Call(at, after.caller, next(self._keys), 0))


def carry_out(order: Order, most: int, tell: Callable[[Started | Progress | Record], None]) -> None:
    """One run, with so many connections at most. Tells when it begins, of each second, and at the end of all of it."""
    load, callers = order.load, order.callers
    planned = len(load.times) if isinstance(load, Schedule) else load.connections
    zero = time.perf_counter() + PREPARATION_S + PREPARATION_A_CALL_S * planned
    calls: Calls
    if isinstance(load, Schedule):
        calls = OpenCalls(load, callers, zero)
    else:
        calls = ClosedCalls(load, callers, max(map(len, order.requests)), zero)
    rows = Rows(zero, callers)
    tell(Started(zero))
    cpu_s = time.process_time()
    run = Run(calls, callers, order.requests, rows, tell)
    run.run(order.address, most, zero + load.seconds, spins=order.spins)
    tell(rows.record(load.seconds, time.process_time() - cpu_s))


class Run:
    """One run from its first call to its last answer.

    Args:
        calls: what is sent when.
        callers: who.
        requests: what they say.
        rows: where it is written down.
        tell: hears of each second.
    """

    def __init__(
        self,
        calls: Calls,
        callers: Sequence[Caller],
        requests: Requests,
        rows: Rows,
        tell: Callable[[Progress], None],
    ) -> None:
        self._calls = calls
        self._callers = callers
        self._requests = requests
        self._rows = rows
        self._tell = tell
        self._waiting: list[deque[int]] = [
            deque() for _ in callers
        ]  # rows by caller, those sent first in front

    def run(self, address: Address, most: int, ends: float, *, spins: bool) -> None:
        """Until `ends`, and then until all that was sent has ended.

        Args:
            address: where to.
            most: connections at a time.
            ends: clock time of the schedule's end.
            spins: wait awake for the last of it: for a sender with a core to itself.
        """
        connections = Connections(address, most, self._rows.sent, self._on_ended)
        clock = time.perf_counter
        look, tell = self._rows.zero, self._rows.zero + TELL_S
        while (now := clock()) < ends or self._calls.next_at() < ends or any(self._waiting):
            self._send_due(None if now > ends + LATEST_S else connections, now)
            if now >= look:
                self._give_up(connections, now)
                look = now + LOOK_S
            if now >= tell:
                self._tell(self._rows.progress(now))
                tell += TELL_S
            wait_s = min(self._calls.next_at(), look, tell) - clock() - (SPIN_S if spins else 0.0)
            if wait_s > 0:
                select.select((connections,), (), (), wait_s)  # epoll's own wait is for whole milliseconds
            connections.take()
        connections.close()

    def _send_due(self, connections: Connections | None, now: float) -> None:
        """Send what is due, on these connections; without any it is written down as not sent."""
        calls, rows, requests = self._calls, self._rows, self._requests
        for _ in range(MOST_SENT):
            if calls.next_at() > now:
                return
            scheduled, caller, key, attempt = calls.take()
            row = rows.add(scheduled, caller, key, attempt)
            said = requests[caller]
            self._waiting[caller].append(row)
            if connections is None or not connections.ask(row, said[key % len(said)]):
                rows.sent[row] = time.perf_counter()
                self._end(row, NOT_SENT, rows.sent[row], self._callers[caller].pause_s)

    def _give_up(self, connections: Connections, now: float) -> None:
        rows = self._rows
        for caller, waiting in zip(self._callers, self._waiting, strict=True):
            oldest = now - caller.give_up_s
            while waiting and not (rows.is_out(waiting[0]) and rows.scheduled[waiting[0]] > oldest):
                row = waiting.popleft()
                if rows.is_out(row):
                    connections.give_up(row)
                    self._end(row, GAVE_UP, now, caller.pause_s)

    def _on_ended(self, row: int, now: float, head: Head | None, answer: bytes | bytearray) -> None:
        if head is not None and head.status == HTTPStatus.OK:
            self._end(row, HTTPStatus.OK, now, 0.0)
            return
        caller = self._callers[self._rows.callers[row]]
        pause_s = caller.pause_s
        if head is None:
            self._rows.add_fault(f"lost: {answer.decode(errors='replace')}")
        elif head.status not in REFUSALS:
            self._rows.add_fault(answer[:LONGEST_FAULT].decode(errors="replace"))
        elif caller.heeds_retry_after:
            pause_s = max(pause_s, retry_after(head, answer))
        self._end(row, LOST if head is None else head.status, now, pause_s)

    def _end(self, row: int, status: int, now: float, pause_s: float) -> None:
        rows = self._rows
        rows.end(row, status, now)
        call = Call(rows.scheduled[row], rows.callers[row], rows.keys[row], rows.attempt[row])
        self._calls.add(call, status, now, pause_s)
