"""`headrace bench` against a real server. Runs last a second or less; what is found of a rate is not looked at."""

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.testing import RunningServer, run_server

pytestmark = pytest.mark.integration

BROKEN = "failing.fake"


@pytest.fixture(scope="module")
def alone(profiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of one model."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "only.fake").write_text('{"seconds": 0.001}')
    with run_server([folder], profile_dir=profiles) as running:
        yield running


def bench(server: RunningServer, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "--url", server.url, "--no-pin", *arguments])


def document(server: RunningServer, path: Path, *arguments: str) -> dict:
    """What the JSON says of a run, whatever its verdict: a busy machine makes runs void."""
    result = bench(server, *arguments, "--json", str(path))
    assert path.is_file(), result.output
    found = json.loads(path.read_text())
    assert result.exit_code == (0 if found["verdict"]["state"] == "kept" else 1)
    assert found["verdict"]["text"] in " ".join(result.stdout.split())
    return found


def is_answered(found: dict) -> bool:
    """With success, or refused: a machine that is busy with other things may be too slow for any load."""
    statuses = found["analysis"]["whole"]["statuses"].keys()
    return "200" in statuses and statuses <= {"200", "503"}


def test_without_options_the_only_model_gets_a_modest_rate(alone, tmp_path):
    result = bench(alone, "--seconds", "0.5", "--json", str(tmp_path / "out.json"))
    assert "taking half of it" in result.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["setup"]["model"] == "only"
    assert found["setup"]["server"].startswith("headrace ")
    assert is_answered(found)


def test_a_report_and_json_are_written_of_callers_with_different_wishes(server, tmp_path):
    page = tmp_path / "out.html"
    callers = ["--caller", "web:part=3,deadline_ms=5000,tenant=a", "--caller", "batch:tenant=b,retries=1"]
    found = document(
        server,
        tmp_path / "out.json",
        "swift",
        "--rate",
        "200",
        "--seconds",
        "1",
        *callers,
        "--report",
        str(page),
    )
    assert [each["name"] for each in found["analysis"]["callers"]] == ["web", "batch"]
    assert is_answered(found)
    assert 'id="goodput-by-caller"' in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pattern", "bursts", "--rate", "100", "--seconds", "0.5"], "bursts, 100/s"),
        (["--steps", "50:0.2,300:0.3"], "50/s for 0.2 s, 300/s for 0.3 s"),
        (
            [
                "--pattern",
                "even",
                "--rate",
                "50",
                "--seconds",
                "0.4",
                "--zipf",
                "1.1",
                "--viral",
                "0:0.2:0.5",
            ],
            "Zipf 1.1",
        ),
        (["--rate", "50", "--seconds", "0.4", "--binary", "--deadline-ms", "5000"], "poisson, 50/s"),
        (["--concurrency", "2", "--seconds", "0.3"], "closed loop, 2 connections"),
    ],
    ids=["bursts", "steps", "even", "binary", "closed"],
)
def test_loads_of_every_kind_are_answered(server, tmp_path, arguments, words):
    found = document(server, tmp_path / "out.json", "swift", *arguments)
    assert words in found["setup"]["load"]
    assert found["analysis"]["whole"]["calls"] > 0
    assert is_answered(found)


def test_a_trace_and_inputs_of_ones_own_are_sent(server, tmp_path):
    trace, inputs = tmp_path / "trace.csv", tmp_path / "inputs.jsonl"
    trace.write_text("timestamp,tenant\n0,a\n0.1,b\n0.2,a\n0.3,a\n")
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    inputs.write_text(f"{json.dumps(body)}\n" * 2)
    found = document(server, tmp_path / "out.json", "swift", "--trace", str(trace), "--inputs", str(inputs))
    assert {each["name"]: each["calls"] for each in found["analysis"]["callers"]} == {"a": 3, "b": 1}
    assert "2 inputs" in found["setup"]["load"]


def test_a_missed_objective_ends_with_status_1(server):
    result = bench(server, "doubler", "--rate", "30", "--seconds", "0.5", "--p99-ms", "1")
    assert result.exit_code == 1
    assert "FAILED" in result.stdout or "VOID" in result.stdout


def test_a_search_shows_its_trials_and_keeps_its_budget(server, tmp_path):
    found = document(
        server, tmp_path / "out.json", "swift", "--find-max", "--p99-ms", "2000", "--quick", "--budget-s", "8"
    )
    assert found["trials"]
    assert found["trials"][0]["phase"] == "bracket"
    assert sum(each["seconds"] for each in found["trials"]) < 8
    assert found["found"]["reason"] in found["verdict"]["text"]


