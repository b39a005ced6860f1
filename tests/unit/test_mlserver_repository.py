import json

import pytest
from layouts import Link, assert_seen, lay_out, seen

from headrace.messages import Datatype
from headrace.model_config import DeclaredTensor
from headrace.repository.find import find_sources

SKLEARN = "mlserver_sklearn.SKLearnModel"

REPOSITORIES = {
    "a model beside its settings": (
        {"m/model-settings.json": {"name": "iris"}, "m/model.onnx": None},
        {"iris/1": "m/model.onnx"},
    ),
    "no name: the folder's": (
        {"m/model-settings.json": {}, "m/whatever.onnx": None},
        {"m/1": "m/whatever.onnx"},
    ),
    "settings at the top": (
        {"model-settings.json": {"name": "iris"}, "model.onnx": None, "tokenizer.json": "{}"},
        {"iris/1": "model.onnx"},
    ),
    "a file named by uri": (
        {
            "m/model-settings.json": {"name": "m", "parameters": {"uri": "./weights/b.onnx", "version": "3"}},
            "m/weights/a.onnx": None,
            "m/weights/b.onnx": None,
        },
        {"m/3": "m/weights/b.onnx"},
    ),
    "a folder named by uri, outside": (
        {
            "settings/m/model-settings.json": {"parameters": {"uri": "../../weights"}},
            "weights/model.onnx": None,
        },
        {"m/1": "weights/model.onnx"},
    ),
    "versions in folders of any name": (
        {
            "m/first/model-settings.json": {"name": "m", "parameters": {"version": "1"}},
            "m/first/model.onnx": None,
            "m/second/model-settings.json": {"name": "m", "parameters": {"version": 10}},
            "m/second/model.onnx": None,
        },
        {"m/1": "m/first/model.onnx", "m/10": "m/second/model.onnx"},
    ),
    "versions that are no numbers": (
        {
            "m/v0.9/model-settings.json": {"name": "m", "parameters": {"version": "v0.9"}},
            "m/v0.9/model.onnx": None,
            "m/v0.10/model-settings.json": {"name": "m", "parameters": {"version": "v0.10"}},
            "m/v0.10/model.onnx": None,
        },
        {"m/1": "m/v0.9/model.onnx", "m/2": "m/v0.10/model.onnx"},
    ),
    "one version twice": (
        {
            "a/model-settings.json": {"name": "m"},
            "a/model.onnx": None,
            "b/model-settings.json": {"name": "m"},
            "b/model.onnx": None,
        },
        {"m/1": "REFUSED two settings files describe version 1 of 'm'"},
    ),
    "deep down": (
        {"one/two/three/four/m/model-settings.json": {}, "one/two/three/four/m/model.onnx": None},
        {"m/1": "one/two/three/four/m/model.onnx"},
    ),
    "beside a plain model and a hidden folder": (
        {
            "m/model-settings.json": {},
            "m/model.onnx": None,
            "plain/1/model.onnx": None,
            ".git/m/model-settings.json": {},
        },
        {"m/1": "m/model.onnx", "plain/1": "plain/1/model.onnx"},
    ),
    "an implementation of ours": (
        {"m/model-settings.json": {"implementation": "acme_runtimes.OnnxModel"}, "m/model.onnx": None},
        {"m/1": "m/model.onnx"},
    ),
    "implementations of others": (
        {
            "iris/model-settings.json": {"implementation": SKLEARN, "parameters": {"uri": "./iris.joblib"}},
            "iris/iris.joblib": None,
            "own/model-settings.json": {"implementation": "models.MyModel"},
            "good/model-settings.json": {},
            "good/model.onnx": None,
        },
        {
            "good/1": "good/model.onnx",
            "iris/1": "REFUSED implementation mlserver_sklearn.SKLearnModel is not run here: export the model with skl2onnx",
            "own/1": "REFUSED implementation models.MyModel is not run here",
        },
    ),
    "an artifact of another kind": (
        {"m/model-settings.json": {"parameters": {"uri": "./model.joblib"}}, "m/model.joblib": None},
        {"m/1": "REFUSED model.joblib is a scikit-learn model: convert it to ONNX"},
    ),
    "no artifact": (
        {
            "m/model-settings.json": {"name": "m"},
            "n/model-settings.json": {"parameters": {"uri": "gone.onnx"}},
        },
        {
            "m/1": "REFUSED it has model-settings.json; parameters.uri can name the file",
            "n/1": "REFUSED gone.onnx is not there",
        },
    ),
    "an artifact elsewhere": (
        {"m/model-settings.json": {"parameters": {"uri": "s3://bucket/model.onnx"}}},
        {"m/1": "REFUSED s3://bucket/model.onnx is not on this machine"},
    ),
    "version folders below the settings": (
        {"m/model-settings.json": {"name": "n"}, "m/1/model.onnx": None, "m/2/model.onnx": None},
        {"n/1": "m/1/model.onnx", "n/2": "m/2/model.onnx"},
    ),
    "links": (
        {
            "..data/settings": {"name": "m"},
            "..data/model": None,
            "model-settings.json": Link("..data/settings"),
            "model.onnx": Link("..data/model"),
        },
        {"m/1": "model.onnx"},
    ),
}


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_repository_is_seen_as_mlserver_sees_it(tmp_path, name):
    files, expected = REPOSITORIES[name]
    assert_seen(seen(lay_out(tmp_path, files)), expected)


