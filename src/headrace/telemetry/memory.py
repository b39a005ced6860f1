"""The metrics of memory: what models had to do with it, counted, and what there is of it, as it is when somebody scrapes."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from headrace.events import RequestsAbsent, VersionEvicted, VersionLoaded

LABELS = ("skill", "version")
ABSENT, EVICTIONS, LOADS = "inference_absent_requests", "inference_evictions", "inference_loads"
COUNTERS = {
    ABSENT: "Requests that found their model absent from memory.",
    EVICTIONS: "Times that the model had to leave memory.",
    LOADS: "Times that the model came into memory, by cause: start, asked, again.",
}


class Counts:
    """How often versions came, went and were missed. On the loop only."""

    def __init__(self) -> None:
        # The mutable state: counts by model and version, and by cause for loads.
        self._of: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in COUNTERS}

    def count(self, event: RequestsAbsent | VersionEvicted | VersionLoaded) -> None:
        match event:
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
            labels = (*LABELS, "cause") if name == LOADS else LABELS
            family = CounterMetricFamily(name, COUNTERS[name], labels=labels)
            for key, count in counts.items():
                family.add_metric(list(key), count)
            yield family