def test_a_model_that_fails_is_not_loaded(server, tmp_path):
    inputs = tmp_path / "inputs.jsonl"
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [13, 2, 3, 4]}]}
    inputs.write_text(json.dumps(body))
    result = bench(server, "failing", "--rate", "10", "--inputs", str(inputs))
    assert result.exit_code == 1
    assert "does not answer these requests" in result.stderr
    assert "told to fail" in result.stderr
    assert "with --inputs" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "has no model 'nobody'; it has: "),
        ([], "has several models: name one of "),
        (["swift", "--trace", "/nowhere.csv"], "/nowhere.csv cannot be read"),
        (["swift", "--inputs", "/nowhere.jsonl"], "/nowhere.jsonl cannot be read"),
        (["swift", "--report", "/nowhere/out.html"], "there is no folder /nowhere"),
        (["swift", "--find-max"], "--find-max needs --p99-ms"),
        (["swift", "--find-max", "--p99-ms", "5", "--rate", "7"], "leave out --rate"),
        (["swift", "--find-max", "--p99-ms", "5", "--budget-s", "1"], "budget is too small"),
        (["swift", "--steps", "5:5", "--rate", "7"], "leave out --rate and --seconds"),
        (["swift", "--pattern", "steps"], "needs --steps"),
        (["swift", "--concurrency", "3", "--rate", "7"], "leave out --rate"),
        (["swift", "--rate", "5", "--budget-s", "1"], "leaves no time for a run"),
        (["swift", "--url", "https://127.0.0.1:8000"], "speaks plain HTTP"),
        (["swift", "--url", "http://127.0.0.1:99999"], "is not a URL like"),
        (["swift", "--url", "http://[::1"], "is not a URL like"),
        (["swift", "--report", "/"], "cannot be written"),
        (["swift", "--report", "/tmp/x", "--json", "/tmp/x"], "give them two names"),
        (["swift", "--rate", "nan"], "is no number above 0"),
        (["swift", "--seconds", "inf"], "is no number above 0"),
        (["swift", "--seed", "-1"], "not in the range x>=0"),
        (["swift", "--zipf", "nan"], "is no number above 0"),
        (["swift", "--rate", "1e12"], "lower its rate or length"),
    ],
)
def test_mistakes_are_named(server, arguments, words):
    result = bench(server, *arguments)
    assert result.exit_code in {1, 2}
    assert words in " ".join(result.stderr.split())


def test_one_file_that_cannot_be_written_does_not_cost_the_other(server, tmp_path):
    page = tmp_path / "out.html"
    result = bench(
        server, "swift", "--rate", "50", "--seconds", "0.2", "--json", "/dev/full", "--report", str(page)
    )
    assert result.exit_code == 1
    assert "/dev/full cannot be written" in result.stderr
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_an_address_without_a_scheme_has_batch_sizes_too(server, tmp_path):
    url = server.url.removeprefix("http://")
    found = document(server, tmp_path / "out.json", "swift", "--url", url, "--rate", "50", "--seconds", "1.2")
    assert found["batch_sizes"]


def test_a_trace_that_is_none_is_refused_by_line(server, tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("time\n1\nsoon\n")
    result = bench(server, "swift", "--trace", str(path))
    assert result.exit_code == 1
    assert "line 3: 'soon'" in result.stderr


def test_a_server_that_is_not_there_is_said_so():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        result = CliRunner().invoke(main, ["bench", "--url", url])
    assert result.exit_code == 1
    assert f"nothing listens on {url}" in result.stderr


def test_a_model_that_is_not_ready_is_said_so(profiles, tmp_path):
    (tmp_path / BROKEN).write_text('{"load_fails": "told to"}')
    with run_server([tmp_path], wait_ready=False, profile_dir=profiles) as running:
        named, unnamed = bench(running, "failing"), bench(running)
    assert "model 'failing'" in named.stderr
    assert "is not ready" in named.stderr
    assert "has no model that is ready" in unnamed.stderr


@pytest.mark.parametrize("missing", ["hdrh", "matplotlib"])
def test_the_extra_that_is_missing_is_named_before_the_run(server, monkeypatch, tmp_path, missing):
    ours = ("headrace.cli.load", "headrace.loadtest")
    for module in [name for name in sys.modules if name.startswith((*ours, f"{missing}."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    result = bench(server, "swift", "--report", str(tmp_path / "out.html"))
    assert result.exit_code == 1
    assert f"bench needs {missing}; install it with: pip install 'headrace[bench]'" in result.stderr
