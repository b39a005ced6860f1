"""What a model takes, batch size by batch size: ascending, since what a run took is kept for the next.

An arena hands out its pieces in another way for other sizes, so a worker that runs batches of up to b rows ends up with more
than one that runs b rows only: each size is run together with smaller ones, and on all instances at once.
"""

import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from os import getpid
from threading import Barrier

import numpy as np

from headrace.backends.base import Backend, ItemErrors, giving_back
from headrace.errors import HeadraceError, OutOfMemory
from headrace.execution import linux
from headrace.execution.footprint import Peaks, Sizes, line_through
from headrace.execution.measure import KNEE, REPEATS, once
from headrace.execution.probe import Probe
from headrace.execution.process_memory import (
    forget_peak,
    peak_private_bytes,
    private_address_space,
    private_bytes,
)
from headrace.execution.wire import SLOTS

Arrays = dict[str, np.ndarray]

LEAST_ROWS = 8
"""So many are tried even where more rows bring nothing: a line needs a few points."""
SMALLER = (0.75, 0.625, 0.875)
"""Of a size, run beside it."""
SLACK = 576 << 20
"""Address space beyond the limit, and beyond as much again as there is up to it: an arena asks for a large region, of which it
touches little, and loses what it gets if that is less. Runs that are not thought to fit are not tried at all; this bounds
those of which that was wrong."""


@dataclass(slots=True)
class Taken:
    """What a sweep found out.

    Attributes:
        peaks: as of Footprint.
        over: as of Footprint.
        data: as of Footprint.
    """

    peaks: Peaks = field(default_factory=dict)
    over: Peaks = field(default_factory=dict)
    data: int = 0


