import pytest
from layouts import Link, assert_seen, lay_out, seen

from headrace.repository.find import find_sources


def models_config(*models: str) -> str:
    return f"model_config_list {{ {' '.join(f'config {{ {each} }}' for each in models)} }}"


def config_json(*models: dict) -> dict:
    return {"model_config_list": [{"config": each} for each in models]}


def three(name: str) -> dict:
    return {f"{name}/{version}/model.onnx": None for version in (1, 2, 10)}


REPOSITORIES = {
    "version folders with a file of any name": (
        {"resnet/1/resnet50-v1.onnx": None, "resnet/2/frozen.onnx": None},
        {"resnet/1": "resnet/1/resnet50-v1.onnx", "resnet/2": "resnet/2/frozen.onnx"},
    ),
    "timestamps for versions": (
        {"m/1700000000/model.onnx": None, "m/1800000000/model.onnx": None},
        {"m/1700000000": "m/1700000000/model.onnx", "m/1800000000": "m/1800000000/model.onnx"},
    ),
    "a saved model": (
        {"m/1/saved_model.pb": None, "m/1/variables/variables.index": None, "good/1/model.onnx": None},
        {"m/1": "REFUSED a TensorFlow SavedModel: convert it with", "good/1": "good/1/model.onnx"},
    ),
    "a saved model that was converted beside itself": (
        {"m/1/saved_model.pb": None, "m/1/variables/": None, "m/1/model.onnx": None},
        {"m/1": "m/1/model.onnx"},
    ),
    "OpenVINO's own files": (
        {"m/1/model.xml": None, "m/1/model.bin": None, "m/1/mapping_config.json": "{}"},
        {"m/1": "REFUSED convert the OpenVINO model to ONNX"},
    ),
    "two files in a version": (
        {"m/1/a.onnx": None, "m/1/b.onnx": None},
        {"m/1": "REFUSED it has a.onnx, b.onnx"},
    ),
    "versions with leading zeros or letters": (
        {"m/001/model.onnx": None, "m/v2/model.onnx": None},
        {"m/1": "REFUSED has 001, v2, and a version's folder is called by a whole number"},
    ),
    "models.config: the latest version": (
        {
            "models.config": models_config('name: "m" base_path: "m"'),
            **three("m"),
            "other/1/model.onnx": None,
        },
        {"m/10": "m/10/model.onnx"},
    ),
    "models.config: two latest under another name": (
        {
            "models.config": models_config(
                'name: "resnet", base_path: "m", model_version_policy { latest { num_versions: 2 } }'
            ),
            **three("m"),
        },
        {"resnet/2": "m/2/model.onnx", "resnet/10": "m/10/model.onnx"},
    ),
    "models.config: all, and some, of which one is not there": (
        {
            "models.config": "# both\n"
            + models_config(
                'name: "m" base_path: "m" model_version_policy: { all: {} }',
                "name: 'n' base_path: './n/' model_version_policy { specific { versions: 2 versions: 3 } }",
            ),
            **three("m"),
            **three("n"),
        },
        {
            "m/1": "m/1/model.onnx",
            "m/2": "m/2/model.onnx",
            "m/10": "m/10/model.onnx",
            "n/2": "n/2/model.onnx",
            "n/3": "REFUSED version 3 is asked for, and",
        },
    ),
    "models.config: paths of a container": (
        {"models.config": models_config('name: "m" base_path: "/nowhere/models/m"'), **three("m")},
        {"m/10": "m/10/model.onnx"},
    ),
    "models.config: mistakes": (
        {
            "models.config": models_config(
                'name: "gone" base_path: "/nowhere/gone"',
                'name: "remote" base_path: "gs://bucket/m"',
                'name: "m" base_path: "m"',
                'name: "none" base_path: "m" model_version_policy { specific {} }',
                'name: "nested/name" base_path: "m"',
            ),
            **three("m"),
        },
        {
            "gone/1": "REFUSED /nowhere/gone is not there",
            "remote/1": "REFUSED gs://bucket/m is not on this machine",
            "m/10": "m/10/model.onnx",
            "none/1": "REFUSED names none above 0",
            "nested/name/10": "REFUSED a name is a part of a URL",
        },
    ),
    "config.json: the latest version and a file": (
        {
            "config.json": config_json(
                {"name": "m", "base_path": "m", "nireq": 4}, {"name": "f", "base_path": "./one/some.onnx"}
            ),
            **three("m"),
            "one/some.onnx": None,
        },
        {"m/10": "m/10/model.onnx", "f/1": "one/some.onnx"},
    ),
    "config.json: all and some": (
        {
            "config.json": config_json(
                {"name": "m", "base_path": "m", "model_version_policy": {"all": {}}},
                {"name": "n", "base_path": "n", "model_version_policy": {"specific": {"versions": [1, 10]}}},
                {"name": "o", "base_path": "n", "model_version_policy": {"latest": {"num_versions": 2}}},
            ),
            **three("m"),
            **three("n"),
        },
        {
            "m/1": "m/1/model.onnx",
            "m/2": "m/2/model.onnx",
            "m/10": "m/10/model.onnx",
            "n/1": "n/1/model.onnx",
            "n/10": "n/10/model.onnx",
            "o/2": "n/2/model.onnx",
            "o/10": "n/10/model.onnx",
        },
    ),
    "config.json: a model without version folders": (
        {"config.json": config_json({"name": "m", "base_path": "m"}), "m/any.onnx": None},
        {"m/1": "m/any.onnx"},
    ),
    "config.json: pipelines, graphs and states": (
        {
            "config.json": config_json(
                {"name": "m", "base_path": "m"}, {"name": "s", "base_path": "m", "stateful": True}
            )
            | {"pipeline_config_list": [{"name": "p"}], "mediapipe_config_list": [{"name": "g"}]},
            **three("m"),
        },
        {
            "m/10": "m/10/model.onnx",
            "s/1": "REFUSED keeps a state between requests",
            "p/1": "REFUSED 'p' is a pipeline of models, which is not served for now",
            "g/1": "REFUSED 'g' is a MediaPipe graph",
        },
    ),
    "config.json of something else": (
        {"config.json": {"architectures": ["BertModel"]}, "model.onnx": None},
        {"model/1": "model.onnx"},
    ),
    "a folder of repositories": (
        {
            "team-a/models.config": models_config('name: "m" base_path: "m"'),
            **{f"team-a/{name}": each for name, each in three("m").items()},
            "team-b/n/1/model.onnx": None,
        },
        {"m/10": "team-a/m/10/model.onnx", "n/1": "team-b/n/1/model.onnx"},
    ),
    "versions that are links": (
        {"store/a.onnx": None, "m/1/model.onnx": Link("../../store/a.onnx"), "m/2": Link("1")},
        {"m/1": "m/1/model.onnx", "m/2": "m/2/model.onnx", "store/1": "store/a.onnx"},
    ),
}


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_repository_is_seen_as_its_server_sees_it(tmp_path, name):
    files, expected = REPOSITORIES[name]
    assert_seen(seen(lay_out(tmp_path, files)), expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'model_config_list {\n config { name: "m"\n base_pth: "m" } }',
            'models.config:3: Message type "Model" has no',
        ),
        ("model_config_list {\n config {", "models.config:2: "),
        ("model_config_list { config { } }", "models.config: config 1 needs a name and a base_path"),
        ("custom_model_config { [type.googleapis.com/a.B] { } }", "list the models in a model_config_list"),
        ("model_config_list { # \xe9\n".encode("latin-1"), "models.config:1: this is not UTF-8 text"),
    ],
    ids=["misspelled", "cut off", "empty", "custom", "latin-1"],
)
def test_a_mistake_in_models_config_is_said_with_its_line(tmp_path, text, words):
    found = seen(lay_out(tmp_path, {"served/models.config": text, "good/1/model.onnx": None}))
    assert found.pop("good/1") == "good/1/model.onnx"
    (refusal,) = found.values()
    assert words in refusal


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"model_config_list": [\n{"config": {}},,]}', "config.json:2: not JSON"),
        ('{"model_config_list": {}}', "model_config_list should be a list of objects"),
        ('{\n"model_config_list": [{"name": "m"}]}', "config.json:2: entry 1 of model_config_list should be"),
        (
            '{"model_config_list": [{"config": {"name": "m"}}]}',
            "entry 1 of model_config_list needs texts for name",
        ),
        ('{"model_config_list": [{"config": {"name": "m", "base_path": "gone"}}]}', "gone is not there"),
        (
            '{"model_config_list": [{"config": {"name": "m", "base_path": ".",\n"model_version_policy": "latest"}}]}',
            "config.json:2: model_version_policy is latest; it should be",
        ),
    ],
    ids=["commas", "no list", "no config", "no path", "nowhere", "policy"],
)
def test_a_mistake_in_config_json_is_said_with_its_line(tmp_path, text, words):
    found = seen(lay_out(tmp_path, {"served/config.json": text, "good/1/model.onnx": None}))
    assert found.pop("good/1") == "good/1/model.onnx"
    (refusal,) = found.values()
    assert words in refusal


