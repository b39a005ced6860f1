import base64
import struct

import msgspec
import numpy as np
import pytest

from headrace.errors import InferenceFailed, InvalidRequest, UnsupportedMediaType
from headrace.frontends.skill_answers import MOST_ELEMENTS, AnswerWriter
from headrace.frontends.skill_bodies import MOST_KEYS, MOST_PARTS, read_body
from headrace.frontends.skill_items import MOST_NUMBERS_BYTES, Content, ItemReader
from headrace.messages import Datatype, ModelSpec, TensorSpec
from headrace.parts import BatchOutputs, Part
from tests.fakes import model, tensor

BYTES = {"datatype": Datatype.BYTES, "shape": (-1,)}


def reader(*inputs: TensorSpec, **kinds: dict) -> ItemReader:
    return ItemReader(model(*inputs), {"inputs": kinds})


def item(**values: object) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}


def wrong(kind: str, value: object, datatype: Datatype = Datatype.BYTES) -> str:
    """What is said of a value for an input of that kind."""
    step = (
        {"kind": kind} if kind in {"text", "image", "bytes", "record"} else {"kind": "value", "value": kind}
    )
    with pytest.raises(InvalidRequest) as caught:
        reader(tensor("a", datatype, (-1,)), a=step).read(item(a=value))
    return str(caught.value)


def test_an_item_is_one_row_of_every_input():
    text, number, rows = tensor("t", **BYTES), tensor("n", Datatype.FP64, (-1,)), tensor("x", shape=(-1, 2))
    skill = reader(text, number, rows, t={"kind": "text"}, n={"kind": "value", "value": "number"})
    request = skill.read(item(x=[1, 2], n=0.5, t="ü"))
    assert request.shapes == ((1,), (1,), (1, 2))
    assert request.tensors == (b"\2\0\0\0" + "ü".encode(), struct.pack("<d", 0.5), struct.pack("<2f", 1, 2))
    assert request.rows == 1
    assert request.wanted.outputs == (0,)


@pytest.mark.parametrize(
    ("kind", "value", "content"),
    [
        ("image", {"b64": base64.b64encode(b"\0\xff").decode()}, b"\0\xff"),
        ("bytes", {"b64": ""}, b""),
        ("record", {"a": [1, None]}, b'{"a":[1,null]}'),
        ("json", [1, "x"], b'[1,"x"]'),
        ("text", "\0", b"\0"),
    ],
)
def test_what_is_one_element_arrives_as_its_bytes(kind, value, content):
    step = {"kind": kind} if kind != "json" else {"kind": "value", "value": "json"}
    request = reader(tensor("a", **BYTES), a=step).read(item(a=value))
    assert request.tensors[0][4:] == content


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("text", 3, "input 'a' should be text, and is 3"),
        ("text", None, "input 'a' should be text, and is null"),
        ("text", {"x": 1}, "should be text, and is an object"),
        ("record", [1], "should be a record, as an object in JSON, and is a list"),
        ("image", "abc", 'should be a file, as {"b64": "..."} in JSON, and is text'),
        ("image", {"b64": "a"}, "should have the file's content as base64"),
        ("bytes", {"b64": "YQ==", "name": "x"}, "should be a file"),
    ],
)
def test_a_value_of_another_kind_is_told_what_it_should_be(kind, value, said):
    assert said in wrong(kind, value)


def test_one_string_a_row_is_text_without_being_declared():
    skill = reader(tensor("t", **BYTES))
    assert skill.readers["t"].kind == "text"
    assert skill.read({"t": Content(b"text")}).tensors == (b"\4\0\0\0text",)
    with pytest.raises(InvalidRequest, match="input 't' should be text, and is a list"):
        skill.read(item(t=["a"]))
    declared = reader(tensor("t", **BYTES), t={"kind": "tensor"})
    several = reader(tensor("t", Datatype.BYTES, (-1, 1)))
    assert declared.readers["t"].kind == several.readers["t"].kind == "tensor"


