import json
import struct

import numpy as np
import pytest
from fakes import model, tensor

from headrace.errors import HeadraceError, InvalidRequest, Unsupported
from headrace.messages import Datatype
from headrace.protocol import transcode
from headrace.protocol.request import RequestDecoder
from headrace.protocol.transcode import (
    TO_BINARY,
    TO_JSON,
    perform,
    request_to_binary,
    response_to_json,
    result,
    task,
)

SPEC = model(tensor("x"), tensor("s", Datatype.BYTES, (-1,)), outputs=(tensor("y"), tensor("z")))


def body_of(x, s, **more):
    return json.dumps({"inputs": [x, s], **more}).encode()


X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]}
S = {"name": "s", "shape": [1], "datatype": "BYTES", "data": ["ab"]}
Y = {"name": "y", "parameters": {"binary_data": True}}


@pytest.mark.parametrize(
    "body",
    [
        body_of(X, S),
        body_of(S, X, id="a"),
        body_of(X | {"data": [float("nan"), float("inf")]}, S),
        body_of(X | {"shape": [0, 2], "data": []}, S | {"shape": [0], "data": []}),
        body_of(X, S, outputs=[Y], parameters={"timeout": 5}),
        body_of(X, S, model_name="ignored"),
    ],
    ids=range(6),
)
def test_a_body_in_binary_decodes_as_it_would_have_directly(body):
    content, length = request_to_binary(body, len(body))
    direct, transcoded = (RequestDecoder(SPEC).decode(*each) for each in ((body, None), (content, length)))
    assert [bytes(each) for each in transcoded.tensors] == [bytes(each) for each in direct.tensors]
    for name in ("id", "shapes", "rows", "group", "wanted", "nbytes", "timeout_s"):
        assert getattr(transcoded, name) == getattr(direct, name)


def test_data_that_is_binary_already_stays():
    header = body_of({key: X[key] for key in X if key != "data"} | {"parameters": {"binary_data_size": 8}}, S)
    tail = struct.pack("<2f", 1, 2)
    content, length = request_to_binary(header + tail, len(header))
    request = RequestDecoder(SPEC).decode(content, length)
    assert [bytes(each) for each in request.tensors] == [tail, b"\2\0\0\0ab"]


@pytest.mark.parametrize(
    "x",
    [
        X | {"data": [1]},
        X | {"data": ["a", "b"]},
        X | {"data": None},
        X | {"shape": [-1, 2]},
        X | {"datatype": "FP16"},
        X | {"name": "o"},
        X | {"datatype": "FP64"},
        X | {"shape": [1, 2, 1]},
        {"name": "x", "shape": [1, 2], "datatype": "FP32"},
        X | {"parameters": {"binary_data_size": 8}},
        X | {"datatype": "float"},
    ],
    ids=range(11),
)
def test_a_body_at_fault_is_refused_either_way(x):
    body = body_of(x, S)
    with pytest.raises(InvalidRequest):
        RequestDecoder(SPEC).decode(body, None)
    with pytest.raises(InvalidRequest):
        RequestDecoder(SPEC).decode(*request_to_binary(body, len(body)))


def test_an_extension_that_is_not_there_is_said_to_be_unsupported_either_way():
    parameters = {"shared_memory_region": "r"}
    body = body_of(S, {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": parameters})
    for content, length in ((body, None), request_to_binary(body, len(body))):
        with pytest.raises(Unsupported):
            RequestDecoder(SPEC).decode(content, length)


@pytest.mark.parametrize("tail", [b"1234567", b"123456789"])
def test_binary_data_of_the_wrong_length_is_refused_either_way(tail):
    header = body_of({key: X[key] for key in X if key != "data"} | {"parameters": {"binary_data_size": 8}}, S)
    for content, length in ((header + tail, len(header)), request_to_binary(header + tail, len(header))):
        with pytest.raises(InvalidRequest, match="unexpected"):
            RequestDecoder(SPEC).decode(content, length)


def answer(*outputs, tail=b"", **more):
    header = json.dumps({"model_name": "m", "model_version": "1", **more, "outputs": outputs}).encode()
    return header + tail, len(header)


def marked(name, datatype, shape, size, *, as_json=True):
    parameters = {"binary_data_size": size, "json": True} if as_json else {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def test_outputs_marked_for_it_become_json():
    tail = struct.pack("<2f", 1, float("inf")) + b"\1\0\0\0a"
    content, length = response_to_json(
        *answer(marked("y", "FP32", [1, 2], 8), marked("s", "BYTES", [1], 5), tail=tail, id="7")
    )
    assert length == 0
    assert json.loads(content) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, float("inf")]},
            {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        ],
    }


def test_outputs_asked_for_in_binary_stay_behind_the_json():
    tail = struct.pack("<2fi", 1, 2, 7)
    content, length = response_to_json(
        *answer(marked("y", "FP32", [1, 2], 8), marked("z", "INT32", [1], 4, as_json=False), tail=tail)
    )
    assert content[length:] == struct.pack("<i", 7)
    outputs = json.loads(content[:length])["outputs"]
    assert (outputs[0]["data"], outputs[1]["parameters"]) == ([1, 2], {"binary_data_size": 4})


def test_a_task_is_done_as_its_first_byte_says():
    body = body_of(X, S)
    request = task(TO_BINARY, len(body), body)
    done = result(perform(bytes(request.tensors[0])))
    assert done == request_to_binary(body, len(body))
    reply, length = answer(marked("y", "FP32", [1, 2], 8), tail=struct.pack("<2f", 1, 2))
    assert result(perform(bytes(task(TO_JSON, length, reply).tensors[0]))) == response_to_json(reply, length)


@pytest.mark.parametrize("data", [b"", b"\7\0\0\0\0"])
def test_what_is_no_task_is_refused(data):
    with pytest.raises(HeadraceError):
        perform(data)


def test_as_a_backend_it_takes_bytes_and_gives_bytes():
    body = body_of(X, S)
    data = np.frombuffer(task(TO_BINARY, len(body), body).tensors[0], np.uint8)
    backend = transcode.TranscoderBackend().clone()
    (given,) = backend.run({transcode.BODY: data}, [transcode.BODY])
    assert result(given.tobytes()) == request_to_binary(body, len(body))
