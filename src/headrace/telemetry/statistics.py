"""The protocol's statistics extension: counts and nanoseconds by version, every key always there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headrace.events import BatchDone, Event, RequestsDropped, RequestsFailed, VersionForgotten

NANOSECONDS = 1e9
DURATIONS = (
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
)
STEPS = ("compute_input", "compute_infer", "compute_output")


@dataclass(slots=True)
class Duration:
    """How often, and how many seconds in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        self.count += count
        self.seconds += seconds

    def json(self) -> dict[str, int]:
        return {"count": self.count, "ns": round(self.seconds * NANOSECONDS)}


def durations(names: tuple[str, ...]) -> dict[str, Duration]:
    return {name: Duration() for name in names}


@dataclass(slots=True)
class Counts:
    """Of one version since the server started."""

    last_inference_ms: int = 0
    inferences: int = 0
    executions: int = 0
    totals: dict[str, Duration] = field(default_factory=lambda: durations(DURATIONS))
    batches: dict[int, dict[str, Duration]] = field(default_factory=dict)


class Statistics:
    """As Triton counts: a batch's compute time is added for each request in it, but once to its batch size."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._counts: dict[tuple[str, str], Counts] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case BatchDone():
                self._count_batch(event)
            case RequestsFailed(model, version, _, waits):
                self._of(model, version).totals["fail"].add(len(waits), sum(waits))
            case VersionForgotten(model, version):
                self._counts.pop((model, version), None)
            case RequestsDropped():
                pass  # nobody was answered
            case _:
                pass

    def json(self, model: str, version: str) -> dict[str, Any]:
        """A version's entry in `model_stats`."""
        counts = self._of(model, version)
        return {
            "name": model,
            "version": version,
            "last_inference": counts.last_inference_ms,
            "inference_count": counts.inferences,
            "execution_count": counts.executions,
            "inference_stats": {name: total.json() for name, total in counts.totals.items()},
            "response_stats": {},
            "batch_stats": [
                {"batch_size": size, **{name: each.json() for name, each in steps.items()}}
                for size, steps in sorted(counts.batches.items())
            ],
            "memory_usage": [],
        }

    def _count_batch(self, event: BatchDone) -> None:
        counts = self._of(event.model, event.version)
        requests = len(event.latencies)
        counts.last_inference_ms = round(self._wall_clock() * 1000)
        counts.inferences += event.rows
        counts.executions += 1
        counts.totals["success"].add(requests, sum(event.latencies))
        counts.totals["queue"].add(requests, sum(event.queue_waits))
        steps = counts.batches.get(event.rows)
        if steps is None:
            steps = counts.batches[event.rows] = durations(STEPS)
        for name, seconds in zip(STEPS, (event.input_s, event.compute, event.output_s), strict=True):
            counts.totals[name].add(requests, requests * seconds)
            steps[name].add(1, seconds)

    def _of(self, model: str, version: str) -> Counts:
        counts = self._counts.get((model, version))
        if counts is None:
            counts = self._counts[model, version] = Counts()
        return counts
