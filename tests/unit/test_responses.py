import json

import pytest

from headrace.errors import (
    BodiesFull,
    CircuitOpen,
    DeadlineExceeded,
    DeadlineInfeasible,
    GatewayBusy,
    InvalidRequest,
    ModelAbsent,
    NoRoom,
    NotReady,
    Overloaded,
    QueueFull,
    RequestTimeout,
)
from headrace.frontends.responses import JITTER, LONGEST_RETRY_S, ErrorWriter

REFUSALS = {
    "deadline-infeasible": DeadlineInfeasible("m", 0.25, 0.1),
    "gateway-busy": GatewayBusy(0.2),
    "queue-full": QueueFull("m", "9 bytes"),
    "bodies-full": BodiesFull(),
}


def written(error, *, drawn=0.0, refuse_with=503, request_id=None):
    status, headers, body = ErrorWriter(refuse_with, lambda: drawn).write(error, request_id)
    assert dict(headers)[b"content-length"] == b"%d" % len(body)
    return status, {name.decode(): value.decode() for name, value in headers}, json.loads(body)


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_says_why_and_when_to_come_again(reason):
    status, headers, content = written(REFUSALS[reason])
    assert status == 503
    assert headers["x-reject-reason"] == reason
    assert headers["retry-after"] == "1"
    assert content["error"] == str(REFUSALS[reason])
    assert content["code"] == reason.replace("-", "_")
    assert content["retry_after_ms"] == (150 if reason == "deadline-infeasible" else 1000)


@pytest.mark.parametrize("reason", REFUSALS)
def test_the_operator_chooses_the_status_of_refusals(reason):
    assert written(REFUSALS[reason], refuse_with=429)[0] == 429


def test_an_open_circuit_says_when_it_is_tried_again_and_is_no_overload():
    status, headers, content = written(CircuitOpen("m", "5 runs failed", 7.2), drawn=0.5, refuse_with=429)
    assert status == 503
    assert (headers["x-reject-reason"], headers["retry-after"]) == ("circuit-open", "8")
    assert (content["code"], content["retry_after_ms"]) == ("circuit_open", 8100)


def test_a_breaker_that_waits_for_a_worker_does_not_ask_to_be_asked_at_once():
    assert written(CircuitOpen("m", "its worker ended", 0.0))[2]["retry_after_ms"] == 1000


def test_a_request_that_cannot_wait_for_its_model_hears_when_it_will_be_there():
    status, headers, content = written(ModelAbsent("m", "1", 1.2, 0.5), drawn=0.5, refuse_with=429)
    assert status == 503
    assert (headers["x-reject-reason"], headers["retry-after"]) == ("model-absent", "2")
    assert (content["code"], content["retry_after_ms"]) == ("model_absent", 1350)
    assert content["error"] == (
        "model 'm' version 1 is not in memory; it is loaded in about 1.2 s, and 500 ms are allowed: "
        "ask again, or give it a longer deadline"
    )


def test_of_a_model_that_was_never_loaded_nobody_says_how_long_it_takes():
    _, headers, content = written(ModelAbsent("m", "1", None, 0.5))
    assert headers["retry-after"] == "1"
    assert "it is being loaded, and 500 ms are allowed" in content["error"]


def test_where_memory_is_lacking_for_now_it_is_said_when_to_ask_again():
    status, headers, content = written(NoRoom("m", "1", "it needs 2 GiB, and 1 GiB is free", 7.2))
    assert status == 503
    assert (headers["x-reject-reason"], headers["retry-after"]) == ("no-room", "8")
    assert content["retry_after_ms"] == 7200
    assert content["error"].endswith("version 1: it needs 2 GiB, and 1 GiB is free")


def test_nobody_is_asked_to_come_again_for_what_never_fits():
    status, headers, content = written(NoRoom("m", "1", "it needs 2 GiB, and the budget is 1 GiB", None))
    assert status == 503
    assert headers["x-reject-reason"] == "no-room"
    assert "retry-after" not in headers
    assert "retry_after_ms" not in content


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotReady("m", "1", "it loads"), 503),
        (RequestTimeout(), 503),
        (DeadlineExceeded(), 504),
        (InvalidRequest("no"), 400),
    ],
)
def test_other_errors_are_no_refusals(error, status):
    found, headers, content = written(error, refuse_with=429)
    assert found == status
    assert "x-reject-reason" not in headers
    assert set(content) == {"error", "code"}


@pytest.mark.parametrize(
    ("seconds", "header", "least_ms"),
    [(0.0001, "1", 1), (0.4, "1", 400), (1.0, "1", 1000), (1.001, "2", 1001), (7.2, "8", 7200)],
)
@pytest.mark.parametrize("drawn", [0.0, 0.5, 0.999])
def test_seconds_are_whole_and_rounded_up_and_milliseconds_differ_from_client_to_client(
    seconds, header, least_ms, drawn
):
    _, headers, content = written(Overloaded("too much waits", seconds), drawn=drawn)
    assert headers["retry-after"] == header
    assert least_ms <= content["retry_after_ms"] <= least_ms * (1 + JITTER) + 1
    assert content["retry_after_ms"] == pytest.approx(seconds * 1e3 * (1 + JITTER * drawn), abs=1)


def test_two_who_are_refused_together_do_not_come_back_together():
    writer = ErrorWriter(503)
    found = {json.loads(writer.write(GatewayBusy(1.0)).body)["retry_after_ms"] for _ in range(50)}
    assert len(found) > 10


@pytest.mark.parametrize("seconds", [1e9, float("inf")])
def test_nobody_is_sent_away_for_ever(seconds):
    _, headers, content = written(Overloaded("too much waits", seconds))
    assert headers["retry-after"] == f"{LONGEST_RETRY_S:.0f}"
    assert content["retry_after_ms"] == LONGEST_RETRY_S * 1e3


def test_a_request_s_id_comes_back_in_both_places():
    _, headers, content = written(GatewayBusy(1.0), request_id=b"a-1")
    assert headers["x-request-id"] == content["request_id"] == "a-1"
