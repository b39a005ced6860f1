import json
import struct

import pytest
from fakes import model, tensor

from headrace.errors import InvalidRequest, Unsupported
from headrace.messages import Datatype, Group, TensorSpec, bucket_edge
from headrace.protocol.request import MOST_STRING_BYTES, RequestDecoder

PAIR = model(
    tensor("x"),
    tensor("n", Datatype.INT32, (-1,)),
    outputs=(tensor("y"), tensor("z")),
)
TEXT = model(tensor("s", Datatype.BYTES, (-1, 1)))
TOKENS = model(
    tensor("ids", Datatype.INT64, (-1, -1), lengths=(None, "length")),
    tensor("mask", Datatype.INT64, (-1, -1), lengths=(None, "length")),
    outputs=(tensor("y"), tensor("each", shape=(-1, -1), survives_padding=False)),
)
RATED = model(tensor("x"), TensorSpec("rate", Datatype.INT64, ()))


def an_input(name="x", shape=(1, 2), datatype="FP32", data=(1, 2), **more):
    given = {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}
    return {key: value for key, value in given.items() if value is not None}


def decode(spec, *inputs, tail=b"", **more):
    header = json.dumps({"inputs": inputs, **more}).encode()
    return RequestDecoder(spec).decode(header + tail, len(header) if tail else None)


def refusal(spec, *inputs, error=InvalidRequest, **more):
    with pytest.raises(error) as caught:
        decode(spec, *inputs, **more)
    return str(caught.value)


N = an_input("n", (1,), "INT32", (7,))
BINARY = an_input(data=None, parameters={"binary_data_size": 8})
TWO = struct.pack("<2f", 1, 2)


def test_tensors_come_in_the_order_of_the_model():
    request = decode(PAIR, N, an_input(), id="a")
    assert (request.id, request.shapes, request.rows) == ("a", ((1, 2), (1,)), 1)
    assert [bytes(each) for each in request.tensors] == [TWO, struct.pack("<i", 7)]
    assert request.nbytes == 12


def test_binary_data_is_taken_in_the_order_of_the_request():
    n = an_input("n", (1,), "INT32", None, parameters={"binary_data_size": 4})
    request = decode(PAIR, n, BINARY, tail=struct.pack("<i2f", 7, 1, 2))
    assert [bytes(each) for each in request.tensors] == [TWO, struct.pack("<i", 7)]


def test_json_and_binary_inputs_share_a_request():
    request = decode(PAIR, N, BINARY, tail=TWO)
    assert [bytes(each) for each in request.tensors] == [TWO, struct.pack("<i", 7)]


def test_strings_travel_with_their_lengths():
    data = b"\2\0\0\0ab\0\0\0\0"
    binary = an_input("s", (2, 1), "BYTES", None, parameters={"binary_data_size": len(data)})
    assert bytes(decode(TEXT, binary, tail=data).tensors[0]) == data
    assert bytes(decode(TEXT, an_input("s", (2, 1), "BYTES", ["ab", ""])).tensors[0]) == data


@pytest.mark.parametrize(
    "empty",
    [
        an_input(shape=(0, 2), data=[]),
        an_input(shape=(0, 2), data=None, parameters={"binary_data_size": 0}),
    ],
    ids=["json", "binary"],
)
def test_no_rows_are_a_request_too_which_travels_alone(empty):
    request = decode(model(), empty)
    assert (request.rows, request.nbytes, request.is_alone) == (0, 0, True)


def test_what_was_asked_with_one_shape_before_is_decoded_alike():
    decoder = RequestDecoder(model())
    bodies = [json.dumps({"inputs": [an_input(data=[value, 2])]}).encode() for value in (1, 3)]
    assert [bytes(decoder.decode(body, None).tensors[0]) for body in bodies] == [
        TWO,
        struct.pack("<2f", 3, 2),
    ]


