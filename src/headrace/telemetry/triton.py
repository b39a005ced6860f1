"""The same figures under the names Triton gives them, for dashboards and clients that know those.

Triton's counters have no `_total` at the end, which Prometheus's classic text allows and its Python client does not, so
the text is written here. OpenMetrics wants the suffix, and there they have it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

LABELS = ("model", "version")
REJECTED, CANCELED, BACKEND, OTHER = "REJECTED", "CANCELED", "BACKEND", "OTHER"
REASONS = {
    **dict.fromkeys(("queue_full", "overloaded", "deadline_infeasible", "gateway_busy"), REJECTED),
    **dict.fromkeys(("timeout", "deadline_exceeded", "model_absent", "no_room"), REJECTED),
    "dropped": CANCELED,
    **dict.fromkeys(
        ("inference_failed", "worker_lost", "out_of_memory", "invalid_request", "invalid_item"), BACKEND
    ),
}
"""Outcome → Triton's reason of a failure; whatever is not here is OTHER."""
NANOSECONDS_A_MICROSECOND = 1000

SUCCESS, FAILURE = "nv_inference_request_success", "nv_inference_request_failure"
PENDING = "nv_inference_pending_request_count"
COUNTERS = {
    SUCCESS: "Requests answered with a result.",
    FAILURE: "Requests answered with an error, or dropped, by reason: REJECTED, CANCELED, BACKEND, OTHER.",
    "nv_inference_count": "Rows that were run.",
    "nv_inference_exec_count": "Runs; fewer than rows where requests shared them.",
    "nv_inference_request_duration_us": "Microseconds from arrival to answer, of all requests.",
    "nv_inference_queue_duration_us": "Microseconds from arrival to the start of the run, of all requests.",
    "nv_inference_compute_input_duration_us": "Microseconds inputs took to be laid out, counted for each request.",
    "nv_inference_compute_infer_duration_us": "Microseconds runs took, counted for each request in them.",
    "nv_inference_compute_output_duration_us": "Microseconds outputs took to be laid out, counted for each request.",
}
GAUGES = {PENDING: "Requests in the queue."}


class Figures(NamedTuple):
    """Of one version: counters by name, and failures by reason."""

    model: str
    version: str
    values: dict[str, int]
    failures: dict[str, int]


def reason_of(outcome: str) -> str:
    return REASONS.get(outcome, OTHER)


def figures(
    model: str, version: str, statistics: dict[str, Any], failures: dict[str, int], waiting: int
) -> Figures:
    """From a version's entry in the statistics, its failures by reason and the requests in its queue."""
    totals = statistics["inference_stats"]
    values = {
        SUCCESS: totals["success"]["count"],
        "nv_inference_count": statistics["inference_count"],
        "nv_inference_exec_count": statistics["execution_count"],
        "nv_inference_request_duration_us": totals["success"]["ns"] // NANOSECONDS_A_MICROSECOND,
        PENDING: waiting,
    }
    for step in ("queue", "compute_input", "compute_infer", "compute_output"):
        values[f"nv_inference_{step}_duration_us"] = totals[step]["ns"] // NANOSECONDS_A_MICROSECOND
    return Figures(model, version, values, dict.fromkeys((REJECTED, CANCELED, BACKEND, OTHER), 0) | failures)


def text(of_versions: list[Figures]) -> bytes:
    """In Prometheus's classic text; nothing where there are no versions."""
    if not of_versions:
        return b""
    lines: list[str] = []
    for name, meaning in (COUNTERS | GAUGES).items():
        kind = "counter" if name in COUNTERS else "gauge"
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        for values, count in samples(name, of_versions):
            named = zip(labels_of(name), values, strict=True)
            labels = ",".join(f'{label}="{escaped(value)}"' for label, value in named)
            lines.append(f"{name}{{{labels}}} {count}")
    return "".join(f"{line}\n" for line in lines).encode()


def families(of_versions: list[Figures]) -> list[Metric]:
    """For OpenMetrics."""
    found: list[Metric] = []
    for name, meaning in (COUNTERS | GAUGES).items():
        kind = CounterMetricFamily if name in COUNTERS else GaugeMetricFamily
        family = kind(name, meaning, labels=labels_of(name))
        for values, count in samples(name, of_versions):
            family.add_metric(values, count)
        found.append(family)
    return found


def labels_of(name: str) -> tuple[str, ...]:
    return (*LABELS, "reason") if name == FAILURE else LABELS


def samples(name: str, of_versions: list[Figures]) -> Iterator[tuple[list[str], int]]:
    """Values of the labels, and the figure, of each version."""
    for each in of_versions:
        if name == FAILURE:
            for reason, count in each.failures.items():
                yield [each.model, each.version, reason], count
        else:
            yield [each.model, each.version], each.values[name]


def escaped(value: str) -> str:
    """A label's value, as the text format quotes it."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
