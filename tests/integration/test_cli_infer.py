import json
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.cli.values import Tensor, read_value
from headrace.messages import Datatype
from headrace.protocol.arrays import bfloat16
from headrace.testing import RunningServer

pytestmark = pytest.mark.integration

VALUES = {
    "BOOL": ("[true,false,1,0]", [True, False, True, False]),
    "UINT64": (f"[0,1,2,{2**64 - 1}]", [0, 1, 2, 2**64 - 1]),
    "INT8": ("[-128,0,1,127]", [-128, 0, 1, 127]),
    "FP16": ("[0.5,1,2,3]", [0.5, 1, 2, 3]),
    "FP64": ("[0.1,1e300,2,3]", [0.1, 1e300, 2, 3]),
    "BF16": ("[0.5,-1,2,3]", [0.5, -1, 2, 3]),
    "BYTES": ('["a","","ü","long"]', ["a", "", "ü", "long"]),
}
MISTAKES = {
    "model": (["nobody", "--input", "x=1"], "has no model 'nobody'; it has: "),
    "version": (
        ["times", "--version", "7", "--input", "x=1"],
        "model 'times' has no version 7; it has: 1, 2, 10",
    ),
    "input": (["swift", "--input", "z=1"], "model 'swift' has no input 'z'; it has: x FP32 [?, 4]"),
    "output": (
        ["swift", "--input", "x=[1,2,3,4]", "--output", "z"],
        "model 'swift' has no output 'z'; it has: y FP32 [?, 4]",
    ),
    "missing": (["pair", "--input", "a=[1,2,3]"], "model 'pair' also takes: b FP32 [?, 3]"),
    "no value": (["swift", "--input", "nonsense"], "'nonsense' is not NAME=VALUE"),
    "no JSON": (["swift", "--input", "x=nonsense"], "x: it is neither JSON, as in [[1, 2]], nor @FILE"),
    "ragged": (["swift", "--input", "x=[[1,2],[3]]"], "x: its lists are not all of one length"),
    "shape": (["swift", "--input", "x=[[1,2]]"], "x: its shape is [1, 2], and the model takes [?, 4]"),
    "no file": (["swift", "--input", "x=@/nowhere.npy"], "x: /nowhere.npy cannot be read: No such file"),
    "range": (["same_INT8", "--input", "x=[1,2,3,400]"], "x: it has elements that do not fit INT8"),
    "huge": (["same_INT64", "--input", f"x=[1,2,3,{2**64}]"], "x: it has integers that fit no datatype"),
    "text": (["swift", "--input", 'x=[1,2,3,"4"]'], "x: it has something other than numbers"),
    "kind": (["same_INT8", "--input", "x=[1,2,3,4.5]"], "x: it has floats, and is to be INT8"),
    "run": (["failing", "--input", "x=[13,0,0,0]"], "told to fail"),
    "nothing": (["swift"], "give either --input NAME=VALUE for each input or --request FILE"),
    "request": (["swift", "--request", "-"], "failed to parse the request JSON buffer"),
}


def infer(server: RunningServer, *arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["infer", "--url", server.url, *arguments], input=stdin)


def outputs(server: RunningServer, *arguments: str, stdin: bytes | None = None) -> dict[str, list]:
    """Each output's data by its name."""
    result = infer(server, *arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return {each["name"]: each["data"] for each in json.loads(result.stdout)["outputs"]}


def test_answers_are_printed_readably(server):
    result = infer(server, "pair", "--input", "a=[[1,2,3]]", "--input", "b=[[1,1,1]]")
    assert result.exit_code == 0, result.output
    first, *rest = result.stdout.splitlines()
    assert first.startswith("pair version 1 answered in ")
    assert rest == ["total  FP32  [1, 3]", "[[2. 3. 4.]]", "gap  FP32  [1, 3]", "[[0. 1. 2.]]"]


def test_json_is_the_servers_own_answer(server):
    result = infer(server, "swift", "--input", "x=[[1,2,3,4]]", "--json")
    assert json.loads(result.stdout) == {
        "model_name": "swift",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [2, 4, 6, 8]}],
    }


def test_a_single_row_may_come_without_its_batch_axis(server):
    assert outputs(server, "swift", "--input", "x=[1,2,3,4]") == {"y": [2, 4, 6, 8]}


def test_only_the_outputs_asked_for_are_sent(server):
    asked = ["pair", "--input", "a=[1,2,3]", "--input", "b=[1,1,1]", "--output", "gap"]
    assert outputs(server, *asked) == {"gap": [0, 1, 2]}


