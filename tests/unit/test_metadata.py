import pytest
from fakes import model, tensor

from headrace.messages import Datatype, TensorSpec
from headrace.protocol.metadata import is_batched_first, model_config, model_metadata, server_metadata

SPEC = model(tensor("x", shape=(-1, 3, 4)), tensor("s", Datatype.BYTES, (-1, 1)), outputs=(tensor("y"),))


def test_the_server_lists_the_extensions_that_clients_need():
    said = server_metadata("headrace", "0.1")
    assert (said["name"], said["version"]) == ("headrace", "0.1")
    assert {"statistics", "model_configuration", "binary_tensor_data"} <= set(said["extensions"])


def test_a_model_says_its_shapes_with_the_batch_axis():
    assert model_metadata(SPEC, ["1", "3"]) == {
        "name": "m",
        "versions": ["1", "3"],
        "platform": "fake",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3, 4]},
            {"name": "s", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }


def test_its_configuration_says_dims_without_the_batch_axis():
    config = model_config(SPEC, 2)
    assert (config["max_batch_size"], "dynamic_batching" in config) == (8, True)
    assert [(each["data_type"], each["dims"]) for each in config["input"]] == [
        ("TYPE_FP32", [3, 4]),
        ("TYPE_STRING", [1]),
    ]
    assert config["instance_group"][0]["count"] == 2
    assert config["model_transaction_policy"] == {"decoupled": False}


@pytest.mark.parametrize(
    "spec",
    [
        model(max_batch_size=0, joins_requests=False),
        model(outputs=(tensor("y", batch_axis=1),)),
        model(tensor("x"), TensorSpec("rate", Datatype.INT64, ())),
    ],
    ids=["no batch", "another axis", "scalar input"],
)
def test_a_batch_that_is_not_first_everywhere_is_not_declared_as_one(spec):
    assert not is_batched_first(spec)
    config = model_config(spec, 1)
    assert (config["max_batch_size"], "dynamic_batching" in config) == (0, False)
    assert config["input"][0]["dims"] == list(spec.inputs[0].shape)


def test_a_configuration_that_was_written_counts_before_what_was_found():
    written = {
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 4,
        "input": [],
        "instance_group": [{"name": "cpu", "count": 0}, {"name": "more", "count": 3}],
        "dynamic_batching": {"preferred_batch_size": [4]},
        "response_cache": {"enable": False},
    }
    config = model_config(SPEC, 2, written)
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["max_batch_size"] == 4
    assert [each["name"] for each in config["input"]] == ["x", "s"]
    assert [each["count"] for each in config["instance_group"]] == [2, 3]
    assert config["dynamic_batching"] == {"preferred_batch_size": [4]}
    assert config["response_cache"] == {"enable": False}
    assert config["model_transaction_policy"] == {"decoupled": False}