# --- which outputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "parameters", "positions", "binary"),
    [
        (None, None, (0, 1), (False, False)),
        ([], None, (0, 1), (False, False)),
        (None, {"binary_data_output": True}, (0, 1), (True, True)),
        ([], {"binary_data_output": True}, (0, 1), (True, True)),
        (None, {"binary_data_output": False}, (0, 1), (False, False)),
        ([{"name": "z"}], None, (1,), (False,)),
        ([{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}], None, (1, 0), (True, False)),
        # A listed output is binary if it says so itself: what the whole request says is for outputs not listed.
        (
            [{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}],
            {"binary_data_output": True},
            (0, 1),
            (False, False),
        ),
    ],
    ids=range(8),
)
def test_outputs_are_those_listed_or_all(outputs, parameters, positions, binary):
    wanted = decode(PAIR, an_input(), N, outputs=outputs, parameters=parameters).wanted
    assert (wanted.outputs, wanted.binary) == (positions, binary)


# --- whom it may share a batch with ----------------------------------------------------------------------------------


def tokens(length, rows=1, other=None, **more):
    def one(name, size):
        return an_input(name, (rows, size), "INT64", [1] * rows * size)

    asked = {"outputs": [{"name": "y"}], **more}
    return decode(TOKENS, one("ids", length), one("mask", other or length), **asked)


def test_requests_of_a_model_with_fixed_rows_share_a_group():
    assert decode(model(), an_input()).group == decode(model(), an_input(shape=(2, 2), data=[1] * 4)).group


def test_lengths_of_one_bucket_share_a_group_and_others_do_not():
    assert tokens(17).group == tokens(18, rows=3).group
    assert tokens(17).group != tokens(60).group
    assert (tokens(17).lengths, tokens(17).group.edges) == ({"length": 17}, (bucket_edge(17),))


def test_an_output_that_padding_changes_keeps_lengths_apart():
    exact = tokens(17, outputs=[{"name": "each"}])
    assert exact.group != tokens(18, outputs=[{"name": "each"}]).group
    assert (exact.lengths, exact.group.edges) == (None, ())
    assert tokens(17, outputs=[{"name": "y"}]).group == tokens(18, outputs=[{"name": "y"}]).group


def test_one_length_cannot_be_two():
    with pytest.raises(InvalidRequest, match="has length 5 along 'length' and another input has 4"):
        tokens(4, other=5)


def test_shapes_without_declared_padding_must_be_equal():
    spec = model(tensor("x", shape=(-1, -1)))
    groups = {
        decode(spec, an_input(shape=(rows, size), data=[0] * rows * size)).group
        for rows in (1, 2)
        for size in (2, 3)
    }
    assert len(groups) == 2


def test_an_input_without_a_batch_axis_must_be_equal_in_a_batch():
    rate = [an_input("rate", (), "INT64", [value]) for value in (8000, 8000, 16000)]
    first, same, other = (decode(RATED, an_input(), each).group for each in rate)
    assert first == same != other


def test_a_model_that_joins_nothing_has_no_rows():
    spec = model(TensorSpec("x", Datatype.FP32, (-1, 2)), max_batch_size=0, joins_requests=False)
    assert decode(spec, an_input(shape=(100, 2), data=[0] * 200)).rows == 1


def test_long_strings_are_looked_through_elsewhere_and_travel_alone():
    size = MOST_STRING_BYTES + 1
    binary = an_input("s", (1, 1), "BYTES", None, parameters={"binary_data_size": size})
    assert decode(TEXT, binary, tail=b"\xff" * size).is_alone


# --- what is refused, and how it is said ------------------------------------------------------------------------------