@pytest.mark.parametrize("flags", [[], ["--binary"]], ids=["json", "binary"])
def test_files_of_each_kind_give_the_same_answer(server, tmp_path, flags):
    array = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], "f4")
    np.save(tmp_path / "x.npy", array.astype("f8"))
    (tmp_path / "x.json").write_text(json.dumps(array.tolist()))
    (tmp_path / "x.bin").write_bytes(array.tobytes())
    for file in ("x.npy", "x.json", "x.bin"):
        answer = outputs(server, "swift", "--input", f"x=@{tmp_path / file}", *flags)
        assert answer == {"y": [2, 4, 6, 8, 10, 12, 14, 16]}


@pytest.mark.parametrize("flags", [[], ["--binary"]], ids=["json", "binary"])
@pytest.mark.parametrize("datatype", list(VALUES))
def test_every_datatype_comes_back_as_it_went(server, datatype, flags):
    value, expected = VALUES[datatype]
    assert outputs(server, f"same_{datatype}", "--input", f"x={value}", *flags) == {"y": expected}


def test_a_named_version_answers(server):
    assert outputs(server, "times", "--version", "2", "--input", "x=[1,2]") == {"y": [20, 40]}
    assert outputs(server, "times", "--input", "x=[1,2]") == {"y": [100, 200]}


def test_names_may_have_spaces(server):
    zeros = json.dumps([0] * 64)
    assert outputs(server, "white space", "--input", f"x={zeros}") == {"y": [0] * 10}


def test_a_whole_request_is_sent_as_it_is(server, tmp_path):
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
    body = json.dumps({"inputs": [{**tensor, "data": [1, 2, 3, 4]}]}).encode()
    (tmp_path / "body.json").write_bytes(body)
    assert outputs(server, "swift", "--request", str(tmp_path / "body.json")) == {"y": [2, 4, 6, 8]}
    assert outputs(server, "swift", "--request", "-", stdin=body) == {"y": [2, 4, 6, 8]}


def test_a_whole_request_may_have_binary_tensors_behind_its_json(server):
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    body = json.dumps({"inputs": [tensor]}).encode() + struct.pack("<4f", 1, 2, 3, 4)
    assert outputs(server, "swift", "--request", "-", stdin=body) == {"y": [2, 4, 6, 8]}


@pytest.mark.parametrize(("arguments", "message"), list(MISTAKES.values()), ids=list(MISTAKES))
def test_mistakes_are_explained(server, arguments, message):
    result = infer(server, *arguments, stdin=b"no JSON")
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    assert message in result.stderr


def test_a_server_that_is_not_there_is_said_to_be_so():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: nobody else takes it
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        result = CliRunner().invoke(main, ["infer", "mlp", "--url", address, "--input", "x=1"])
    assert result.exit_code == 1
    assert (
        result.stderr == f"Error: nothing listens on http://{address}: start it with: headrace serve PATH…\n"
    )


@pytest.mark.parametrize(
    ("value", "shape", "is_batched", "expected"),
    [
        ("[1,2]", (-1, 2), False, (1, 2)),
        ("[1,2]", (2, -1), False, (2, 1)),
        ("[1,2]", (-1, -1), True, (1, 2)),
        ("[1,2]", (-1, -1), False, None),
        ("[1,2]", (1, 2), False, None),
        ("3", (), False, ()),
        ("[]", (-1,), False, (0,)),
    ],
    ids=["first", "last", "batched", "ambiguous", "fixed", "scalar", "empty"],
)
def test_an_axis_is_added_only_where_one_place_is_possible(value, shape, is_batched, expected):
    tensor = Tensor("x", Datatype.FP32, shape)
    if expected is None:
        with pytest.raises(ValueError, match="its shape is"):
            read_value(value, tensor, is_batched=is_batched)
    else:
        assert read_value(value, tensor, is_batched=is_batched).shape == expected


def test_bytes_of_a_tensor_whose_shape_they_do_not_say_are_refused(tmp_path: Path):
    (tmp_path / "x.bin").write_bytes(bytes(24))
    value = f"@{tmp_path / 'x.bin'}"
    assert read_value(value, Tensor("x", Datatype.FP32, (-1, 2)), is_batched=True).shape == (3, 2)
    with pytest.raises(ValueError, match=r"give a \.npy file"):
        read_value(value, Tensor("x", Datatype.FP32, (-1, -1)), is_batched=True)
    with pytest.raises(ValueError, match="takes a multiple of 20 bytes, and the file has 24"):
        read_value(value, Tensor("x", Datatype.FP32, (-1, 5)), is_batched=True)


def test_bfloat16_is_rounded_to_even():
    floats = np.array([1.0, 1.00390625, 1.01171875, np.inf, -np.inf, np.nan], "f4")
    assert bfloat16(floats).tolist() == [0x3F80, 0x3F80, 0x3F82, 0x7F80, 0xFF80, 0x7FC0]
