import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.lifecycle import residency
from headrace.lifecycle.version import ModelVersion
from tests.integration import graphs

pytestmark = pytest.mark.integration


def run(profiles: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["models", "--profile-dir", str(profiles), *map(str, arguments)])


def run_json(profiles: Path, *arguments: str | Path) -> dict[str, dict]:
    """What is found, by model and version."""
    found = json.loads(run(profiles, *arguments, "--json").stdout)
    return {f"{each['name']}/{each['version']}": each for each in found}


def test_shows_what_is_inferred_of_a_model(tmp_path, profiles):
    result = run(profiles, graphs.mlp(tmp_path / "mlp.onnx"))
    assert result.exit_code == 0, result.output
    for expected in ("version 1  READY  onnxruntime", "[batch, 64]", "[batch, 10]", "requests share runs"):
        assert expected in result.stdout
    assert "for 1 row" in result.stdout


def test_shows_what_answers_where_a_skill_cannot(tmp_path, profiles):
    (tmp_path / "mood").mkdir()
    graphs.mlp(tmp_path / "mood" / "model.onnx")
    (tmp_path / "mood" / "skill.yaml").write_text("fallback: {chain: [{stale: 30}]}")
    result = run(profiles, tmp_path)
    assert result.exit_code == 0, result.output
    assert "falls back   whatever the reason: its answer of up to 30 s ago" in result.stdout
    (found,) = run_json(profiles, tmp_path).values()
    assert found["fallback"]["chain"] == [{"variant": "", "stale_s": 30.0, "static": ""}]


def test_what_models_take_of_memory_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(residency, "QUIET_S", 0.0)
    monkeypatch.setattr(residency, "LOOK_EVERY_S", 0.0)
    measured = []
    monkeypatch.setattr(ModelVersion, "measure", lambda *_: measured.append(_))
    (tmp_path / "quick.fake").write_text("{}")
    (tmp_path / "slow.fake").write_text('{"load_seconds": 0.5}')
    assert run(tmp_path / "profiles", tmp_path).exit_code == 0
    assert measured == []


def test_says_why_a_model_is_not_batched(tmp_path, profiles):
    result = run(profiles, graphs.batch_mean(tmp_path / "mean.onnx"))
    assert result.exit_code == 0
    assert "one request at a time" in result.stdout
    assert "output 'y'" in result.stdout


def test_what_cannot_be_loaded_is_shown_with_its_reason_and_fails(tmp_path, profiles):
    graphs.mlp(tmp_path / "good.onnx")
    (tmp_path / "half.onnx").write_bytes((tmp_path / "good.onnx").read_bytes()[:1000])
    result = run(profiles, tmp_path)
    assert result.exit_code == 1
    assert "version 1  READY" in result.stdout
    assert "version 1  UNAVAILABLE" in result.stdout
    assert "is not a whole ONNX file" in result.stdout


def test_a_path_that_is_not_there_is_an_error_in_one_line(tmp_path, profiles):
    result = run(profiles, tmp_path / "nothing.onnx")
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"Error: {tmp_path}/nothing.onnx is not there: give a model file or a folder of models\n"
    )


def test_every_version_is_shown(tmp_path, profiles):
    for version in ("1", "10", "2"):
        graphs.times(tmp_path / "times" / version / "model.onnx", float(version))
    (tmp_path / "times" / "3").mkdir()
    found = run_json(profiles, tmp_path)
    assert list(found) == ["times/1", "times/2", "times/3", "times/10"]
    assert found["times/10"]["state"] == "READY"
    assert "it is empty" in found["times/3"]["reason"]


def test_json_has_what_a_program_needs(tmp_path, profiles):
    found = run_json(profiles, graphs.two_inputs(tmp_path / "pair.onnx"))["pair/1"]
    assert [each["name"] for each in found["inputs"]] == ["a", "b"]
    assert found["inputs"][0] == {
        "name": "a",
        "datatype": "FP32",
        "shape": [-1, 3],
        "batch_axis": 0,
        "lengths": [None, None],
        "pad_value": None,
    }
    assert found["joins_requests"] is True
    assert found["latencies"][0]["row_elements"] == 6
    assert found["latencies"][0]["seconds"]["1"] > 0


def test_padding_that_is_declared_is_shown_where_a_run_confirms_it(tmp_path, profiles):
    model = graphs.ragged(tmp_path / "ragged.onnx")
    assert run_json(profiles, model)["ragged/1"]["inputs"][0]["lengths"] == [None, None]
    padded = run_json(profiles, model, "--pad", "ragged:x=0")["ragged/1"]
    assert padded["inputs"][0]["lengths"] == [None, "n"]
    assert padded["inputs"][0]["pad_value"] == 0
    shown = run(profiles, model, "--pad", "ragged:x=0").stdout
    assert "[batch, n]  padded with 0" in shown
    assert "cut to its row's length" in shown


def test_the_given_arrangement_is_used(tmp_path, profiles):
    found = run_json(profiles, graphs.mlp(tmp_path / "mlp.onnx"), "--instances", "2", "--threads", "1")[
        "mlp/1"
    ]
    assert (found["instances"], found["threads"]) == (2, 1)


def test_a_model_whose_loading_ends_its_process_is_reported(tmp_path, profiles):
    (tmp_path / "bad.fake").write_text('{"load_dies": true}')
    result = run(profiles, tmp_path / "bad.fake")
    assert result.exit_code == 1
    assert "crashed while loading (SIGSEGV) 4 times in a row" in result.stdout


def test_no_process_is_left_behind(tmp_path, profiles):
    command = [sys.executable, "-m", "headrace", "models", graphs.mlp(tmp_path / "mlp.onnx"), "--json"]
    process = subprocess.run([*command, "--profile-dir", profiles], capture_output=True, check=True)
    assert json.loads(process.stdout)[0]["state"] == "READY"
    assert process.stderr == b""
    assert str(tmp_path) not in command_lines()


def command_lines() -> str:
    lines = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                lines.append((folder / "cmdline").read_text(errors="replace"))
            except OSError:
                continue
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", ".", "--instances", "0"], "Invalid value for '--instances'"),
        (["serve", ".", "--http-port", "99999"], "Invalid value for '--http-port'"),
        (["serve", ".", "--pad", "nonsense"], "is not MODEL:INPUT=VALUE"),
    ],
    ids=["no instance", "no such port", "no pad"],
)
def test_a_value_out_of_range_is_a_usage_error(arguments, message):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
