from pathlib import Path

import pytest

from headrace.execution.stamps import Stamp, changed, stamp_of
from headrace.model_config import ModelConfig
from headrace.repository.scan import Scan, files_of, scan
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
