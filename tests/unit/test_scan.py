import json
import os
from pathlib import Path

import pytest

from headrace.execution.stamps import Stamp, changed, stamp_of
from headrace.model_config import FALLBACK_REASONS, Fallback, FallbackStep, ModelConfig
from headrace.repository.scan import Scan, files_of, found_of, scan, static_answers
from headrace.repository.source import Source


@pytest.fixture
def folder(tmp_path):
    for name in ("a.onnx", "m/1/model.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    return tmp_path


def rewrite(path, content=b"22"):
    path.with_name("beside").write_bytes(content)
    path.with_name("beside").replace(path)


def test_an_unchanged_folder_is_the_same_scan(folder):
    first = scan([folder], None)
    assert set(first.found) == {("a", "1"), ("m", "1")}
    assert scan([folder], None, first) is first


def test_a_changed_file_changes_its_version_and_no_other(folder):
    first = scan([folder], None)
    rewrite(folder / "a.onnx")
    second = scan([folder], None, first)
    assert second.found["a", "1"] != first.found["a", "1"]
    assert second.found["m", "1"] == first.found["m", "1"]


@pytest.mark.parametrize("name", ["README.md", "m/notes.md", ".hidden", "m/1/.part"])
def test_what_is_no_part_of_a_model_changes_no_version(folder, name):
    first = scan([folder], None)
    (folder / name).write_text("x")
    assert scan([folder], None, first).found == first.found


@pytest.mark.parametrize(
    ("name", "model"), [("m/1/weights.bin", "m"), ("a.onnx.data", "a"), ("a.onnx_data", "a"), ("a.data", "a")]
)
def test_data_beside_a_model_is_a_part_of_it(folder, name, model):
    first = scan([folder], None)
    (folder / name).write_text("x")
    second = scan([folder], None, first)
    assert [key for key in second.found if second.found[key] != first.found[key]] == [(model, "1")]


def test_files_that_a_configuration_names_are_parts_of_the_model_wherever_they_lie(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    for name in ("labels.txt", "transform.py", "helper.py"):
        (other / name).write_text("x")
    steps = {
        "outputs": {"y": {"labels": str(other / "labels.txt")}},
        "transform": {"path": str(other / "transform.py")},
    }
    source = Source("a", "1", folder / "a.onnx", "onnxruntime", config=ModelConfig(steps=steps))
    names = [Path(each).name for each in files_of(source)]
    assert names == ["a.onnx", "labels.txt", "transform.py", "helper.py"]


WITH_A_STATIC_ANSWER = """
variants: {{big: {{}}, small: {{model: small.onnx}}}}
fallback: {{chain: [{{static: {name}}}]}}
"""


@pytest.mark.parametrize("name", ["popular.json", "small.json"])
def test_a_static_answer_that_changes_reloads_nothing(tmp_path, name):
    lay_out(tmp_path, {"m/model.onnx": "1", "m/small.onnx": "1"})
    (tmp_path / "m" / name).write_text('{"y": 1}')
    (tmp_path / "m" / "skill.yaml").write_text(WITH_A_STATIC_ANSWER.format(name=name))
    first = scan([tmp_path], None)
    assert set(first.found) == {("m", "1"), ("m.small", "1")}
    rewrite(tmp_path / "m" / name, b'{"y": 22}')
    second = scan([tmp_path], None, first)
    assert second is not first
    assert second.found == first.found
    assert not any(stamp.path.endswith(name) for each in first.found.values() for stamp in each.stamps)


def test_a_static_answer_that_is_an_examples_file_too_is_a_part_of_the_model(tmp_path):
    source = Source(
        "m",
        "1",
        tmp_path / "model.onnx",
        "onnxruntime",
        config=ModelConfig(
            fallback=Fallback(FALLBACK_REASONS, (FallbackStep(static=str(tmp_path / "both.json")),)),
            examples=({"input": {"file": str(tmp_path / "both.json")}},),
        ),
    )
    lay_out(tmp_path, {"model.onnx": "1", "both.json": "1"})
    found = found_of(source, static_answers([source]))
    assert [Path(each.path).name for each in found.stamps] == ["model.onnx", "both.json"]


def test_a_path_that_is_not_there_keeps_what_was_found_under_it(folder):
    first = scan([folder], None)
    gone = folder / "gone"
    second = scan([gone], None, first)
    assert (second.found, second.missing) == (first.found, (gone,))


def test_an_empty_folder_has_nothing_and_is_no_problem(tmp_path):
    assert scan([tmp_path], None) == Scan(tree=())


def test_a_link_that_points_elsewhere_is_another_file(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text("x")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    stamps = [stamp_of(link)]
    assert changed(stamps) is None
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert changed(stamps) == str(link)


def test_a_file_that_is_not_there_stays_so():
    assert stamp_of("/no/such/file") == Stamp("/no/such/file")
    assert changed([Stamp("/no/such/file")]) is None


LISTING = """model_config_list {{
  config {{ name: "a" base_path: "{folder}/a" }}
  config {{ name: "b" base_path: "{folder}/b" }}
}}"""
TWO_VARIANTS = "format: 1\nvariants: {{big: {{model: model.onnx}}, small: {{model: small.onnx}}}}\n"
OUTPUT = """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 2 }
output { name: "y" data_type: TYPE_FP32 dims: 2 label_filename: "FILE" }
"""


def lay_out(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(folder=folder))


@pytest.mark.parametrize(
    ("files", "settings", "mistaken"),
    [
        (
            {"m/1/model.onnx": "", "m/2/model.onnx": ""},
            {"m/config.pbtxt": "version_policy{{all{{}}}}"},
            "oops",
        ),
        ({"m/1/model.onnx": "", "m/2/model.onnx": ""}, {"m/skill.yaml": "format: 1\n"}, "format: 2\n"),
        ({"m/model.onnx": "", "m/small.onnx": ""}, {"m/skill.yaml": TWO_VARIANTS}, "format: 2\n"),
        (
            {"a/1/model.onnx": "", "b/1/model.onnx": ""},
            {"given/models.config": LISTING},
            "model_config_list {{",
        ),
        (
            {"m/v1/model.onnx": "", "m/v2/model.onnx": "", "m/v1/model-settings.json": '{{"name": "m"}}'},
            {"m/v2/model-settings.json": '{{"name": "m", "parameters": {{"version": "2"}}}}'},
            "{{",
        ),
    ],
    ids=["Triton", "a skill's versions", "a skill's variants", "a list", "MLServer"],
)
def test_a_mistake_in_settings_takes_nothing_away_that_is_still_there(tmp_path, files, settings, mistaken):
    files = {name: text or "1" for name, text in files.items()}
    lay_out(tmp_path, files | settings)
    path = tmp_path / "given" if "given/models.config" in settings else tmp_path
    first = scan([path], None)
    assert len(first.found) == 2
    assert not any(each.source.problem for each in first.found.values())
    lay_out(tmp_path, dict.fromkeys(settings, mistaken))
    second = scan([path], None, first)
    assert any(each.source.problem for each in second.found.values())
    assert first.found.keys() <= second.found.keys()


def test_a_second_model_of_the_same_name_takes_no_version_away(folder):
    lay_out(folder, {"m/2/model.onnx": "2"})
    first = scan([folder], None)
    lay_out(folder, {"sub/m/1/model.onnx": "3"})
    second = scan([folder], None, first)
    assert "appears in two or more repositories" in second.found["m", "1"].source.problem
    assert second.found["m", "2"] == first.found["m", "2"]


def test_what_is_taken_out_of_a_list_goes_whatever_is_wrong_with_the_others(tmp_path):
    lay_out(tmp_path, {"a/1/model.onnx": "1", "b/1/model.onnx": "1", "given/models.config": LISTING})
    first = scan([tmp_path / "given"], None)
    entry = 'config {{ name: "b" base_path: "{folder}/not/there" }}'
    lay_out(tmp_path, {"given/models.config": f"model_config_list {{{{ {entry} }}}}"})
    assert set(scan([tmp_path / "given"], None, first).found) == {("b", "1")}


def test_a_link_that_never_ends_hides_nothing_beside_it(folder):
    (folder / "loop").symlink_to(folder / "loop")
    seen = scan([folder], None)
    assert seen.problem == ""
    assert {key: bool(each.source.problem) for key, each in seen.found.items()} == {
        ("a", "1"): False,
        ("m", "1"): False,
        ("loop", "1"): True,
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m/config.pbtxt", 'default_model_filename: "model.onnx\\000"'),
        ("m/config.pbtxt", OUTPUT.replace("FILE", "labels\\000")),
        ("m/model-settings.json", '{"max_batch_size": ' + "9" * 5000 + "}"),
        ("m/model-settings.json", '{"parameters": {"version": "' + "9" * 5000 + '"}}'),
        ("m/model-settings.json", '{"parameters": {"version": "²"}}'),
        ("m/skill.yaml", 'format: 1\nvariants: {v: {model: "model.onnx\\0"}}\n'),
        ("config.json", '{"model_config_list": ' + "9" * 5000 + "}"),
    ],
)
def test_no_value_in_settings_ends_a_look(folder, name, content):
    (folder / name).write_text(content)
    assert scan([folder], None).problem == ""


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("m/config.pbtxt", None),
        ("m/skill.yaml", None),
        ("m/model-settings.json", None),
        ("config.json", None),
        ("m/labels", OUTPUT.replace("FILE", "labels")),
        ("m/1/model.py", 'backend: "python"'),
    ],
)
def test_a_pipe_that_nobody_writes_to_holds_no_look_up(folder, name, config):
    if config is not None:
        (folder / "m" / "config.pbtxt").write_text(config)
    os.mkfifo(folder / name)
    assert not scan([folder], None).found["a", "1"].source.problem


@pytest.mark.parametrize("name", [b"\xff/1/model.onnx", b"n/1/\xff.onnx", b"n/1/\xff.txt"])
def test_a_name_that_is_no_text_is_its_models_problem_and_can_be_written_down(folder, name):
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1")
    others = {
        key: each for key, each in scan([folder], None).found.items() if key not in {("a", "1"), ("m", "1")}
    }
    (found,) = others.values()
    assert "\\udcff" in found.source.problem
    assert json.dumps([found.source.name, found.source.problem], ensure_ascii=False).encode()


def test_a_file_beside_a_model_whose_name_is_no_text_is_no_part_of_it(folder):
    first = scan([folder], None)
    (folder / "m" / "1" / os.fsdecode(b"\xff.bin")).write_bytes(b"1")
    assert scan([folder], None, first).found == first.found
