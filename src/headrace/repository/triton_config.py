"""From the message of a config.pbtxt to a ModelConfig: what is honoured, and notes of what is not.

Reads the files a configuration names: labels and samples for warming up.
"""

import re
from math import prod
from pathlib import Path

from headrace.errors import LoadFailed
from headrace.messages import NUMPY_TYPES, Datatype, Shape
from headrace.model_config import DeclaredTensor, ModelConfig, QueuePolicy, Warmup, WarmupInput
from headrace.repository import model_config_proto as proto
from headrace.repository import plain, triton_fields
from headrace.repository.model_config_proto import Message

WARMUP_FOLDER = "warmup"
THREADS = "intra_op_thread_count"
OPTIONS = {"inter_op_thread_count", "execution_mode", "enable_mem_arena", "enable_mem_pattern"}
"""Parameters of Triton's onnxruntime that are ours as well, besides session entries."""
IGNORED = {
    "memory.enable_memory_arena_shrinkage": "memory that runs took is kept for the next ones",
    "cudnn_conv_algo_search": "there is no CUDA here",
    "cudnn_conv_use_max_workspace": "there is no CUDA here",
    "gpu_mem_limit": "there is no CUDA here",
    "arena_extend_strategy": "there is no CUDA here",
    "do_copy_in_default_stream": "there is no CUDA here",
}
"""Parameters of Triton's onnxruntime that change nothing, and why."""


def to_config(message: Message, folder: Path) -> ModelConfig:
    """What a completed and checked configuration comes to.

    Args:
        message: of config.pbtxt.
        folder: the model's.

    Raises:
        LoadFailed: a file it names is not there or not as it should be, or a value cannot work.
    """
    notes, _ = triton_fields.said_in_vain(message)
    parameters = {key: value.string_value for key, value in message.parameters.items()}
    is_onnx = message.backend == "onnxruntime"
    is_whole = bool(message.input and message.output)
    batching = message.dynamic_batching
    default = queue_policy(batching.default_queue_policy) if has_policy(message) else QueuePolicy()
    policies = {level: queue_policy(each) for level, each in batching.priority_queue_policy.items()}
    if is_onnx:
        notes += [
            f"'parameters.{key}' is not honoured: {IGNORED[key]}" for key in parameters if key in IGNORED
        ]
    warmups, skipped = read_warmups(message, folder)
    return ModelConfig(
        # Left out, it is read from the model, unless all tensors are declared: Triton then takes it to be 0.
        max_batch_size=message.max_batch_size if message.max_batch_size or is_whole else None,
        instances=sum(each.count for each in message.instance_group if not each.passive) or None,
        threads=thread_count(parameters.get(THREADS, "0")) if is_onnx else None,
        inputs=tuple(declared(each, message, folder) for each in message.input),
        outputs=tuple(declared(each, message, folder) for each in message.output),
        queue=default,
        levels={level: policies.get(level, default) for level in range(1, batching.priority_levels + 1)},
        default_level=batching.default_priority_level if batching.priority_levels else 0,
        warmups=warmups,
        options=options_of(message, parameters) if is_onnx else {},
        parameters=parameters,
        described=proto.to_json(message),
        notes=(*notes, *skipped),
    )


def declared(tensor: Message, message: Message, folder: Path) -> DeclaredTensor:
    """One input or output. Dims say nothing where it is left open whether they leave a batch axis out."""
    is_open = not message.max_batch_size and not (message.input and message.output)
    file: str = getattr(tensor, "label_filename", "")
    return DeclaredTensor(
        tensor.name,
        datatype(tensor.data_type),
        None if is_open else tuple(tensor.dims),
        tuple(tensor.reshape.shape) if tensor.HasField("reshape") and not is_open else None,
        bool(getattr(tensor, "optional", False)),
        read_labels(inside(folder, file, "label_filename")) if file else (),
        file,
    )


