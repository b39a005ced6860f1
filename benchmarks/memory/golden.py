"""The golden point against every batch size there is: does what was chosen of a few sizes give away throughput?

A model's curve is measured as `headrace models --profile` does it, at powers of two, and the golden point is taken from it, for
several limits; so is the cap of a server's batches, which comes from the same curve by the way dispatch goes (l(b) as it is
learned, and the memory that runs may take). Then another process measures every size from 1 to the largest. Of the sizes
that by its figures keep the same limits the best is looked for, and what was chosen is held against that.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Behind this folder's own modules, as in run.py: this one is run by itself too.
sys.path += [
    str(Path(__file__).parents[2] / each)
    for each in ("benchmarks", "benchmarks/faults", "benchmarks/pressure", "tests")
]

import models
import msgspec
from measured import as_row
from report import Row

from headrace.admission.outlook import Outlook
from headrace.admission.room import Room
from headrace.batching.golden_point import OF_MEMORY, Bound, Point, of_curve
from headrace.batching.latency import LatencyModel, interpolate
from headrace.batching.policy import OF_TIGHTEST
from headrace.execution.curve import measure
from headrace.execution.footprint import Footprint
from headrace.execution.profiles import Curve
from headrace.execution.wire import Load

MODELS = {"thin ResNet-50": models.NSFW, "MiniLM": models.MINILM}
TARGET = 0.95
LARGEST, QUICK_LARGEST = 32, 8
ROUNDS, QUICK_ROUNDS = 6, 2
LIMIT_S = 900.0
OF_ROWS = {"memory": 0.35, "objective": 0.25}
"""Of the largest size: the rows that a limit is set to allow, between two that are measured."""
TITLE = "The golden point and every batch size"
HOW = f"One session of one thread; every size up to {LARGEST} measured in {ROUNDS} rounds, in a process of its own."


@dataclass(frozen=True)
class Limits:
    """Bytes the model may have, and the objective; None for none."""

    name: str
    memory_bytes: int | None = None
    objective_s: float | None = None

    def allows(self, size: dict[str, Any]) -> bool:
        """By what the exhaustive sweep has seen. One row always goes."""
        fits = self.memory_bytes is None or size["nbytes"] <= OF_MEMORY * self.memory_bytes
        is_short = self.objective_s is None or size["p99_s"] <= OF_TIGHTEST * self.objective_s
        return size["rows"] == 1 or (fits and is_short)


def rows(*, is_quick: bool = False) -> list[dict[str, Any]]:
    """A line for each model, limit and choice."""
    largest, rounds = (QUICK_LARGEST, QUICK_ROUNDS) if is_quick else (LARGEST, ROUNDS)
    return [
        line
        for name, package in MODELS.items()
        for line in measured_of(name, models.packaged(*package), largest, rounds)
    ]


def measured_of(name: str, path: Path, largest: int, rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        load = Load(name, "1", str(path), "onnxruntime", 1, largest, largest, 1, 1, profile_dir=folder)
        curve = measure(load, lambda _: None)
        sizes = exhaustive(load, list(range(1, largest + 1)), rounds)
    lines = []
    for limits in limits_of(curve, largest):
        golden = of_curve(points_of(curve), limits.memory_bytes, limits.objective_s)
        lines.append(judged(name, limits, f"golden point ({golden.bound.value})", golden.rows, sizes))
        if limits.objective_s is None:
            cap, bound = served_cap(curve, limits, largest)
            lines.append(judged(name, limits, f"server's cap ({bound.value})", cap, sizes))
    return lines


def limits_of(curve: Curve, largest: int) -> list[Limits]:
    """None; and such as allow some rows between two sizes that were measured."""
    sized = [(float(each.rows), float(each.nbytes)) for each in curve.points]
    slowest = [(float(each.rows), each.p99_s) for each in curve.points]
    nbytes = interpolate(sized, max(1, round(OF_ROWS["memory"] * largest)))
    half_s = interpolate(slowest, max(1, round(OF_ROWS["objective"] * largest)))
    return [
        Limits("none"),
        Limits("memory", memory_bytes=round(nbytes / OF_MEMORY)),
        Limits("objective", objective_s=half_s / OF_TIGHTEST),
    ]


def points_of(curve: Curve) -> list[Point]:
    return [Point(each.rows, each.mean_s, each.p50_s, each.p99_s, each.nbytes) for each in curve.points]


def served_cap(curve: Curve, limits: Limits, largest: int) -> tuple[int, Bound]:
    """What the pipeline of a server makes of it, once runs of these sizes have taught it l(b), with so much memory for runs."""
    outlook = Outlook(lambda _: None)
    outlook.latency = LatencyModel({curve.cost: {each.rows: each.p50_s for each in curve.points}})
    if limits.memory_bytes is not None:
        least = curve.points[0].nbytes
        peaks = {curve.cost: {each.rows: each.nbytes - least for each in curve.points}}
        nbytes = round(OF_MEMORY * limits.memory_bytes) - least
        outlook.room = Room(Footprint(0, least, peaks), nbytes, nbytes)
    outlook.learn(largest, 0.0)
    point = outlook.golden_point(curve.cost)
    return point.rows, point.bound


def judged(name: str, limits: Limits, chosen: str, count: int, sizes: list[dict[str, Any]]) -> dict[str, Any]:
    best = max(filter(limits.allows, sizes), key=lambda each: each["rate"])
    rate = sizes[count - 1]["rate"]
    part = rate / best["rate"]
    return {
        "model": name,
        "limit": limits.name,
        "chosen by": chosen,
        "rows": count,
        "rows a second": rate,
        "best allowed": best["rows"],
        "its rows a second": best["rate"],
        "part of it": part,
        "target": "thin ResNet-50 and MiniLM: the chosen cap has at least 0.95 of the best throughput under the same limits",
        "found": f"{name}, limit {limits.name}, {chosen}: {part:.2f}",
        "reached": part >= TARGET,
    }


def exhaustive(load: Load, sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """Every size, by a process of its own."""
    asked = {"load": msgspec.to_builtins(load), "sizes": sizes, "rounds": rounds}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("sweep.py"))],
        input=json.dumps(asked, default=str).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=LIMIT_S,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def row(*, is_quick: bool = False) -> Row:
    """For the report."""
    return as_row(TITLE, HOW, rows(is_quick=is_quick))


if __name__ == "__main__":
    print(row(is_quick="--quick" in sys.argv).markdown())