def test_what_openvino_is_tuned_with_is_noted(tmp_path):
    listed = {"name": "m", "base_path": "/nowhere/m", "nireq": 4, "batch_size": "auto", "colour": 1}
    lay_out(
        tmp_path, {"config.json": config_json(listed), "m/1/a.onnx": None, "m/1/mapping_config.json": "{}"}
    )
    (source,) = find_sources([tmp_path])
    assert source.layout == "OpenVINO Model Server"
    assert source.config.notes == (
        "nireq 4 is not used: how many instances are worth it is measured; --instances fixes it",
        "batch_size auto is not used: which rows share a run is found out",
        "colour is not known here and not used",
        f"/nowhere/m is not there: {tmp_path / 'm'} beside config.json is served in its place",
        "mapping_config.json is not used: callers name inputs and outputs as the model does",
    )


def test_what_tensorflow_serving_is_tuned_with_is_noted(tmp_path):
    listed = """name: "m" base_path: "m" model_platform: "tensorflow"
      version_labels { key: "stable" value: 1 }
      logging_config { log_collector_config { type: "x" } sampling_config { sampling_rate: 0.1 } }"""
    lay_out(tmp_path, {"models.config": models_config(listed), "m/1/model.onnx": None})
    (source,) = find_sources([tmp_path])
    assert source.layout == "TensorFlow Serving"
    assert source.config.notes == (
        "model_platform tensorflow is not used: the file's kind says what runs it",
        "logging_config is not used: requests are not logged",
        "version_labels is not used: a request names a version by its number",
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("fleet.config", models_config('name: "m" base_path: "m"')),
        ("any.json", config_json({"name": "m", "base_path": "m"})),
    ],
    ids=["TensorFlow Serving", "OpenVINO"],
)
def test_a_list_under_any_name_can_be_given_itself(tmp_path, name, content):
    lay_out(tmp_path, {name: content, **three("m")})
    (source,) = find_sources([tmp_path / name])
    assert (source.name, source.version, source.problem) == ("m", "10", "")
