import math

import pytest

from headrace.errors import InvalidRequest
from headrace.protocol.envelope import decode_envelope

INPUT = b'{"name":"x","shape":[1],"datatype":"FP32","data":[1]}'
DEEP = b"[" * 250_000 + b"]" * 250_000


def test_data_is_left_as_it_came():
    envelope = decode_envelope(b'{"id":"7","inputs":[' + INPUT + b"]}")
    assert (envelope.id, envelope.inputs[0].shape) == ("7", (1,))
    assert bytes(envelope.inputs[0].data) == b"[1]"


def test_keys_nobody_knows_are_ignored():
    assert decode_envelope(b'{"model_name":"m","inputs":[],"x":{"y":null}}').inputs == []


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_bare_tokens_are_read_as_floats(token):
    body = f'{{"inputs":[{{"name":"x","shape":[2],"datatype":"FP32","data":[{token},[1]]}}]}}'
    value = decode_envelope(body.encode()).inputs[0].data[0]
    assert math.isnan(value) or value == float(token)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "failed to parse the request JSON buffer"),
        (b"{", "failed to parse the request JSON buffer"),
        (b'{"inputs":[NaN', "failed to parse the request JSON buffer"),
        (b"\xff\xfe", "failed to parse the request JSON"),
        (b"[]", "failed to parse the request JSON"),
        (b"null", "failed to parse the request JSON"),
        (b"NaN", "failed to parse the request JSON"),
        (b"{}", "inputs"),
        (b'{"inputs":{}}', "inputs"),
        (b'{"inputs":[7]}', "inputs"),
        (b'{"inputs":[{"name":"x"}]}', "missing required field"),
        (b'{"inputs":[],"id":7}', "id"),
        (b'{"inputs":[],"parameters":7}', "parameters"),
        (b'{"inputs":[],"outputs":["y"]}', "outputs"),
        (b'{"inputs":[],"outputs":[{}]}', "missing required field"),
        (b'{"inputs":[],"x":NaN,"id":7}', "id"),
        (INPUT.replace(b'"x"', b"7"), "failed to parse"),
        (b'{"inputs":[' + INPUT.replace(b"[1]", b'["1"]', 1) + b"]}", "Unable to parse 'shape'"),
        (b'{"inputs":[' + INPUT.replace(b"[1]", b"[1.5]", 1) + b"]}", "Unable to parse 'shape'"),
        (b'{"inputs":[' + INPUT.replace(b"[1]", b"7", 1) + b"]}", "shape"),
        (b'{"inputs":[' + INPUT + b"]} x", "failed to parse"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(body, text):
    with pytest.raises(InvalidRequest, match=text):
        decode_envelope(body)


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"inputs":' + DEEP + b"}",
        b'{"inputs":[],"parameters":{"x":' + DEEP + b"}}",
        b'{"inputs":[],"ignored":' + DEEP + b"}",
        b'{"inputs":[],"parameters":{"x":NaN,"y":' + DEEP + b"}}",
        b'{"inputs":[],"x":' + b"[" * 250_000,
    ],
    ids=["whole", "inputs", "parameters", "ignored", "loose", "open"],
)
def test_json_of_any_depth_is_refused_and_not_fallen_over(body):
    with pytest.raises(InvalidRequest):
        decode_envelope(body)


@pytest.mark.parametrize("body", [b'{"inputs":[],"id":"\\ud800"}', b'{"inputs":[],"id":"\\ud800","x":NaN}'])
def test_half_a_character_is_refused_since_no_answer_could_carry_it(body):
    with pytest.raises(InvalidRequest, match="failed to parse"):
        decode_envelope(body)
