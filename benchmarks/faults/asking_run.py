"""The process of asking.py: an Order in, a Heard out, both pickled."""

import gc
import json
import os
import pickle
import select
import socket
import sys
import time
from array import array
from http import HTTPStatus

import numpy as np
from asking import GAVE_UP, HOST, LOST, MOST_FAULTS, NOT_SENT, OUT, PATIENCE_S, Heard, Order

from headrace.execution.linux import allow_open_files
from headrace.loadtest.sender_answers import END, Head
from headrace.loadtest.sender_connections import Connections

MOST_SENT = 32
"""Calls sent before answers are looked at."""
WAIT_S, LOOK_S = 0.01, 0.05
LEAST, LARGEST = 1000, 1 << 22
"""Numbers between them, and three times as many, are told apart as FP32."""


class Run:
    """In the process that asks: sends what is due, takes what comes."""

    def __init__(self, order: Order) -> None:
        self._order = order
        rng = np.random.default_rng(order.seed)
        times = [
            np.sort(rng.uniform(0, order.seconds, round(each.rate * order.seconds))) for each in order.asked
        ]
        whose = np.concatenate([np.full(len(each), at, "i2") for at, each in enumerate(times)])
        scheduled = np.concatenate(times)
        by_time = np.argsort(scheduled, kind="stable")
        self.scheduled, self.whose = scheduled[by_time], whose[by_time]
        calls = len(scheduled)
        # Apart from those of other runs against the same server, and in no order.
        self.number = LEAST + rng.permutation(LARGEST - LEAST)[:calls].astype("f8")
        self.requests: list[bytes] = [b""] * calls
        for at, each in enumerate(order.asked):
            rows = np.flatnonzero(self.whose == at)
            for row, request in zip(rows.tolist(), each.requests_of(self.number[rows].tolist()), strict=True):
                self.requests[row] = request
        self.ended = np.zeros(calls)
        self.status = np.full(calls, OUT, "i2")
        self.is_right = np.ones(calls, bool)
        self.is_degraded = np.zeros(calls, bool)
        self.faults: list[str] = []
        self._out: set[int] = set()

    def run(self) -> Heard:
        order, clock = self._order, time.perf_counter
        sent = array("d", bytes(8 * len(self.scheduled)))
        connections = Connections((socket.AF_INET, (HOST, order.port)), 1 << 14, sent, self._on_ended)
        due, at = (self.scheduled + order.zero).tolist(), 0
        patience = [each.deadline_s + PATIENCE_S for each in order.asked]
        look = order.zero
        while at < len(due) or self._out:
            now = clock()
            last = min(len(due), at + MOST_SENT)
            while at < last and due[at] <= now:
                self._out.add(at)
                if not connections.ask(at, self.requests[at]):
                    self._end(at, NOT_SENT, now)
                at += 1
            if now >= look:
                look = now + LOOK_S
                for row in [row for row in self._out if now - due[row] > patience[self.whose[row]]]:
                    connections.give_up(row)
                    self._end(row, GAVE_UP, now)
            wait_s = min(WAIT_S, due[at] - clock() if at < len(due) else WAIT_S)
            if wait_s > 0:
                select.select((connections,), (), (), wait_s)
            connections.take()
        connections.close()
        return Heard(
            self.whose,
            self.number,
            self.scheduled,
            self.ended,
            self.status,
            self.is_right,
            self.is_degraded,
            tuple(self.faults),
        )

    def _on_ended(self, row: int, now: float, head: Head | None, answer: bytes | bytearray) -> None:
        self._end(row, LOST if head is None else head.status, now)
        if head is None:
            self._add_fault(f"lost: {bytes(answer)[:200]!r}")
        elif head.status == HTTPStatus.OK:
            body = bytes(answer[answer.find(END) + len(END) :])
            try:
                content = json.loads(body)
                self.is_degraded[row] = "degraded" in content.get("parameters", {})
                self.is_right[row] = self._order.asked[self.whose[row]].is_right(content, self.number[row])
            except (ValueError, KeyError, IndexError, StopIteration):
                self.is_right[row] = False
            if not self.is_right[row]:
                self._add_fault(f"to {self.number[row]:.0f}: {body[:300]!r}")

    def _end(self, row: int, status: int, now: float) -> None:
        self._out.discard(row)
        self.status[row], self.ended[row] = status, now - self._order.zero

    def _add_fault(self, text: str) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(text)


def main() -> None:
    order: Order = pickle.load(sys.stdin.buffer)
    if order.core is not None:
        os.sched_setaffinity(0, {order.core})
    allow_open_files()
    gc.disable()
    pickle.dump(Run(order).run(), sys.stdout.buffer)


if __name__ == "__main__":
    main()
