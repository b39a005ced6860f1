"""What a server, and a command before its start, say of memory."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from headrace.cli.main import main
from headrace.errors import ConfigurationError
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually
from tests.integration.wire import Wire, tensor

pytestmark = pytest.mark.integration

PAIR = {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}
MIB = 1 << 20
BUDGET = 500 * MIB


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its own: what others have measured of models of the same content would be told instead."""
    return tmp_path_factory.mktemp("own profiles")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model that is pinned, and two skills that are not loaded before they are asked for; one leaves soon."""
    found = tmp_path_factory.mktemp("remembered")
    (found / "pinned.fake").write_text("{}")
    for name, memory in (("asleep", "preload: false"), ("brief", "preload: false, idle: 100ms")):
        graphs.times(found / name / "model.onnx", 2.0)
        (found / name / "skill.yaml").write_text(f"memory: {{{memory}}}\n")
    return found


@pytest.fixture(scope="module")
def own(folder: Path, profiles: Path) -> Iterator[RunningServer]:
    with run_server(
        [folder], profile_dir=profiles, memory_budget=BUDGET, pin={"pinned"}, measure_memory=False
    ) as running:
        yield running


@pytest.fixture
def wire(own: RunningServer) -> Iterator[Wire]:
    with Wire(own.host, own.port) as connection:
        yield connection


def models(wire: Wire) -> dict[str, dict]:
    return {each["name"]: each for each in wire.get("/v1/memory").json()["models"]}


def metrics(wire: Wire, name: str, **labels: str) -> dict[tuple[str, ...], float]:
    """Values of the other labels → value, of the samples that have these."""
    families = text_string_to_metric_families(wire.get("/metrics").body.decode())
    return {
        tuple(value for key, value in sorted(sample.labels.items()) if key not in labels): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["models", "--memory", *map(str, arguments)])


def test_what_is_reserved_is_what_models_in_memory_hold_and_within_the_budget(wire):
    found = wire.get("/v1/memory").json()
    (device,) = found["devices"]
    held = [each["resident"] for each in found["models"] if each["state"] == "READY"]
    assert device["budget"] == BUDGET
    assert sum(held) == device["resident"]
    assert device["resident"] + device["scratch"] <= BUDGET


def test_who_is_pinned_is_there_and_who_was_not_asked_for_is_told_to_be_absent(wire):
    found = models(wire)
    assert (found["pinned"]["state"], found["pinned"]["is_pinned"]) == ("READY", True)
    assert (found["asleep"]["state"], found["asleep"]["used"]) == ("ABSENT", 0)
    assert "loaded when it is asked for" in found["asleep"]["reason"]


def test_a_model_that_comes_for_a_request_and_leaves_again_is_counted(wire):
    assert wire.infer("brief", PAIR).status == 200
    eventually(lambda: models(wire)["brief"]["evictions"] > 0, "nobody asks for it, and it leaves")
    eventually(
        lambda: metrics(wire, "inference_absent_requests_total", skill="brief") == {("1",): 1.0},
        "the request is counted that had to wait for its model",
    )
    assert metrics(wire, "inference_loads_total", skill="brief") == {("asked", "1"): 1.0}
    assert metrics(wire, "inference_evictions_total") == {("brief", "1"): 1.0}
    assert metrics(wire, "inference_reload_seconds", skill="brief")[("1",)] > 0


def test_what_is_resident_is_one_and_what_is_absent_holds_nothing(wire):
    resident = metrics(wire, "inference_model_resident", version="1")
    assert (resident[("pinned",)], resident[("asleep",)]) == (1, 0)
    held = metrics(wire, "inference_model_memory_bytes", kind="resident", version="1")
    assert held[("pinned",)] > 0
    assert held[("asleep",)] == 0
    assert metrics(wire, "inference_memory_bytes", kind="budget") == {("cpu",): BUDGET}


def test_the_command_shows_a_server_s_memory_and_absence_is_no_failure(own, wire):
    result = run("--url", own.url)
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "500 MiB for models" in lines[0]
    assert any(line.startswith("pinned/1") and "READY" in line and "pinned" in line[9:] for line in lines)
    assert any("ABSENT" in line for line in lines)
    assert CliRunner().invoke(main, ["models", "--url", own.url]).exit_code == 0


def test_the_command_shows_one_model_for_programs(own):
    result = run("--url", own.url, "--json", "pinned")
    assert [each["name"] for each in json.loads(result.stdout)["models"]] == ["pinned"]


def test_a_name_the_server_does_not_know_is_told_with_those_it_has(own):
    result = run("--url", own.url, "pined")
    assert result.exit_code == 1
    assert "has no model 'pined'; it has: asleep, brief, pinned" in result.stderr


def foreseen(*arguments: object) -> dict[str, dict]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return {each["name"]: each for each in json.loads(result.stdout)["models"]}


def test_before_a_start_it_is_told_who_would_be_loaded_and_who_waits(folder, profiles):
    found = foreseen(folder, "--profile-dir", profiles, "--memory-budget", "500MiB", "--pin", "pinned")
    assert {name: each["state"] for name, each in found.items()} == {
        "pinned": "READY",
        "asleep": "ABSENT",
        "brief": "ABSENT",
    }
    assert "preload is false" in found["asleep"]["reason"]


def test_before_a_start_who_has_no_room_beside_the_pinned_is_told_what_is_lacking(folder, tmp_path, profiles):
    for name in ("a", "b"):
        (tmp_path / f"{name}.fake").write_text("{}")
    for pinned in ("a", "b"):
        found = foreseen(tmp_path, "--profile-dir", profiles, "--memory-budget", "100MiB", "--pin", pinned)
        (waits,) = {"a", "b"} - {pinned}
        assert (found[pinned]["state"], found[waits]["state"]) == ("READY", "ABSENT")
        assert "are lacking at start" in found[waits]["reason"]


def test_before_a_start_what_can_never_be_is_told_and_fails(folder, profiles):
    result = run(folder, "--profile-dir", profiles, "--memory-budget", "40MiB", "--pin", "pinned")
    assert result.exit_code == 1
    assert "never" in result.stdout


def test_a_server_does_not_start_with_pinned_models_that_cannot_fit(folder, profiles):
    with (
        pytest.raises(ConfigurationError, match=r"pinned/1 .* takes .*, and the budget is 30 MiB"),
        run_server([folder], profile_dir=profiles, memory_budget="30MiB", pin={"pinned"}),
    ):
        pass


def test_a_server_does_not_start_with_a_budget_that_the_machine_does_not_have(folder, profiles):
    with (
        pytest.raises(ConfigurationError, match="--memory-budget is 900 TiB"),
        run_server([folder], profile_dir=profiles, memory_budget="900TiB"),
    ):
        pass


def test_models_that_do_not_fit_together_are_loaded_in_turn_to_look_at_them(tmp_path, profiles):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.fake").write_text("{}")
    result = CliRunner().invoke(
        main, ["models", str(tmp_path), "--json", "--profile-dir", str(profiles), "--memory-budget", "80MiB"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [each["state"] for each in found] == ["READY"] * 3
    assert all(each["inputs"] for each in found)


def test_a_model_that_never_fits_is_told_with_the_sum_when_it_is_to_be_looked_at(tmp_path, profiles):
    (tmp_path / "a.fake").write_text("{}")
    result = CliRunner().invoke(
        main, ["models", str(tmp_path), "--json", "--profile-dir", str(profiles), "--memory-budget", "30MiB"]
    )
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)
    assert "of the budget of 30 MiB" in found["reason"]


def test_somebody_has_to_say_of_what():
    result = run()
    assert result.exit_code == 2
    assert "name a PATH" in result.stderr
