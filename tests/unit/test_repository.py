import os

import pytest

from headrace.errors import ConfigurationError
from headrace.repository.find import find_sources
from headrace.repository.source import Source


@pytest.fixture
def tree(tmp_path):
    """Makes empty files, and folders for names that end in a slash; returns the folder they are in."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.touch()
        return tmp_path

    return make


def found(*paths):
    return [(each.name, each.version, each.path.name) for each in find_sources(paths)]


def test_a_file_is_a_model_of_its_name(tree):
    assert found(tree("resnet.onnx") / "resnet.onnx") == [("resnet", "1", "resnet.onnx")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.onnx", "b.onnx"], [("a", "1", "a.onnx"), ("b", "1", "b.onnx")]),
        (["a.onnx", "README.md", ".hidden/model.onnx", "notes/x.txt"], [("a", "1", "a.onnx")]),
        (["m/1/model.onnx", "m/3/model.onnx"], [("m", "1", "model.onnx"), ("m", "3", "model.onnx")]),
        (["m/9/model.onnx", "m/10/model.onnx"], [("m", "9", "model.onnx"), ("m", "10", "model.onnx")]),
        (["m/1/any.onnx"], [("m", "1", "any.onnx")]),
        (["m/1/model.onnx", "m/1/extra.onnx"], [("m", "1", "model.onnx")]),
        (["m/1/model.onnx/model.onnx"], [("m", "1", "model.onnx")]),
        (["m/model.onnx"], [("m", "1", "model.onnx")]),
        (
            ["m/01/model.onnx", "m/2/model.onnx", "m/v3/model.onnx", "m/0/model.onnx"],
            [("m", "2", "model.onnx")],
        ),
        (["m/1/model.onnx", "m/config.pbtxt", "m/labels.txt"], [("m", "1", "model.onnx")]),
        (["a/1/model.onnx", "b.onnx"], [("a", "1", "model.onnx"), ("b", "1", "b.onnx")]),
    ],
    ids=range(11),
)
def test_a_folder_holds_files_or_folders_of_models(tree, names, expected):
    assert found(tree(*names)) == expected


def test_a_models_own_folder_can_be_given(tree):
    assert found(tree("m/1/model.onnx", "m/2/model.onnx") / "m") == [
        ("m", "1", "model.onnx"),
        ("m", "2", "model.onnx"),
    ]


def test_links_are_followed_by_their_own_names(tree, tmp_path):
    tree("store/weights-17.onnx", "repo/")
    (tmp_path / "repo" / "resnet.onnx").symlink_to(tmp_path / "store" / "weights-17.onnx")
    assert found(tmp_path / "repo") == [("resnet", "1", "resnet.onnx")]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["m/1/"], "it is empty"),
        (["m/1/weights.pb"], "it has weights.pb; convert the TensorFlow model to ONNX"),
        (["m/1/notes.txt"], "it has notes.txt"),
        (["m/1/a.onnx", "m/1/b.onnx"], "it has a.onnx, b.onnx"),
    ],
    ids=["empty", "foreign", "something else", "two"],
)
def test_a_version_without_a_model_says_what_is_there_instead(tree, names, problem):
    (source,) = find_sources([tree(*names)])
    assert (source.name, source.version) == ("m", "1")
    assert source.problem.startswith("no model.onnx in")
    assert source.problem.endswith(problem)


def test_an_empty_version_beside_a_good_one_costs_only_itself(tree):
    good, empty = find_sources([tree("m/1/model.onnx", "m/2/")])
    assert (good.problem, bool(empty.problem)) == ("", True)


def test_two_models_of_one_name_can_be_served_from_neither_place(tree):
    root = tree("one/m.onnx", "two/m/1/model.onnx", "two/other.onnx")
    named, other = find_sources([root / "one", root / "two"])
    assert "model 'm' appears in two or more repositories" in named.problem
    assert str(root / "one" / "m.onnx") in named.problem
    assert str(root / "two" / "m") in named.problem
    assert (other.name, other.problem) == ("other", "")


def test_a_file_and_a_folder_of_one_name_are_two_models_too(tree):
    (source,) = find_sources([tree("m.onnx", "m/1/model.onnx")])
    assert "two or more" in source.problem


def test_a_path_given_twice_is_one_model(tree):
    root = tree("m.onnx")
    assert find_sources([root, root / "m.onnx", root / "." / "m.onnx"]) == [
        Source("m", "1", root / "m.onnx", "onnxruntime", layout="file")
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.pt", "m.pt is a PyTorch model: convert it to ONNX"),
        ("m.pb", "m.pb is a TensorFlow model: convert it to ONNX"),
        ("m.bin", "m.bin is no .onnx file"),
    ],
)
def test_a_file_of_another_kind_says_so(tree, name, text):
    (source,) = find_sources([tree(name) / name])
    assert source.problem == text


def test_what_is_neither_file_nor_folder_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path, tmp_path / "pipe.onnx"):
        (source,) = find_sources([path])
        assert "neither a file nor a folder" in source.problem


@pytest.mark.parametrize("names", [["x/"], ["readme.txt"], [".hidden/1/model.onnx"]], ids=range(3))
def test_nothing_that_looks_like_a_model_is_said_with_what_to_do(tree, names):
    with pytest.raises(
        ConfigurationError, match=r"no models in .*: there should be \.onnx files, or folders"
    ):
        find_sources([tree(*names)])


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="gone is not there"):
        find_sources([tmp_path / "gone"])
