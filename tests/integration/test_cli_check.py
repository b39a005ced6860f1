import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from layouts import lay_out

from headrace.cli.main import main

pytestmark = pytest.mark.integration

DECLARED = {
    "name": "iris",
    "max_batch_size": 8,
    "max_batch_time": 0.1,
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}],
    "parameters": {"uri": "./iris.onnx", "extra": {"owner": "garden"}},
}
LISTED = {
    "model_config_list": [{"config": {"name": "n", "base_path": "n", "nireq": 4}}, {"config": {"name": "o"}}]
}
FILES = {
    "mls/model-settings.json": DECLARED,
    "mls/iris.onnx": None,
    "ovms/config.json": LISTED,
    "ovms/n/2/any.onnx": None,
    "tf/1/saved_model.pb": None,
    "plain/1/model.onnx": None,
    "plain/2/": None,
}
PBTXT = """name: "p"
backend: "onnxruntime"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { default_queue_policy { default_timeout_microseconds: 50000 max_queue_size: 10 } }
"""
SKILL = """format: 1
description: how a message sounds
objective: {latency_p99_ms: 60, priority: high}
inputs:
  x: {tensor: true}
outputs:
  mood: {from: y, softmax: true, labels: [bad, good]}
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def squeezed(result: Result) -> str:
    """Without the layout of the page."""
    return " ".join(result.stdout.replace("│", " ").split())


def test_shows_what_is_understood_and_what_is_ignored_of_a_model(tmp_path):
    lay_out(tmp_path, {name: FILES[name] for name in ("mls/model-settings.json", "mls/iris.onnx")})
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    shown = squeezed(result)
    for expected in (
        "iris └── version 1 OK MLServer onnxruntime",
        "inputs x FP32 [batch, 4]",
        "outputs y INT64 [batch]",
        "batching up to 8 rows a run",
        "parameters owner = garden",
        "ignored max_batch_time 0.1 is not used: nothing waits for a batch to fill",
        "1 model, 1 version: none refused",
    ):
        assert expected in shown


FALLING_BACK = """variants: {large: {}, small: {model: model.onnx}}
fallback:
  on: [overload, error]
  chain: [{variant: small}, {stale: 90m}, {static: popular.json}]
