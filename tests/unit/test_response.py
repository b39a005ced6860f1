import json
import math
import struct
from typing import NamedTuple

import numpy as np
import pytest
from fakes import model, tensor

from headrace.errors import InferenceFailed, InvalidRequest
from headrace.messages import Datatype, Group, InferRequest, TensorSpec, Wanted
from headrace.parts import BatchOutputs, Part
from headrace.protocol.response import ResponseEncoder, encode_error


class Body(NamedTuple):
    content: bytes
    header_length: int | None


def encode(specs, arrays, *, outputs=None, binary=None, request_id="", row=None):
    """The answer to a request that travelled alone, or of one row of a batch."""
    spec = model(outputs=specs)
    positions = tuple(range(len(specs))) if outputs is None else outputs
    wanted = Wanted(positions, binary or (False,) * len(positions))
    request = InferRequest(request_id, (), (), 1, Group(1), wanted, 0)
    held = BatchOutputs(tuple(specs), dict(enumerate(arrays)))
    part = Part(held, row or 0, (row or 0) + 1, row is None, None)
    return Body(*ResponseEncoder(spec).encode(request, part))


Y, Z = tensor("y"), tensor("z", Datatype.INT64, (-1, 1))
TWO, ONE = np.float32([[1, 2]]), np.array([[7]])


def test_an_answer_names_model_version_and_outputs_with_flat_data():
    body = encode([Y, Z], [TWO, ONE])
    assert json.loads(body.content) == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]},
            {"name": "z", "datatype": "INT64", "shape": [1, 1], "data": [7]},
        ],
    }
    assert body.header_length is None


def test_the_id_is_echoed_if_there_is_one():
    assert json.loads(encode([Y], [TWO], request_id='a"\0ü').content)["id"] == 'a"\0ü'
    assert "id" not in json.loads(encode([Y], [TWO]).content)


def test_only_the_outputs_asked_for_come_in_the_order_asked():
    answer = json.loads(encode([Y, Z], [TWO, ONE], outputs=(1, 0)).content)
    assert [each["name"] for each in answer["outputs"]] == ["z", "y"]


def test_binary_outputs_follow_the_json_in_order():
    body = encode([Y, Z], [TWO, ONE], binary=(True, True))
    header = json.loads(body.content[: body.header_length])
    assert [each["parameters"] for each in header["outputs"]] == [{"binary_data_size": 8}] * 2
    assert not any("data" in each for each in header["outputs"])
    assert body.content[body.header_length :] == struct.pack("<2fq", 1, 2, 7)


def test_a_json_output_beside_a_binary_one_has_no_parameters():
    body = encode([Y, Z], [TWO, ONE], binary=(True, False))
    header = json.loads(body.content[: body.header_length])
    assert header["outputs"][1] == {"name": "z", "datatype": "INT64", "shape": [1, 1], "data": [7]}


def test_binary_outputs_without_elements_leave_the_answer_json():
    body = encode([Y], [np.zeros((0, 2), "<f4")], binary=(True,))
    assert body.header_length is None
    assert json.loads(body.content)["outputs"][0]["parameters"] == {"binary_data_size": 0}


@pytest.mark.parametrize("row", [0, 1, 2])
def test_each_request_gets_its_own_rows(row):
    rows = np.arange(6, dtype="<f4").reshape(3, 2)
    for binary in (False, True):
        body = encode([Y], [rows], binary=(binary,), row=row)
        header = json.loads(body.content[: body.header_length])["outputs"][0]
        assert header["shape"] == [1, 2]
        if binary:
            assert body.content[body.header_length :] == rows[row].tobytes()
        else:
            assert header["data"] == rows[row].tolist()


def test_nan_and_infinity_are_the_bare_tokens_clients_read():
    text = encode([Y], [np.float32([[np.nan, -np.inf]])]).content
    assert b'"data":[NaN,-Infinity]' in text
    assert math.isnan(json.loads(text)["outputs"][0]["data"][0])


def test_strings_are_json_strings_or_bytes_with_their_lengths():
    spec, array = tensor("s", Datatype.BYTES, (-1,)), np.array([b"a\0", "ü".encode()], object)
    assert json.loads(encode([spec], [array]).content)["outputs"][0]["data"] == ["a\0", "ü"]
    body = encode([spec], [array], binary=(True,))
    assert body.content[body.header_length :] == b"\2\0\0\0a\0\2\0\0\0\xc3\xbc"


@pytest.mark.parametrize(
    ("datatype", "array"),
    [("FP16", np.float16([[1]])), ("BF16", np.uint16([[1]])), ("BYTES", np.array([[b"\xff"]], object))],
)
def test_what_has_no_json_form_is_refused_and_sent_in_binary(datatype, array):
    spec = tensor("h", Datatype(datatype), (-1, 1))
    with pytest.raises(InferenceFailed, match="binary"):
        encode([spec], [array])
    assert encode([spec], [array], binary=(True,)).header_length


@pytest.mark.parametrize("datatype", ["BOOL", "UINT64", "INT8", "FP64"])
def test_other_datatypes_keep_their_values(datatype):
    values = {"BOOL": [True, False], "UINT64": [0, 2**64 - 1], "INT8": [-128, 127], "FP64": [1e300, -0.1]}[
        datatype
    ]
    array = np.array([values], {"BOOL": "?", "UINT64": "<u8", "INT8": "i1", "FP64": "<f8"}[datatype])
    assert (
        json.loads(encode([tensor("y", Datatype(datatype))], [array]).content)["outputs"][0]["data"] == values
    )


def test_a_scalar_has_an_empty_shape():
    answer = json.loads(encode([TensorSpec("y", Datatype.FP32, ())], [np.array(7, "<f4")]).content)
    assert answer["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [], "data": [7.0]}


def test_names_are_escaped():
    answer = json.loads(encode([tensor('y"\\', shape=(-1, 2))], [TWO]).content)
    assert answer["outputs"][0]["name"] == 'y"\\'


def test_how_long_the_json_will_be_counts_the_outputs_asked_for_as_json():
    encoder = ResponseEncoder(model(outputs=(Y, Z)))
    held = BatchOutputs((Y, Z), {0: np.zeros((1, 1000)), 1: np.zeros((1, 10))})
    sizes = [
        encoder.json_size(
            InferRequest("", (), (), 1, Group(1), Wanted((0, 1), binary), 0),
            Part(held, 0, 1, is_whole=True, lengths=None),
        )
        for binary in ((True, True), (True, False), (False, False))
    ]
    assert sizes[0] == 0
    assert sizes[2] == 101 * sizes[1] > 0


def test_an_error_is_a_sentence_and_a_code():
    assert json.loads(encode_error(InvalidRequest('no "x"'))) == {
        "error": 'no "x"',
        "code": "invalid_request",
    }
