"""The process that sends: one order in, what happened in each second out, the record last."""

import gc
import os
import pickle
import resource
import signal
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path

from setproctitle import setproctitle

from headrace.execution.linux import allow_open_files, die_with_parent
from headrace.loadtest.record import Record
from headrace.loadtest.sender import Order, Progress, Started
from headrace.loadtest.sender_run import carry_out

FIRST = -20
"""The highest priority that is not real-time."""
SPARED_FILES = 32
"""Descriptors that are no connections."""


def main(parent: int) -> None:
    die_with_parent(parent)
    setproctitle("headrace: load sender")
    order: Order = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    signal.alarm(ceil(order.budget_s))
    if order.core is not None:
        os.sched_setaffinity(0, {order.core})
        go_first()
    allow_open_files()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARED_FILES
    gc.disable()
    carry_out(order, files if order.most is None else min(files, order.most), tell)


def go_first() -> None:
    """Whoever strays onto its core must not make it late, as far as it may say so: within its session, and its session."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
        Path("/proc/self/autogroup").write_text(str(FIRST))


def tell(what: Started | Progress | Record) -> None:
    pickle.dump(what, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