def settings_of(tmp_path, **settings):
    (source,) = find_sources([lay_out(tmp_path, {"m/model-settings.json": settings, "m/model.onnx": None})])
    return source


@pytest.mark.parametrize(("given", "understood"), [(0, 0), (1, 0), (2, 2), (32, 32)])
def test_batches_of_none_and_of_one_are_no_batching(tmp_path, given, understood):
    assert settings_of(tmp_path, max_batch_size=given).config.max_batch_size == understood


def test_a_batch_size_that_is_not_said_is_left_to_be_found_out(tmp_path):
    assert settings_of(tmp_path).config.max_batch_size is None


@pytest.mark.parametrize(
    ("batch", "dims"), [(8, (4,)), (0, (-1, 4)), (None, (-1, 4))], ids=["8", "0", "unsaid"]
)
def test_inputs_and_outputs_are_declared_as_this_server_counts_axes(tmp_path, batch, dims):
    described = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    config = settings_of(tmp_path, inputs=described, outputs=described, max_batch_size=batch).config
    assert config.inputs == config.outputs == (DeclaredTensor("x", Datatype.FP32, dims),)


def test_a_shape_that_does_not_say_where_rows_are_is_left_to_the_model(tmp_path):
    config = settings_of(tmp_path, inputs=[{"name": "x", "datatype": "UINT8", "shape": [28, 28]}]).config
    assert config.inputs == (DeclaredTensor("x", Datatype.UINT8),)
    assert config.notes == (
        "the shape of 'x', [28, 28], does not begin with -1 for the rows: the model's is used",
    )


def test_what_is_not_honoured_is_noted(tmp_path):
    config = settings_of(
        tmp_path,
        platform="onnx",
        max_batch_time=0.5,
        parallel_workers=4,
        speed="high",
        parameters={"version": "1", "content_type": "np", "extra": {"labels": ["a"], "owner": "team"}},
    ).config
    assert config.notes == (
        'platform "onnx" is not used: metadata tell the backend\'s own',
        "max_batch_time 0.5 is not used: nothing waits for a batch to fill",
        "parallel_workers 4 is not used: instances are measured; --instances fixes them",
        "speed is not known here and not used",
        'parameters.content_type "np" is not used: datatypes say what callers send',
    )
    assert config.parameters == {"labels": '["a"]', "owner": "team"}


def test_a_version_that_is_no_number_is_noted(tmp_path):
    source = settings_of(tmp_path, parameters={"version": "v0.1.0"})
    assert source.version == "1"
    assert source.config.notes == ("version 'v0.1.0' is no whole number: it is served as version 1",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "model-settings.json:1: not JSON at column 2"),
        ('{\n "name": "m",\n "max_batch_size": 3,,\n}', "model-settings.json:3: not JSON"),
        ("[]", "should be a JSON object"),
        ("", "model-settings.json:1: not JSON"),
        (b"\xff\xfe", "model-settings.json:1: this is not UTF-8 text"),
        (
            '{\n "max_batch_size": "many"}',
            'model-settings.json:2: max_batch_size is "many"; it should be a whole number',
        ),
        ('{"max_batch_size": true}', "it should be a whole number"),
        ('{"max_batch_size": -1}', "0 is no batching"),
        ('{"name": 3}', "name is 3; it should be a text"),
        ('{"parameters": []}', "parameters is []; it should be an object"),
        ('{"parameters": {"version": []}}', "parameters.version is []; it should be a text"),
        ('{"parameters": {"uri": 3}}', "parameters.uri is 3; it should be a text"),
        ('{"parameters": {"extra": 1}}', "parameters.extra is 1; it should be an object"),
        (
            '{\n\n "inputs": [{"name": "x"}]}',
            'model-settings.json:3: inputs has {"name": "x"}; each should be like',
        ),
        ('{"inputs": [{"name": "x", "datatype": "FP99", "shape": [1]}]}', "with a datatype of BOOL, UINT8"),
        ('{"outputs": [{"name": "x", "datatype": "FP32", "shape": ["a"]}]}', "should be whole numbers"),
        ('{"implementation": "mlserver_xgboost.XGBoostModel"}', "export the model with onnxmltools"),
        ("[" * 100_000, "JSON that deep"),
    ],
    ids=range(18),
)
def test_a_mistake_is_said_with_its_line_and_costs_only_its_model(tmp_path, text, words):
    lay_out(tmp_path, {"bad/model-settings.json": text, "bad/model.onnx": None, "good.onnx": None})
    found = seen(tmp_path)
    assert found["good/1"] == "good.onnx"
    refusal = next(value for name, value in found.items() if name != "good/1")
    assert words in refusal
    assert str(tmp_path / "bad" / "model-settings.json") in refusal


def test_settings_that_are_given_themselves_are_read(tmp_path):
    lay_out(tmp_path, {"m/model-settings.json": {"name": "n"}, "m/model.onnx": None})
    (source,) = find_sources([tmp_path / "m" / "model-settings.json"])
    assert (source.name, source.layout, source.problem) == ("n", "MLServer", "")


def test_settings_of_absurd_size_are_refused(tmp_path):
    lay_out(tmp_path, {"m/model-settings.json": " " * (9 << 20) + json.dumps({}), "m/model.onnx": None})
    assert_seen(seen(tmp_path), {"m/1": "REFUSED more than 8 MiB"})