def datatype(number: int) -> Datatype:
    """The protocol's name of a TYPE_ number other than TYPE_INVALID."""
    name: str = proto.enum_name("DataType", number).removeprefix("TYPE_")
    return Datatype.BYTES if name == "STRING" else Datatype(name)


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a classification, one a line, by index."""
    try:
        text = plain.read_text(path).rstrip()
        return tuple(line.strip() for line in text.split("\n")) if text else ()
    except UnicodeDecodeError as exc:
        raise LoadFailed(f"{path} is not UTF-8 at byte {exc.start}: labels are text, one a line") from exc
    except OSError as exc:
        raise LoadFailed(
            f"'label_filename' is {path.name}, and {path} cannot be read: {exc.strerror}"
        ) from exc


def inside(folder: Path, name: str, field: str) -> Path:
    """The path of a file that belongs to the model. A link may lead out of its folder, a name may not."""
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise LoadFailed(f"'{field}' is {name}, and has to be in the model's folder")
    return folder / name


def has_policy(message: Message) -> bool:
    batching = message.dynamic_batching
    return bool(batching.HasField("default_queue_policy") or batching.priority_queue_policy)


def queue_policy(policy: Message) -> QueuePolicy:
    timeout_us = policy.default_timeout_microseconds
    return QueuePolicy(
        policy.max_queue_size,
        timeout_us / 1e6 if timeout_us else None,
        policy.allow_timeout_override,
        "delay" if policy.timeout_action else "reject",
    )


def thread_count(value: str) -> int | None:
    """Threads of a session; 0 leaves them to be measured, as Triton leaves them to the runtime."""
    if not re.fullmatch(r"[0-9]{1,4}", value):
        raise LoadFailed(f"failed to convert {THREADS} '{value}' to integral number: give threads, or 0")
    return int(value) or None


def options_of(message: Message, parameters: dict[str, str]) -> dict[str, str]:
    """What the backend itself is told."""
    options = {
        key: value for key, value in parameters.items() if key in OPTIONS or key.startswith("session.")
    }
    level = message.optimization.graph.level
    if level in {-1, 1, 2}:
        options["graph_optimization_level"] = str(level)
    return options


def read_warmups(message: Message, folder: Path) -> tuple[tuple[Warmup, ...], list[str]]:
    """Requests to run before the model is ready, and notes of those that are skipped."""
    warmups, skipped = [], []
    for each in message.model_warmup:
        if not each.batch_size:
            skipped.append(f"'model_warmup' '{each.name}' is skipped, as by Triton: its batch_size is 0")
            continue
        most = message.max_batch_size
        if each.batch_size > max(most, 1) and (most or (message.input and message.output)):
            raise LoadFailed(
                f"warm-up '{each.name}': inference request batch-size must be <= {max(most, 1)} for '{message.name}'"
            )
        inputs = tuple(
            warmup_input(name, given, each.name, folder) for name, given in sorted(each.inputs.items())
        )
        warmups.append(Warmup(each.name, inputs, each.batch_size if most else 0, max(1, each.count)))
    return tuple(warmups), skipped


def warmup_input(name: str, given: Message, warmup: str, folder: Path) -> WarmupInput:
    where = f"warm-up '{warmup}', input '{name}'"
    if not given.data_type:
        raise LoadFailed(f"{where}: it must specify 'data_type'")
    kind, dims = datatype(given.data_type), tuple(given.dims)
    if any(size < 0 for size in dims):
        raise LoadFailed(
            f"warmup setting expects all variable-size dimensions are specified for input '{name}': "
            f"'{warmup}' has {list(dims)}"
        )
    match given.WhichOneof("input_data_type"):
        case "zero_data":
            return WarmupInput(name, kind, dims)
        case "random_data":
            return WarmupInput(name, kind, dims, "zero" if kind is Datatype.BYTES else "random")
        case "input_data_file":
            file = inside(folder / WARMUP_FOLDER, given.input_data_file, "input_data_file")
            check_size(file, kind, dims, where)
            return WarmupInput(name, kind, dims, "file", str(file))
    raise LoadFailed(f'{where}: say one of zero_data: true, random_data: true, input_data_file: "FILE"')


def check_size(file: Path, kind: Datatype, dims: Shape, where: str) -> None:
    try:
        size = file.stat().st_size
    except OSError as exc:
        raise LoadFailed(f"{where}: {file} cannot be read: {exc.strerror}") from exc
    if kind is not Datatype.BYTES and size != (expected := prod(dims) * NUMPY_TYPES[kind].itemsize):
        raise LoadFailed(
            f"{where}: {file} has {size} bytes, and {kind} of shape {list(dims)} takes {expected}"
        )
