"""Whatever settings of other servers hold, they cost at most their own models, with a sentence and no traceback."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.repository import mlserver, ovms, tfserving
from headrace.repository.find import find_sources

KEYS = sorted(
    {
        *mlserver.TYPES,
        *mlserver.NOTED,
        *mlserver.PARAMETERS_NOTED,
        *ovms.NOTED,
        *ovms.REFUSED,
        *(
            ovms.MODELS,
            "config",
            "base_path",
            "stateful",
            "model_version_policy",
            "latest",
            "all",
            "specific",
        ),
        *("uri", "version", "versions", "num_versions", "extra", "datatype", "shape", "anything"),
    }
)
WORDS = st.sampled_from(
    [
        "m",
        "",
        "m/n",
        "../served",
        "/nowhere",
        "s3://m",
        "file://m",
        "m\0n",
        "FP32",
        "BYTES",
        "x" * 5000,
        "1",
        "v1",
    ]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
TENSORS = st.lists(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "datatype", "shape"), VALUES)), max_size=2
)
PARAMETERS = st.fixed_dictionaries({}, optional=dict.fromkeys(("uri", "version", "extra", "format"), VALUES))
MLSERVER = st.fixed_dictionaries(
    {},
    optional={
        "parameters": PARAMETERS,
        "inputs": TENSORS,
        "outputs": VALUES,
        "max_batch_size": VALUES,
        "name": VALUES,
    },
)
OPENVINO = OBJECTS | st.tuples(OBJECTS, WORDS, WORDS).map(
    lambda drawn: drawn[0] | {"name": drawn[1], "base_path": drawn[2]}
)
TOKENS = [
    "model_config_list",
    "config",
    "name",
    "base_path",
    "latest",
    "specific",
    "versions",
    "{",
    "}",
    "[",
    "]",
    ":",
]
TEXTS = st.lists(
    st.sampled_from([*TOKENS, "model_version_policy", "1", "-1", '"m"', "'m'", "\n", "#"]), max_size=30
)


def assert_only_its_own(file: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in ("good.onnx", "served/m/1/model.onnx"):
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            (folder / each).touch()
        (folder / "served" / file).write_text(text)
        sources = find_sources([folder])
    assert [each.problem for each in sources if each.name == "good"] == [""]
    assert all(each.problem or each.path.name == "model.onnx" for each in sources if each.name != "good")


@given(MLSERVER)
def test_any_settings_of_mlserver_cost_only_their_model(content: dict[str, Any]) -> None:
    assert_only_its_own(mlserver.SETTINGS, json.dumps(content))


@given(st.lists(OPENVINO, max_size=3), OBJECTS)
def test_any_list_of_openvino_model_server_costs_only_its_models(
    models: list[Any], other: dict[str, Any]
) -> None:
    listed = {ovms.MODELS: [{"config": each} for each in models]}
    assert_only_its_own(ovms.CONFIG, json.dumps(other | listed))


@given(OBJECTS)
def test_any_object_in_config_json_costs_only_its_models(content: dict[str, Any]) -> None:
    assert_only_its_own(ovms.CONFIG, json.dumps(content))


@given(TEXTS)
def test_any_list_of_tensorflow_serving_costs_only_its_models(words: list[str]) -> None:
    assert_only_its_own(tfserving.CONFIG, "model_config_list { config { " + " ".join(words))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for file in (mlserver.SETTINGS, ovms.CONFIG, tfserving.CONFIG):
        assert_only_its_own(file, text.encode("utf-8", "replace").decode())
