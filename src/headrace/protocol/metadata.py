"""What the server says of itself and of its models: metadata, configuration, index, statistics."""

from typing import Any

from headrace.messages import Datatype, ModelSpec, TensorSpec

EXTENSIONS = [
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "logging",
]
"""In the order in which Triton lists its own; only what works here."""

Json = dict[str, Any]


def server_metadata(name: str, version: str) -> Json:
    return {"name": name, "version": version, "extensions": EXTENSIONS}


def model_metadata(spec: ModelSpec, versions: list[str]) -> Json:
    """Shapes with their batch axis; -1 where any size may come."""
    return {
        "name": spec.name,
        "versions": versions,
        "platform": spec.platform,
        "inputs": [tensor_metadata(each) for each in spec.inputs],
        "outputs": [tensor_metadata(each) for each in spec.outputs],
    }


def tensor_metadata(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def is_batched_first(spec: ModelSpec) -> bool:
    """Whether the model fits Triton's idea of a batch: the first axis of every tensor."""
    return spec.max_batch_size > 0 and all(each.batch_axis == 0 for each in (*spec.inputs, *spec.outputs))


def model_config(spec: ModelSpec, instances: int, written: Json | None = None) -> Json:
    """The model's configuration in the field names of Triton's ModelConfig.

    `dims` leave the batch axis out where max_batch_size is above 0; a model whose batch lies on another axis can only
    be described with its whole shapes.

    Args:
        spec: what was found out of the model.
        instances: how many there are.
        written: what its repository says, in the same names: it counts before what was found out.
    """
    batched = is_batched_first(spec)
    config: Json = {
        "name": spec.name,
        "platform": spec.platform,
        "backend": spec.platform.removesuffix("_onnx"),
        "runtime": "",
        "version_policy": {"all": {}},
        "max_batch_size": spec.max_batch_size if batched else 0,
        "input": [
            {
                **tensor_config(each, batched),
                "format": "FORMAT_NONE",
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": False,
            }
            for each in spec.inputs
        ],
        "output": [
            {**tensor_config(each, batched), "label_filename": "", "is_shape_tensor": False}
            for each in spec.outputs
        ],
        "batch_input": [],
        "batch_output": [],
        "instance_group": [
            {"name": f"{spec.name}_0", "kind": "KIND_CPU", "count": instances, "gpus": [], "profile": []}
        ],
        "default_model_filename": "model.onnx",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
        "model_transaction_policy": {"decoupled": False},
    }
    if batched:
        config["dynamic_batching"] = {"preferred_batch_size": [], "max_queue_delay_microseconds": 0}
    said = {key: value for key, value in (written or {}).items() if value or key not in config}
    if groups := said.get("instance_group"):
        said["instance_group"] = [{**each, "count": each["count"] or instances} for each in groups]
    return {**config, **said}


def tensor_config(spec: TensorSpec, batched: bool) -> Json:
    kind = "STRING" if spec.datatype is Datatype.BYTES else spec.datatype
    return {
        "name": spec.name,
        "data_type": f"TYPE_{kind}",
        "dims": list(spec.shape[1:] if batched else spec.shape),
    }
