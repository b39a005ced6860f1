"""A short measurement at load: how many threads and instances, and the first points of l(b).

Later points come from real batches (batching/latency.py). On a CPU a bigger batch is often no faster by the row than a
small one, and two instances of one thread often beat one of two, so neither is assumed.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from headrace.backends.base import Backend
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


def arrange(load: Callable[[int], Backend], probe: Probe, cores: int, rows: int) -> tuple[int, int]:
    """The fastest of one thread, `cores` threads, and `cores` instances of one thread.

    Args:
        load: opens the model with that many threads.
        probe: holds the backend opened with one thread, and makes its inputs.
        cores: how many there are to use.
        rows: the largest batch to compare with.

    Returns:
        Threads and instances; the probe then holds a backend opened with so many threads.
    """
    single = probe.backend
    first = seconds(lambda: probe.run(probe.row(0)))
    rows = min(rows, max(1, int(COMPARED_S / first)))
    inputs = probe.batch([probe.row(seed) for seed in range(rows)])
    one = seconds(lambda: probe.run(inputs))
    if cores == 1 or one < WORTH_THREADS_S:
        return 1, 1
    parallel = load(cores)
    probe.backend = parallel
    threads = seconds(lambda: probe.run(inputs))
    probe.backend = single
    instances = seconds_together(single, probe, rows, cores) / cores
    if instances * GAIN < min(threads, one):
        return 1, cores
    if threads * GAIN < one:
        probe.backend = parallel
        return cores, 1
    return 1, 1


def sweep(probe: Probe, largest: int, budget_s: float) -> dict[int, float]:
    """Rows → seconds of a run, doubling until the throughput stops growing or the budget is spent."""
    latencies: dict[int, float] = {}
    ends = time.perf_counter() + budget_s
    rows = 1
    while rows <= largest:
        inputs = probe.batch([probe.row(seed) for seed in range(rows)])
        probe.run(inputs)
        latencies[rows] = seconds(partial(probe.run, inputs))
        half = latencies.get(rows // 2)
        if half is not None and 2 * half < KNEE * latencies[rows]:
            break
        if time.perf_counter() + 2 * REPEATS * latencies[rows] > ends:
            break
        rows *= 2
    return latencies


def seconds(run: Callable[[], object]) -> float:
    """Median seconds of a few runs."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def seconds_together(backend: Backend, probe: Probe, rows: int, instances: int) -> float:
    """Median seconds of a run while as many instances run at once."""
    inputs = probe.batch([probe.row(seed) for seed in range(rows)])
    names = [each.name for each in backend.outputs]
    clones = [backend.clone() for _ in range(instances)]
    with ThreadPoolExecutor(instances) as pool:
        jobs = [pool.submit(seconds, partial(clone.run, inputs, names)) for clone in clones]
        return statistics.median(job.result() for job in jobs)
