import json
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import ConfigurationError
from headrace.loadtest.plan import Caller
from headrace.loadtest.wire import Body, Metadata, Tensor, build, parse_metadata, random_inputs, read_inputs
from headrace.messages import NUMPY_TYPES, Datatype

TEXT = Metadata(
    "minilm",
    (
        Tensor("input_ids", Datatype.INT64, (-1, -1)),
        Tensor("attention_mask", Datatype.INT64, (-1, -1)),
        Tensor("token_type_ids", Datatype.INT64, (-1, -1)),
    ),
)


def tensors_of(body: Body) -> dict[str, np.ndarray]:
    document = json.loads(body.content[: body.header_length])
    found, at = {}, body.header_length or 0
    for each in document["inputs"]:
        kind = NUMPY_TYPES[Datatype(each["datatype"])]
        if "data" in each:
            found[each["name"]] = np.array(each["data"], kind).reshape(each["shape"])
            continue
        size = each["parameters"]["binary_data_size"]
        found[each["name"]] = np.frombuffer(body.content, kind, size // kind.itemsize, at).reshape(
            each["shape"]
        )
        at += size
    assert at == (len(body.content) if body.header_length else 0)
    return found


def test_metadata_is_what_every_server_of_the_protocol_says() -> None:
    said = {
        "name": "m",
        "versions": ["1"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [],
    }
    assert parse_metadata(said, "3") == Metadata("m", (Tensor("x", Datatype.FP32, (-1, 64)),), "3")


@pytest.mark.parametrize(
    "said", [{}, [], {"name": "m", "inputs": [{"name": "x", "datatype": "FP12", "shape": [1]}]}]
)
def test_what_is_no_metadata_is_said(said) -> None:
    with pytest.raises(ConfigurationError, match="no model's metadata"):
        parse_metadata(said)


@pytest.mark.parametrize("binary", [False, True])
def test_random_bodies_are_one_row_of_a_drawn_length(binary: bool) -> None:
    bodies = random_inputs(TEXT, 20, 1, lengths=(16, 512), binary=binary)
    found = [tensors_of(each) for each in bodies]
    assert {each["input_ids"].shape for each in found} == {(1, 16), (1, 512)}
    assert all(len({array.shape for array in each.values()}) == 1 for each in found)
    assert all((each["attention_mask"] == 1).all() and (each["token_type_ids"] == 0).all() for each in found)
    assert len({each.content for each in bodies}) == 20
    assert bodies == random_inputs(TEXT, 20, 1, lengths=(16, 512), binary=binary)


@pytest.mark.parametrize("datatype", list(NUMPY_TYPES))
def test_every_datatype_can_be_sent(datatype: Datatype) -> None:
    metadata = Metadata("m", (Tensor("x", datatype, (-1, 3)),))
    for binary in (False, True):
        (body,) = random_inputs(metadata, 1, 1, binary=binary)
        assert tensors_of(body)["x"].shape == (1, 3)


def test_text_is_sent_as_text_and_as_bytes() -> None:
    metadata = Metadata("m", (Tensor("x", Datatype.BYTES, (1,)),))
    (body,) = random_inputs(metadata, 1, 1)
    (text,) = json.loads(body.content)["inputs"][0]["data"]
    (body,) = random_inputs(metadata, 1, 1, binary=True)
    assert body.content[body.header_length :] == len(text).to_bytes(4, "little") + text.encode()


def test_binary_requests_ask_for_binary_answers() -> None:
    (body,) = random_inputs(TEXT, 1, 1, binary=True)
    assert json.loads(body.content[: body.header_length])["parameters"] == {"binary_data_output": True}


def test_a_request_says_what_its_caller_says() -> None:
    callers = [
        Caller(),
        Caller(deadline_s=0.15, priority=2, tenant="acme"),
        Caller(deadline_s=0.15, sends_deadline=False),
    ]
    plain, urgent, silent = (
        each[0] for each in build(TEXT, "host:8000", callers, [Body(b'{"inputs":[{}]}')])
    )
    assert plain.startswith(b"POST /v2/models/minilm/infer HTTP/1.1\r\nHost: host:8000\r\n")
    assert plain.endswith(b'Content-Length: 15\r\n\r\n{"inputs":[{}]}')
    assert b"\r\nX-Request-Timeout-Seconds: 0.15\r\nX-Tenant: acme\r\n\r\n" in urgent
    assert urgent.endswith(b'{"inputs":[{}],"parameters":{"priority":2}}')
    assert b"Timeout" not in silent


def test_a_priority_leaves_binary_tensors_as_they_are() -> None:
    body = Body(b'{"inputs":[{}],"parameters":{"a":1}}\x00{"', 36)
    ((request,),) = build(TEXT, "h", [Caller(priority=1)], [body])
    head, _, content = request.partition(b"\r\n\r\n")
    header = b'{"inputs":[{}],"parameters":{"a":1,"priority":1}}'
    assert content == header + b'\x00{"'
    assert f"Inference-Header-Content-Length: {len(header)}".encode() in head
    assert f"Content-Length: {len(content)}".encode() in head


def test_a_version_is_part_of_the_path() -> None:
    ((request,),) = build(Metadata("a b", (), "2"), "h", [Caller()], [Body(b"")])
    assert request.startswith(b"POST /v2/models/a%20b/versions/2/infer ")


def test_bodies_come_from_a_file_a_line_or_a_whole_one(tmp_path: Path) -> None:
    lines, whole = tmp_path / "bodies.jsonl", tmp_path / "body.bin"
    lines.write_text('{"inputs": [1]}\n\n{"inputs": [2]}\n')
    whole.write_bytes(b'{"inputs": [1]}\x01\x02')
    assert [each.content for each in read_inputs(lines)] == [b'{"inputs": [1]}', b'{"inputs": [2]}']
    assert read_inputs(whole) == [Body(b'{"inputs": [1]}\x01\x02', 15)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ('{"inputs": [1]}\n[]\n', "line 2 is no infer request"),
        ("x\n", "line 1 does not begin with JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bodies.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_inputs(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_inputs(tmp_path / "none.jsonl")


def test_random_texts_are_words():
    metadata = Metadata("m", (Tensor("text", Datatype.BYTES, (-1, 1)),))
    texts = [json.loads(each.content)["inputs"][0]["data"][0] for each in random_inputs(metadata, 500, 1)]
    assert all(each.isalpha() for each in texts)
    assert len(set(texts)) > 490
