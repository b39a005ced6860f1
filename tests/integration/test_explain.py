"""What became of a request can be asked for afterwards, over HTTP and from the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually, free_port
from tests.integration.wire import Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

LARGE = [[0.125, 0.25, 0.5, 1.0]] * 8000
"""As JSON more than the loop reads by itself."""


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While it is there, the model `moody` misbehaves."""
    return tmp_path_factory.mktemp("switch") / "moody"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, profiles: Path, switch: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("explained")
    (folder / "swift.fake").write_text("{}")
    (folder / "picky.fake").write_text(json.dumps({"error_value": 13}))
    (folder / "slow.fake").write_text(json.dumps({"seconds": 0.1}))
    (folder / "moody.fake").write_text(json.dumps({"switch": str(switch)}))
    graphs.times(folder / "skill" / "large.onnx", 2.0)
    graphs.times(folder / "skill" / "small.onnx", 3.0)
    (folder / "skill" / "skill.yaml").write_text(
        "variants: {large: {model: large.onnx}, small: {model: small.onnx}}\n"
        "fallback: {on: [breaker], chain: [{stale: 1h}, {variant: small}]}\n"
    )
    with run_server([folder], profile_dir=profiles) as running:
        yield running


@pytest.fixture
def wire(own: RunningServer) -> Iterator[Wire]:
    with Wire(own.host, own.port) as connection:
        yield connection


def body(first: float = 1.0, **others: object) -> dict:
    return {"inputs": [tensor("x", "FP32", [1, 4], [first, 1, 1, 1])], **others}


def explained(wire: Wire, request_id: str) -> dict:
    answer = wire.get(f"/v1/requests/{quote(request_id, safe='')}")
    assert answer.status == 200, answer.raw
    return answer.json()


def noted(told: dict, what: str) -> list[dict]:
    return [each for each in told["notes"] if each["what"] == what]