HUGE = 2**62
WRONG_INPUTS = {
    "none": ((), "expected 2 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing required input(s) ['x', 'n']"),
    "missing": ((an_input(),), "expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['x'], but missing required input(s) ['n']"),
    "more": ((an_input(), N, an_input("o")), "expected 2 inputs but got 3 inputs for model 'm'"),
    "unknown": ((an_input(), an_input("o")), "unexpected inference input 'o' for model 'm'"),
    "twice": ((an_input(), an_input()), "input 'x' already exists in request"),
    "datatype": ((an_input(datatype="FP64"), N), "data-type is 'FP64', but model 'm' expects 'FP32'"),
    "no datatype": ((an_input(datatype="float"), N), "data-type is 'float'"),
    "rank": ((an_input(shape=(2,)), N), "unexpected shape for input 'x' for model 'm'. Expected [-1, 2], got [2]"),
    "size": ((an_input(shape=(1, 3)), N), "unexpected shape for input 'x' for model 'm'. Expected [-1, 2], got [1, 3]"),
    "negative": ((an_input(shape=(-1, 2)), N), "Unable to parse 'shape': attempt to access JSON non-unsigned-integer"),
    "both negative": ((an_input(shape=(-1, -2)), N), "Unable to parse 'shape'"),
    "elements": ((an_input(shape=(HUGE, HUGE)), N), "causes total element count to exceed maximum size of"),
    "overflow": ((an_input(shape=(HUGE, 1)), N), "byte size overflow for input 'x'"),
    "big integer": ((an_input(shape=(2**70, 1)), N), "x"),
    "rows": ((an_input(shape=(2, 2), data=[1] * 4), N), "input 'n' brings 1 rows and another input 2"),
    "no data": ((an_input(data=None), N), "input 'x' has neither 'data' nor the parameter 'binary_data_size'"),
    "null": ((an_input(data=None) | {"data": None}, N), "failed to parse the data of input 'x'"),
    "too few": ((an_input(data=[1]), N), "unexpected number of elements for input 'x': its shape needs 2, its data has 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_inputs_that_are_not_the_models_are_refused(case):
    inputs, text = WRONG_INPUTS[case]
    assert text in refusal(PAIR, *inputs)


def test_more_rows_than_one_request_may_bring_are_refused():
    said = refusal(model(), an_input(shape=(9, 2), data=[0] * 18))
    assert said == "inference request batch-size must be <= 8 for 'm'"


def sized(size, **more):
    return an_input(data=None, parameters={"binary_data_size": size}, **more)


WRONG_BINARY = {
    "short": (
        sized(8),
        b"1234567",
        "unexpected size for input 'x', expecting 1 additional bytes for model 'm'",
    ),
    "none": (sized(8), b"", "unexpected size for input 'x', expecting 8 additional bytes for model 'm'"),
    "left": (sized(8), TWO + b"!", "unexpected additional input data for model 'm'"),
    "nobody's": (an_input(), TWO, "unexpected additional input data for model 'm'"),
    "mismatch": (sized(4), b"1234", "unexpected size for input 'x': its shape needs 8 bytes of FP32"),
    "negative": (sized(-8), TWO, "Unable to parse 'binary_data_size'"),
    "text": (sized("8"), TWO, "Unable to parse 'binary_data_size'"),
    "float": (sized(8.0), TWO, "Unable to parse 'binary_data_size'"),
    "true": (sized(True), TWO, "Unable to parse 'binary_data_size'"),
    "huge": (sized(2**70), TWO, "additional bytes"),
}


@pytest.mark.parametrize("case", WRONG_BINARY)
def test_binary_data_that_does_not_fit_is_refused(case):
    given, tail, text = WRONG_BINARY[case]
    assert text in refusal(model(), given, tail=tail)


@pytest.mark.parametrize(
    ("shape", "tail", "text"),
    [
        ((1, 1), b"\1\0\0", "incomplete string length indicator for inference input 's'"),
        ((1, 1), b"\2\0\0\0a", "incomplete string data for inference input 's'"),
        ((2, 1), b"\1\0\0\0a", "expected 2 string elements for inference input 's' for model 'm', got 1"),
        (
            (1, 1),
            b"\0\0\0\0\0\0\0\0",
            "expected 1 string elements for inference input 's' for model 'm', got 2",
        ),
    ],
)
def test_binary_strings_that_do_not_add_up_are_refused(shape, tail, text):
    given = an_input("s", shape, "BYTES", None, parameters={"binary_data_size": len(tail)})
    assert text in refusal(TEXT, given, tail=tail)


@pytest.mark.parametrize("header_length", [-1, 9, 2**31])
def test_a_header_longer_than_the_body_is_refused(header_length):
    with pytest.raises(InvalidRequest) as caught:
        RequestDecoder(model()).decode(b"12345678", header_length)
    assert str(caught.value) == f"inference header size should be in range (0, 8), got: {header_length}"


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ([{"name": "o"}], "unexpected inference output 'o' for model 'm'"),
        ([{"name": "y"}, {"name": "y"}], "output 'y' already exists in request"),
    ],
)
def test_outputs_that_are_not_the_models_are_refused(outputs, text):
    assert refusal(model(), an_input(), outputs=outputs) == text


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": {"sequence_id": 7}},
        {"parameters": {"sequence_id": "a", "sequence_start": True}},
        {"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
        {"inputs": [an_input(data=None, parameters={"shared_memory_region": "r"})]},
    ],
    ids=range(4),
)
def test_extensions_that_are_not_there_are_said_to_be_unsupported(more):
    inputs = more.pop("inputs", [an_input()])
    assert refusal(model(), *inputs, error=Unsupported, **more)


