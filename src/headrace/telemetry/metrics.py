"""Every metric, in one list, fed by events and shown in docs/metrics.md.

prometheus_client takes a lock and a few microseconds for each observation, and there are three a request; so requests
are counted in plain lists, batch by batch, and handed to it when somebody scrapes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from headrace.events import BatchDone, Event, RequestsDropped, RequestsFailed, VersionChanged, WorkerDied

LABELS = ("skill", "version")
SECONDS = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

HISTOGRAMS = {
    "inference_latency_seconds": "From a request's arrival to its answer.",
    "inference_queue_seconds": "From a request's arrival to the start of its run.",
    "inference_compute_seconds": "Of a batch in the backend, by the worker's clock.",
    "inference_batch_size": "Rows that ran together.",
}
COUNTERS = {
    "inference_requests": "Requests answered, by outcome: ok, dropped, or an error's code.",
    "worker_deaths": "Worker processes that ended without being asked to.",
}
GAUGES = {
    "inference_waiting_requests": "Requests in the queue.",
    "inference_waiting_bytes": "Bytes of tensors in the queue.",
    "model_ready": "1 while the version answers requests.",
}

Key = tuple[str, str]
Waiting = Callable[[], Iterable[tuple[str, str, int, int, bool]]]


class Histogram:
    """Counts by bucket. On the loop only."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Count one observation each."""
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Metrics:
    """Counts events, and is prometheus_client's collector of itself."""

    def __init__(self, waiting: Waiting) -> None:
        """`waiting` gives model, version, requests and bytes in the queue, and readiness of each version."""
        self._waiting = waiting
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        # The mutable state: counts by model and version.
        self._histograms: dict[str, dict[Key, Histogram]] = {name: {} for name in HISTOGRAMS}
        self._outcomes: dict[tuple[str, str, str], int] = {}
        self._deaths: dict[Key, int] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case BatchDone():
                self._count_batch(event)
            case RequestsFailed(model, version, reason, waits):
                self._count(model, version, reason, len(waits))
            case RequestsDropped(model, version, count):
                self._count(model, version, "dropped", count)
            case WorkerDied(model, version, _, deaths):
                self._deaths[model, version] = deaths
            case VersionChanged():
                pass

    def exposition(self) -> tuple[bytes, str]:
        """The text for Prometheus and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        for name, text in HISTOGRAMS.items():
            family = HistogramMetricFamily(name, text, labels=LABELS)
            for key, histogram in self._histograms[name].items():
                family.add_metric(list(key), histogram.buckets(), histogram.total)
            yield family
        outcomes = CounterMetricFamily(
            "inference_requests", COUNTERS["inference_requests"], labels=(*LABELS, "outcome")
        )
        for outcome, count in self._outcomes.items():
            outcomes.add_metric(list(outcome), count)
        yield outcomes
        deaths = CounterMetricFamily("worker_deaths", COUNTERS["worker_deaths"], labels=LABELS)
        for key, count in self._deaths.items():
            deaths.add_metric(list(key), count)
        yield deaths
        gauges = [GaugeMetricFamily(name, text, labels=LABELS) for name, text in GAUGES.items()]
        for model, version, *values in self._waiting():
            for gauge, value in zip(gauges, values, strict=True):
                gauge.add_metric([model, version], float(value))
        yield from gauges

    def _count_batch(self, event: BatchDone) -> None:
        key = (event.model, event.version)
        for name, values in (
            ("inference_latency_seconds", event.latencies),
            ("inference_queue_seconds", event.queue_waits),
            ("inference_compute_seconds", (event.compute,)),
            ("inference_batch_size", (event.rows,)),
        ):
            histogram = self._histograms[name].get(key)
            if histogram is None:
                bounds = ROWS if name == "inference_batch_size" else SECONDS
                histogram = self._histograms[name][key] = Histogram(bounds)
            histogram.observe(values)
        self._count(event.model, event.version, "ok", len(event.latencies))

    def _count(self, model: str, version: str, outcome: str, count: int) -> None:
        key = (model, version, outcome)
        self._outcomes[key] = self._outcomes.get(key, 0) + count
