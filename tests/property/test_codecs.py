"""Requests and answers of every datatype and shape, encoded here without headrace's help, and whatever else may come."""

import json
import struct

import numpy as np
import pytest
from fakes import model, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from headrace import strings
from headrace.errors import HeadraceError
from headrace.messages import NUMPY_TYPES, Datatype, Group, InferRequest, ModelSpec, TensorSpec, Wanted
from headrace.parts import BatchOutputs, Part
from headrace.protocol import transcode
from headrace.protocol.request import RequestDecoder
from headrace.protocol.response import ResponseEncoder

BINARY_ONLY = {Datatype.FP16, Datatype.BF16}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensors(draw, datatypes=tuple(Datatype)):
    """A datatype, and an array of it of any shape; strings are text, so that JSON can carry them."""
    datatype = draw(st.sampled_from(datatypes))
    shape = draw(SHAPES)
    if datatype is Datatype.BYTES:
        texts = draw(st.lists(TEXTS, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        array = np.empty(len(texts), object)
        array[:] = [text.encode() for text in texts]
        return datatype, array.reshape(shape)
    return datatype, draw(arrays.arrays(NUMPY_TYPES[datatype], shape))


def wire_bytes(array):
    """As a client would write it."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(each)) + each for each in array.ravel())
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def json_values(array, *, nested):
    values = array if nested else array.reshape(-1)
    if array.dtype == object:
        values = np.vectorize(bytes.decode, otypes=[object])(values) if values.size else values
    listed = values.tolist()
    return listed if isinstance(listed, list) else [listed]


def spec_of(*given_tensors):
    inputs = [
        TensorSpec(f"x{at}", datatype, tuple(-1 for _ in array.shape))
        for at, (datatype, array) in enumerate(given_tensors)
    ]
    return ModelSpec("m", "1", "fake", tuple(inputs), (tensor("y"),))


def described(at, datatype, array):
    return {"name": f"x{at}", "datatype": datatype.value, "shape": list(array.shape)}


@given(tensors(tuple(set(Datatype) - BINARY_ONLY)), st.booleans())
def test_json_of_every_datatype_and_shape_decodes_to_the_array(given_tensor, nested):
    datatype, array = given_tensor
    nested = nested and array.size > 0
    one = described(0, datatype, array) | {"data": json_values(array, nested=nested)}
    request = RequestDecoder(spec_of(given_tensor)).decode(json.dumps({"inputs": [one]}).encode(), None)
    assert request.shapes == (array.shape,)
    if array.dtype.kind == "f":
        decoded = np.frombuffer(request.tensors[0], array.dtype).reshape(array.shape)
        np.testing.assert_array_equal(decoded, array)
    else:
        assert bytes(request.tensors[0]) == wire_bytes(array)


@given(st.lists(tensors(), min_size=1, max_size=4), st.randoms())
def test_binary_of_every_datatype_and_shape_decodes_to_the_bytes_in_any_order(given_tensors, random):
    order = list(enumerate(given_tensors))
    random.shuffle(order)
    inputs, tail = [], b""
    for at, (datatype, array) in order:
        data = wire_bytes(array)
        inputs.append(described(at, datatype, array) | {"parameters": {"binary_data_size": len(data)}})
        tail += data
    header = json.dumps({"inputs": inputs}).encode()
    decoder = RequestDecoder(spec_of(*given_tensors))
    for _ in range(2):  # the second time its header is known
        request = decoder.decode(header + tail, len(header))
        assert request.shapes == tuple(array.shape for _, array in given_tensors)
        assert [bytes(each) for each in request.tensors] == [wire_bytes(array) for _, array in given_tensors]


@given(st.lists(tensors(tuple(set(Datatype) - BINARY_ONLY)), min_size=1, max_size=3))
def test_a_transcoded_request_is_the_direct_one(given_tensors):
    inputs = [
        described(at, datatype, array) | {"data": json_values(array, nested=False)}
        for at, (datatype, array) in enumerate(given_tensors)
    ]
    body = json.dumps({"id": "a", "inputs": inputs}).encode()
    decoder = RequestDecoder(spec_of(*given_tensors))
    direct = decoder.decode(body, None)
    transcoded = decoder.decode(*transcode.request_to_binary(body, len(body)))
    assert [bytes(each) for each in transcoded.tensors] == [bytes(each) for each in direct.tensors]
    assert (transcoded.id, transcoded.shapes, transcoded.nbytes) == (direct.id, direct.shapes, direct.nbytes)


def answer(given_tensors, binary):
    specs = [
        TensorSpec(f"y{at}", datatype, tuple(-1 for _ in array.shape))
        for at, (datatype, array) in enumerate(given_tensors)
    ]
    held = BatchOutputs(tuple(specs), {at: array for at, (_, array) in enumerate(given_tensors)})
    request = InferRequest("", (), (), 1, Group(1), Wanted(tuple(range(len(specs))), binary), 0)
    encoder = ResponseEncoder(model(outputs=specs))
    return encoder, request, Part(held, 0, 1, is_whole=True, lengths=None)


def read_answer(content, header_length):
    """As a client would: name → array."""
    header = json.loads(content[:header_length])
    cursor = header_length or len(content)
    read = {}
    for output in header["outputs"]:
        datatype, shape = Datatype(output["datatype"]), output["shape"]
        if "data" in output:
            values = (
                [each.encode() for each in output["data"]] if datatype is Datatype.BYTES else output["data"]
            )
            array = np.empty(len(values), object) if datatype is Datatype.BYTES else None
            if array is None:
                array = np.array(values, NUMPY_TYPES[datatype])
            else:
                array[:] = values
            read[output["name"]] = array.reshape(shape)
            continue
        data = content[cursor : (cursor := cursor + output["parameters"]["binary_data_size"])]
        if datatype is Datatype.BYTES:
            read[output["name"]] = strings.split(data, tuple(shape))
        else:
            read[output["name"]] = np.frombuffer(data, NUMPY_TYPES[datatype]).reshape(shape)
    assert cursor == len(content)
    return read


def check_answer(given_tensors, content, header_length):
    read = read_answer(content, header_length)
    for at, (_, array) in enumerate(given_tensors):
        np.testing.assert_array_equal(read[f"y{at}"], array)


@given(st.lists(st.tuples(tensors(), st.booleans()), min_size=1, max_size=4))
def test_answers_of_every_datatype_and_shape_are_read_as_the_arrays(outputs):
    given_tensors = [each for each, _ in outputs]
    binary = tuple(is_binary or each[0] in BINARY_ONLY for each, is_binary in outputs)
    encoder, request, part = answer(given_tensors, binary)
    check_answer(given_tensors, *encoder.encode(request, part))


@given(st.lists(tensors(tuple(set(Datatype) - BINARY_ONLY)), min_size=1, max_size=3), st.randoms())
def test_an_answer_that_is_transcoded_is_read_as_the_arrays(given_tensors, random):
    binary = tuple(random.random() < 0.5 for _ in given_tensors)
    encoder, request, part = answer(given_tensors, binary)
    content, header_length = encoder.encode(request, part, mark_json=True)
    if header_length is not None:
        content, header_length = transcode.response_to_json(content, header_length)
        check_answer(given_tensors, content, header_length or None)


# --- whatever else may come -------------------------------------------------------------------------------------------

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["x", "s", "y", "FP32", "BYTES", "BOOL", 10**400, 2**63, -1]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "inputs",
                    "outputs",
                    "name",
                    "shape",
                    "datatype",
                    "data",
                    "parameters",
                    "id",
                    "timeout",
                    "binary_data_size",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)
MODELS = (
    model(),
    model(tensor("x"), tensor("s", Datatype.BYTES, (-1, -1))),
    model(tensor("x", Datatype.BOOL, (-1, -1), lengths=(None, "length"))),
    model(tensor("s", Datatype.BYTES, (-1, 1))),
    model(TensorSpec("x", Datatype.INT64, (-1, -1)), max_batch_size=0, joins_requests=False),
)
WHOLE = {
    "id": "a",
    "parameters": {"timeout": 5, "binary_data_output": True},
    "inputs": [
        {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [-3, 4]], "parameters": {}},
        {"name": "s", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "ü"]},
    ],
    "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
}


def decode_or_refuse(spec, body, header_length):
    """Directly, and through the transcoder as a large body would go."""
    try:
        RequestDecoder(spec).decode(body, header_length)
    except HeadraceError as exc:
        str(exc).encode()  # a reason that could not be sent would be none
    length = len(body) if header_length is None else header_length
    if 0 <= length <= len(body):
        try:
            RequestDecoder(spec).decode(*transcode.request_to_binary(body, length))
        except HeadraceError as exc:
            str(exc).encode()


@given(st.sampled_from(MODELS), st.binary(max_size=60), st.none() | st.integers(-2, 70))
def test_arbitrary_bytes_are_refused_with_a_reason(spec, body, header_length):
    decode_or_refuse(spec, body, header_length)


@settings(max_examples=300)
@given(st.sampled_from(MODELS), ANY_JSON)
def test_arbitrary_json_is_refused_with_a_reason(spec, value):
    decode_or_refuse(spec, json.dumps(value).encode(), None)


@st.composite
def changed(draw):
    """A whole request with something in it that is something else."""
    request = json.loads(json.dumps(WHOLE))
    places = [(request, key) for key in request]
    places += [(each, key) for each in (*request["inputs"], *request["outputs"]) for key in each]
    places += [(request["parameters"], key) for key in request["parameters"]]
    for place, key in draw(st.lists(st.sampled_from(places), min_size=1, max_size=2)):
        place[key] = draw(ANY_JSON)
    return json.dumps(request).encode()


@settings(max_examples=300)
@given(st.sampled_from(MODELS), changed())
def test_a_request_with_something_else_in_it_is_refused_with_a_reason(spec, body):
    decode_or_refuse(spec, body, None)


@settings(max_examples=200)
@given(st.sampled_from(MODELS), st.data())
def test_a_damaged_request_is_refused_with_a_reason(spec, data):
    body = bytearray(json.dumps(WHOLE, ensure_ascii=data.draw(st.booleans())).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    match data.draw(st.sampled_from(["cut", "change", "insert", "remove"])):
        case "cut":
            del body[at:]
        case "change":
            body[at] = data.draw(st.integers(0, 255))
        case "insert":
            body[at:at] = data.draw(
                st.sampled_from([b"\xff", b"[", b"NaN", b'"', b"\\ud800", b"-", b"9" * 400])
            )
        case "remove":
            del body[at]
    decode_or_refuse(spec, bytes(body), None)


@settings(max_examples=200)
@given(st.binary(max_size=40), st.integers(-2, 60), st.lists(st.integers(0, 5), max_size=3))
def test_binary_data_of_any_length_is_taken_or_refused_with_a_reason(tail, size, shape):
    inputs = [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "s", "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": size}},
    ]
    header = json.dumps({"inputs": inputs}).encode()
    decode_or_refuse(MODELS[1], header + tail, len(header))


@given(st.sampled_from(MODELS), st.binary(max_size=40))
def test_any_raw_body_is_taken_or_refused_with_a_reason(spec, body):
    try:
        RequestDecoder(spec).decode(body, 0)
    except HeadraceError as exc:
        str(exc).encode()


@pytest.mark.parametrize("datatype", sorted(set(Datatype) - BINARY_ONLY))
@given(data=st.data())
def test_any_json_data_is_taken_or_refused_with_a_reason(datatype, data):
    spec = model(tensor("x", Datatype(datatype), (-1,)))
    one = {
        "name": "x",
        "shape": [data.draw(st.integers(0, 3))],
        "datatype": datatype,
        "data": data.draw(ANY_JSON),
    }
    decode_or_refuse(spec, json.dumps({"inputs": [one]}).encode(), None)
