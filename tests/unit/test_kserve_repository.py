"""What lies under /mnt/models: whatever the storage initializer copied there, or a mount full of links."""

import pytest
from layouts import Link, assert_seen, lay_out, seen

from headrace.errors import ConfigurationError
from headrace.repository.find import find_sources

NAME = "isvc"

ONE_MODEL = {
    "a file": ({"model.onnx": None}, {"isvc/1": "model.onnx"}),
    "a file of another name, with what lies beside it": (
        {
            "squeezenet1.1-7.onnx": None,
            "config.json": {"model_type": "x"},
            "labels.txt": "cat",
            "README.md": "",
        },
        {"isvc/1": "squeezenet1.1-7.onnx"},
    ),
    "a file with external data": (
        {"model.onnx": None, "model.onnx.data": None, "model.onnx_data": None},
        {"isvc/1": "model.onnx"},
    ),
    "a version folder": ({"1/model.onnx": None}, {"isvc/1": "1/model.onnx"}),
    "several version folders": (
        {"1/model.onnx": None, "7/model.onnx": None},
        {"isvc/1": "1/model.onnx", "isvc/7": "7/model.onnx"},
    ),
    "a version folder with external data in a folder": (
        {"1/model.onnx/model.onnx": None, "1/model.onnx/weights.bin": None},
        {"isvc/1": "1/model.onnx/model.onnx"},
    ),
    "a folder with a file": ({"resnet/model.onnx": None}, {"isvc/1": "resnet/model.onnx"}),
    "a repository of one model": ({"resnet/3/model.onnx": None}, {"isvc/3": "resnet/3/model.onnx"}),
    "MLServer's settings, which know another name": (
        {"model-settings.json": {"name": "iris"}, "model.onnx": None},
        {"isvc/1": "model.onnx"},
    ),
    "MLServer's settings one folder down": (
        {"iris/model-settings.json": {"parameters": {"uri": "./iris.onnx"}}, "iris/iris.onnx": None},
        {"isvc/1": "iris/iris.onnx"},
    ),
    "a mount of Kubernetes'": (
        {
            "..2026_11_22/model.onnx": None,
            "..data": Link("..2026_11_22"),
            "model.onnx": Link("..data/model.onnx"),
        },
        {"isvc/1": "model.onnx"},
    ),
    "a mount with a version folder": (
        {"..2026_11_22/1/model.onnx": None, "..data": Link("..2026_11_22"), "1": Link("..data/1")},
        {"isvc/1": "1/model.onnx"},
    ),
    "a saved model": (
        {"1/saved_model.pb": None, "1/variables/": None},
        {"isvc/1": "REFUSED a TensorFlow SavedModel: convert it with"},
    ),
    "an empty version folder": ({"1/": None}, {"isvc/1": "REFUSED it is empty"}),
}


@pytest.mark.parametrize("layout", ONE_MODEL)
def test_the_only_model_is_served_under_the_services_name(tmp_path, layout):
    files, expected = ONE_MODEL[layout]
    assert_seen(seen(lay_out(tmp_path / "models", files), model_name=NAME), expected)


SEVERAL = {
    "a repository": (
        {"a/1/model.onnx": None, "b/2/model.onnx": None},
        {"a/1": "a/1/model.onnx", "b/2": "b/2/model.onnx"},
    ),
    "several files": ({"a.onnx": None, "b.onnx": None}, {"a/1": "a.onnx", "b/1": "b.onnx"}),
    "several repositories": (
        {"one/a/1/model.onnx": None, "one/b/model.onnx": None, "two/c/1/model.onnx": None},
        {"a/1": "one/a/1/model.onnx", "b/1": "one/b/model.onnx", "c/1": "two/c/1/model.onnx"},
    ),
    "several repositories with one name in two of them": (
        {"one/a/1/model.onnx": None, "two/a/1/model.onnx": None, "two/b/1/model.onnx": None},
        {"a/1": "REFUSED model 'a' appears in two or more repositories", "b/1": "two/b/1/model.onnx"},
    ),
    "a repository of every layout": (
        {
            "plain/1/model.onnx": None,
            "mls/model-settings.json": {"name": "iris"},
            "mls/model.onnx": None,
            "ovms/config.json": {"model_config_list": [{"config": {"name": "listed", "base_path": "m"}}]},
            "ovms/m/1/model.onnx": None,
        },
        {"plain/1": "plain/1/model.onnx", "iris/1": "mls/model.onnx", "listed/1": "ovms/m/1/model.onnx"},
    ),
}


@pytest.mark.parametrize("layout", SEVERAL)
def test_several_models_keep_their_names(tmp_path, layout):
    files, expected = SEVERAL[layout]
    lay_out(tmp_path, files)
    assert_seen(seen(tmp_path), expected)
    with pytest.raises(ConfigurationError, match=r"--model-name isvc is for one model, and there are [23]: "):
        find_sources([tmp_path], NAME)


def test_without_a_name_the_mounts_name_is_the_models(tmp_path):
    assert seen(lay_out(tmp_path / "models", {"1/model.onnx": None})) == {"models/1": "1/model.onnx"}


def test_a_link_to_the_whole_repository_is_followed(tmp_path):
    """As with a model in an image of its own, whose folder is linked to when it is there."""
    lay_out(tmp_path, {"proc/models/m/1/model.onnx": None, "mnt": Link("proc/models")})
    assert seen(tmp_path / "mnt") == {"m/1": "m/1/model.onnx"}


def test_a_name_with_a_slash_is_refused(tmp_path):
    lay_out(tmp_path, {"model.onnx": None})
    with pytest.raises(ConfigurationError, match="a name is a part of a URL"):
        find_sources([tmp_path], "a/b")
