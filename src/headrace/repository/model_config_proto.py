"""The messages of Triton's config.pbtxt: every field it knows, so that nothing valid is an error and a misspelt field is.

They live in a descriptor pool of their own. In the default pool they would collide with those of any client library that
somebody imports beside this one, and the process would end.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from headrace.errors import LoadFailed

PACKAGE = "inference"
ROOT = "ModelConfig"

ENUMS = {
    "DataType": "TYPE_INVALID TYPE_BOOL TYPE_UINT8 TYPE_UINT16 TYPE_UINT32 TYPE_UINT64 TYPE_INT8 TYPE_INT16 TYPE_INT32"
    " TYPE_INT64 TYPE_FP16 TYPE_FP32 TYPE_FP64 TYPE_STRING TYPE_BF16",
    "ModelInstanceGroup.Kind": "KIND_AUTO KIND_GPU KIND_CPU KIND_MODEL",
    "ModelInstanceGroup.SecondaryDevice.SecondaryDeviceKind": "KIND_NVDLA",
    "ModelInput.Format": "FORMAT_NONE FORMAT_NHWC FORMAT_NCHW",
    "BatchInput.Kind": "BATCH_ELEMENT_COUNT BATCH_ACCUMULATED_ELEMENT_COUNT BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO"
    " BATCH_MAX_ELEMENT_COUNT_AS_SHAPE BATCH_ITEM_SHAPE BATCH_ITEM_SHAPE_FLATTEN",
    "BatchOutput.Kind": "BATCH_SCATTER_WITH_INPUT_SHAPE",
    "ModelOptimizationPolicy.ModelPriority": "PRIORITY_DEFAULT PRIORITY_MAX PRIORITY_MIN",
    "ModelQueuePolicy.TimeoutAction": "REJECT DELAY",
    "ModelSequenceBatching.Control.Kind": "CONTROL_SEQUENCE_START CONTROL_SEQUENCE_READY CONTROL_SEQUENCE_END"
    " CONTROL_SEQUENCE_CORRID",
}
"""Enumeration → its values, counted from 0."""

MESSAGES = {
    "ModelRateLimiter": "resources=1 Resource*; priority=2 uint32",
    "ModelRateLimiter.Resource": "name=1 string; global=2 bool; count=3 uint32",
    "ModelInstanceGroup": "name=1 string; kind=4 Kind; count=2 int32; rate_limiter=6 ModelRateLimiter; gpus=3 int32*;"
    " secondary_devices=8 SecondaryDevice*; profile=5 string*; passive=7 bool; host_policy=9 string",
    "ModelInstanceGroup.SecondaryDevice": "kind=1 SecondaryDeviceKind; device_id=2 int64",
    "ModelTensorReshape": "shape=1 int64*",
    "ModelInput": "name=1 string; data_type=2 DataType; format=3 Format; dims=4 int64*; reshape=5 ModelTensorReshape;"
    " is_shape_tensor=6 bool; allow_ragged_batch=7 bool; optional=8 bool; is_non_linear_format_io=9 bool",
    "ModelOutput": "name=1 string; data_type=2 DataType; dims=3 int64*; reshape=5 ModelTensorReshape;"
    " label_filename=4 string; is_shape_tensor=6 bool; is_non_linear_format_io=7 bool",
    "BatchInput": "kind=1 Kind; target_name=2 string*; data_type=3 DataType; source_input=4 string*",
    "BatchOutput": "target_name=1 string*; kind=2 Kind; source_input=3 string*",
    "ModelVersionPolicy": "latest=1 Latest @policy_choice; all=2 All @policy_choice; specific=3 Specific @policy_choice",
    "ModelVersionPolicy.Latest": "num_versions=1 uint32",
    "ModelVersionPolicy.All": "",
    "ModelVersionPolicy.Specific": "versions=1 int64*",
    "ModelOptimizationPolicy": "graph=1 Graph; priority=2 ModelPriority; cuda=3 Cuda;"
    " execution_accelerators=4 ExecutionAccelerators; input_pinned_memory=5 PinnedMemoryBuffer;"
    " output_pinned_memory=6 PinnedMemoryBuffer; gather_kernel_buffer_threshold=7 uint32; eager_batching=8 bool",
    "ModelOptimizationPolicy.Graph": "level=1 int32",
    "ModelOptimizationPolicy.Cuda": "graphs=1 bool; busy_wait_events=2 bool; graph_spec=3 GraphSpec*;"
    " output_copy_stream=4 bool",
    "ModelOptimizationPolicy.Cuda.GraphSpec": "batch_size=1 int32; input=2 <string,Shape>;"
    " graph_lower_bound=3 LowerBound",
    "ModelOptimizationPolicy.Cuda.GraphSpec.Shape": "dim=1 int64*",
    "ModelOptimizationPolicy.Cuda.GraphSpec.LowerBound": "batch_size=1 int32; input=2 <string,Shape>",
    "ModelOptimizationPolicy.ExecutionAccelerators": "gpu_execution_accelerator=1 Accelerator*;"
    " cpu_execution_accelerator=2 Accelerator*",
    "ModelOptimizationPolicy.ExecutionAccelerators.Accelerator": "name=1 string; parameters=2 <string,string>",
    "ModelOptimizationPolicy.PinnedMemoryBuffer": "enable=1 bool",
    "ModelQueuePolicy": "timeout_action=1 TimeoutAction; default_timeout_microseconds=2 uint64;"
    " allow_timeout_override=3 bool; max_queue_size=4 uint32",
    "ModelDynamicBatching": "preferred_batch_size=1 int32*; max_queue_delay_microseconds=2 uint64;"
    " preserve_ordering=3 bool; priority_levels=4 uint64; default_priority_level=5 uint64;"
    " default_queue_policy=6 ModelQueuePolicy; priority_queue_policy=7 <uint64,ModelQueuePolicy>",
    "ModelSequenceBatching": "direct=3 StrategyDirect @strategy_choice; oldest=4 StrategyOldest @strategy_choice;"
    " max_sequence_idle_microseconds=1 uint64; control_input=2 ControlInput*; state=5 State*;"
    " iterative_sequence=6 bool",
    "ModelSequenceBatching.Control": "kind=1 Kind; int32_false_true=2 int32*; fp32_false_true=3 float*;"
    " bool_false_true=5 bool*; data_type=4 DataType",
    "ModelSequenceBatching.ControlInput": "name=1 string; control=2 Control*",
    "ModelSequenceBatching.InitialState": "data_type=1 DataType; dims=2 int64*; zero_data=3 bool @state_data;"
    " data_file=4 string @state_data; name=5 string",
    "ModelSequenceBatching.State": "input_name=1 string; output_name=2 string; data_type=3 DataType; dims=4 int64*;"
    " initial_state=5 InitialState*; use_same_buffer_for_input_output=6 bool; use_growable_memory=7 bool",
    "ModelSequenceBatching.StrategyDirect": "max_queue_delay_microseconds=1 uint64; minimum_slot_utilization=2 float",
    "ModelSequenceBatching.StrategyOldest": "max_candidate_sequences=1 int32; preferred_batch_size=2 int32*;"
    " max_queue_delay_microseconds=3 uint64; preserve_ordering=4 bool",
    "ModelEnsembling": "step=1 Step*; max_inflight_requests=2 uint32",
    "ModelEnsembling.Step": "model_name=1 string; model_version=2 int64; input_map=3 <string,string>;"
    " output_map=4 <string,string>; model_namespace=5 string",
    "ModelParameter": "string_value=1 string",
    "ModelWarmup": "name=1 string; batch_size=2 uint32; inputs=3 <string,Input>; count=4 uint32",
    "ModelWarmup.Input": "data_type=1 DataType; dims=2 int64*; zero_data=3 bool @input_data_type;"
    " random_data=4 bool @input_data_type; input_data_file=5 string @input_data_type",
    "ModelOperations": "op_library_filename=1 string*",
    "ModelTransactionPolicy": "decoupled=1 bool",
    "ModelRepositoryAgents": "agents=1 Agent*",
    "ModelRepositoryAgents.Agent": "name=1 string; parameters=2 <string,string>",
    "ModelResponseCache": "enable=1 bool",
    "ModelMetrics": "metric_control=1 MetricControl*",
    "ModelMetrics.MetricControl": "metric_identifier=1 MetricIdentifier;"
    " histogram_options=2 HistogramOptions @metric_options",
    "ModelMetrics.MetricControl.MetricIdentifier": "family=1 string",
    "ModelMetrics.MetricControl.HistogramOptions": "buckets=1 double*",
    "ModelConfig": "name=1 string; platform=2 string; backend=17 string; runtime=25 string;"
    " version_policy=3 ModelVersionPolicy; max_batch_size=4 int32; input=5 ModelInput*; output=6 ModelOutput*;"
    " batch_input=20 BatchInput*; batch_output=21 BatchOutput*; optimization=12 ModelOptimizationPolicy;"
    " dynamic_batching=11 ModelDynamicBatching @scheduling_choice;"
    " sequence_batching=13 ModelSequenceBatching @scheduling_choice;"
    " ensemble_scheduling=15 ModelEnsembling @scheduling_choice; instance_group=7 ModelInstanceGroup*;"
    " default_model_filename=8 string; cc_model_filenames=9 <string,string>; metric_tags=10 <string,string>;"
    " parameters=14 <string,ModelParameter>; model_warmup=16 ModelWarmup*; model_operations=18 ModelOperations;"
    " model_transaction_policy=19 ModelTransactionPolicy; model_repository_agents=23 ModelRepositoryAgents;"
    " response_cache=24 ModelResponseCache; model_metrics=26 ModelMetrics",
}
"""Message → `name=number type` of each field: `*` is repeated, `<key,value>` a map, `@name` the choice it belongs to."""

FIELD = re.compile(r"(\w+)=(\d+) (?:<(\w+),(\w+)>|(\w+))(\*?)(?: @(\w+))?")
FieldProto = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "string": FieldProto.TYPE_STRING,
    "bool": FieldProto.TYPE_BOOL,
    "int32": FieldProto.TYPE_INT32,
    "uint32": FieldProto.TYPE_UINT32,
    "int64": FieldProto.TYPE_INT64,
    "uint64": FieldProto.TYPE_UINT64,
    "float": FieldProto.TYPE_FLOAT,
    "double": FieldProto.TYPE_DOUBLE,
}
LONG_TYPES = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}

Message = Any
"""A message of these; its fields are known at run time only."""


def parse_text(text: str) -> Message:
    """A config.pbtxt.

    Raises:
        LoadFailed: it is none, with line and column.
    """
    try:
        return text_format.Parse(text, message_class()(), descriptor_pool=pool())
    except text_format.ParseError as exc:
        line, column = exc.GetLine(), exc.GetColumn()
        where = f"line {line}, column {column}: " if line is not None and column is not None else ""
        raise LoadFailed(where + explained(re.sub(r"^\d+:\d+ : ", "", str(exc)))) from exc


def parse_json(text: str) -> Message:
    """The same as JSON: protobuf's mapping, in which numbers may be strings.

    Raises:
        LoadFailed: it is none, with what is wrong.
    """
    try:
        return json_format.Parse(text, message_class()(), descriptor_pool=pool())
    except (json_format.ParseError, RecursionError) as exc:
        raise LoadFailed(explained(str(exc))) from exc


def explained(reason: str) -> str:
    """A parser's reason in one line, with the field that was meant where one is spelt nearly so."""
    reason = " ".join(reason.partition(" Available Fields")[0].replace(f"{PACKAGE}.", "").split()).rstrip(".")
    unknown = re.search(r'type "([\w.]+)" has no field named "([^"]+)"', reason)
    if unknown is None:
        return reason
    fields = pool().FindMessageTypeByName(f"{PACKAGE}.{unknown[1]}").fields_by_name
    meant = get_close_matches(unknown[2], list(fields), 1)
    return f"{reason}; is '{meant[0]}' meant?" if meant else reason


