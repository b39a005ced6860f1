import json

import pytest

from headrace.events import BatchDone, RequestsDropped, RequestsFailed, VersionChanged
from headrace.telemetry.statistics import Statistics

COUNTED = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)
BATCH = BatchDone("m", "1", 3, [0.003, 0.004], [0.001, 0.0005], 0.002, 0.0001, 0.0002)


def after(*events):
    statistics = Statistics(lambda: 1234.5)
    for event in events:
        statistics(event)
    return statistics.json("m", "1")


def test_every_key_is_there_before_anything_happened():
    assert after() == {
        "name": "m",
        "version": "1",
        "last_inference": 0,
        "inference_count": 0,
        "execution_count": 0,
        "inference_stats": {name: {"count": 0, "ns": 0} for name in COUNTED},
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": [],
    }


def test_rows_runs_and_requests_are_counted_apart():
    said = after(BATCH, BATCH)
    assert (said["inference_count"], said["execution_count"]) == (6, 2)
    assert said["inference_stats"]["success"] == {"count": 4, "ns": 14_000_000}
    assert said["inference_stats"]["queue"] == {"count": 4, "ns": 3_000_000}
    assert said["last_inference"] == 1_234_500


def test_a_batchs_time_is_added_for_each_of_its_requests_and_once_to_its_size():
    said = after(BATCH)
    assert said["inference_stats"]["compute_infer"] == {"count": 2, "ns": 4_000_000}
    assert said["batch_stats"] == [
        {
            "batch_size": 3,
            "compute_input": {"count": 1, "ns": 100_000},
            "compute_infer": {"count": 1, "ns": 2_000_000},
            "compute_output": {"count": 1, "ns": 200_000},
        }
    ]


def test_batch_sizes_are_listed_in_order():
    said = after(*(BatchDone("m", "1", rows, [0.1], [0.0], 0.1, 0.0, 0.0) for rows in (8, 1, 3, 1)))
    assert [(each["batch_size"], each["compute_infer"]["count"]) for each in said["batch_stats"]] == [
        (1, 2),
        (3, 1),
        (8, 1),
    ]


def test_failures_are_counted_with_the_time_they_waited():
    said = after(RequestsFailed("m", "1", "timeout", [5.0, 4.0]))
    assert said["inference_stats"]["fail"] == {"count": 2, "ns": 9_000_000_000}
    assert said["inference_count"] == 0


@pytest.mark.parametrize("event", [RequestsDropped("m", "1", 2), VersionChanged("m", "1", "READY", "")])
def test_other_events_change_nothing(event):
    assert after(event) == after()


def test_versions_are_told_apart():
    assert after(BatchDone("m", "2", 1, [0.1], [0.0], 0.1, 0.0, 0.0)) == after()


def test_all_of_it_is_json_of_whole_numbers():
    said = after(BATCH)
    assert json.loads(json.dumps(said)) == said
    assert all(type(each["ns"]) is int for each in said["inference_stats"].values())
