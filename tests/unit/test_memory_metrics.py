import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.events import RequestsAbsent, VersionEvicted, VersionForgotten, VersionLoaded
from headrace.lifecycle.memory_view import MemoryView
from headrace.telemetry.metrics import Metrics
from tests.memory import device, model


def samples(metrics, name):
    """Values of the labels, sorted by the labels' names → value."""
    text = metrics.exposition()[0].decode()
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def metrics_after(*events):
    metrics = Metrics(list)
    for event in events:
        metrics(event)
    return metrics


def metrics_of(*models, devices=()):
    return Metrics(list, memory_view=lambda: MemoryView(tuple(devices), models))


def test_comings_are_counted_by_cause():
    metrics = metrics_after(
        *[VersionLoaded("m", "1", cause, 0.5) for cause in ("start", "asked", "asked", "again")]
    )
    assert samples(metrics, "inference_loads_total") == {
        ("start", "m", "1"): 1,
        ("asked", "m", "1"): 2,
        ("again", "m", "1"): 1,
    }


def test_goings_and_requests_that_came_too_early_are_counted():
    metrics = metrics_after(
        VersionEvicted("m", "1", "idle"), RequestsAbsent("m", "1", 7), RequestsAbsent("m", "1", 2)
    )
    assert samples(metrics, "inference_evictions_total") == {("m", "1"): 1}
    assert samples(metrics, "inference_absent_requests_total") == {("m", "1"): 9}


@pytest.mark.parametrize("name", ["absent_requests", "evictions", "loads"])
def test_nothing_is_kept_of_a_version_that_is_forgotten(name):
    metrics = metrics_after(
        *[
            event
            for version in ("1", "2")
            for event in (
                VersionLoaded("m", version, "start", 0.5),
                VersionEvicted("m", version, "idle"),
                RequestsAbsent("m", version, 3),
            )
        ],
        VersionForgotten("m", "1"),
    )
    assert [labels[-1] for labels in samples(metrics, f"inference_{name}_total")] == ["2"]


def test_a_device_has_each_kind_of_its_memory():
    metrics = metrics_of(devices=[device(total=100, reserve=5, external=20, budget=75, used=31)])
    found = samples(metrics, "inference_memory_bytes")
    assert found["cpu", "budget"] == 75
    assert sum(found["cpu", kind] for kind in ("reserve", "external", "budget")) == found["cpu", "total"]
    assert found["cpu", "used"] == 31


def test_what_is_absent_holds_nothing_whatever_it_would():
    metrics = metrics_of(
        model("here", resident=40, scratch=8, used=44), model("away", state="ABSENT", resident=30, scratch=6)
    )
    found = samples(metrics, "inference_model_memory_bytes")
    assert [found[kind, "here", "1"] for kind in ("resident", "scratch", "used")] == [40, 8, 44]
    assert [found[kind, "away", "1"] for kind in ("resident", "scratch", "used")] == [0, 0, 0]
    assert samples(metrics, "inference_model_resident") == {("here", "1"): 1, ("away", "1"): 0}


def test_the_time_of_a_load_is_known_after_one():
    metrics = metrics_of(model("loaded", reload_s=0.7), model("never", reload_s=None))
    assert samples(metrics, "inference_reload_seconds") == {("loaded", "1"): 0.7}