idempotent: false
finite_outputs: true
"""


def test_shows_in_words_what_answers_where_a_skill_cannot(tmp_path):
    lay_out(
        tmp_path, {"mood/skill.yaml": FALLING_BACK, "mood/model.onnx": None, "mood/popular.json": {"y": 1}}
    )
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    shown = squeezed(result)
    for expected in (
        "falls back on overload or error: variant small, else its answer of up to 1.5 h ago, else popular.json",
        "runs what may have been run is not run again NaN or an infinite number in an output is a failure",
    ):
        assert expected in shown
    first, second = json.loads(run(tmp_path, "--json").stdout)
    assert first["settings"]["fallback"]["chain"][1] == {"variant": "", "stale_s": 5400.0, "static": ""}
    assert "fallback" not in second["settings"]


def test_shows_that_a_skill_forbids_lesser_answers(tmp_path):
    lay_out(tmp_path, {"mood/skill.yaml": "degrade: none\n", "mood/model.onnx": None})
    assert "falls back never: callers get its own answer or an error" in squeezed(run(tmp_path))


def test_a_chain_that_cannot_be_fails_with_the_line_of_each_mistake(tmp_path):
    chain = "degrade: none\nfallback:\n  chain:\n    - {static: popular.json}\n    - {variant: small}\n"
    result = run(lay_out(tmp_path, {"mood/skill.yaml": chain, "mood/model.onnx": None}))
    assert result.exit_code == 1
    shown = squeezed(result)
    for expected in (
        "skill.yaml:1: degrade: is none, and there is a fallback",
        "skill.yaml:4: fallback.chain[0].static: there is no popular.json in mood",
        "skill.yaml:5: fallback.chain[1]: is never reached",
        "skill.yaml:5: fallback.chain[1].variant: is small, and the skill has no variants",
    ):
        assert expected in shown


def test_mistakes_of_all_models_are_shown_at_once_and_fail(tmp_path):
    result = run(lay_out(tmp_path, FILES))
    assert result.exit_code == 1
    shown = squeezed(result)
    for expected in (
        "version 2 OK OpenVINO Model Server",
        "nireq 4 is not used",
        "entry 2 of model_config_list needs texts for name and base_path",
        "a TensorFlow SavedModel: convert it with",
        "version 1 OK version folders",
        "no model.onnx in",
        "5 models, 6 versions: 3 refused",
    ):
        assert expected in shown


def test_json_has_the_same_for_programs(tmp_path):
    result = run(lay_out(tmp_path, FILES), "--json")
    assert result.exit_code == 1
    found = {f"{each['name']}/{each['version']}": each for each in json.loads(result.stdout)}
    assert {name for name, each in found.items() if each["is_refused"]} == {"o/1", "plain/2", "tf/1"}
    iris = found["iris/1"]
    assert (iris["layout"], iris["backend"], iris["problem"]) == ("MLServer", "onnxruntime", "")
    assert iris["path"] == str(tmp_path / "mls" / "iris.onnx")
    assert iris["settings"]["max_batch_size"] == 8
    assert iris["settings"]["inputs"][0]["dims"] == [4]
    assert iris["ignored"] == ["max_batch_time 0.1 is not used: nothing waits for a batch to fill"]
    assert found["plain/1"]["settings"] == {}


def test_shows_what_triton_was_told(tmp_path):
    lay_out(tmp_path, {"p/config.pbtxt": PBTXT, "p/labels.txt": "a\nb\nc\n", "p/1/model.onnx": None})
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    shown = squeezed(result)
    for expected in (
        "OK Triton onnxruntime",
        "inputs x FP32 [batch, 4]",
        "outputs y FP32 [batch, 3] 3 labels",
        "up to 16 rows a run",
        "runs on 2 instances x threads as measured",
        "at most 10 requests waiting, refused after 0.05 s",
    ):
        assert expected in shown


def test_shows_what_a_skill_takes_and_gives(tmp_path):
    result = run(lay_out(tmp_path, {"mood/skill.yaml": SKILL, "mood/model.onnx": None}))
    assert result.exit_code == 0, result.output
    shown = squeezed(result)
    for expected in (
        "how a message sounds",
        "callers get mood: labels",
        "labels [bad, good]",
        "99 of 100 answers within 60 ms",
        "priority high",
    ):
        assert expected in shown


def test_shows_who_gets_the_machine(tmp_path):
    shared = SKILL + "share: {weight: 2, priorities: {1: 0.5, 2: 0.25, 3: null}}\n"
    lay_out(tmp_path, {"mood/skill.yaml": shared, "mood/model.onnx": None, "other/1/model.onnx": None})
    (tmp_path / "tenants.yaml").write_text("acme: {weight: 3, keys: [s3cret]}\nnightly: {weight: 0.2}\n")
    result = run(tmp_path, "--weight", "other=0.5", "--tenants", tmp_path / "tenants.yaml")
    assert result.exit_code == 0, result.output
    shown = squeezed(result)
    for expected in (
        "weight 2, beside other models",
        "weight 0.5, beside other models",
        "priority 1: first within 0.5 of its device time, any number waiting",
        "priority 3 (of requests that name none): any number waiting",
        "2 tenants: acme weighs 3 (1 key), nightly weighs 0.2",
    ):
        assert expected in shown
    assert "s3cret" not in result.output


@pytest.mark.parametrize(
    ("share", "reason"),
    [
        ("{weight: 0}", "share.weight: should be above 0, and is 0"),
        ("{priorities: {1: 0.7, 2: 0.6}}", "share.priorities: promise 1.3 of the device time in all"),
    ],
    ids=["a weight of zero", "shares over 1"],
)
def test_shares_that_cannot_work_fail_with_the_reason(tmp_path, share, reason):
    lay_out(tmp_path, {"mood/skill.yaml": f"{SKILL}share: {share}\n", "mood/model.onnx": None})
    result = run(tmp_path)
    assert result.exit_code == 1
    assert f"skill.yaml:8: {reason}" in squeezed(result)


@pytest.mark.parametrize("option", ["--pin", "--preload"])
def test_what_is_kept_in_memory_is_a_model_that_is_there(tmp_path, option):
    result = run(lay_out(tmp_path, FILES), option, "oris", option, "iris")
    assert result.exit_code == 1
    assert f"{option} is given for oris, and the models are iris, n, o, plain, tf" in result.stderr


def test_of_many_models_the_first_are_listed(tmp_path):
    result = run(lay_out(tmp_path, {f"m{at:02}.onnx": None for at in range(25)}), "--pin", "zzz")
    assert result.exit_code == 1
    assert result.stderr.strip().endswith("m18, m19 and 5 more")


def test_shows_what_is_kept_in_memory(tmp_path):
    lay_out(
        tmp_path, {"a.onnx": None, "b/skill.yaml": f"{SKILL}memory: {{idle: 10m}}\n", "b/model.onnx": None}
    )
    shown = squeezed(run(tmp_path, "--pin", "a", "--preload", "b", "--profile-dir", tmp_path))
    assert "memory pinned: loaded at start, and stays" in shown
    assert "memory loaded at start, before others leaves when nobody has asked for it for 600 s" in shown


def test_a_budget_that_the_machine_does_not_have_fails_with_the_sum(tmp_path):
    result = run(lay_out(tmp_path, FILES), "--memory-budget", "900TiB")
    assert result.exit_code == 1
    assert "--memory-budget is 900 TiB, and there are " in result.stderr


def test_pinned_models_that_do_not_fit_together_fail_with_the_sum(tmp_path):
    lay_out(
        tmp_path, {"a.onnx": None, "b/skill.yaml": f"{SKILL}memory: {{pin: true}}\n", "b/model.onnx": None}
    )
    one = run(tmp_path, "--memory-budget", "100MiB", "--profile-dir", tmp_path)
    assert (one.exit_code, one.stderr) == (0, "")
    both = run(tmp_path, "--memory-budget", "100MiB", "--pin", "a", "--profile-dir", tmp_path)
    assert both.exit_code == 1
    assert "pinned models take a/1 (guessed from its files) 72 MiB + b/1" in both.stderr
    assert (
        "= 144 MiB, and the budget is 100 MiB (--memory-budget): pin fewer, or raise --memory-budget"
        in both.stderr
    )


def test_a_model_that_never_fits_fails_with_what_it_takes(tmp_path):
    result = run(lay_out(tmp_path, {"a.onnx": None}), "--memory-budget", "30MiB", "--profile-dir", tmp_path)
    assert result.exit_code == 1
    assert "a/1 (guessed from its files) takes 72 MiB, and the budget is 30 MiB" in result.stderr


def test_weights_are_for_models_that_are_there(tmp_path):
    result = run(lay_out(tmp_path, FILES), "--weight", "oris=2", "--weight", "iris=2")
    assert result.exit_code == 1
    assert "a weight is given for oris, and the models are iris, n, o, plain, tf" in result.stderr


def test_mistakes_in_the_file_of_tenants_fail_all_at_once(tmp_path):
    lay_out(tmp_path, {"mood/model.onnx": None})
    (tmp_path / "tenants.yaml").write_text("acme: {weight: 0}\nother: {keys: s3cret}\n")
    result = run(tmp_path, "--tenants", tmp_path / "tenants.yaml")
    assert result.exit_code == 1
    assert "tenants.yaml:1: acme.weight: should be a number above 0, and is 0" in result.stderr
    assert "tenants.yaml:2: other.keys: should be a list" in result.stderr
    assert "s3cret" not in result.output


def test_all_mistakes_of_a_skill_are_shown_with_their_lines(tmp_path):
    wrong = SKILL.replace("softmax: true", "softmax: perhaps").replace("priority: high", "priority: highest")
    result = run(lay_out(tmp_path, {"mood/skill.yaml": wrong, "mood/model.onnx": None}))
    assert result.exit_code == 1
    shown = squeezed(result)
    assert "skill.yaml:3" in shown
    assert "skill.yaml:7" in shown


def test_the_name_to_serve_under_is_shown(tmp_path):
    lay_out(tmp_path, {"1/model.onnx": None})
    assert run(tmp_path, "--model-name", "isvc").stdout.startswith("isvc\n")


def test_several_models_cannot_have_one_name(tmp_path):
    result = run(lay_out(tmp_path, FILES), "--model-name", "isvc")
    assert result.exit_code == 1
    assert "--model-name isvc is for one model, and there are 5: iris, n, o, plain, tf" in result.stderr


@pytest.mark.parametrize(
    ("names", "message"),
    [(["gone"], "gone is not there"), ([""], "no models in")],
    ids=["a path that is not there", "a folder without models"],
)
def test_nothing_to_check_is_an_error_in_one_line(tmp_path, names, message):
    result = run(*[tmp_path / name for name in names])
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_no_runtime_is_loaded_and_nothing_is_opened(tmp_path):
    lay_out(
        tmp_path, {"m/model-settings.json": {}, "m/model.onnx": b"no model at all", "p/config.pbtxt": PBTXT}
    )
    lay_out(
        tmp_path, {"p/labels.txt": "a", "p/1/model.onnx": None, "s/skill.yaml": SKILL, "s/model.onnx": None}
    )
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from headrace.cli.main import main\n"
        "assert CliRunner().invoke(main, ['check', sys.argv[1]]).exit_code == 0\n"
        "print(sorted(sys.modules.keys() & {'onnxruntime', 'tokenizers', 'PIL', 'uvicorn'}))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
