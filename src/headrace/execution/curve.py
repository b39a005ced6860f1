"""How fast a model runs and what it takes, batch size by batch size: a process that measures this and ends.

`python -m headrace.execution.curve PARENT`, a Load on standard input, a report a line on standard output. It opens the model
as a worker does, so that what it says is true of workers: same arrangement, same runtime, same inputs as a probe makes up.
Ascending sizes in a fresh process, many runs of each: the sweep at load (measure.py) is of a few, and says nothing of p99.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from headrace.errors import HeadraceError, LoadFailed
from headrace.execution import linux
from headrace.execution.death import death_of
from headrace.execution.measure import KNEE, NOISY, once
from headrace.execution.opening import LARGEST_SWEEP_BYTES, Opening
from headrace.execution.probe import Probe
from headrace.execution.process_memory import forget_peak, peak_private_bytes
from headrace.execution.profiles import Curve, Measured, ProfileStore
from headrace.execution.wire import Load

LEAST_RUNS, MOST_RUNS = 30, 2000
ENOUGH_S, MOST_S = 1.0, 10.0
"""A size is run for so long, and LEAST_RUNS times, even if that takes longer; but after MOST_S few runs have to do."""
FEW_RUNS = 5
FIRST_RUNS = 2
"""Not counted: the second may still take memory on top of the first, and what is taken is taken slowly."""
PAST_KNEE = 2
"""Doublings that bring next to nothing, after which no more are tried: one may have been beside somebody's noise."""


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """Nothing can be measured."""

    reason: str


Report = Measured | Curve | Refused
decode_report = msgspec.json.Decoder(Report).decode


def measure(load: Load, on_measured: Callable[[Measured], None]) -> Curve:
    """Have a process of its own measure a model; blocks. Each size is told when it is measured.

    Raises:
        LoadFailed: it cannot be loaded, or not be run on made-up inputs, or its process crashed.
    """
    command = [sys.executable, "-m", "headrace.execution.curve", str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own module
        assert process.stdin is not None, "asked for"
        assert process.stdout is not None, "asked for"
        try:
            process.stdin.write(msgspec.msgpack.encode(load))
            process.stdin.close()
            for line in process.stdout:
                match decode_report(line):
                    case Measured() as point:
                        on_measured(point)
                    case Curve() as curve:
                        return curve
                    case Refused(reason):
                        raise LoadFailed(reason)
        except BrokenPipeError:
            pass  # it ended before it had read what to load
        finally:
            process.kill()
    raise LoadFailed(f"its process {death_of(process.wait(), '', '').reason}")


def reports(load: Load) -> Iterator[Report]:
    """Each size as it is measured, and at last all of them."""
    try:
        opened = Opening(load, ProfileStore(Path(load.profile_dir) if load.profile_dir else None)).open()
    except LoadFailed as exc:
        yield Refused(str(exc))
        return
    spec, profile = opened.ready.spec, opened.ready.profile
    probe = Probe(opened.backend, max_batch_size=spec.max_batch_size, pads={})
    if probe.first_run() is None:
        yield Refused(f"it {probe.notes[-1].partition(':')[0]}" if probe.notes else "it cannot be run")
        return
    row_bytes = sum(array.nbytes for array in probe.row(0).values())
    most = min(load.max_rows, spec.max_batch_size, LARGEST_SWEEP_BYTES // max(1, row_bytes))
    sweep = Sweep(probe, max(1, most) if spec.joins_requests else 1, load.memory_limit)
    started, waited = time.perf_counter(), linux.waited_for_core_s()
    yield from sweep.run()
    busy = (linux.waited_for_core_s() - waited) / (time.perf_counter() - started)
    yield Curve(
        key=opened.ready.key,
        cost=probe.row_cost(),
        instances=profile.instances,
        threads=profile.threads,
        points=tuple(sweep.points),
        end=sweep.end,
        is_noisy=busy > NOISY,
    )


class Sweep:
    """Sizes up to the largest, as far as they are worth it and fit."""

    def __init__(self, probe: Probe, most: int, memory_limit: int | None) -> None:
        self._probe = probe
        self._most = most
        self._memory_limit = memory_limit
        # The mutable state: what was measured, and why no more is.
        self.points: list[Measured] = []
        self.end = ""

    def run(self) -> Iterator[Measured]:
        """Each size once it is measured."""
        rows = 1
        linux.trim_heap()  # what loading took is no run's
        while not self.end:
            try:
                inputs = self._probe.batch([self._probe.row(seed) for seed in range(rows)])
                point = measured(rows, partial(self._probe.run, inputs))
            except (HeadraceError, MemoryError) as exc:
                self.end = f"a run of {rows} rows failed: {str(exc) or type(exc).__name__}"
                return
            self.points.append(point)
            yield point
            following = min(2 * rows, self._most)
            self.end = self._end(following)
            rows = following

    def _end(self, following: int) -> str:
        """Why the next size is not tried, or ""."""
        points = self.points
        if points[-1].rows >= self._most:
            return "no more rows share a run"
        if len(points) > PAST_KNEE:
            gains = [
                later.rows / later.p50_s / (earlier.rows / earlier.p50_s)
                for earlier, later in zip(points[-PAST_KNEE - 1 :], points[-PAST_KNEE:], strict=False)
            ]
            if max(gains) < KNEE:
                return "more rows bring no more throughput"
        expected = self._expected_bytes(following)
        if self._memory_limit is not None and expected > self._memory_limit:
            return f"{following} rows would take about {expected / 1e6:.0f} MB, and no more is to be had"
        return ""

    def _expected_bytes(self, rows: int) -> int:
        """Of the next size, as they grew last."""
        *_, last = self.points
        before = self.points[-2] if len(self.points) > 1 else None
        if before is None:
            return last.nbytes
        a_row = (last.nbytes - before.nbytes) / (last.rows - before.rows)
        return round(last.nbytes + max(0.0, a_row) * (rows - last.rows))


def measured(rows: int, run: Callable[[], object]) -> Measured:
    """Runs of one size, long enough to say something of the slowest in a hundred."""
    forget_peak(os.getpid())
    for _ in range(FIRST_RUNS):
        run()
    took: list[float] = []
    started = time.perf_counter()
    while not is_enough(len(took), time.perf_counter() - started):
        took.append(once(run))
    p50, p99 = np.quantile(took, (0.5, 0.99), method="inverted_cdf")
    return Measured(
        rows, float(np.mean(took)), float(p50), float(p99), len(took), peak_private_bytes(os.getpid())
    )


def is_enough(runs: int, seconds: float) -> bool:
    """Whether so many runs in so many seconds tell what can be told."""
    if seconds >= MOST_S:
        return runs >= FEW_RUNS
    return runs >= MOST_RUNS or (runs >= LEAST_RUNS and seconds >= ENOUGH_S)


def main() -> None:
    linux.die_with_parent(int(sys.argv[1]))
    load = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load)
    # What a runtime prints is for the operator; our standard output is for reports.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for report in reports(load):
        out.write(msgspec.json.encode(report) + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # a runtime's own exit handlers may hang, and there is nothing left to save
