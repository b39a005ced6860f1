"""Refusals, cancellations and rejections by the million, in a process of their own: does it grow?"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from faulty import Faults
from report import Row, Target

COUNTS = {
    "refusals": 1_000_000,
    "cancellations": 1_000_000,
    "rejections": 100_000,
    "rejections of one's own": 100_000,
}
QUICK = 10
REPEATED = Path(__file__).parents[2] / "tests" / "repeated.py"
LIMIT_S = 600.0
WARM = 0.25
"""Of a series, in which caches fill."""
NOISE_BYTES = 256 << 10
"""What a process that does nothing but the same may grow and shrink by."""
MOST_BYTES = 1.0
"""Each: less than what remembering that it happened would take."""


def measure(bench: Faults) -> Row:
    row = Row("Growth", HOW)
    row.columns = ["what", "how many", "resident before, MB", "after, MB", "grown a million, MB"]
    for name, full in COUNTS.items():
        count = full // QUICK if bench.is_quick else full
        done, resident = series(name, count)
        warm = round(WARM * len(done))
        slope = float(np.polyfit(done[warm:], resident[warm:], 1)[0])
        grown = slope * (done[-1] - done[warm])
        row.lines.append(
            [
                name,
                str(count),
                f"{resident[warm] / 1e6:.1f}",
                f"{resident[-1] / 1e6:.1f}",
                f"{slope:+.2f}",
            ]
        )
        row.targets.append(
            Target(
                f"{count} {name}: no growth of memory",
                bool(grown <= max(NOISE_BYTES, MOST_BYTES * count)),
                f"{grown / 1e3:+.0f} kB, {slope:+.2f} bytes each",
            )
        )
        row.raw[name] = {"done": done.tolist(), "resident": resident.tolist()}
        bench.say(f"{count} {name}: {grown / 1e3:+.0f} kB")
    return row


HOW = """A pipeline with instances that do nothing, in a process of its own; resident memory is read 200 times, and a line is laid through \
what comes after the first quarter. Refusals are for want of time and for want of room by turns, cancellations of what waits and of what \
runs; rejections are by an open breaker, \
the server's and one around a function."""


def series(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """How many there had been, and bytes resident then."""
    command = [sys.executable, str(REPEATED), name, str(count)]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    done, resident = np.array(json.loads(found.stdout), "f8").T
    return done, resident
