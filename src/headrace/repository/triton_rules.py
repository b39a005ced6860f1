"""What Triton itself refuses in a config.pbtxt, in its own words where it has some: scripts look for them.

Pure: it sees the configuration and nothing on disk.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod

from headrace.errors import LoadFailed
from headrace.repository import triton_fields
from headrace.repository.model_config_proto import Message

MOST_LEVELS = 1000
"""Priority levels; each has a queue of its own."""
MOST_INSTANCES = 256
"""Of a model; each takes memory of its own."""
IMAGE_AXES = 3
ACCELERATORS = {"openvino"}
"""Those that Triton's onnxruntime knows on a CPU."""


def check(message: Message, name: str) -> None:
    """Hold a completed configuration against the rules; the first that is broken is named.

    Raises:
        LoadFailed: with what is wrong.
    """
    for reason in broken(message, name):
        raise LoadFailed(reason)


def broken(message: Message, name: str) -> Iterator[str]:
    """All reasons why the configuration cannot be served, the gravest first."""
    _, refusals = triton_fields.said_in_vain(message)
    yield from refusals
    if message.max_batch_size < 0:
        yield f"'max_batch_size' must be non-negative value for {name}"
    for kind, tensors in (("input", message.input), ("output", message.output)):
        for reason in (*broken_names(kind, tensors), *broken_tensors(kind, tensors, message.max_batch_size)):
            yield f"{reason} for {name}"
    if message.HasField("dynamic_batching"):
        for reason in broken_batching(message.dynamic_batching, message.max_batch_size):
            yield f"{reason} for {name}"
    yield from broken_groups(message.instance_group, name)
    for each in message.optimization.execution_accelerators.cpu_execution_accelerator:
        if each.name not in ACCELERATORS:
            yield f"unknown Execution Accelerator '{each.name}' is requested"


def broken_names(kind: str, tensors: Sequence[Message]) -> Iterator[str]:
    counts = Counter(each.name for each in tensors)
    if counts[""]:
        yield f"model {kind} must specify 'name'"
    for name, count in counts.items():
        if count > 1:
            yield f"model {kind} '{name}' is declared {count} times"


def broken_tensors(kind: str, tensors: Sequence[Message], max_batch_size: int) -> Iterator[str]:
    for tensor in tensors:
        who = f"model {kind} '{tensor.name}'"
        if not tensor.data_type:
            yield f"{who} must specify 'data_type'"
        if not tensor.dims:
            yield f"{who} must specify 'dims'"
        if bad_sizes(tensor.dims):
            yield f"{who} dimension must be integer >= 1, or -1 to indicate a variable-size dimension"
        if tensor.HasField("reshape"):
            yield from (f"{who} {reason}" for reason in broken_reshape(tensor, max_batch_size))
        if kind == "input" and tensor.format and len(tensor.dims) != IMAGE_AXES:
            yield "model input NHWC/NCHW require 3 dims"


def broken_reshape(tensor: Message, max_batch_size: int) -> Iterator[str]:
    shape, dims = list(tensor.reshape.shape), list(tensor.dims)
    if not shape and not max_batch_size:
        yield "cannot have empty reshape for non-batching model as scalar tensors are not supported"
    if bad_sizes(shape):
        yield "reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension"
    elif len(trunks(dims)) != len(trunks(shape)):
        yield "has different number of variable-size dimensions for dims and reshape"
    elif trunks(dims) != trunks(shape):
        yield "has different size for dims and reshape"


def bad_sizes(dims: Sequence[int]) -> bool:
    return any(size < 1 and size != -1 for size in dims)


def trunks(dims: Sequence[int]) -> list[int]:
    """Elements between axes of any size: a reshape moves none of them from one to the other."""
    parts: list[list[int]] = [[]]
    for size in dims:
        if size == -1:
            parts.append([])
        else:
            parts[-1].append(size)
    return [prod(each) for each in parts]


def broken_batching(batching: Message, max_batch_size: int) -> Iterator[str]:
    if any(size <= 0 for size in batching.preferred_batch_size):
        yield "dynamic batching preferred size must be positive"
    if any(size > max_batch_size for size in batching.preferred_batch_size):
        yield "dynamic batching preferred size must be <= max batch size"
    if levels := batching.priority_levels:
        if levels > MOST_LEVELS:
            yield f"there may be {MOST_LEVELS} priority levels and not {levels}"
        if not 1 <= batching.default_priority_level <= levels:
            yield f"default priority level must be in range [1, {levels}]"
        if any(not 1 <= level <= levels for level in batching.priority_queue_policy):
            yield f"priority queue policy must have priority level in range [1, {levels}]"
    if batching.preserve_ordering:
        yield from broken_order(batching)


def broken_order(batching: Message) -> Iterator[str]:
    if batching.priority_levels > 1:
        yield "Only one priority level is allowed when 'preserve_ordering' is true"
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    if any(each.default_timeout_microseconds and each.timeout_action for each in policies):
        yield "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true"


def broken_groups(groups: Sequence[Message], name: str) -> Iterator[str]:
    for group in groups:
        for reason in broken_group(group):
            yield f"instance group {group.name} of model {name} {reason}"
    if (count := sum(each.count for each in groups if not each.passive)) > MOST_INSTANCES:
        yield f"there may be {MOST_INSTANCES} instances and not {count} for {name}"


def broken_group(group: Message) -> Iterator[str]:
    kind = group.Kind.Name(group.kind)
    if kind == "KIND_GPU":
        yield "has kind KIND_GPU but no GPUs are available: say KIND_CPU, or nothing"
    elif kind != "KIND_AUTO" and group.gpus:
        yield f"has kind {kind} but specifies one or more GPUs"
    if group.count < 0:
        yield f"has count {group.count}: it has to be 1 or more"
