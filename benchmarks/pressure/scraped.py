"""What headrace's metrics and statistics say of a run: the difference of before and after."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from load import fetch
from prometheus_client.parser import text_string_to_metric_families
from row_saturated import batches
from servers import Server

DEVICE_SECONDS = "inference_device_seconds_total"
INPUT_BYTES, PADDING_BYTES = "inference_input_bytes_total", "inference_padding_bytes_total"
METRICS = "/metrics"

Sizes = dict[int, tuple[int, float]]
"""Batch size → runs, and seconds a run."""


@dataclass
class Scraped:
    """Of one run. `totals`: metric and model → its growth over all other labels."""

    totals: dict[tuple[str, str], float] = field(default_factory=dict)
    sizes: dict[str, Sizes] = field(default_factory=dict)

    def total(self, metric: str, model: str) -> float:
        return self.totals.get((metric, model), 0.0)


@contextmanager
def scraping(server: Server, models: list[str]) -> Iterator[Scraped]:
    """What grew while the block ran; filled in when it ends."""
    found = Scraped()
    stats = {model: f"/v2/models/{model}/stats" for model in models}
    paths = [METRICS, *stats.values()]
    before = fetch(server.port, paths)
    yield found
    after = fetch(server.port, paths)
    earlier = sums(before[METRICS])
    found.totals = {key: value - earlier.get(key, 0.0) for key, value in sums(after[METRICS]).items()}
    found.sizes = {model: grown(batches(before[path]), batches(after[path])) for model, path in stats.items()}


def sums(exposition: str, label: str = "skill") -> dict[tuple[str, str], float]:
    """Metric and value of that label, by default the model → sum over versions and other labels."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(exposition):
        for name, labels, value, *_ in family.samples:
            key = name, labels.get(label, "")
            found[key] = found.get(key, 0.0) + value
    return found


def grown(before: Sizes, after: Sizes) -> Sizes:
    """Both with all seconds of a size, as statistics have them; what is found has seconds a run."""
    found = {}
    for size, (runs, seconds) in after.items():
        earlier, spent = before.get(size, (0, 0.0))
        if runs > earlier:
            found[size] = runs - earlier, (seconds - spent) / (runs - earlier)
    return found


def slower(here: Sizes, there: Sizes) -> float | None:
    """How much longer runs took here than runs of the same size there; None where no size ran in both."""
    common = here.keys() & there.keys()
    ours = sum(here[size][0] * here[size][1] for size in common)
    theirs = sum(here[size][0] * there[size][1] for size in common)
    return ours / theirs if theirs else None


def mean_rows(sizes: Sizes) -> float:
    runs = sum(each for each, _ in sizes.values())
    return sum(size * each for size, (each, _) in sizes.items()) / max(1, runs)
