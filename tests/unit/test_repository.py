import os
import tempfile
from pathlib import Path

import pytest
from layouts import Link, assert_seen, lay_out, seen

from headrace.errors import ConfigurationError
from headrace.repository import plain
from headrace.repository.find import Walk, find_sources
from headrace.repository.settings_files import read_text
from headrace.repository.source import Source

NOBODY = 65534


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
        Source("m", "1", root / "m.onnx", "onnxruntime", layout="file", origin=root / "m.onnx")
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


@pytest.fixture
def guarded():
    """A folder with a locked folder, a locked model's folder and a good model, seen by somebody without special rights."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        lay_out(
            root, {"locked/1/model.onnx": None, "half/1/": None, "half/2/model.onnx": None, "good.onnx": None}
        )
        lay_out(root, {"settings/model-settings.json": "{}", "settings/model.onnx": None})
        root.chmod(0o755)
        shut = [root / "locked", root / "half" / "1", root / "settings" / "model-settings.json"]
        for each in shut:
            each.chmod(0)
        own = os.geteuid()
        if own == 0:  # to root nothing is locked
            os.seteuid(NOBODY)
        try:
            yield root
        finally:
            os.seteuid(own)
            for each in shut:
                each.chmod(0o755)


def test_what_may_not_be_read_costs_only_itself(guarded):
    assert_seen(
        seen(guarded),
        {
            "good/1": "good.onnx",
            "half/1": f"REFUSED {guarded / 'half' / '1'} cannot be read: Permission denied",
            "half/2": "half/2/model.onnx",
            "locked/1": f"REFUSED {guarded / 'locked'} cannot be read: Permission denied",
            "settings/1": "REFUSED model-settings.json cannot be read: Permission denied",
        },
    )


def test_a_given_folder_that_may_not_be_read_is_a_refused_model(guarded):
    assert_seen(seen(guarded / "locked"), {"locked/1": "REFUSED cannot be read: Permission denied"})


@pytest.mark.parametrize("to", ["..", ".", "../.."], ids=["up", "itself", "further up"])
def test_a_link_back_to_what_holds_it_is_refused_and_not_followed(tmp_path, to):
    lay_out(tmp_path, {"one/m/1/model.onnx": None, "one/two/back": Link(to)})
    assert_seen(
        seen(tmp_path),
        {
            "m/1": "one/m/1/model.onnx",
            "back/1": "REFUSED one/two/back is a link back to a folder that holds it: remove the link",
        },
    )


def test_links_to_each_other_are_links_to_nowhere(tmp_path):
    lay_out(tmp_path, {"a": Link("b"), "b": Link("a"), "m.onnx": None, "notes.txt": Link("gone")})
    assert_seen(
        seen(tmp_path),
        {
            "a/1": "REFUSED is a link to b, which is not there",
            "b/1": "REFUSED is a link to a, which is not there",
            "m/1": "m.onnx",
        },
    )


def test_a_version_that_goes_while_it_is_looked_at_is_refused(tmp_path):
    source = plain.version_source("m", tmp_path / "1")
    assert source.problem == f"{tmp_path / '1'} cannot be read: No such file or directory"


def test_a_file_or_a_folder_that_goes_while_it_is_looked_at_is_refused(tmp_path):
    walk = Walk()
    walk._folder(tmp_path / "gone", ())
    ((_, (source,)),) = walk._found
    assert source.problem == f"{tmp_path / 'gone'} cannot be read: No such file or directory"
    with pytest.raises(ConfigurationError, match="is no file, or a link to nowhere"):
        read_text(tmp_path / "gone")


@pytest.mark.parametrize("name", ["models.config", "model-settings.json", "config.json"])
def test_settings_that_are_no_files_are_never_waited_for(tmp_path, name):
    lay_out(tmp_path, {"m/model.onnx": None})
    os.mkfifo(tmp_path / "m" / name)
    found = seen(tmp_path)
    assert list(found) == ["m/1"]
    assert name != "model-settings.json" or "is no file" in found["m/1"]


def test_all_paths_that_are_not_there_are_named_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match=r"/a, .*/b are not there"):
        find_sources([tmp_path / "a", tmp_path, tmp_path / "b"])


def test_folders_far_down_are_not_looked_for_models(tree):
    assert find_sources([tree("a/b/c/m/1/model.onnx")], may_be_empty=True) == []