def test_numbers_are_numbers():
    assert wrong("number", "3", Datatype.FP64) == "input 'a' should be a number, and is text"


@pytest.mark.parametrize("value", [[[1, 2]], [1], 1, [1, 2, 3], [[1], [2]], {"a": 1}, "ab"])
def test_a_list_of_another_shape_is_told_which_there_should_be(value):
    with pytest.raises(InvalidRequest, match="input 'x' should be a list of 2 numbers"):
        reader(tensor("x", shape=(-1, 2))).read(item(x=value))


@pytest.mark.parametrize("value", [[[1], [2, 3]], [[1, 2], 3], [[1, 2], [[3], 4]]])
def test_lists_of_different_lengths_are_refused(value):
    with pytest.raises(InvalidRequest):
        reader(tensor("x", shape=(-1, 2, -1))).read(item(x=value))


def test_a_long_list_is_sent_to_the_binary_form():
    with pytest.raises(InvalidRequest, match="binary tensors"):
        reader(tensor("x", shape=(-1, -1))).read(item(x=[0.5] * (MOST_NUMBERS_BYTES // 4 + 1)))


def test_the_lists_of_all_items_together_have_the_limit_of_one():
    skill = reader(tensor("t", **BYTES), tensor("x", shape=(-1, -1)), t={"kind": "text"})
    numbers = [0.5] * (MOST_NUMBERS_BYTES // 10)
    text = "a" * MOST_NUMBERS_BYTES
    skill.check_numbers([item(x=numbers, t=text), item(x=numbers, t=text)])
    with pytest.raises(InvalidRequest, match="binary tensors"):
        skill.check_numbers([item(x=numbers)] * 3)
    with pytest.raises(InvalidRequest, match="binary tensors"):
        skill.check_numbers([{"x": Content(b"[%b]" % (b" " * MOST_NUMBERS_BYTES))}])


def test_an_input_that_is_optional_may_be_missing():
    skill = reader(tensor("x"), tensor("y", is_optional=True))
    assert skill.read(item(x=[1, 2])).absent == (1,)
    with pytest.raises(InvalidRequest, match="input 'x' is missing"):
        skill.read(item(y=[1, 2]))


def test_a_model_without_a_batch_axis_takes_its_lists_whole():
    skill = ItemReader(
        ModelSpec(
            "m", "1", "fake", (TensorSpec("x", Datatype.INT64, (2,)), TensorSpec("k", Datatype.FP32, ())), ()
        ),
        {},
    )
    request = skill.read(item(x=[1, 2], k=3))
    assert request.shapes == ((2,), ())
    assert request.tensors[1] == struct.pack("<f", 3)


def test_half_precision_may_come_as_json():
    request = reader(tensor("x", Datatype.FP16)).read(item(x=[0.5, 1e9]))
    assert np.frombuffer(request.tensors[0], "<f2").tolist() == [0.5, np.inf]


def test_parts_of_a_form_are_read_by_what_they_are_for():
    skill = reader(tensor("t", **BYTES), tensor("x"), t={"kind": "text"})
    request = skill.read({"t": Content(b"text"), "x": Content(b"[1, 2]")})
    assert request.tensors == (b"\4\0\0\0text", struct.pack("<2f", 1, 2))
    for part in (b"", b"[1", b"x"):
        with pytest.raises(InvalidRequest, match="input 'x'"):
            skill.read({"t": Content(b"text"), "x": Content(part)})


def test_a_body_by_itself_is_for_the_only_input_of_its_kind():
    text = reader(tensor("t", **BYTES), t={"kind": "text"}).readers
    assert read_body("s", b"Text/Plain; charset=utf-8", b"x", text).items == [{"t": Content(b"x")}]
    with pytest.raises(
        UnsupportedMediaType, match="send application/json, multipart/form-data or text/plain"
    ):
        read_body("s", b"image/png", b"x", text)
    file = reader(tensor("f", **BYTES), f={"kind": "bytes"}).readers
    assert read_body("s", b"application/pdf", b"x", file).items == [{"f": Content(b"x")}]
    two = reader(tensor("t", **BYTES), tensor("u", **BYTES), t={"kind": "text"}, u={"kind": "text"}).readers
    with pytest.raises(UnsupportedMediaType):
        read_body("s", b"text/plain", b"x", two)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"items":[%b{}]}' % (b"{}," * MOST_KEYS), "objects"),
        (b'{%b"a":1}' % (b'"a":1,' * MOST_KEYS), "keys"),
    ],
)
def test_json_of_more_objects_or_keys_than_can_be_read_at_once_is_refused_unread(content, said):
    with pytest.raises(InvalidRequest, match=f"more than {MOST_KEYS} {said}"):
        read_body("s", b"", content, {})


def test_a_form_is_read_up_to_its_first_mistake():
    part = b'--X\r\nContent-Disposition: form-data; name="%b"\r\n\r\na\r\n'
    no_form = b"--X\r\n: \r\n"
    for parts, said in (
        ([b"a", b"a"], "the form has 'a' twice"),
        ([b""], "has no name"),
        ([b"%d" % at for at in range(MOST_PARTS + 1)], f"more than {MOST_PARTS} parts"),
    ):
        content = b"".join(part % name for name in parts) + no_form
        with pytest.raises(InvalidRequest, match=said):
            read_body("s", b"multipart/form-data; boundary=X", content, {})


def test_an_input_called_items_is_an_input():
    skill = reader(tensor("items"))
    assert not read_body("s", b"", b'{"items": [1, 2]}', skill.readers).is_many


def part(spec: ModelSpec, *arrays: np.ndarray) -> Part:
    return Part(BatchOutputs(spec.outputs, dict(enumerate(arrays))), 0, 1, is_whole=False, lengths=None)


def objects(*rows: list[bytes]) -> np.ndarray:
    return np.array(rows, object)


def labels(top: int, **step: object) -> tuple[ModelSpec, AnswerWriter]:
    outputs = (tensor("l", Datatype.BYTES, (-1, top)), tensor("l_scores", shape=(-1, top)))
    spec = model(outputs=outputs)
    return spec, AnswerWriter(spec, {"outputs": {"l": {"kind": "labels", **step}}})


def test_one_label_has_its_score():
    spec, writer = labels(1)
    content = writer.write(part(spec, objects([b"good"], [b"bad"]), np.array([[0.5], [0.25]], "f4")))
    assert msgspec.json.decode(content) == {"l": {"label": "good", "score": 0.5}}


def test_labels_below_the_threshold_are_not_told():
    spec, writer = labels(2, otherwise="other")
    content = writer.write(part(spec, objects([b"other", b""]), np.array([[0, 0]], "f4")))
    assert msgspec.json.decode(content) == {"l": {"label": "other", "score": None, "top": []}}


def test_numbers_json_does_not_have_are_null():
    spec = model(outputs=(tensor("y"), tensor("h", Datatype.BF16)))
    content = AnswerWriter(spec, {}).write(
        part(spec, np.array([[np.nan, -np.inf]], "f4"), np.array([[0x3F80, 0x7F80]], "<u2"))
    )
    assert content == b'{"y":[null,null],"h":[1.0,null]}'


def test_strings_that_are_no_text_are_base64():
    spec = model(outputs=(tensor("s", Datatype.BYTES, (-1,)),))
    assert AnswerWriter(spec, {}).write(part(spec, objects(b"\xff"))) == b'{"s":{"b64":"/w=="}}'
    assert AnswerWriter(spec, {}).write(part(spec, objects(b"ok"))) == b'{"s":"ok"}'


def test_answers_too_large_for_json_are_refused():
    spec = model(outputs=(tensor("y", shape=(-1, -1)),))
    with pytest.raises(InferenceFailed, match="binary tensors"):
        AnswerWriter(spec, {}).write(part(spec, np.zeros((1, MOST_ELEMENTS + 1), "f4")))
