import inspect
import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from headrace import errors
from headrace.events import (
    BatchDone,
    BreakerChanged,
    Degraded,
    RequestsDropped,
    RequestsFailed,
    TransformsDone,
    VersionChanged,
    VersionForgotten,
    WorkerDied,
)
from headrace.faults.breaker import BreakerState
from headrace.telemetry import triton
from headrace.telemetry.device_time import MOST_LENGTHS, MOST_TENANTS
from headrace.telemetry.metrics import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    Histogram,
    Metrics,
    prefers_openmetrics,
)
from headrace.telemetry.statistics import Statistics

LABELS = {"skill": "m", "version": "1"}
BATCH = BatchDone("m", "1", 3, [0.003, 0.004], [0.001, 0.0005], 0.002, 0.0, 0.0)


def metrics_after(*events, waiting=()):
    metrics = Metrics(lambda: waiting)
    for event in events:
        metrics(event)
    return metrics


def samples(metrics):
    text = metrics.exposition()[0].decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample(metrics, name, **labels):
    return samples(metrics)[name, *sorted((LABELS | labels).items())]


@pytest.mark.parametrize(
    ("value", "bucket"), [(0, 0), (1, 0), (1.001, 1), (2, 1), (4, 2), (4.001, 3), (float("inf"), 3)]
)
def test_a_value_counts_in_the_first_bucket_that_holds_it(value, bucket):
    histogram = Histogram((1.0, 2.0, 4.0))
    histogram.observe([value])
    assert histogram.counts.index(1) == bucket


def test_buckets_are_cumulative_and_end_with_all():
    histogram = Histogram((1.0, 2.0))
    histogram.observe([0.5, 1.5, 1.5, 9])
    assert histogram.buckets() == [("1.0", 1), ("2.0", 3), ("+Inf", 4)]
    assert histogram.total == 12.5


def test_a_batch_counts_once_and_each_of_its_requests_once():
    metrics = metrics_after(BATCH, BATCH)
    assert sample(metrics, "inference_latency_seconds_count") == 4
    assert sample(metrics, "inference_queue_seconds_count") == 4
    assert sample(metrics, "inference_compute_seconds_count") == 2
    assert sample(metrics, "inference_batch_size_count") == 2
    assert sample(metrics, "inference_batch_size_sum") == 6
    assert sample(metrics, "inference_requests_total", outcome="ok") == 4


def test_sums_are_seconds():
    metrics = metrics_after(BATCH)
    assert sample(metrics, "inference_latency_seconds_sum") == pytest.approx(0.007)
    assert sample(metrics, "inference_compute_seconds_sum") == pytest.approx(0.002)


def test_buckets_are_as_prometheus_reads_them():
    metrics = metrics_after(BATCH)
    assert sample(metrics, "inference_latency_seconds_bucket", le="0.002") == 0
    assert sample(metrics, "inference_latency_seconds_bucket", le="0.005") == 2
    assert sample(metrics, "inference_latency_seconds_bucket", le="+Inf") == 2
    assert sample(metrics, "inference_batch_size_bucket", le="4.0") == 1


def test_failures_and_drops_are_outcomes():
    metrics = metrics_after(RequestsFailed("m", "1", "timeout", [5.0, 5.0]), RequestsDropped("m", "1", 3))
    assert sample(metrics, "inference_requests_total", outcome="timeout") == 2
    assert sample(metrics, "inference_requests_total", outcome="dropped") == 3


def run_of(*shares, padding=(0, 0)):
    return BatchDone("m", "1", 1, [0.1], [0.0], 0.1, 0.0, 0.0, shares, padding)


def device_seconds(metrics):
    """Tenant and length → seconds."""
    found = {}
    for name, *labels in samples(metrics):
        if name == "inference_device_seconds_total":
            by_label = dict(labels)
            found[by_label["tenant"], by_label["length"]] = samples(metrics)[name, *labels]
    return found


def test_device_time_is_counted_by_tenant_and_length_bucket():
    metrics = metrics_after(
        run_of(("acme", 8, 0.25), ("acme", 9, 0.5), ("", 10, 1.0)),
        run_of(("acme", 5, 0.125), ("acme", 10, 2.0)),
    )
    assert device_seconds(metrics) == {("acme", "8"): 0.375, ("acme", "10"): 2.5, ("", "10"): 1.0}


