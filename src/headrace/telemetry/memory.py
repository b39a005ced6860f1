"""The metrics of memory: what models had to do with it, counted, and what there is of it, as it is when somebody scrapes."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from headrace.events import OutOfMemory, RequestsAbsent, VersionEvicted, VersionLoaded

if (
    TYPE_CHECKING
):  # for an annotation only: telemetry is told what there is, and imports nothing of who tells it
    from headrace.lifecycle.memory_view import MemoryView

LABELS = ("skill", "version")
ABSENT, EVICTIONS, LOADS = "inference_absent_requests", "inference_evictions", "inference_loads"
RAN_OUT = "inference_out_of_memory"
COUNTERS = {
    ABSENT: "Requests that found their model absent from memory.",
    EVICTIONS: "Times that the model had to leave memory.",
    LOADS: "Times that the model came into memory, by cause: start, asked, again.",
    RAN_OUT: "Runs that failed for want of memory, by what was done: split, again, rebuild, restart, refuse.",
}
MORE_LABELS = {LOADS: ("cause",), RAN_OUT: ("step",)}
BYTES, OF_MODEL = "inference_memory_bytes", "inference_model_memory_bytes"
RESIDENT, RELOAD = "inference_model_resident", "inference_reload_seconds"
GAUGES = {
    BYTES: "Of a device's memory, by kind: total, reserve, external, budget, resident, scratch, used.",
    OF_MODEL: "Of a model, by kind: resident and scratch are reserved for it, used is what its workers have; 0 while absent.",
    RESIDENT: "1 while the model is in memory, or on its way in or out.",
    RELOAD: "Seconds that the model's last load took.",
}
DEVICE_KINDS = ("total", "reserve", "external", "budget", "resident", "scratch", "used")
MODEL_KINDS = ("resident", "scratch", "used")


class Counts:
    """How often versions came, went and were missed. On the loop only."""

    def __init__(self) -> None:
        # The mutable state: counts by model and version, and by cause for loads, by step for runs that failed.
        self._of: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in COUNTERS}

    def count(self, event: OutOfMemory | RequestsAbsent | VersionEvicted | VersionLoaded) -> None:
        match event:
            case OutOfMemory(model, version, _, step):
                self._of[RAN_OUT][model, version, step] += 1
            case RequestsAbsent(model, version, count):
                self._of[ABSENT][model, version] += count
            case VersionEvicted(model, version):
                self._of[EVICTIONS][model, version] += 1
            case VersionLoaded(model, version, cause):
                self._of[LOADS][model, version, cause] += 1

    def forget(self, key: tuple[str, str]) -> None:
        """A version is gone for good."""
        for counts in self._of.values():
            for labels in [each for each in counts if each[:2] == key]:
                del counts[labels]

    def collect(self) -> Iterator[Metric]:
        for name, counts in self._of.items():
            labels = (*LABELS, *MORE_LABELS.get(name, ()))
            family = CounterMetricFamily(name, COUNTERS[name], labels=labels)
            for key, count in counts.items():
                family.add_metric(list(key), count)
            yield family


def gauges(view: "MemoryView | None") -> Iterator[Metric]:
    """What there is of memory now; without samples where nobody can tell."""
    devices = GaugeMetricFamily(BYTES, GAUGES[BYTES], labels=("device", "kind"))
    for device in view.devices if view else ():
        for kind in DEVICE_KINDS:
            devices.add_metric([device.device, kind], float(getattr(device, kind)))
    models = GaugeMetricFamily(OF_MODEL, GAUGES[OF_MODEL], labels=(*LABELS, "kind"))
    resident = GaugeMetricFamily(RESIDENT, GAUGES[RESIDENT], labels=LABELS)
    reload_s = GaugeMetricFamily(RELOAD, GAUGES[RELOAD], labels=LABELS)
    for each in view.models if view else ():
        key = [each.name, each.version]
        for kind in MODEL_KINDS:
            models.add_metric([*key, kind], float(getattr(each, kind) if each.is_resident else 0))
        resident.add_metric(key, float(each.is_resident))
        if each.reload_s is not None:
            reload_s.add_metric(key, each.reload_s)
    yield from (devices, models, resident, reload_s)