def explain(server: RunningServer, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", "--url", server.url, *arguments])


def test_an_answered_request_is_told_from_its_body_to_its_answer(wire):
    assert wire.infer("swift", body(), {"x-request-id": "answered"}).status == 200
    told = explained(wire, "answered")
    assert (told["model"], told["status"]) == ("swift", 200)
    assert told["summary"].startswith("answered after ")
    assert told["summary"].endswith(" run by itself")
    read, asked, sent, ran, end = told["notes"]
    assert (read["what"], read["rows"], read["bytes"], read["version"]) == ("read", 1, 16, "1")
    assert asked["allowed_ms"] <= 5000 == read["deadline_ms"]
    assert sent["requests"] == ran["requests"] == 1
    assert (end["what"], end["status"]) == ("answered", 200)
    times = [each["at_ms"] for each in told["notes"]]
    assert times == sorted(times)
    assert told["total_ms"] == times[-1]


def test_the_id_in_a_body_counts_where_no_header_names_one(wire):
    assert wire.infer("swift", body(id="of body/ü")).status == 200
    assert explained(wire, "of body/ü")["status"] == 200
    wire.infer("swift", body(id="not this"), {"x-request-id": "but-this"})
    assert wire.get("/v1/requests/not%20this").status == 404
    assert explained(wire, "but-this")["status"] == 200


def test_a_request_without_an_id_is_not_written_down(wire):
    before = wire.get("/v1/requests?limit=1000").json()["requests"]
    assert wire.infer("swift", body()).status == 200
    assert wire.get("/v1/requests?limit=1000").json()["requests"] == before


def test_what_is_refused_on_arrival_is_told_with_the_numbers_that_decided(own, wire):
    def is_refused() -> bool:
        """Behind runs of 100 ms, and one more that waits, nobody is answered in 60 ms."""
        first, second = Wire(own.host, own.port), Wire(own.host, own.port)
        with first, second:
            for each in (first, second):
                each.send(message("POST", "/v2/models/slow/infer", dumps(body())))
            headers = {"x-request-id": "refused", "x-request-timeout-seconds": "0.06"}
            answer = wire.infer("slow", body(), headers)
            for each in (first, second):
                each.receive()
        return answer.headers.get("x-reject-reason") == "deadline-infeasible"

    eventually(is_refused, "the forecast sees that it would be late")
    told = explained(wire, "refused")
    end = told["notes"][-1]
    assert (end["status"], end["code"]) == (503, "deadline_infeasible")
    assert end["expected_ms"] > end["allowed_ms"]
    assert told["summary"].startswith("refused on arrival: ")
    assert "expected" in told["summary"]
    assert not noted(told, "sent")


def test_what_a_caller_named_is_printed_without_what_a_terminal_would_obey(own, wire):
    assert wire.post("/v2/models/%07loud/infer", headers={"x-request-id": "bell"}).status == 404
    assert explained(wire, "bell")["model"] == "\aloud"
    printed = explain(own, "bell").output
    assert "bell for  loud, came at" in printed
    assert "\a" not in printed


def test_a_request_that_makes_runs_fail_is_told_so(wire):
    assert wire.infer("picky", body(13.0), {"x-request-id": "culprit"}).status == 422
    told = explained(wire, "culprit")
    assert noted(told, "failed")[0]["reason"] == "told to fail"
    assert told["summary"].startswith("failed after ")
    assert "fails on this request, and not on others" in told["summary"]


def test_a_request_whose_deadline_passed_is_told_so(own, wire, switch):
    switch.write_text(json.dumps({"fault": "slow", "seconds": 1.5}))
    try:
        with Wire(own.host, own.port) as first:
            first.send(message("POST", "/v2/models/moody/infer", dumps(body())))
            headers = {"x-request-id": "expired", "x-request-timeout-seconds": "0.3"}
            assert wire.infer("moody", body(), headers).status == 504
            switch.unlink()
            first.receive()
    finally:
        switch.unlink(missing_ok=True)
    assert explained(wire, "expired")["summary"].startswith("its deadline passed after ")


@pytest.fixture
def opened(wire: Wire) -> Iterator[None]:
    """The skill's breaker is open."""
    assert wire.post("/v1/breakers/skill", {"state": "open"}).status == 200
    yield
    wire.post("/v1/breakers/skill", {"state": "auto"})


def test_a_lesser_answer_is_told_with_the_steps_that_were_tried(wire, opened):
    pair = {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}
    answer = wire.infer("skill", pair, {"x-request-id": "degraded"})
    assert (answer.status, answer.json()["outputs"][0]["data"]) == (200, [3, 6])
    told = explained(wire, "degraded")
    assert told["summary"].startswith("answered degraded by variant small after ")
    assert ", since the breaker was open: " in told["summary"]
    assert noted(told, "passed over")[0]["step"] == "stale"
    assert noted(told, "read")[-1]["model"] == "skill.small"


@pytest.mark.parametrize(
    ("model", "content", "status"),
    [("nothing", body(), 404), ("swift", {"inputs": []}, 400), ("swift", b"{", 400)],
)
def test_what_comes_to_no_model_is_told_too(wire, model, content, status):
    assert wire.infer(model, content, {"x-request-id": "astray"}).status == status
    told = explained(wire, "astray")
    assert (told["model"], told["status"]) == (model, status)
    assert told["summary"].startswith("not taken after ")


def test_a_body_that_is_not_read_to_its_end_is_told_too(own):
    with Wire(own.host, own.port) as wire:
        head = message("POST", "/v2/models/swift/infer", b"", {"x-request-id": "endless"})
        wire.send(head.replace(b"Content-Length: 0", b"Content-Length: 999999999999"))
        assert wire.receive().status == 400
    with Wire(own.host, own.port) as wire:
        assert explained(wire, "endless")["notes"][-1]["code"] == "too_large"


def test_a_client_that_left_is_told_so(own, wire):
    with Wire(own.host, own.port) as other:
        other.send(message("POST", "/v2/models/slow/infer", dumps(body()), {"x-request-id": "left"}))
        eventually(lambda: wire.get("/v1/requests/left").status == 200, "it has come")
    eventually(lambda: explained(wire, "left")["summary"].startswith("the client went away"), "it is noted")


def test_each_item_of_a_skill_is_told_by_its_number(wire):
    items = [{"x": [value, 1, 1, 1]} for value in (1, 13, 1)] + [{"x": "no numbers"}]
    assert wire.post("/v1/skills/picky", {"items": items}, {"x-request-id": "items"}).status == 200
    told = explained(wire, "items")
    assert [each["item"] for each in noted(told, "read")] == [0, 1, 2]
    assert {each["item"] for each in noted(told, "ran")} == {0, 2}
    assert sorted(each["item"] for each in noted(told, "refused")) == [1, 3]
    assert told["summary"].startswith("answered after ")
    assert told["summary"].endswith("refused or failed: 2")


def test_large_json_is_told_with_its_way_through_the_transcoder(wire):
    content = {"inputs": [tensor("x", "FP32", [len(LARGE), 4], LARGE)]}
    answer = wire.infer("swift", content, {"x-request-id": "large"})
    stages = {each.get("stage") for each in explained(wire, "large")["notes"]}
    assert answer.status == 400  # it has more rows than a request may
    assert "transcoder" in stages


def test_the_newest_with_an_id_counts(wire):
    wire.infer("picky", body(13.0), {"x-request-id": "twice"})
    wire.infer("swift", body(), {"x-request-id": "twice"})
    assert explained(wire, "twice")["status"] == 200


def test_the_last_requests_are_listed_newest_first(wire):
    for name in ("first", "second"):
        wire.infer("swift", body(), {"x-request-id": name})
    wire.infer("picky", body(), {"x-request-id": "elsewhere"})
    newest = wire.get("/v1/requests?limit=3").json()["requests"]
    assert [each["id"] for each in newest] == ["elsewhere", "second", "first"]
    of_swift = wire.get("/v1/requests?limit=2&model=swift").json()["requests"]
    assert [each["id"] for each in of_swift] == ["second", "first"]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many", "", "1e2", "٣"])
def test_a_limit_that_is_none_is_a_mistake(wire, limit):
    assert wire.get(f"/v1/requests?limit={quote(limit)}").error.startswith("limit should be a number from 1")


def test_an_unknown_id_is_answered_with_what_to_send(wire):
    wire.infer("swift", body(), {"x-request-id": "known"})
    answer = wire.get("/v1/requests/never-seen")
    assert (answer.status, answer.json()["code"]) == (404, "unknown_request")
    assert "x-request-id" in answer.error
    assert "the last 4096" in answer.error


def test_a_server_that_keeps_nothing_says_how_it_would(tmp_path, profiles):
    (tmp_path / "swift.fake").write_text("{}")
    with (
        run_server([tmp_path], profile_dir=profiles, explained_requests=0) as running,
        Wire(running.host, running.port) as wire,
    ):
        assert wire.infer("swift", body(id="b"), {"x-request-id": "a"}).status == 200
        assert "--explained-requests" in wire.get("/v1/requests/a").error


def test_the_command_prints_the_sentence_and_a_line_a_note(own, wire):
    wire.infer("swift", body(), {"x-request-id": "shown"})
    result = explain(own, "shown")
    assert result.exit_code == 0, result.output
    first, second, *lines = result.stdout.splitlines()
    assert first.startswith("answered after ")
    assert second.startswith("shown for swift, came at ")
    assert len(lines) == len(explained(wire, "shown")["notes"])
    assert lines[0].split(None, 2)[1:] == ["ms", lines[0].split(None, 2)[2]]
    assert "rows 1" in lines[0]
    assert "deadline 5000 ms" in lines[0]


def test_the_command_prints_what_the_server_said_as_json(own, wire):
    wire.infer("swift", body(), {"x-request-id": "as-json"})
    assert json.loads(explain(own, "as-json", "--json").stdout) == explained(wire, "as-json")


def test_the_command_lists_the_last_requests(own, wire):
    wire.infer("picky", body(), {"x-request-id": "[listed]"})
    result = explain(own, "--limit", "1", "--model", "picky")
    (line,) = [each for each in result.stdout.splitlines() if "[listed]" in each]
    assert "200" in line
    assert "answered after" in line


def test_what_a_caller_put_into_an_id_does_not_reach_the_terminal(own, wire):
    wire.infer("swift", body(id="\x1b[2Jwiped"))
    assert "\x1b" not in explain(own, "--limit", "1").stdout
    assert "\x1b" not in explain(own, "\x1b[2Jwiped").stdout


def test_the_command_says_what_is_wrong():
    result = CliRunner().invoke(main, ["explain", "a", "--url", f"http://127.0.0.1:{free_port()}"])
    assert result.exit_code == 1
    assert "nothing listens on" in result.stderr


def test_the_command_says_that_an_id_is_unknown(own):
    result = explain(own, "never-seen")
    assert result.exit_code == 1
    assert "nothing is known of a request 'never-seen'" in result.stderr
