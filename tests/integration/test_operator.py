"""Whoever runs the server sees what serves and how it fares, and can open and close breakers by hand."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

ONE = {"inputs": [tensor("x", "FP32", [1, 4], [1, 1, 1, 1])]}
PAIR = {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("operated")
    (folder / "swift.fake").write_text("{}")
    (folder / "broken.fake").write_text(json.dumps({"load_fails": "told not to load"}))
    graphs.times(folder / "times" / "1" / "model.onnx", 10.0)
    graphs.times(folder / "times" / "2" / "model.onnx", 20.0)
    skill = folder / "skill"
    graphs.times(skill / "large.onnx", 2.0)
    graphs.times(skill / "small.onnx", 3.0)
    (skill / "skill.yaml").write_text("variants: {large: {model: large.onnx}, small: {model: small.onnx}}\n")
    with run_server([folder], profile_dir=profiles) as running:
        yield running


@pytest.fixture
def wire(own: RunningServer) -> Iterator[Wire]:
    """Leaves all breakers to themselves again."""
    with Wire(own.host, own.port) as connection:
        yield connection
        for each in connection.get("/v1/versions").json()["versions"]:
            if each["breaker"] is not None:
                force(connection, each["name"], "auto")


def force(wire: Wire, name: str, state: str, **more: str) -> Answer:
    return wire.post(f"/v1/breakers/{name}", {"state": state, **more})


def versions(wire: Wire, name: str = "") -> dict[str, dict]:
    """By name and version."""
    answer = wire.get(f"/v1/versions/{name}" if name else "/v1/versions")
    assert answer.status == 200, answer.raw
    return {f"{each['name']}/{each['version']}": each for each in answer.json()["versions"]}


def breaker(server: RunningServer, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["breaker", "--url", server.url, *arguments])


def test_a_version_is_shown_with_its_workers_and_its_breaker(own, wire):
    shown = versions(wire)["swift/1"]
    (version,) = own.server.catalog.versions("swift")
    assert shown["pids"] == list(version.snapshot().pids)
    assert (shown["state"], shown["reason"], shown["deaths"], shown["crash"]) == ("READY", "", 0, None)
    assert shown["breaker"]["state"] == "closed"


def test_a_version_that_cannot_be_loaded_is_shown_with_its_reason(wire):
    shown = versions(wire)["broken/1"]
    assert shown["state"] == "UNAVAILABLE"
    assert "told not to load" in shown["reason"]


def test_a_skill_is_shown_with_all_its_variants(wire):
    shown = versions(wire, "skill")
    assert set(shown) == {"skill/1", "skill.small/1"}
    assert [each["variant"] for each in shown.values()] == ["large", "small"]
    assert {each["skill"] for each in shown.values()} == {"skill"}
    assert set(versions(wire, "skill.small")) == {"skill.small/1"}


def test_an_open_breaker_answers_with_the_reason_until_it_is_left_to_itself(wire):
    assert force(wire, "swift", "open").json()["versions"][0]["breaker"]["state"] == "forced_open"
    refused = wire.infer("swift", ONE)
    assert (refused.status, refused.headers["x-reject-reason"]) == (503, "circuit-open")
    assert int(refused.headers["retry-after"]) >= 1
    assert "forced by the operator" in refused.error
    assert force(wire, "swift", "auto").json()["versions"][0]["breaker"]["state"] == "closed"
    assert wire.infer("swift", ONE).status == 200


def test_other_models_are_none_of_an_open_breakers_concern(wire):
    force(wire, "swift", "open")
    assert wire.infer("times", PAIR).status == 200


def test_a_breaker_that_is_kept_closed_says_so(wire):
    assert force(wire, "swift", "closed").json()["versions"][0]["breaker"]["state"] == "forced_closed"
    assert wire.infer("swift", ONE).status == 200


def test_of_several_versions_one_can_be_meant(wire):
    assert [each["version"] for each in force(wire, "times", "open", version="1").json()["versions"]] == ["1"]
    assert wire.infer("times/versions/1", PAIR).status == 503
    assert wire.infer("times/versions/2", PAIR).status == 200
    assert len(force(wire, "times", "open").json()["versions"]) == 2


def test_of_several_variants_one_can_be_meant(wire):
    (told,) = force(wire, "skill", "open", variant="small").json()["versions"]
    assert (told["name"], told["breaker"]["state"]) == ("skill.small", "forced_open")
    assert wire.infer("skill", PAIR).status == 200
    assert wire.infer("skill.small", PAIR).status == 503


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "say what the breaker is to do"),
        (b"{", "failed to parse the request JSON"),
        ([], "expected an object"),
        ({"state": "ajar"}, "open, closed or auto"),
        ({"state": ["open"]}, "open, closed or auto"),
        ({"state": None}, "open, closed or auto"),
        ({"state": "open", "version": 1}, "'version' should be text"),
        ({"state": "open", "variant": None}, "'variant' should be text"),
        ({"state": "open", "force": True}, "unknown field 'force': there are state, version, variant"),
    ],
)
def test_a_wish_that_cannot_be_understood_is_refused_and_changes_nothing(wire, content, said):
    answer = wire.post("/v1/breakers/swift", content)
    assert answer.status == 400
    assert said in answer.error
    assert wire.infer("swift", ONE).status == 200


@pytest.mark.parametrize(
    ("name", "more"), [("nothing", {}), ("times", {"version": "7"}), ("skill", {"variant": "huge"})]
)
def test_what_is_not_there_has_no_breaker(wire, name, more):
    assert force(wire, name, "open", **more).status == 404


def test_the_right_verbs_are_told(wire):
    assert wire.get("/v1/breakers/swift").status == 405
    assert wire.post("/v1/versions", {}).status == 405
    assert wire.post("/v1/requests", {}).status == 405
    assert wire.get("/v1/versions/nothing").status == 404


def test_an_operator_who_lets_clients_change_nothing_is_obeyed(tmp_path, profiles):
    (tmp_path / "swift.fake").write_text("{}")
    with (
        run_server([tmp_path], profile_dir=profiles, load_api=False) as running,
        Wire(running.host, running.port) as wire,
    ):
        answer = force(wire, "swift", "open")
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert "--no-load-api" in answer.error
        assert set(versions(wire)) == {"swift/1"}


def test_the_command_shows_all_breakers(own, wire):
    result = breaker(own)
    assert result.exit_code == 0, result.output
    (line,) = [each for each in result.stdout.splitlines() if "swift" in each]
    assert line.split()[:4] == ["swift", "1", "READY", "closed"]
    assert "told not to load" in result.stdout


def test_the_command_opens_and_lets_go(own, wire):
    result = breaker(own, "swift", "open")
    assert result.exit_code == 0, result.output
    assert "forced open" in result.stdout
    assert wire.infer("swift", ONE).status == 503
    assert breaker(own, "swift", "auto").exit_code == 0
    assert json.loads(breaker(own, "swift", "--json").stdout)[0]["breaker"]["state"] == "closed"
    assert wire.infer("swift", ONE).status == 200


def test_the_command_says_what_is_wrong(own):
    assert "is not found" in breaker(own, "nothing", "open").stderr
    assert "add a state" in breaker(own, "swift", "--version", "1").stderr


def test_a_worker_that_died_is_shown_with_how_it_died(own, wire):
    """The last of this file: another one serves afterwards."""
    before = versions(wire, "swift")["swift/1"]["deaths"]
    os.kill(versions(wire, "swift")["swift/1"]["pids"][0], signal.SIGKILL)
    eventually(lambda: versions(wire, "swift")["swift/1"]["deaths"] == before + 1, "the death is counted")
    crash = versions(wire, "swift")["swift/1"]["crash"]
    assert "SIGKILL" in crash["reason"]
    eventually(lambda: versions(wire, "swift")["swift/1"]["state"] == "READY", "another worker serves")