def test_the_time_of_a_skills_transforms_is_counted_beside_its_models_and_is_no_answer():
    metrics = metrics_after(run_of(("acme", 8, 0.25)), TransformsDone("m", "1", (("acme", 1, 0.5),)))
    assert device_seconds(metrics) == {("acme", "8"): 0.75}
    assert sample(metrics, "inference_requests_total", outcome="ok") == 1


def test_tenants_and_lengths_have_a_bound_and_no_second_is_lost():
    shares = [(f"t{number}", number, 0.5) for number in range(1, 400)]
    lengths = [("t1", 2**number, 0.5) for number in range(100)]
    found = device_seconds(metrics_after(run_of(*shares), run_of(*lengths)))
    assert len({tenant for tenant, _ in found}) == MOST_TENANTS + 1
    assert len({length for _, length in found}) == MOST_LENGTHS + 1
    assert ("t1", "other") in found
    assert sum(found.values()) == 0.5 * (399 + 100)


def test_tenants_of_the_settings_are_counted_by_themselves_whoever_comes_first():
    metrics = Metrics(list, tenants=["acme"])
    metrics(run_of(*[(f"t{number}", 8, 1.0) for number in range(200)], ("acme", 8, 1.0)))
    found = device_seconds(metrics)
    assert (found["acme", "8"], found["other", "8"]) == (1.0, 101.0)


def test_padding_is_counted_beside_all_bytes():
    metrics = metrics_after(run_of(padding=(1000, 200)), run_of(padding=(24, 0)))
    assert sample(metrics, "inference_input_bytes_total") == 1024
    assert sample(metrics, "inference_padding_bytes_total") == 200


def test_nothing_is_kept_of_a_version_that_is_forgotten():
    metrics = metrics_after(
        run_of(("acme", 8, 0.25), padding=(10, 5)),
        WorkerDied("m", "1", "was killed", 1),
        BreakerChanged("m", "1", "open", "5 runs in a row failed"),
        Degraded("m", "1", "stale", "error"),
        VersionForgotten("m", "1"),
    )
    assert not [name for name, *labels in samples(metrics) if ("version", "1") in labels]


def test_refusals_are_outcomes_and_not_in_the_latencies_of_answers():
    metrics = metrics_after(BATCH, RequestsFailed("m", "1", "deadline_infeasible", [0.0] * 50))
    assert sample(metrics, "inference_requests_total", outcome="deadline_infeasible") == 50
    assert sample(metrics, "inference_latency_seconds_count") == 2
    assert sample(metrics, "inference_queue_seconds_count") == 2


def test_the_gateway_is_asked_for_its_lag_when_somebody_scrapes():
    metrics = Metrics(list, loop_lag_s=lambda: 0.25)
    assert samples(metrics)["loop_lag_seconds",] == 0.25


def test_deaths_are_those_of_the_worker():
    metrics = metrics_after(WorkerDied("m", "1", "was killed", 1), WorkerDied("m", "1", "was killed", 2))
    assert sample(metrics, "worker_deaths_total") == 2


def test_trips_are_the_times_a_breaker_opened_by_itself():
    states = ("open", "half_open", "open", "half_open", "closed", "forced_open")
    metrics = metrics_after(*(BreakerChanged("m", "1", state, "") for state in states))
    assert sample(metrics, "breaker_trips_total") == 2


@pytest.mark.parametrize("state", list(BreakerState))
def test_a_breaker_is_in_one_of_its_states(state):
    metrics = metrics_after(waiting=[("m", "1", state.value, 0, 0, True, None)])
    found = {each: sample(metrics, "breaker_state", state=each) for each in BreakerState}
    assert found == {each: float(each is state) for each in BreakerState}


def test_what_has_no_breaker_has_no_state():
    metrics = metrics_after(waiting=[("m", "1", None, 0, 0, True, None)])
    assert not [name for name, *_ in samples(metrics) if name == "breaker_state"]


def test_lesser_answers_are_counted_by_what_answered_and_why():
    stale, small = Degraded("m", "1", "stale", "error"), Degraded("m", "1", "variant:small", "overload")
    metrics = metrics_after(stale, small, small)
    assert sample(metrics, "inference_degraded_total", step="stale", reason="error") == 1
    assert sample(metrics, "inference_degraded_total", step="variant:small", reason="overload") == 2


