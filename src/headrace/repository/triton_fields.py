"""What becomes of each field of Triton's ModelConfig here: one table, from which the notes and docs/triton.md are made.

A row stands for its field and for all below it that have no row of their own. Only a field that is honoured has to have
a row for each of its parts: a part of something that is ignored or refused shares its fate.
"""

from collections.abc import Iterator
from enum import StrEnum

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from headrace.repository import model_config_proto as proto


class Fate(StrEnum):
    """What headrace does with a field that is set."""

    HONOURED = "honoured"
    NOT_NEEDED = "accepted, not needed"
    NOTED = "noted"
    REFUSED = "refused"


HONOURED, NOT_NEEDED, NOTED, REFUSED = Fate

FIELDS: dict[str, tuple[Fate, str]] = {
    "name": (HONOURED, "the folder's name, or left out"),
    "platform": (HONOURED, "`onnxruntime_onnx`; any other is refused"),
    "backend": (HONOURED, "`onnxruntime` or `python`; any other is refused"),
    "runtime": (NOTED, "a backend has one library here"),
    "version_policy.latest.num_versions": (HONOURED, "the highest so many versions; 1 if there is no policy"),
    "version_policy.all": (HONOURED, "every version"),
    "version_policy.specific.versions": (HONOURED, "these versions; those that are not there are noted"),
    "max_batch_size": (
        HONOURED,
        "the most rows of a run; the first axis is then the batch, and `dims` leave it out",
    ),
    "input.name": (HONOURED, "held against the model"),
    "input.data_type": (HONOURED, "held against the model"),
    "input.format": (NOT_NEEDED, "it changes no tensor"),
    "input.dims": (HONOURED, "held against the model"),
    "input.reshape.shape": (HONOURED, "what the model gets in place of `dims`"),
    "input.is_shape_tensor": (REFUSED, "shape tensors are only supported for TensorRT platform"),
    "input.allow_ragged_batch": (
        REFUSED,
        "requests of different lengths are joined by padding here (--pad), and never laid end to end",
    ),
    "input.optional": (HONOURED, "may be left out by a request, if the model has a value of its own for it"),
    "input.is_non_linear_format_io": (
        REFUSED,
        "Non-linear IO format is only supported for the TensorRT platform",
    ),
    "output.name": (HONOURED, "held against the model"),
    "output.data_type": (HONOURED, "held against the model"),
    "output.dims": (HONOURED, "held against the model"),
    "output.reshape.shape": (HONOURED, "what the model gives in place of `dims`"),
    "output.label_filename": (HONOURED, "a file of the model's folder, one label a line, for classification"),
    "output.is_shape_tensor": (REFUSED, "shape tensors are only supported for TensorRT platform"),
    "output.is_non_linear_format_io": (
        REFUSED,
        "Non-linear IO format is only supported for the TensorRT platform",
    ),
    "batch_input": (REFUSED, "nothing fills inputs with the shapes of a batch's requests here"),
    "batch_output": (REFUSED, "nothing takes outputs apart by the shapes of inputs here"),
    "optimization.graph.level": (HONOURED, "-1 basic, 0 all, 1 extended, 2 none"),
    "optimization.priority": (NOTED, "it is for TensorRT; skill.yaml's objective has a priority"),
    "optimization.cuda": (NOTED, "there is no CUDA here"),
    "optimization.execution_accelerators.gpu_execution_accelerator": (
        NOTED,
        "models run on the CPU, where Triton ignores it too",
    ),
    "optimization.execution_accelerators.cpu_execution_accelerator": (
        NOTED,
        "models run on onnxruntime's own CPU kernels",
    ),
    "optimization.input_pinned_memory": (NOT_NEEDED, "nothing is copied to a GPU"),
    "optimization.output_pinned_memory": (NOT_NEEDED, "nothing is copied from a GPU"),
    "optimization.gather_kernel_buffer_threshold": (NOT_NEEDED, "nothing is gathered on a GPU"),
    "optimization.eager_batching": (NOT_NEEDED, "a batch is laid out as soon as its requests are chosen"),
    "dynamic_batching.preferred_batch_size": (
        NOT_NEEDED,
        "nothing waits here for a size; batches are as large as was measured to pay",
    ),
    "dynamic_batching.max_queue_delay_microseconds": (
        NOT_NEEDED,
        "nothing waits here for company; what is queued goes when an instance is free",
    ),
    "dynamic_batching.preserve_ordering": (NOTED, "an answer goes out as soon as it is there"),
    "dynamic_batching.priority_levels": (HONOURED, "1 is served first"),
    "dynamic_batching.default_priority_level": (HONOURED, "of requests that name none"),
    "dynamic_batching.default_queue_policy.timeout_action": (HONOURED, "`REJECT` or `DELAY`"),
    "dynamic_batching.default_queue_policy.default_timeout_microseconds": (
        HONOURED,
        "0 is the server's deadline",
    ),
    "dynamic_batching.default_queue_policy.allow_timeout_override": (
        HONOURED,
        "without a queue policy a request's own timeout counts",
    ),
    "dynamic_batching.default_queue_policy.max_queue_size": (
        HONOURED,
        "requests that may wait; 0 is no bound",
    ),
    "dynamic_batching.priority_queue_policy.timeout_action": (HONOURED, "as above, of one level"),
    "dynamic_batching.priority_queue_policy.default_timeout_microseconds": (
        HONOURED,
        "as above, of one level",
    ),
    "dynamic_batching.priority_queue_policy.allow_timeout_override": (HONOURED, "as above, of one level"),
    "dynamic_batching.priority_queue_policy.max_queue_size": (HONOURED, "as above, of one level"),
    "sequence_batching": (
        REFUSED,
        "sequences are not supported, as nothing is kept between requests: let callers send the state as an input",
    ),
    "ensemble_scheduling": (
        REFUSED,
        "ensembles are not supported: let callers ask its models in turn, or write a skill.yaml around one of them",
    ),
    "instance_group.name": (HONOURED, "shown in the configuration"),
    "instance_group.kind": (
        HONOURED,
        "CPU, AUTO and MODEL run on the CPU; GPU is refused, as by Triton without one",
    ),
    "instance_group.count": (HONOURED, "summed over the groups, at most 256; measured if no group says it"),
    "instance_group.rate_limiter": (NOTED, "instances share nothing but cores, which are measured"),
    "instance_group.gpus": (HONOURED, "refused where the kind is CPU or MODEL, as by Triton"),
    "instance_group.secondary_devices": (NOTED, "models run on the CPU"),
    "instance_group.profile": (REFUSED, "profiles are only supported for TensorRT models"),
    "instance_group.passive": (HONOURED, "such a group takes no requests and is not started"),
    "instance_group.host_policy": (NOTED, "all instances may run on all cores that the server may use"),
    "default_model_filename": (HONOURED, "of the file in a version's folder"),
    "cc_model_filenames": (NOTED, "there are no GPUs to choose a file by"),
    "metric_tags": (NOTED, "metrics have the labels model and version"),
    "parameters.string_value": (
        HONOURED,
        "onnxruntime's threads, execution mode, memory options and session entries; python models get all of them",
    ),
    "model_warmup.name": (HONOURED, "named in the reason if it fails"),
    "model_warmup.batch_size": (HONOURED, "rows; as in Triton a sample of 0 rows is skipped"),
    "model_warmup.inputs.data_type": (HONOURED, ""),
    "model_warmup.inputs.dims": (HONOURED, "of a row where there is a batch"),
    "model_warmup.inputs.zero_data": (HONOURED, "zeros, or empty strings"),
    "model_warmup.inputs.random_data": (HONOURED, "random numbers; strings are zeros, as in Triton"),
    "model_warmup.inputs.input_data_file": (HONOURED, "raw tensor bytes, in the model's folder warmup/"),
    "model_warmup.count": (HONOURED, "how often; 0 is once"),
    "model_operations.op_library_filename": (
        NOTED,
        "no library of operators is loaded, and a model that needs one does not load",
    ),
    "model_transaction_policy.decoupled": (
        REFUSED,
        "decoupled models are not supported: every request has exactly one answer here",
    ),
    "model_repository_agents": (NOTED, "no agent looks at the model before it is loaded"),
    "response_cache.enable": (NOTED, "every request is run"),
    "model_metrics": (NOTED, "histograms have the buckets of docs/metrics.md"),
}
"""Path of a field → what becomes of it, and what that means; maps' keys and values have no name in a path."""