def to_json(message: Message) -> dict[str, Any]:
    """A message as Triton gives it back: its own field names, defaults printed, 64-bit integers as numbers."""
    described: dict[str, Any] = json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=pool(),
    )
    restore_numbers(described, message.DESCRIPTOR)
    return described


def restore_numbers(described: dict[str, Any], message: Descriptor) -> None:
    """Undo, in place, that protobuf writes 64-bit integers as strings."""
    for field in message.fields:
        if field.name not in described:
            continue
        value = described[field.name]
        if field.cpp_type in LONG_TYPES:
            described[field.name] = [int(each) for each in value] if isinstance(value, list) else int(value)
        elif (inner := value_type(field)) is not None:
            several = value.values() if is_map(field) else value if isinstance(value, list) else [value]
            for each in several:
                restore_numbers(each, inner)


def value_type(field: FieldDescriptor) -> Descriptor | None:
    """The message a field holds, a map's values included; None for scalars."""
    kind = field.message_type
    return value_type(kind.fields_by_name["value"]) if kind is not None and is_map(field) else kind


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@cache
def message_class() -> type[Message]:
    """The class of ModelConfig."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(f"{PACKAGE}.{ROOT}"))


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """The pool with these messages and nothing else."""
    file = descriptor_pb2.FileDescriptorProto(
        name="headrace/model_config.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in MESSAGES.items():
        parent, _, short = name.rpartition(".")
        message = (made[parent].nested_type if parent else file.message_type).add(name=short)
        made[name] = message
        add_fields(message, name, fields)
    for name, values in ENUMS.items():
        parent, _, short = name.rpartition(".")
        enum = (made[parent] if parent else file).enum_type.add(name=short)
        for number, value in enumerate(values.split()):
            enum.value.add(name=value, number=number)
    private = descriptor_pool.DescriptorPool()
    private.AddSerializedFile(file.SerializeToString())
    return private


def add_fields(message: descriptor_pb2.DescriptorProto, name: str, fields: str) -> None:
    for found in FIELD.finditer(fields):
        field_name, number, key, value, single, star, choice = found.groups()
        field = message.field.add(name=field_name, number=int(number), label=FieldProto.LABEL_OPTIONAL)
        if star or key:
            field.label = FieldProto.LABEL_REPEATED
        if key:
            entry = message.nested_type.add(name=f"{field_name.title().replace('_', '')}Entry")
            entry.options.map_entry = True
            for at, (part, kind) in enumerate((("key", key), ("value", value)), 1):
                type_field(entry.field.add(name=part, number=at, label=FieldProto.LABEL_OPTIONAL), kind, name)
            field.type = FieldProto.TYPE_MESSAGE
            field.type_name = f".{PACKAGE}.{name}.{entry.name}"
        else:
            type_field(field, single, name)
        if choice:
            if choice not in {each.name for each in message.oneof_decl}:
                message.oneof_decl.add(name=choice)
            field.oneof_index = [each.name for each in message.oneof_decl].index(choice)


def type_field(field: descriptor_pb2.FieldDescriptorProto, kind: str, scope: str) -> None:
    if kind in SCALARS:
        field.type = SCALARS[kind]
        return
    name = next(each for each in candidates(kind, scope) if each in MESSAGES or each in ENUMS)
    field.type = FieldProto.TYPE_MESSAGE if name in MESSAGES else FieldProto.TYPE_ENUM
    field.type_name = f".{PACKAGE}.{name}"


def candidates(kind: str, scope: str) -> Iterator[str]:
    """What a name may mean inside a message: the innermost first."""
    while scope:
        yield f"{scope}.{kind}"
        scope = scope.rpartition(".")[0]
    yield kind


def enum_name(enum: str, number: int) -> str:
    """The name of an enumeration's value."""
    name: str = pool().FindEnumTypeByName(f"{PACKAGE}.{enum}").values_by_number[number].name
    return name
