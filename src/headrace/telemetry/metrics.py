"""Every metric, in one list, fed by events and shown in docs/metrics.md.

prometheus_client takes a lock and a few microseconds for each observation, and there are three a request; so requests
are counted in plain lists, batch by batch, and handed to it when somebody scrapes.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from headrace.events import (
    BatchDone,
    BreakerChanged,
    BudgetChanged,
    Degraded,
    Event,
    FilesChanged,
    OutOfMemory,
    RequestsAbsent,
    RequestsDropped,
    RequestsFailed,
    TransformsDone,
    VersionChanged,
    VersionEvicted,
    VersionForgotten,
    VersionLoaded,
    WorkerDied,
)
from headrace.telemetry import memory, triton
from headrace.telemetry.device_time import DeviceTime, Share
from headrace.telemetry.statistics import Statistics

if TYPE_CHECKING:  # for an annotation only, as in memory.py
    from headrace.lifecycle.memory_view import MemoryView

LABELS = ("skill", "version")
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
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
    "inference_device_seconds": "Device time of runs by whose it was; a run on half of the device's cores counts half.",
    "inference_input_bytes": "Bytes of the inputs of runs with their padding, of models whose rows may be padded.",
    "inference_padding_bytes": "Of these, bytes of padding.",
    "inference_degraded": "Requests, or items, given a lesser answer, by what answered and why not what was asked.",
    "worker_deaths": "Worker processes that ended without being asked to.",
    "breaker_trips": "Times that the circuit breaker has opened by itself.",
    **memory.COUNTERS,
}
VERSION_GAUGES = {
    "inference_waiting_requests": "Requests in the queue.",
    "inference_waiting_bytes": "Bytes of tensors in the queue.",
    "model_ready": "1 while the version answers requests.",
    "skill_objective_seconds": "Promised p99 latency, where the skill promises one.",
}
LOOP_LAG = "loop_lag_seconds"
BREAKER = "breaker_state"
GAUGES = {
    **VERSION_GAUGES,
    BREAKER: "1 for the state that the circuit breaker is in, 0 for the others.",
    LOOP_LAG: "How late the gateway's loop was when it was last looked at.",
    **memory.GAUGES,
}
OPEN = "open"
BREAKER_STATES = ("closed", OPEN, "half_open", "forced_open", "forced_closed")

Key = tuple[str, str]
Held = tuple[str, str, str | None, int, int, bool, float | None]
"""Of a version: its model and number, the state of its circuit breaker if it has one, requests and bytes that wait, whether
it is ready, the promised p99 in seconds."""
Waiting = Callable[[], Iterable[Held]]


class Families:
    """A collector of what was collected."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept header names OpenMetrics with no less weight than plain text."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for offer in accept.split(","):
        kind, *parameters = [part.strip().lower() for part in offer.split(";")]
        if kind not in weights:
            continue
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                weight = float(value) if NUMBER.fullmatch(value) else 0.0
        weights[kind] = max(weights[kind], weight)
    return weights["application/openmetrics-text"] > 0 and (
        weights["application/openmetrics-text"] >= weights["text/plain"]
    )


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

    def __init__(
        self,
        waiting: Waiting,
        statistics: Statistics | None = None,
        loop_lag_s: Callable[[], float] = float,
        tenants: Iterable[str] = (),
        memory_view: Callable[[], "MemoryView | None"] = lambda: None,
    ) -> None:
        """What gives the figures that are not counted here.

        Args:
            waiting: gives model, version, requests and bytes in the queue, and readiness of each version.
            statistics: gives the totals under Triton's names; None leaves these metrics out.
            loop_lag_s: gives seconds that the gateway's loop was late.
            tenants: names that are always counted by themselves.
            memory_view: gives what there is of memory, None if nobody can tell.
        """
        self._waiting = waiting
        self._memory_view = memory_view
        self._loop_lag_s = loop_lag_s
        self._tenants = tuple(tenants)
        self._statistics = statistics
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        # The mutable state: counts by model and version.
        self._histograms: dict[str, dict[Key, Histogram]] = {name: {} for name in HISTOGRAMS}
        self._outcomes: dict[tuple[str, str, str], int] = {}
        self._deaths: dict[Key, int] = {}
        self._trips: dict[Key, int] = {}
        self._memory = memory.Counts()
        self._degraded: dict[tuple[str, str, str, str], int] = {}
        self._device_time: dict[Key, DeviceTime] = {}
        self._bytes: dict[Key, tuple[int, int]] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case BatchDone():
                self._count_batch(event)
            case TransformsDone(model, version, shares):
                self._count_device_time((model, version), shares)
            case RequestsFailed(model, version, reason, waits):
                self._count(model, version, reason, len(waits))
            case RequestsDropped(model, version, count):
                self._count(model, version, "dropped", count)
            case WorkerDied() | BreakerChanged() | Degraded():
                self._count_fault(event)
            case OutOfMemory() | RequestsAbsent() | VersionEvicted() | VersionLoaded():
                self._memory.count(event)
            case VersionForgotten(model, version):
                self._forget((model, version))
            case VersionChanged() | FilesChanged() | BudgetChanged():
                pass

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The text for Prometheus and its content type, as OpenMetrics if the scraper's Accept prefers that."""
        figures = list(self._triton_figures())
        if prefers_openmetrics(accept):
            registry = CollectorRegistry(auto_describe=False)
            registry.register(Families([*self.collect(), *triton.families(figures)]))
            content: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            return content, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry) + triton.text(figures), CONTENT_TYPE_PLAIN_0_0_4

    def _triton_figures(self) -> Iterator[triton.Figures]:
        """Of each version, whether or not it has been asked anything."""
        if self._statistics is None:
            return
        failures: dict[Key, dict[str, int]] = {}
        for (model, version, outcome), count in self._outcomes.items():
            if outcome != "ok":
                of_version = failures.setdefault((model, version), {})
                reason = triton.reason_of(outcome)
                of_version[reason] = of_version.get(reason, 0) + count
        for model, version, _, waiting, *_ in self._waiting():
            entry = self._statistics.json(model, version)
            yield triton.figures(model, version, entry, failures.get((model, version), {}), waiting)

    def collect(self) -> Iterator[Metric]:
        for name, text in HISTOGRAMS.items():
            family = HistogramMetricFamily(name, text, labels=LABELS)
            for key, histogram in self._histograms[name].items():
                family.add_metric(list(key), histogram.buckets(), histogram.total)
            yield family
        yield from self._counters()
        gauges = [GaugeMetricFamily(name, text, labels=LABELS) for name, text in VERSION_GAUGES.items()]
        breakers = GaugeMetricFamily(BREAKER, GAUGES[BREAKER], labels=(*LABELS, "state"))
        for model, version, present, *values in self._waiting():
            for gauge, value in zip(gauges, values, strict=True):
                if value is not None:
                    gauge.add_metric([model, version], float(value))
            if present is not None:
                for state in BREAKER_STATES:
                    breakers.add_metric([model, version, state], float(state == present))
        yield from (*gauges, breakers)
        yield GaugeMetricFamily(LOOP_LAG, GAUGES[LOOP_LAG], value=self._loop_lag_s())
        yield from memory.gauges(self._memory_view())

    def _counters(self) -> Iterator[Metric]:
        outcomes = counter("inference_requests", "outcome")
        for outcome, count in self._outcomes.items():
            outcomes.add_metric(list(outcome), count)
        device = counter("inference_device_seconds", "tenant", "length")
        for key, times in self._device_time.items():
            for tenant, length, seconds in times.samples():
                device.add_metric([*key, tenant, length], seconds)
        inputs, padding = counter("inference_input_bytes"), counter("inference_padding_bytes")
        for key, (nbytes, padded) in self._bytes.items():
            inputs.add_metric(list(key), nbytes)
            padding.add_metric(list(key), padded)
        yield from (outcomes, device, inputs, padding)
        yield from self._fault_counters()
        yield from self._memory.collect()

    def _fault_counters(self) -> Iterator[Metric]:
        degraded = counter("inference_degraded", "step", "reason")
        for labels, count in self._degraded.items():
            degraded.add_metric(list(labels), count)
        yield degraded
        for name, counts in (("worker_deaths", self._deaths), ("breaker_trips", self._trips)):
            family = counter(name)
            for key, count in counts.items():
                family.add_metric(list(key), count)
            yield family

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
        self._count_device_time(key, event.shares)
        nbytes, padded = self._bytes.get(key, (0, 0))
        self._bytes[key] = nbytes + event.padding[0], padded + event.padding[1]

    def _count_fault(self, event: WorkerDied | BreakerChanged | Degraded) -> None:
        match event:
            case WorkerDied(model, version, _, deaths):
                self._deaths[model, version] = deaths
            case BreakerChanged(model, version, state):
                self._trips[model, version] = self._trips.get((model, version), 0) + (state == OPEN)
            case Degraded(model, version, step, reason):
                key = (model, version, step, reason)
                self._degraded[key] = self._degraded.get(key, 0) + 1

    def _count_device_time(self, key: Key, shares: tuple[Share, ...]) -> None:
        times = self._device_time.get(key)
        if times is None:
            times = self._device_time[key] = DeviceTime(self._tenants)
        times.add(shares)

    def _forget(self, key: Key) -> None:
        for histograms in self._histograms.values():
            histograms.pop(key, None)
        for counts in (self._deaths, self._trips, self._device_time, self._bytes):
            counts.pop(key, None)
        self._outcomes = {outcome: count for outcome, count in self._outcomes.items() if outcome[:2] != key}
        self._degraded = {labels: count for labels, count in self._degraded.items() if labels[:2] != key}
        self._memory.forget(key)

    def _count(self, model: str, version: str, outcome: str, count: int) -> None:
        key = (model, version, outcome)
        self._outcomes[key] = self._outcomes.get(key, 0) + count


def counter(name: str, *labels: str) -> CounterMetricFamily:
    """One of COUNTERS, with these labels besides those of the version."""
    return CounterMetricFamily(name, COUNTERS[name], labels=(*LABELS, *labels))
