"""A short measurement at load: how many threads and instances, and the first points of l(b).

Later points come from real batches (batching/latency.py). On a CPU a bigger batch is often no faster by the row than a
small one, and two instances of one thread often beat one of two, so neither is assumed.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import inf

import numpy as np

from headrace.backends.base import Backend
from headrace.execution import linux
from headrace.execution.probe import Probe

WORTH_THREADS_S = 2e-3
"""A run shorter than this gains nothing from more threads: waking them costs as much as they save."""
GAIN = 1.10
"""More threads or instances have to be at least so much faster; they take the cores from everybody else."""
COMPARED_S = 0.03
"""Arrangements are compared with runs of about this length, or of one row if that is longer."""
KNEE = 1.05
"""The sweep ends when twice the rows give less than this times the throughput."""
REPEATS = 3
NOISY = 0.1
"""A comparison that waited for a core for more than this share of its time says nothing."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How a model is run. `is_noisy`: not measured, since the machine was busy with something else."""

    threads: int
    instances: int
    is_noisy: bool = False


def arrange(load: Callable[[int], Backend], probe: Probe, cores: int, rows: int) -> Arrangement:
    """The fastest of one thread, `cores` threads, and `cores` instances of one thread.

    Args:
        load: opens the model with that many threads.
        probe: holds the backend opened with one thread, and makes its inputs.
        cores: how many there are to use.
        rows: the largest batch to compare with.

    Returns:
        The fastest, or where the machine was too busy to tell the usual one: an instance a core. The probe then holds
        a backend opened with so many threads.
    """
    single = probe.backend
    first = seconds(lambda: probe.run(probe.row(0)))
    rows = min(rows, max(1, int(COMPARED_S / first)))
    inputs = probe.batch([probe.row(seed) for seed in range(rows)])
    if cores == 1 or seconds(lambda: probe.run(inputs)) < WORTH_THREADS_S:
        return Arrangement(1, 1)
    parallel = load(cores)
    names = [each.name for each in single.outputs]
    parallel.run(inputs, names)
    one = threads = together = inf
    started, waited = time.perf_counter(), linux.waited_for_core_s()
    for _ in range(REPEATS):
        # In turn, and the best of each: what else the machine does comes and goes.
        one = min(one, once(partial(single.run, inputs, names)))
        threads = min(threads, once(partial(parallel.run, inputs, names)))
        together = min(together, seconds_together(single, inputs, cores) / cores)
    waited = linux.waited_for_core_s() - waited
    if waited > NOISY * (time.perf_counter() - started):
        return Arrangement(1, cores, is_noisy=True)
    if together * GAIN < min(threads, one):
        return Arrangement(1, cores)
    if threads * GAIN < one:
        probe.backend = parallel
        return Arrangement(cores, 1)
    return Arrangement(1, 1)


def sweep(probe: Probe, largest: int, budget_s: float) -> dict[int, float]:
    """Rows → seconds of a run, doubling until the throughput stops growing, or the budget or the memory is spent."""
    latencies: dict[int, float] = {}
    ends = time.perf_counter() + budget_s
    rows = 1
    while rows <= largest:
        try:
            inputs = probe.batch([probe.row(seed) for seed in range(rows)])
            probe.run(inputs)
            latencies[rows] = seconds(partial(probe.run, inputs))
        except MemoryError:
            if not latencies:
                raise
            break
        half = latencies.get(rows // 2)
        if half is not None and 2 * half < KNEE * latencies[rows]:
            break
        if time.perf_counter() + 2 * REPEATS * latencies[rows] > ends:
            break
        rows *= 2
    return latencies


def seconds(run: Callable[[], object]) -> float:
    """Median seconds of a few runs."""
    return statistics.median(once(run) for _ in range(REPEATS))


def once(run: Callable[[], object]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def seconds_together(backend: Backend, inputs: dict[str, np.ndarray], instances: int) -> float:
    """Seconds of a run while as many instances run at once; the slowest of them counts."""
    names = [each.name for each in backend.outputs]
    clones = [backend.clone() for _ in range(instances)]
    with ThreadPoolExecutor(instances) as pool:
        jobs = [pool.submit(once, partial(clone.run, inputs, names)) for clone in clones]
        return max(job.result() for job in jobs)