def test_gauges_are_asked_for_when_somebody_scrapes():
    metrics = metrics_after(
        VersionChanged("m", "1", "READY", ""), waiting=[("m", "1", None, 7, 700, True, 0.06)]
    )
    names = (
        "inference_waiting_requests",
        "inference_waiting_bytes",
        "model_ready",
        "skill_objective_seconds",
    )
    assert [sample(metrics, name) for name in names] == [7, 700, 1, 0.06]


def test_every_metric_is_described_before_anything_happened():
    text, content_type = metrics_after().exposition()
    for name in (*HISTOGRAMS, *COUNTERS, *GAUGES):
        assert f"# HELP {name}" in text.decode()
    assert content_type.startswith("text/plain")


def test_models_are_told_apart():
    metrics = metrics_after(BATCH, BatchDone("other", "2", 1, [1.0], [0.0], 1.0, 0.0, 0.0))
    assert sample(metrics, "inference_batch_size_count", skill="other", version="2") == 1
    assert sample(metrics, "inference_batch_size_count") == 1


def test_no_error_has_the_code_of_another_outcome():
    codes = {each.code for _, each in inspect.getmembers(errors, inspect.isclass) if hasattr(each, "code")}
    assert not codes & {"ok", "dropped"}


def both_after(*events, waiting=()):
    statistics = Statistics(lambda: 0.0)
    metrics = Metrics(lambda: waiting, statistics)
    for event in events:
        metrics(event)
        statistics(event)
    return metrics


ONE = [("m", "1", None, 2, 0, True, None)]


def test_tritons_names_are_written_to_the_letter():
    lines = both_after(BATCH, waiting=ONE).exposition()[0].decode().splitlines()
    for name, value in (
        ("nv_inference_request_success", 2),
        ("nv_inference_count", 3),
        ("nv_inference_exec_count", 1),
        ("nv_inference_request_duration_us", 7000),
        ("nv_inference_queue_duration_us", 1500),
        ("nv_inference_compute_infer_duration_us", 4000),
        ("nv_inference_pending_request_count", 2),
    ):
        assert f'{name}{{model="m",version="1"}} {value}' in lines
        assert f"# TYPE {name} {'gauge' if 'pending' in name else 'counter'}" in lines


def test_failures_have_tritons_reasons():
    failed = [
        RequestsFailed("m", "1", code, [0.1])
        for code in ("timeout", "deadline_infeasible", "worker_lost", "x")
    ]
    text = both_after(*failed, RequestsDropped("m", "1", 5), waiting=ONE).exposition()[0].decode()
    for reason, count in (("REJECTED", 2), ("CANCELED", 5), ("BACKEND", 1), ("OTHER", 1)):
        assert f'nv_inference_request_failure{{model="m",version="1",reason="{reason}"}} {count}\n' in text


def test_a_name_is_quoted_as_the_format_has_it():
    text = both_after(waiting=[('a"b\\c', "1", None, 0, 0, True, None)]).exposition()[0].decode()
    assert r'nv_inference_count{model="a\"b\\c",version="1"} 0' in text
    assert list(text_string_to_metric_families(text))


def test_openmetrics_has_the_same_figures_with_its_suffix():
    text, content_type = both_after(BATCH, waiting=ONE).exposition("application/openmetrics-text")
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith(b"# EOF\n")
    found = {
        sample.name: sample.value
        for family in openmetrics_families(text.decode())
        for sample in family.samples
    }
    assert found["nv_inference_count_total"] == 3
    assert found["inference_requests_total"] == 2
    assert found["nv_inference_pending_request_count"] == 2


@pytest.mark.parametrize(
    ("accept", "is_preferred"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.6, text/plain;version=0.0.4;q=0.3, */*;q=0.2", True),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.6", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=x", False),
    ],
)
def test_openmetrics_is_for_who_prefers_it(accept, is_preferred):
    assert prefers_openmetrics(accept) is is_preferred


def test_tritons_names_are_documented_with_their_texts():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert (
        dict(re.findall(r"^\| `(nv_\w+)` \| (.+) \|$", page, re.MULTILINE)) == triton.COUNTERS | triton.GAUGES
    )