def classified(count, datatype=Datatype.FP32):
    outputs = [tensor("y", datatype), tensor("z")]
    wishes = [{"name": "z"}, {"name": "y", "parameters": {"classification": count, "binary_data": True}}]
    return model(outputs=outputs), wishes


def test_classes_are_wanted_of_the_outputs_that_say_so():
    spec, outputs = classified(3)
    wanted = decode(spec, an_input(), outputs=outputs).wanted
    assert (wanted.outputs, wanted.binary, wanted.classes) == ((1, 0), (False, True), (0, 3))
    assert decode(model(), an_input(), outputs=[{"name": "y"}]).wanted.classes == ()


@pytest.mark.parametrize("count", [0, -1, 1.5, "3", True, None, [1]], ids=str)
def test_a_count_of_classes_is_a_positive_integer(count):
    spec, outputs = classified(count)
    assert refusal(spec, an_input(), outputs=outputs).startswith(
        "Unable to set 'classification': expected a positive integer for output 'y'"
    )


@pytest.mark.parametrize("datatype", [Datatype.BYTES, Datatype.BOOL, Datatype.FP16, Datatype.BF16])
def test_classes_of_what_is_not_ranked_are_refused(datatype):
    spec, outputs = classified(1, datatype)
    text = f"class result not available for output due to unsupported type '{datatype}'"
    assert refusal(spec, an_input(), outputs=outputs) == text


def test_an_input_has_no_classes():
    assert "one of outputs" in refusal(model(), an_input(parameters={"classification": 1}))


@pytest.mark.parametrize(
    "parameters", [{"sequence_id": 0}, {"sequence_id": ""}, {"mine": 1}, {"priority": 2}, None, {}]
)
def test_parameters_that_ask_for_nothing_are_taken(parameters):
    assert decode(model(), an_input(), parameters=parameters).timeout_s is None


def test_reserved_parameters_are_refused():
    said = refusal(model(), an_input(), parameters={"triton_x": 1})
    assert said == "parameter keys starting with 'triton_' are reserved: 'triton_x'"


@pytest.mark.parametrize(("timeout_us", "timeout_s"), [(2_500_000, 2.5), (1, 1e-6), (0, None), (None, None)])
def test_a_timeout_comes_in_microseconds(timeout_us, timeout_s):
    request = decode(model(), an_input(), parameters={"timeout": timeout_us})
    assert request.timeout_s == pytest.approx(timeout_s)


@pytest.mark.parametrize("timeout", [-1, 1.5, "1", True, [1], 1 << 64, 10**400])
def test_a_timeout_that_is_no_number_of_microseconds_is_refused(timeout):
    assert "Unable to parse 'timeout'" in refusal(model(), an_input(), parameters={"timeout": timeout})


# --- raw binary: the whole body is the one input ----------------------------------------------------------------------


def raw(spec, body):
    return RequestDecoder(spec).decode(body, 0)


def raw_refusal(spec, body):
    with pytest.raises(InvalidRequest) as caught:
        raw(spec, body)
    return str(caught.value)


def test_a_raw_body_is_one_row_and_asks_for_all_outputs_in_binary():
    request = raw(model(outputs=(tensor("y"), tensor("z"))), TWO)
    assert (request.shapes, request.rows, bytes(request.tensors[0])) == (((1, 2),), 1, TWO)
    assert (request.wanted.outputs, request.wanted.binary) == ((0, 1), (True, True))


@pytest.mark.parametrize(
    ("spec", "nbytes", "shape"),
    [
        (model(tensor("x", shape=(-1, -1))), 20, (1, 5)),
        (model(tensor("x", shape=(-1, -1, 5))), 40, (1, 2, 5)),
        (model(tensor("x", shape=(5, -1), batch_axis=1)), 20, (5, 1)),
        (model(TensorSpec("x", Datatype.FP32, (-1,)), max_batch_size=0, joins_requests=False), 12, (3,)),
        (model(TensorSpec("x", Datatype.FP32, (3,)), max_batch_size=0, joins_requests=False), 12, (3,)),
        (model(tensor("x", shape=(-1, -1))), 0, (1, 0)),
    ],
    ids=range(6),
)
def test_a_raw_bodys_shape_follows_from_its_length(spec, nbytes, shape):
    assert raw(spec, bytes(nbytes)).shapes == (shape,)


