import json
import subprocess
import sys
from importlib import metadata

import pytest

from headrace.errors import LoadFailed
from headrace.repository import model_config_proto as proto

ORACLE = """
import importlib.util, json, sys
from google.protobuf import descriptor_pb2
from headrace.repository import model_config_proto as proto

# The client's gRPC part needs grpc; its messages do not.
spec = importlib.util.spec_from_file_location("model_config_pb2", sys.argv[1])
model_config_pb2 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model_config_pb2)

def shape(message):
    made = descriptor_pb2.DescriptorProto()
    message.CopyToProto(made)
    fields = sorted(
        (each.name, each.number, each.type, each.type_name, each.label, each.HasField("oneof_index"))
        for each in made.field
    )
    return {
        "name": message.full_name,
        "fields": fields,
        "choices": sorted(each.name for each in made.oneof_decl),
        "enums": {each.name: {value.name: value.number for value in each.value} for each in made.enum_type},
        "nested": sorted((shape(each) for each in message.nested_types), key=lambda each: each["name"]),
        "is_map": made.options.map_entry,
    }

def all_of(file):
    return {name: shape(each) for name, each in file.message_types_by_name.items()}

theirs, ours = model_config_pb2.DESCRIPTOR, proto.message_class().DESCRIPTOR.file
enums = [dict(each.enum_types_by_name["DataType"].values_by_name) for each in (theirs, ours)]
numbers = [{name: value.number for name, value in each.items()} for each in enums]
print(json.dumps([all_of(theirs) == all_of(ours), len(all_of(ours)), numbers[0] == numbers[1]]))
"""


def test_every_field_is_as_the_official_client_has_it_and_both_live_in_one_process():
    files = [each for each in metadata.files("tritonclient") or () if each.name == "model_config_pb2.py"]
    command = [sys.executable, "-W", "ignore", "-c", ORACLE, str(files[0].locate())]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert ran.stderr == ""
    theirs_are_ours, messages, same_datatypes = json.loads(ran.stdout)
    assert theirs_are_ours
    assert same_datatypes
    assert messages == 21


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "max_batchsize: 8",
            "line 1, column 1: .* no field named \"max_batchsize\"; is 'max_batch_size' meant?",
        ),
        ('name: "a"\ninput { nme: "x" }', 'line 2, column 9: .*"ModelInput" has no field named "nme"'),
        ("\n max_batch_size: many", "line 2, column 18: .*integer"),
        ("input { data_type: FLOAT }", 'line 1, column 20: .*"DataType" has no value named FLOAT'),
        ('name: "a" name: "b"', 'line 1, column 17: .*multiple "name"'),
        ("input {", "line 1, column 7: "),
        ("dynamic_batching { } sequence_batching { }", "line 1"),
    ],
    ids=range(7),
)
def test_a_mistake_is_named_with_its_place(text, reason):
    with pytest.raises(LoadFailed, match=reason):
        proto.parse_text(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"foo": 1}', 'no field named "foo"'),
        ('{"max_batch_size": "many"}', "max_batch_size"),
        ("[", "JSON"),
        ("{" * 100_000, "."),
        ('{"input": [{"data_type": "FLOAT"}]}', "data_type"),
    ],
    ids=range(5),
)
def test_json_that_is_no_configuration_is_refused(text, reason):
    with pytest.raises(LoadFailed, match=reason):
        proto.parse_json(text)


def test_numbers_may_be_strings_in_json_and_come_back_as_numbers():
    message = proto.parse_json('{"maxBatchSize": "16", "input": [{"name": "x", "dims": ["3", -1]}]}')
    described = proto.to_json(message)
    assert described["max_batch_size"] == 16
    assert described["input"][0]["dims"] == [3, -1]


def test_given_back_with_defaults_and_64_bit_integers_as_numbers_at_every_depth():
    described = proto.to_json(
        proto.parse_text(
            """
            name: "m"
            version_policy { specific { versions: [1, 3] } }
            input [ { name: "x" data_type: TYPE_FP32 dims: [2, -1] reshape { shape: [-1] } } ]
            dynamic_batching {
              default_queue_policy { default_timeout_microseconds: 5 }
              priority_queue_policy { key: 1 value { default_timeout_microseconds: 7 } }
            }
            model_warmup [ { name: "w" inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 } } } ]
            """
        )
    )
    assert described["version_policy"] == {"specific": {"versions": [1, 3]}}
    assert described["input"] == [
        {
            "name": "x",
            "data_type": "TYPE_FP32",
            "format": "FORMAT_NONE",
            "dims": [2, -1],
            "reshape": {"shape": [-1]},
            "is_shape_tensor": False,
            "allow_ragged_batch": False,
            "optional": False,
            "is_non_linear_format_io": False,
        }
    ]
    batching = described["dynamic_batching"]
    assert batching["default_queue_policy"]["default_timeout_microseconds"] == 5
    assert batching["priority_queue_policy"]["1"]["default_timeout_microseconds"] == 7
    assert batching["preserve_ordering"] is False
    assert described["model_warmup"][0]["inputs"]["x"]["dims"] == [4]
    assert described["output"] == []
    assert "optimization" not in described
