"""What is read of a request before it is taken in: all that its envelope says, and nothing of its data."""

import json
import struct

import pytest
from fakes import model, tensor
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidRequest, Unsupported
from headrace.messages import Datatype, TensorSpec
from headrace.protocol import request as protocol_request
from headrace.protocol.parameters import NOTHING_ASKED, Asked
from headrace.protocol.request import RequestDecoder

PLAIN = model()
PAIR = model(tensor("x"), tensor("n", Datatype.INT32, (-1,)))
TEXT = model(tensor("s", Datatype.BYTES, (-1, 1)))
TOKENS = model(
    tensor("ids", Datatype.INT64, (-1, -1), lengths=(None, "length")),
    tensor("mask", Datatype.INT64, (-1, -1), lengths=(None, "length")),
    outputs=(tensor("y"), tensor("each", shape=(-1, -1), survives_padding=False)),
)
RATED = model(tensor("x"), TensorSpec("rate", Datatype.INT64, ()))
TWO = struct.pack("<2f", 1, 2)


def an_input(name="x", shape=(1, 2), datatype="FP32", data=(1, 2), **more):
    described = {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}
    return {key: value for key, value in described.items() if value is not None}


def body_of(*inputs, **more):
    return json.dumps({"inputs": inputs, **more}).encode()


def row_of(length):
    return [an_input(name, (1, length), "INT64", list(range(length))) for name in ("ids", "mask")]


def attempt(read, body):
    """What is read, or the sentence that says why it cannot be."""
    try:
        return read(body, None)
    except InvalidRequest as exc:
        return str(exc)


BINARY = body_of(an_input(data=None, parameters={"binary_data_size": 8}))
REQUESTS = {
    "a row": (PLAIN, body_of(an_input()), None),
    "rows": (PLAIN, body_of(an_input(shape=(3, 2), data=[[1, 2]] * 3)), None),
    "no rows": (PLAIN, body_of(an_input(shape=(0, 2), data=[])), None),
    "a pair": (PAIR, body_of(an_input("n", (1,), "INT32", (7,)), an_input()), None),
    "binary": (PLAIN, BINARY + TWO, len(BINARY)),
    "raw": (PLAIN, TWO, 0),
    "a short sentence": (TOKENS, body_of(*row_of(3)), None),
    "a long sentence": (TOKENS, body_of(*row_of(33)), None),
    "a sentence that cannot be padded": (TOKENS, body_of(*row_of(33), outputs=[{"name": "each"}]), None),
    "without rows": (RATED, body_of(an_input(), an_input("rate", (), "INT64", [5])), None),
    "with wishes": (
        PLAIN,
        body_of(an_input(), parameters={"timeout": 5000, "priority": 2, "tenant": "acme"}),
        None,
    ),
}


@pytest.mark.parametrize(("spec", "body", "header_length"), REQUESTS.values(), ids=REQUESTS)
def test_a_peek_finds_what_decoding_does(spec, body, header_length):
    decoder = RequestDecoder(spec)
    for _ in range(2):  # at first sight, and where the header is known
        peek = decoder.peek(body, header_length)
        request = decoder.decode(body, header_length)
        assert (peek.rows, peek.cost, peek.nbytes) == (request.rows, request.group.cost, request.nbytes)
        assert peek.asked == Asked(request.timeout_s, request.priority, request.tenant)
        assert decoder.decode(body, header_length, peek) == request


@given(
    st.sampled_from([PLAIN, PAIR, RATED]),
    st.integers(0, 8),
    st.dictionaries(
        st.sampled_from(["timeout", "priority", "tenant", "other"]),
        st.one_of(st.integers(-1, 9), st.text(max_size=3), st.booleans()),
    ),
    st.binary(max_size=3),
)
def test_whatever_decodes_was_peeked_at_rightly_and_nothing_else_raises(spec, rows, parameters, tail):
    inputs = [
        an_input(
            each.name,
            [rows if size == -1 else size for size in each.shape],
            each.datatype.value,
            [1] * (rows if each.batch_axis == 0 else 1) * (2 if each.name == "x" else 1),
        )
        for each in spec.inputs
    ]
    body = body_of(*inputs, parameters=parameters) + tail
    decoder = RequestDecoder(spec)
    request, peek = attempt(decoder.decode, body), attempt(decoder.peek, body)
    if isinstance(request, str):
        assert not isinstance(peek, str) or peek == request
        return
    assert (peek.rows, peek.cost, peek.nbytes) == (request.rows, request.group.cost, request.nbytes)
    assert peek.asked == Asked(request.timeout_s, request.priority, request.tenant)