class MemorySweep:
    """Runs batches on all instances of a worker, and sees what that takes. In a process that does nothing else."""

    def __init__(self, backends: list[Backend], memory_limit: int | None) -> None:
        """`backends` are an object an instance, loaded; `memory_limit` is what this process may have, None for any."""
        self._backends = backends
        self._names = [each.name for each in backends[0].outputs]
        self._limit = memory_limit
        self._base = private_bytes(getpid())
        self.taken = Taken()

    def run(
        self,
        batch: Callable[[int], Arrays],
        sizes: Iterable[int],
        ends: float = inf,
        *,
        stops_at_knee: bool = True,
    ) -> None:
        """Run these sizes, ascending, of rows that are all alike; may be called again with longer rows.

        Args:
            batch: made-up inputs of so many rows.
            sizes: rows, ascending; the first is tried in any case.
            ends: when no further size is begun, by time.perf_counter.
            stops_at_knee: where more rows bring no more throughput, more are not tried.
        """
        cost = sum(array.size for array in batch(1).values())
        peaks: Sizes = {}
        seconds: dict[int, float] = {}
        with self._threads() as pool, self._bounded():
            for rows in sizes:
                if peaks and not self._is_worth(rows, peaks, seconds, ends):
                    break
                if stops_at_knee and is_past_knee(seconds):
                    break
                try:
                    seconds[rows] = statistics.median(self._timed(batch(rows)))
                    peaks[rows] = self._peak(pool, batch, rows)
                except (OutOfMemory, MemoryError):
                    self.taken.over[cost] = {rows: self._room}
                    break
                except (HeadraceError, ItemErrors):
                    break  # it cannot run so many, whatever its artifact declares
        if peaks:
            self.taken.peaks[cost] = peaks

    @property
    def _room(self) -> int:
        """Bytes that runs may take."""
        return 0 if self._limit is None else max(0, self._limit - self._base)

    def _is_worth(self, rows: int, peaks: Sizes, seconds: dict[int, float], ends: float) -> bool:
        """Whether the next size is to be tried: there is time for it, and by the others it will fit."""
        last = max(peaks)
        runs = REPEATS + 1 + (2 + len(SMALLER)) * len(self._backends)
        if time.perf_counter() + seconds[last] * rows / last * runs > ends:
            return False
        base, slope = line_through(list(peaks.items()))
        return self._limit is None or len(self._backends) * (base + slope * rows) <= self._room

    def _timed(self, inputs: Arrays) -> list[float]:
        """Seconds of a few runs of one instance; the first is not counted, since it allocates."""
        run = partial(self._backends[0].run, inputs, self._names)
        return [once(run) for _ in range(REPEATS + 1)][1:]

    def _peak(self, pool: ThreadPoolExecutor, batch: Callable[[int], Arrays], rows: int) -> int:
        """Bytes that a worker has on top for each instance, once all have run up to so many rows, with its slots."""
        inputs = batch(rows)
        orders = [
            inputs,
            *(batch(n) for n in {round(part * rows) for part in SMALLER} if 0 < n < rows),
            inputs,
        ]
        held = sum(array.nbytes for each in orders[:-1] for array in each.values())
        forget_peak(getpid())
        together = Barrier(len(self._backends))
        jobs = [pool.submit(self._run_all, each, orders, together) for each in self._backends]
        placed = max(job.result() for job in jobs)
        # What lies here in our own memory lies in slots there: SLOTS batches of inputs and outputs.
        in_slots = SLOTS * (placed + sum(array.nbytes for array in inputs.values()))
        peak = peak_private_bytes(getpid())
        self.taken.data = max(self.taken.data, private_address_space() - private_bytes(getpid()))
        return max(0, peak - self._base - held) // len(self._backends) + in_slots

    def _run_all(self, backend: Backend, batches: list[Arrays], together: Barrier) -> int:
        """Run one after the other, beginning when all instances do; the bytes of the largest outputs."""
        together.wait()
        return max(sum(array.nbytes for array in backend.run(each, self._names)) for each in batches)

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """A thread an instance, all of them started: where address space has become short, none can be."""
        with ThreadPoolExecutor(len(self._backends)) as pool:
            started = Barrier(len(self._backends) + 1)
            for _ in self._backends:
                pool.submit(started.wait)
            started.wait()
            yield pool

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Have an allocation beyond the limit fail, rather than take memory from everybody."""
        if self._limit is None:
            yield
            return
        before = resource.getrlimit(resource.RLIMIT_DATA)
        more = max(0, self._limit - private_bytes(getpid()))
        room = private_address_space() + 2 * more + SLACK
        hard = before[1]
        resource.setrlimit(resource.RLIMIT_DATA, (room if hard < 0 else min(room, hard), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def is_past_knee(seconds: dict[int, float]) -> bool:
    """Whether twice the rows brought next to no more throughput, the last time."""
    rows = max(seconds, default=0)
    half = max((each for each in seconds if 2 * each <= rows), default=None)
    if half is None or rows < LEAST_ROWS:
        return False
    return rows / seconds[rows] < KNEE * half / seconds[half]


def sweep_memory(probe: Probe, instances: int, most: int, memory_limit: int | None, budget_s: float) -> Taken:
    """What runs of a model take, by rows and, where these vary, by their length.

    Args:
        probe: its backend is loaded, and has run.
        instances: how many run at once.
        most: rows of the largest batch.
        memory_limit: private bytes this process may have; None for any.
        budget_s: no further size is begun after that; each length gets its part.
    """
    backends = [probe.backend, *(probe.backend.clone() for _ in range(instances - 1))]
    sweep = MemorySweep(backends, memory_limit)
    rows = probe.rows_by_length()
    for at, row in enumerate(rows):
        settle(probe)  # what shorter rows took is not theirs
        ends = time.perf_counter() + budget_s / len(rows)
        sweep.run(partial(alike, probe, row), doubling(max(1, most >> at)), ends)
    return sweep.taken


def settle(probe: Probe) -> None:
    """Give back what trying out took."""
    if probe.runs:
        with giving_back(probe.backend):
            probe.run(probe.row(0))
    linux.trim_heap()


def alike(probe: Probe, row: Arrays, rows: int) -> Arrays:
    """A batch of so many rows that are the same."""
    return probe.batch([row] * rows)


def doubling(most: int) -> Iterator[int]:
    """1, 2, 4 … and at last the most itself."""
    rows = 1
    while rows < most:
        yield rows
        rows *= 2
    yield most
