"""What is told of a request: one sentence, by table."""

import pytest

from headrace.records import Record
from headrace.telemetry.explain import summary, told, told_shortly

RAN = {"run_ms": 12.0, "queue_ms": 4.0, "usual_ms": 11.0, "requests": 3, "rows": 8}
LATE = {"code": "deadline_infeasible", "reason": "too late", "expected_ms": 142.0, "allowed_ms": 60.0}
OK = (31, "answered", {"status": 200})

CASES = {
    "not answered yet, after 1 s": [(1, "read", {})],
    "the client went away after 40 ms": [(1, "read", {}), (40, "left", {})],
    "answered after 31 ms": [OK],
    "answered after 31 ms: 4 ms queue, 12 ms run in a batch of 8 rows": [(30, "ran", RAN), OK],
    "answered after 31 ms: 4 ms queue, 12 ms run by itself": [(30, "ran", {**RAN, "requests": 1}), OK],
    "answered after 31 ms: 12 ms before, 12 ms model run": [
        (10, "ran", {**RAN, "stage": "before"}),
        (30, "ran", {**RAN, "stage": "model"}),
        OK,
    ],
    "answered after 31 ms: 2 items, at most 9 ms queue and 12 ms run": [
        (10, "ran", {**RAN, "item": 0}),
        (30, "ran", {**RAN, "item": 1, "queue_ms": 9.0}),
        OK,
    ],
    "answered after 31 ms: 1 item, at most 4 ms queue and 12 ms run; refused or failed: 1": [
        (10, "ran", {**RAN, "item": 0}),
        (30, "refused", {"item": 1, "code": "poisoned", "reason": "no"}),
        OK,
    ],
    "answered after 31 ms: 4 ms queue, 12 ms run by itself, runs in vain before that: 1": [
        (5, "sent", {"requests": 4}),
        (10, "failed", {"reason": "no", "requests": 4}),
        (15, "sent", {"requests": 1}),
        (30, "ran", {**RAN, "requests": 1}),
        OK,
    ],
    "answered degraded by variant small after 31 ms, since the breaker was open: 4 ms queue, 12 ms run by itself": [
        (5, "falls back", {"step": "variant:small", "reason": "breaker"}),
        (30, "ran", {**RAN, "requests": 1}),
        OK,
    ],
    "answered degraded by stale after 31 ms, since it failed, runs in vain before that: 1": [
        (3, "sent", {"requests": 1}),
        (4, "failed", {"reason": "no", "requests": 1}),
        (5, "falls back", {"step": "stale", "reason": "error"}),
        OK,
    ],
    "answered after 31 ms: 1 item, at most 4 ms queue and 12 ms run; degraded: 1": [
        (10, "ran", {**RAN, "item": 0}),
        (15, "refused", {"item": 1, "code": "inference_failed", "reason": "no"}),
        (20, "falls back", {"item": 1, "step": "static", "reason": "error"}),
        OK,
    ],
    "refused on arrival: 142 ms expected, 60 ms allowed": [
        (0.1, "asked", {}),
        (0.2, "answered", {"status": 503, **LATE}),
    ],
    "refused on arrival: it keeps failing": [
        (0.2, "answered", {"status": 503, "code": "circuit_open", "reason": "it keeps failing"}),
    ],
    "refused after 45 ms in the queue: it keeps failing": [
        (5, "asked", {}),
        (50, "answered", {"status": 503, "code": "circuit_open", "reason": "it keeps failing"}),
    ],
    "its deadline passed after 50 ms, while it waited: it was not run": [
        (5, "asked", {}),
        (50, "answered", {"status": 503, "code": "timeout", "reason": "Request timeout expired"}),
    ],
    "its deadline passed after 50 ms, while it was run": [
        (5, "sent", {}),
        (50, "answered", {"status": 504, "code": "deadline_exceeded", "reason": "too late"}),
    ],
    "not taken after 0.2 ms with status 404: no such model": [
        (0.2, "answered", {"status": 404, "code": "not_found", "reason": "no such model"}),
    ],
    "failed after 50 ms with status 500: no luck": [
        (5, "sent", {}),
        (50, "answered", {"status": 500, "code": "inference_failed", "reason": "no luck"}),
    ],
}


def record_of(notes):
    record = Record("a", "mlp", 100.0, came=1e9)
    for milliseconds, what, numbers in notes:
        record.note(100.0 + milliseconds / 1e3, what, **numbers)
    return record


@pytest.mark.parametrize(("sentence", "notes"), CASES.items(), ids=CASES)
def test_one_sentence_says_how_it_ended_and_why(sentence, notes):
    assert summary(record_of(notes), 101.0) == sentence


def test_all_notes_are_told_with_their_time_and_what_is_known():
    record = record_of([(1.5, "read", {"rows": 2, "tenant": None}), OK])
    assert told(record, 101.0) == {
        "id": "a",
        "model": "mlp",
        "came": 1e9,
        "status": 200,
        "total_ms": 31.0,
        "summary": "answered after 31 ms",
        "notes": [
            {"at_ms": 1.5, "what": "read", "rows": 2},
            {"at_ms": 31.0, "what": "answered", "status": 200},
        ],
    }


def test_what_is_not_answered_yet_has_no_status():
    shortly = told_shortly(record_of([(1, "read", {})]), 101.0)
    assert (shortly["status"], shortly["total_ms"]) == (None, None)