@pytest.mark.parametrize(
    "data", [["one", "two"], [1], [[[1]], 2], {"a": 1}, None], ids=["words", "few", "odd", "object", "null"]
)
def test_data_is_not_looked_at(data):
    body = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":%b}]}' % json.dumps(data).encode()
    decoder = RequestDecoder(PLAIN)
    assert decoder.peek(body, None)[:3] == (1, 2, 8)
    with pytest.raises(InvalidRequest):
        decoder.decode(body, None)


def test_binary_data_need_not_even_be_there():
    assert RequestDecoder(PLAIN).peek(BINARY, len(BINARY))[:3] == (1, 2, 8)


def test_strings_count_as_they_lie_in_the_body():
    texts = RequestDecoder(TEXT).peek(body_of(an_input("s", (2, 1), "BYTES", ["ab", ""])), None)
    assert (texts.rows, texts.nbytes) == (2, len('["ab", ""]'))
    header = body_of(an_input("s", (1, 1), "BYTES", None, parameters={"binary_data_size": 700}))
    assert RequestDecoder(TEXT).peek(header + bytes(700), len(header)).nbytes == 700


@pytest.mark.parametrize(
    "body",
    [b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}', b"{", b"\xff", b""],
    ids=["NaN", "half", "no text", "nothing"],
)
def test_what_takes_its_data_to_be_read_counts_as_unseen(body):
    decoder = RequestDecoder(PLAIN)
    peek = decoder.peek(body, None)
    assert peek is decoder.unseen
    assert (peek.rows, peek.nbytes, peek.asked) == (1, 0, None)


@pytest.mark.parametrize(
    ("inputs", "more", "error"),
    [
        ([an_input("z")], {}, InvalidRequest),
        ([an_input(shape=(1, 3))], {}, InvalidRequest),
        ([an_input(datatype="INT8")], {}, InvalidRequest),
        ([an_input(shape=(99, 2))], {}, InvalidRequest),
        ([an_input()], {"parameters": {"timeout": "soon"}}, InvalidRequest),
        ([an_input()], {"parameters": {"tenant": 5}}, InvalidRequest),
        ([an_input()], {"parameters": {"sequence_id": 5}}, Unsupported),
        ([an_input()], {"outputs": [{"name": "z"}]}, InvalidRequest),
        ([], {"inputs": 5}, InvalidRequest),
    ],
)
def test_what_is_wrong_with_an_envelope_is_said_as_decoding_says_it(inputs, more, error):
    body = json.dumps({"inputs": inputs, **more}).encode()
    with pytest.raises(error) as seen:
        RequestDecoder(PLAIN).peek(body, None)
    with pytest.raises(error) as decoded:
        RequestDecoder(PLAIN).decode(body, None)
    assert str(seen.value) == str(decoded.value)


@pytest.mark.parametrize("length", [-1, 9999])
def test_a_header_longer_than_its_body_is_refused(length):
    with pytest.raises(InvalidRequest, match="should be in range"):
        RequestDecoder(PLAIN).peek(b"{}", length)


def test_an_envelope_is_read_once_and_a_known_binary_header_not_again(monkeypatch):
    def fail(*_):
        raise AssertionError("it was read before")

    decoder, body = RequestDecoder(PLAIN), body_of(an_input())
    peek = decoder.peek(body, None)
    monkeypatch.setattr(protocol_request, "decode_envelope", fail)
    assert decoder.decode(body, None, peek).rows == 1
    binary = decoder.peek(BINARY + TWO, len(BINARY))
    assert bytes(decoder.decode(BINARY + TWO, len(BINARY), binary).tensors[0]) == TWO
    monkeypatch.setattr(protocol_request, "peek_envelope", fail)
    assert decoder.peek(BINARY + TWO, len(BINARY))[:4] == (1, 2, 8, NOTHING_ASKED)
