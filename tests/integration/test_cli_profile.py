"""`headrace models --profile`: mostly of curves that are made up and stored, so that figures are known."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.cli.profile import order_of
from headrace.config import Settings
from headrace.execution.footprint import Footprint
from headrace.execution.profiles import Curve, Measured, ProfileStore
from headrace.execution.wire import Profile
from headrace.repository.find import find_sources
from tests.integration import graphs

pytestmark = pytest.mark.integration

MB = 1_000_000
SECONDS = {1: 0.010, 2: 0.011, 4: 0.013, 8: 0.017, 16: 0.025}
"""Throughput grows to the last."""
COST = 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A skill that promises something, and a file that promises nothing."""
    (tmp_path / "models" / "mood").mkdir(parents=True)
    graphs.mlp(tmp_path / "models" / "mood" / "model.onnx")
    (tmp_path / "models" / "mood" / "skill.yaml").write_text("objective: {latency_p99_ms: 50}")
    graphs.mlp(tmp_path / "models" / "plain.onnx", seed=1)
    return tmp_path / "models"


def run(folder: Path, *arguments: str) -> Result:
    store = folder.parent / "profiles"
    return CliRunner().invoke(main, ["models", str(folder), "--profile-dir", str(store), *arguments])


def known(folder: Path, name: str, seconds: dict[int, float] = SECONDS, **more) -> str:
    """As if it had been measured before; returns the key it is kept under."""
    settings = Settings(profile_dir=folder.parent / "profiles")
    (source,) = (each for each in find_sources((folder,), None) if each.name == name)
    store = ProfileStore(settings.profile_dir)
    key = store.key_of(asyncio.run(order_of(source, settings)))
    points = tuple(
        Measured(rows, took, took, 1.2 * took, 30, (100 + 10 * rows) * MB) for rows, took in seconds.items()
    )
    store.write_curve(Curve(key, COST, 1, 2, points, "no more rows share a run", **more))
    return key


def golden(folder: Path, *arguments: str) -> dict:
    (found,) = json.loads(run(folder, *arguments, "--json").stdout)
    return found["golden_point"]


def test_the_curve_is_shown_with_the_point_and_what_binds(folder):
    known(folder, "plain")
    result = run(folder, "--profile", "plain")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "plain/1  rows of 64 elements; 1 instance x 2 threads" in result.stdout
    line = next(each for each in result.stdout.splitlines() if "◀" in each)
    assert line.split() == ["16", "260.0", "640", "25", "ms", "25", "ms", "30", "ms", "◀", "golden", "point"]
    assert "batches of 16 rows; rows binds" in result.stdout


def test_the_memory_that_is_said_binds(folder):
    known(folder, "plain")
    # 70 % of 200 MB are 140 MB: 100 of the model, and 40 of four rows.
    found = golden(folder, "--profile", "plain", "--memory-budget", "200MB")
    assert (found["rows"], found["bound"]) == (4, "memory")
    shown = run(folder, "--profile", "plain", "--memory-budget", "200MB").stdout
    assert "▶ memory" in shown
    assert "70% of 191 MiB are 134 MiB" in shown


def test_a_skills_promise_binds_and_another_one_in_its_place(folder):
    known(folder, "mood")
    found = golden(folder, "--profile", "mood")
    assert (found["allowed"]["objective"], found["bound"]) == (11, "objective")
    assert golden(folder, "--profile", "mood", "--latency-p99-ms", "1000")["bound"] == "rows"
    shown = run(folder, "--profile", "mood").stdout
    assert "99 of 100 runs within 25 ms, half of the 50 ms promised" in shown
    assert "A server's batches grow to 16 rows" in shown


def test_a_promise_that_single_rows_break_is_said(folder):
    known(folder, "mood")
    shown = run(folder, "--profile", "mood", "--latency-p99-ms", "5").stdout
    assert "a row alone takes up to 12 ms, more than all of the 5 ms promised" in shown


def test_the_knee_of_the_throughput_binds(folder):
    known(folder, "plain", {1: 0.010, 2: 0.011, 4: 0.022})
    found = golden(folder, "--profile", "plain")
    assert (found["rows"], found["bound"]) == (2, "throughput")


def test_bytes_are_those_a_server_counts_with_where_it_has_measured_them(folder):
    key = known(folder, "plain")
    footprint = Footprint(30 * MB, 20 * MB, {COST: {rows: rows * MB for rows in SECONDS}})
    ProfileStore(folder.parent / "profiles").write(key, Profile(footprint=footprint))
    (found,) = json.loads(run(folder, "--profile", "plain", "--json").stdout)
    assert [each["nbytes"] for each in found["points"]] == [(50 + rows) * MB for rows in SECONDS]


def test_several_models_are_shown_in_the_order_they_were_asked_for(folder):
    known(folder, "plain")
    known(folder, "mood")
    found = json.loads(run(folder, "--profile", "plain", "--profile", "mood", "--json").stdout)
    assert [each["name"] for each in found] == ["plain", "mood"]


def test_a_plot_has_the_limits_and_the_point(folder, tmp_path):
    known(folder, "mood")
    file = tmp_path / "mood.svg"
    result = run(folder, "--profile", "mood", "--plot", str(file), "--memory-budget", "400MB")
    assert result.exit_code == 0, result.output
    drawn = file.read_text()
    for expected in ("golden point", "half of the objective", "70% of the memory", "p99", "11 rows"):
        assert expected in drawn


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--profile", "plan"], "no model at these paths is named 'plan': did you mean plain?"),
        (["--profile", "zzz"], "there are mood, plain"),
        (["--plot", "a.svg"], "go with --profile NAME"),
        (["--latency-p99-ms", "5"], "go with --profile NAME"),
        (["--profile", "plain", "--plot", "a.pdf"], "does not end in .svg"),
        (["--profile", "plain", "--profile", "mood", "--plot", "a.svg"], "--plot draws one model"),
        (["--profile", "plain", "--memory"], "give one of them"),
        (["--profile", "plain", "--url", "http://127.0.0.1:1"], "give PATHS, and no --url"),
        (["--profile", "plain", "--plot", "/nowhere/a.svg"], "/nowhere/a.svg cannot be written"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(folder, arguments, expected):
    known(folder, "plain")
    known(folder, "mood")
    result = run(folder, *arguments)
    assert result.exit_code != 0
    assert expected in " ".join(result.stderr.replace("│", " ").split())


def test_a_model_that_was_not_measured_is_measured_now(folder):
    result = run(folder, "--profile", "plain", "--max-batch-size", "2", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert [each["rows"] for each in found["points"]] == [1, 2]
    assert found["row_elements"] == COST
    assert all(0 < each["p50_s"] <= each["p99_s"] and each["nbytes"] > MB for each in found["points"])
    assert "runs of 2 rows" in result.stderr


def test_what_cannot_be_loaded_is_said(folder):
    (folder / "plain.onnx").write_bytes(b"no model")
    result = run(folder, "--profile", "plain")
    assert result.exit_code == 1
    assert "model 'plain'" in result.stderr


def test_a_model_whose_process_dies_is_said(folder):
    (folder / "bad.fake").write_text('{"load_dies": true}')
    result = run(folder, "--profile", "bad")
    assert result.exit_code == 1
    assert "model 'bad' cannot be measured" in result.stderr
    assert "SIGSEGV" in result.stderr


def test_a_model_that_takes_no_made_up_inputs_is_said(folder):
    (folder / "picky.fake").write_text('{"error_value": 0.12573021650314331}')
    result = run(folder, "--profile", "picky")
    assert result.exit_code == 1, result.output
    assert "could not be run on made-up inputs" in result.stderr