def test_a_raw_string_is_one_element_without_a_length():
    request = raw(TEXT, b"abc")
    assert (request.shapes, bytes(request.tensors[0])) == (((1, 1),), b"\3\0\0\0abc")


@pytest.mark.parametrize(
    ("spec", "body", "text"),
    [
        (PAIR, TWO, "Raw request must only have 1 input (found 1) to be deduced but got 2 inputs in 'm'"),
        (
            model(tensor("x", shape=(-1, -1, -1))),
            TWO,
            "The shape of the raw input 'x' can not be deduced because there are more than one variable-sized dimension",
        ),
        (
            model(tensor("x", Datatype.BYTES, (-1, 2))),
            b"a",
            "For BYTE datatype raw input 'x', the model must have input shape [1]",
        ),
        (model(), b"1234567", "unexpected size for input 'x', expecting 8 bytes for model 'm', got 7"),
        (model(), b"", "unexpected size for input 'x', expecting 8 bytes for model 'm', got 0"),
        (
            model(tensor("x", shape=(-1, -1))),
            b"12345",
            "unexpected size for input 'x', expecting 4 bytes for model 'm', got 5",
        ),
    ],
    ids=range(6),
)
def test_raw_bodies_that_leave_the_shape_open_are_refused(spec, body, text):
    assert text in raw_refusal(spec, body)


def test_groups_are_told_apart_by_every_part_of_them():
    assert len({Group(1), Group(2), Group(1, (1,)), Group(1, (), ((1,),)), Group(1, (), (), (b"a",))}) == 5


# --- a header read before ---------------------------------------------------------------------------------------------


def test_a_header_read_before_is_cut_by_the_same_places():
    decoder = RequestDecoder(PAIR)
    n = an_input("n", (1,), "INT32", None, parameters={"binary_data_size": 4})
    header = json.dumps({"id": "a", "inputs": [n, BINARY]}).encode()
    for value in (7, 8):
        request = decoder.decode(header + struct.pack("<i2f", value, 1, 2), len(header))
        assert [bytes(each) for each in request.tensors] == [TWO, struct.pack("<i", value)]
        assert (request.id, request.nbytes, request.rows) == ("a", 12, 1)


@pytest.mark.parametrize("tail", [b"", TWO[:-1], TWO + b"!"])
def test_a_header_read_before_with_other_data_is_refused_as_the_first_time(tail):
    decoder = RequestDecoder(model())
    header = json.dumps({"inputs": [BINARY]}).encode()
    with pytest.raises(InvalidRequest) as first:
        decoder.decode(header + tail, len(header))
    decoder.decode(header + TWO, len(header))
    with pytest.raises(InvalidRequest) as again:
        decoder.decode(header + tail, len(header))
    assert str(again.value) == str(first.value)


def test_what_must_be_equal_in_a_batch_is_looked_at_each_time():
    decoder = RequestDecoder(RATED)
    rate = an_input("rate", (), "INT64", None, parameters={"binary_data_size": 8})
    header = json.dumps({"inputs": [BINARY, rate]}).encode()
    groups = [
        decoder.decode(header + TWO + struct.pack("<q", hertz), len(header)).group for hertz in (8, 8, 16)
    ]
    assert groups[0] == groups[1] != groups[2]


def test_a_remembered_header_does_not_keep_what_it_came_with():
    spec = model(
        tensor("x", Datatype.FP32, (-1, 2), batch_axis=0),
        tensor("k", Datatype.FP32, (1000,), batch_axis=None),
    )
    decoder = RequestDecoder(spec)
    header = b"""{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}},
        {"name":"k","shape":[1000],"datatype":"FP32","parameters":{"binary_data_size":4000}}]}"""
    first = decoder.decode(header + bytes(4008), len(header))
    again = decoder.decode(header + bytes(4007) + b"1", len(header))
    assert first.group != again.group
    assert sum(map(len, again.group.shared)) < 100
    assert all(not bound.request.group.shared for bound in decoder._bound.values())
