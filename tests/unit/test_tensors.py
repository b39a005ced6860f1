import json
import math
import struct

import msgspec
import pytest

from headrace.errors import InferenceFailed, InvalidRequest
from headrace.messages import Datatype
from headrace.protocol.tensors import decode_data, encode_data, make_reader

FORMS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
RANGES = {
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}


def decode(datatype, count, text):
    """By both ways that data takes: still JSON, and parsed with the rest of the request."""
    raw = make_reader("x", Datatype(datatype), count)(msgspec.Raw(text.encode()))
    assert raw == decode_data("x", Datatype(datatype), count, json.loads(text))
    return raw


def refusal(datatype, count, text):
    with pytest.raises(InvalidRequest) as caught:
        make_reader("x", Datatype(datatype), count)(msgspec.Raw(text.encode()))
    return str(caught.value)


@pytest.mark.parametrize("datatype", RANGES)
def test_integers_of_the_whole_range_are_taken(datatype):
    low, high = RANGES[datatype]
    assert decode(datatype, 3, f"[{low},1,{high}]") == struct.pack(f"<3{FORMS[datatype]}", low, 1, high)


@pytest.mark.parametrize("datatype", RANGES)
def test_integers_out_of_range_are_refused(datatype):
    low, high = RANGES[datatype]
    for value in (low - 1, high + 1, 10**30, -(10**30)):
        assert f"does not fit {datatype}" in refusal(
            datatype, 1, f"[{value}]"
        ) or "failed to parse" in refusal(datatype, 1, f"[{value}]")


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_floats_are_taken_integers_among_them(datatype):
    assert decode(datatype, 4, "[1, -2.5, 1e3, 0]") == struct.pack(f"<4{FORMS[datatype]}", 1, -2.5, 1e3, 0)


def test_a_float_too_large_for_fp32_is_refused():
    assert "does not fit FP32" in refusal("FP32", 1, "[1e39]")


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_bare_tokens_are_floats(datatype, token):
    data = decode_data("x", Datatype(datatype), 1, json.loads(f"[{token}]"))
    value = struct.unpack(f"<{FORMS[datatype]}", data)[0]
    assert value == float(token) or (math.isnan(value) and token == "NaN")


def test_bare_tokens_are_no_integers():
    with pytest.raises(InvalidRequest, match="NaN"):
        decode_data("x", Datatype.INT32, 1, [math.nan])


def test_booleans_are_words_or_zero_and_one():
    assert decode("BOOL", 4, "[true,false,1,0]") == b"\1\0\1\0"


@pytest.mark.parametrize("text", ["[2]", "[0.5]", '["true"]', "[null]", "[{}]", '[{"a":1}]', "[true,{}]"])
def test_nothing_else_is_a_boolean(text):
    assert "is BOOL, and its data has" in refusal("BOOL", text.count(",") + 1, text)


def test_strings_are_utf_8_and_keep_their_nulls():
    assert decode("BYTES", 3, json.dumps(["a\0b", "", "ü"])) == b"\3\0\0\0a\0b\0\0\0\0\2\0\0\0\xc3\xbc"


def test_half_a_character_is_no_string():
    assert "failed to parse" in refusal("BYTES", 1, '["\\ud800"]')


def test_bytes_that_are_not_utf_8_are_no_string():
    with pytest.raises(InvalidRequest):
        make_reader("x", Datatype.BYTES, 1)(msgspec.Raw(b'["\xff\xfe"]'))


@pytest.mark.parametrize("text", ["[1,2,3,4,5,6]", "[[1,2,3],[4,5,6]]", "[[[1],[2]],[[3],[4]],[[5],[6]]]"])
@pytest.mark.parametrize("datatype", ["INT32", "FP32"])
def test_nested_data_is_flattened_row_by_row(datatype, text):
    assert decode(datatype, 6, text) == struct.pack(f"<6{FORMS[datatype]}", *range(1, 7))


@pytest.mark.parametrize("text", ["[]", "[[],[]]", "[[[]]]"])
def test_no_elements_can_be_written_in_any_depth(text):
    assert decode("FP32", 0, text) == b""


def test_a_hundred_levels_are_taken_and_no_more():
    assert decode("FP32", 1, "[" * 100 + "1" + "]" * 100) == struct.pack("<f", 1)
    for depth in (101, 250_000):
        assert "JSON nesting depth exceeds maximum allowed limit (100)" in refusal(
            "FP32", 1, "[" * depth + "1" + "]" * depth
        )


@pytest.mark.parametrize(
    ("datatype", "count", "text", "reason"),
    [
        ("FP32", 2, "[1]", "unexpected number of elements"),
        ("FP32", 1, "[1,2]", "unexpected number of elements"),
        ("FP32", 1, "[[1,2]]", "unexpected number of elements"),
        ("FP32", 2, "[1,[2]]", "mixes lists and elements"),
        ("FP32", 1, '["1"]', "is FP32, and its data has"),
        ("FP32", 1, "[true]", "is FP32, and its data has"),
        ("FP32", 1, "[null]", "is FP32, and its data has"),
        ("FP32", 1, "[{}]", "is FP32, and its data has"),
        ("INT32", 1, "[1.5]", "is INT32, and its data has"),
        ("INT32", 1, "[true]", "is INT32, and its data has"),
        ("BYTES", 1, "[1]", "is BYTES, and its data has"),
        ("BYTES", 2, '["a"]', "unexpected number of elements"),
        ("FP32", 1, "1", "failed to parse the data"),
        ("FP32", 1, "null", "failed to parse the data"),
        ("FP32", 1, '{"a":1}', "failed to parse the data"),
        ("FP32", 1, "[1", "failed to parse the data"),
    ],
)
def test_data_at_fault_is_refused_naming_the_input(datatype, count, text, reason):
    said = refusal(datatype, count, text)
    assert reason in said
    assert "'x'" in said


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_json_form(datatype):
    expected = (
        f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input x"
    )
    assert refusal(datatype, 1, "[1]") == expected
    with pytest.raises(InferenceFailed, match=f"sending {datatype} data via JSON is not supported"):
        encode_data("y", Datatype(datatype), [1.0], is_finite=True)


@pytest.mark.parametrize(
    ("datatype", "values", "is_finite", "expected"),
    [
        ("FP32", [1.0, -2.5], True, b"[1.0,-2.5]"),
        ("FP32", [math.nan, math.inf, -math.inf, 1.0], False, b"[NaN,Infinity,-Infinity,1.0]"),
        ("INT64", [-(2**63), 2**63 - 1], True, b"[-9223372036854775808,9223372036854775807]"),
        ("UINT64", [2**64 - 1], True, b"[18446744073709551615]"),
        ("BOOL", [True, False], True, b"[true,false]"),
        ("BYTES", [b"a\0", "ü".encode()], True, '["a\\u0000","ü"]'.encode()),
        ("FP32", [], True, b"[]"),
    ],
)
def test_values_are_written_flat(datatype, values, is_finite, expected):
    assert encode_data("y", Datatype(datatype), values, is_finite) == expected


def test_an_output_that_is_not_utf_8_cannot_be_json():
    with pytest.raises(InferenceFailed, match="not UTF-8"):
        encode_data("y", Datatype.BYTES, [b"\xff"], is_finite=True)
