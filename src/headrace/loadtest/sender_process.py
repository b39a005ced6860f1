"""The process that sends: one order in, what happened in each second out, the record last."""

import gc
import os
import pickle
import resource
import signal
import sys
import time
from math import ceil

from setproctitle import setproctitle

from headrace.execution.linux import allow_open_files, die_with_parent
from headrace.loadtest.plan import Schedule
from headrace.loadtest.sender import Order, Started
from headrace.loadtest.sender_rows import Rows
from headrace.loadtest.sender_run import Calls, ClosedCalls, OpenCalls, Run

SPARED_FILES = 32
"""Descriptors that are no connections."""
PREPARATION_S, PREPARATION_A_CALL_S = 0.1, 1e-6
"""How long it takes from reading the clock to the first call."""


def main(parent: int) -> None:
    die_with_parent(parent)
    setproctitle("headrace: load sender")
    order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    signal.alarm(ceil(order.budget_s))
    if order.core is not None:
        os.sched_setaffinity(0, {order.core})
    allow_open_files()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARED_FILES
    gc.disable()
    send(order, files if order.most is None else min(files, order.most))


def send(order: Order, most: int) -> None:
    """One run, with so many connections at most."""
    load, callers = order.load, order.callers
    planned = len(load.times) if isinstance(load, Schedule) else load.connections
    zero = time.perf_counter() + PREPARATION_S + PREPARATION_A_CALL_S * planned
    calls: Calls
    if isinstance(load, Schedule):
        calls = OpenCalls(load, callers, zero)
    else:
        calls = ClosedCalls(load, callers, max(map(len, order.requests)), zero)
    rows = Rows(zero)
    tell(Started(zero))
    cpu_s = time.process_time()
    Run(calls, callers, order.requests, rows, tell).run(
        order.address, most, zero + load.seconds, spins=order.core is not None
    )
    tell(rows.record(callers, load.seconds, time.process_time() - cpu_s))


def tell(what: object) -> None:
    pickle.dump(what, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
