"""How large the server's batches are while a run lasts, from its metrics: headrace's own, or those of Triton's names."""

import http.client
import re
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

from headrace.loadtest.record import Record

TIMEOUT_S = 0.5
"""The run's thread waits for it once a second; the sender does not."""
LINE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)")
NAMES = (
    ("inference_batch_size_sum", "inference_batch_size_count", "skill"),
    ("nv_inference_count", "nv_inference_exec_count", "model"),
)
"""Rows and runs so far, and the label that names the model: the first pair that is there counts."""
ROWS, BATCHES = "rows", "batches"


def read_totals(exposition: str, model: str) -> dict[str, float]:
    """Rows and batches that a model has run so far, over all its versions; {} where the text does not say."""
    found = [match for line in exposition.splitlines() if (match := LINE.match(line))]
    for rows, batches, label in NAMES:
        sums = {rows: 0.0, batches: 0.0}
        seen = set()
        for match in found:
            if match["name"] in sums and f'{label}="{model}"' in (match["labels"] or ""):
                sums[match["name"]] += float(match["value"])
                seen.add(match["name"])
        if len(seen) == len(sums):
            return {ROWS: sums[rows], BATCHES: sums[batches]}
    return {}


@dataclass
class BatchSizes:
    """Asks a server's /metrics when called, as a run's `sample`; `latest` is the mean since the call before.

    A server that does not answer at all is not asked again.
    """

    url: str
    model: str
    latest: float | None = None
    _before: dict[str, float] | None = None
    _is_there: bool = True

    def __call__(self) -> dict[str, float]:
        now = self._scrape() if self._is_there else {}
        mean = mean_between(self._before or {}, now)
        self._before, self.latest = now, mean
        return now

    def _scrape(self) -> dict[str, float]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", f"{parts.path.rstrip('/')}/metrics")
            response = connection.getresponse()
            content = response.read().decode(errors="replace")
        except TimeoutError:
            return {}  # an overloaded server may answer next time
        except (OSError, http.client.HTTPException):
            self._is_there = False
            return {}
        finally:
            connection.close()
        self._is_there = response.status == http.HTTPStatus.OK
        return read_totals(content, self.model) if self._is_there else {}


def mean_between(before: dict[str, float], after: dict[str, float]) -> float | None:
    """Mean rows of the batches between two looks; None if none ran, or nothing is known."""
    if not before or not after or after[BATCHES] <= before[BATCHES]:
        return None
    return (after[ROWS] - before[ROWS]) / (after[BATCHES] - before[BATCHES])


def batch_sizes(record: Record) -> list[tuple[float, float]]:
    """Of a run: (seconds, mean rows of the batches since the look before)."""
    rows = dict(record.samples.get(ROWS, []))
    looks = [
        (at, {ROWS: rows[at], BATCHES: count}) for at, count in record.samples.get(BATCHES, []) if at in rows
    ]
    means = [(at, mean_between(before, after)) for (_, before), (at, after) in pairwise(looks)]
    return [(at, mean) for at, mean in means if mean is not None]