def fate_of(path: str) -> tuple[str, Fate, str] | None:
    """The row for a field: its path, fate and reason. None if the table forgot it, or if rows stand for its parts."""
    while path and path not in FIELDS:
        path = path.rpartition(".")[0]
    return (path, *FIELDS[path]) if path else None


def said_in_vain(message: proto.Message) -> tuple[list[str], list[str]]:
    """What a configuration sets and is not honoured, in sentences: notes, and reasons to refuse it."""
    notes: dict[str, None] = {}
    refusals: dict[str, None] = {}
    for path in set_fields(message):
        match fate_of(path):
            case (name, Fate.REFUSED, reason):
                refusals[f"'{name}' cannot be honoured: {reason}"] = None
            case (name, Fate.NOTED, reason):
                notes[f"'{name}' is not honoured: {reason}"] = None
            case (name, Fate.NOT_NEEDED, reason):
                notes[f"'{name}' is not needed: {reason}"] = None
    return list(notes), list(refusals)


def set_fields(message: proto.Message, above: str = "") -> Iterator[str]:
    """Paths of all the fields a configuration sets, down to the innermost. Those set to a default do not count."""
    for field, value in message.ListFields():
        path = above + field.name
        yield path
        if proto.value_type(field) is not None:
            values = value.values() if proto.is_map(field) else value
            for each in [values] if isinstance(values, Message) else values:
                yield from set_fields(each, path + ".")


def all_fields(message: Descriptor, above: str = "") -> Iterator[tuple[str, bool]]:
    """Paths of all the fields there are, and whether they have parts."""
    for field in message.fields:
        path, inner = above + field.name, proto.value_type(field)
        yield path, inner is not None and bool(inner.fields)
        if inner is not None:
            yield from all_fields(inner, path + ".")
