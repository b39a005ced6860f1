"""Large JSON takes another way, through a worker that transcodes it; nobody can tell from the answer."""

import json
import struct

import numpy as np
import pytest

from headrace.testing import RunningServer
from tests.integration.wire import Wire, binary, dumps, message, split_binary, tensor

pytestmark = pytest.mark.integration

RNG = np.random.default_rng(3)
SMALL, LARGE = 40, 30_000


def floats(count: int) -> list[float]:
    return [float(value) for value in RNG.standard_normal(count).astype(np.float32)]


def padded(content: object) -> bytes:
    """The same request made large by blanks, which mean nothing in JSON."""
    return dumps(content) + b" " * 100_000


@pytest.mark.parametrize(
    ("model", "content"),
    [
        ("same_FP32", {"id": "7", "inputs": [tensor("x", "FP32", [2, 4], floats(8))]}),
        ("same_BYTES", {"inputs": [tensor("x", "BYTES", [1, 4], ["a", "é", "", "\0"])]}),
        ("same_BOOL", {"inputs": [tensor("x", "BOOL", [1, 4], [[True, 0, 1, False]])]}),
        ("same_UINT64", {"inputs": [tensor("x", "UINT64", [1, 4], [0, 1, 2, (1 << 64) - 1])]}),
        (
            "pair",
            {
                "inputs": [tensor("b", "FP32", [1, 3], [1, 2, 3]), tensor("a", "FP32", [1, 3], [[4, 5, 6]])],
                "outputs": [{"name": "gap", "parameters": {"binary_data": True}}, {"name": "total"}],
            },
        ),
        ("swift", {"inputs": [tensor("x", "FP32", [0, 4], [])]}),
        # And what is refused is refused in the same words.
        ("swift", {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3])]}),
        ("swift", {"inputs": [tensor("x", "FP32", [-1, 4], [1, 2, 3, 4])]}),
        ("swift", {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, "3", 4])]}),
        ("swift", {"inputs": [tensor("z", "FP32", [1, 4], [1, 2, 3, 4])]}),
        ("swift", {"inputs": [tensor("x", "INT8", [1, 4], [1, 2, 3, 4])]}),
        ("swift", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4]}]}),
        ("swift", {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])], "parameters": {"triton_x": 1}}),
        ("swift", {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])], "outputs": [{"name": "z"}]}),
        ("swift", {"inputs": "x"}),
        ("nobody", {"inputs": []}),
    ],
)
def test_a_large_request_gets_the_answer_of_a_small_one(wire: Wire, model: str, content: object) -> None:
    assert wire.infer(model, padded(content)).raw == wire.infer(model, content).raw


def test_large_floats_come_back_to_the_last_bit(wire: Wire) -> None:
    values = floats(LARGE)
    answer = wire.infer("ragged", {"inputs": [tensor("x", "FP32", [1, LARGE], values)]})
    output = answer.json()["outputs"][0]
    assert answer.headers["content-type"] == "application/json"
    assert output["shape"] == [1, LARGE]
    assert np.array_equal(np.float32(output["data"]), np.float32(values))


def test_a_large_answer_is_rendered_as_a_small_one_is(wire: Wire) -> None:
    """The elements of a large answer are the text that the same elements are in a small one."""
    values = [*floats(SMALL), 0.0, -0.0, 1e-7, 1e30, 16777216.0, 0.1]
    small = wire.infer("ragged", {"inputs": [tensor("x", "FP32", [1, len(values)], values)]})
    repeats = LARGE // len(values)
    large = wire.infer(
        "ragged", {"inputs": [tensor("x", "FP32", [1, len(values) * repeats], values * repeats)]}
    )
    rendered = small.body.split(b'"data":[')[1].split(b"]")[0]
    assert large.body.split(b'"data":[')[1].split(b"]")[0] == b",".join([rendered] * repeats)
    head = small.body.split(b'"data":[')[0].replace(
        b"[1,%d]" % len(values), b"[1,%d]" % (len(values) * repeats)
    )
    assert large.body.split(b'"data":[')[0] == head


def test_large_nan_and_infinity(wire: Wire) -> None:
    values = b",".join([b"NaN", b"Infinity", b"-Infinity", b"1.5"] * (LARGE // 4))
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,%d],"data":[%s]}]}' % (LARGE, values)
    answer = wire.infer("ragged", body)
    assert answer.status == 200
    assert answer.body.count(b"-Infinity") == LARGE // 4
    assert answer.body.count(b"NaN") == LARGE // 4


def test_binary_in_and_large_json_out(wire: Wire) -> None:
    values = RNG.standard_normal(LARGE).astype("<f4")
    body, headers = binary([("x", "FP32", [1, LARGE], values.tobytes())])
    answer = wire.infer("ragged", body, headers)
    assert np.array_equal(np.float32(answer.json()["outputs"][0]["data"]), values)


def test_large_json_in_and_binary_out(wire: Wire) -> None:
    values = floats(LARGE)
    answer = wire.infer(
        "ragged",
        {
            "inputs": [tensor("x", "FP32", [1, LARGE], values)],
            "parameters": {"binary_data_output": True},
        },
    )
    head, tensors = split_binary(answer)
    assert head["outputs"][0]["shape"] == [1, LARGE]
    assert tensors["y"] == struct.pack(f"<{LARGE}f", *values)


def test_large_json_beside_binary(wire: Wire) -> None:
    """A binary tensor behind a large JSON header stays what it is."""
    a, b = floats(3 * 8000), RNG.standard_normal(3 * 8000).astype("<f4")
    head = dumps(
        {
            "inputs": [
                {
                    "name": "b",
                    "datatype": "FP32",
                    "shape": [1000, 3],
                    "parameters": {"binary_data_size": 12000},
                },
                tensor("a", "FP32", [1000, 3], a[:3000]),
            ]
        }
    )
    head += b" " * 100_000
    answer = wire.infer(
        "pair", head + b[:3000].tobytes(), {"Inference-Header-Content-Length": str(len(head))}
    )
    assert answer.status == 200, answer.body
    total = np.float32(answer.json()["outputs"][0]["data"])
    assert np.array_equal(total, np.float32(a[:3000]) + b[:3000])


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":'
        + b"[" * 250_000
        + b"]" * 250_000
        + b"}]}",
        b'{"inputs":' + b"[" * 250_000 + b"]" * 250_000 + b"}",
        b'{"z":' + b'{"z":' * 250_000 + b"1" + b"}" * 250_000 + b',"inputs":[]}',
        b"[" * 250_000,
        b"x" * 100_000,
        b'{"inputs":[' + b"1," * 100_000 + b"1]}",
        b"\xff" * 100_000,
        b"\0" * 100_000,
    ],
)
def test_large_nonsense_is_refused(server: RunningServer, body: bytes) -> None:
    with Wire(server.host, server.port) as wire:
        answer = wire.infer("swift", body)
        assert answer.status == 400, answer.body[:300]
        assert answer.error
        good = wire.infer("swift", {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]})
        assert good.json()["outputs"][0]["data"] == [2, 4, 6, 8]


def test_small_requests_are_answered_while_a_large_one_is_read(server: RunningServer) -> None:
    """The large one is sent first on one connection; the small ones do not wait for its answer on others."""
    count = 200_000
    large = dumps({"inputs": [tensor("x", "FP32", [1, count], [1.5] * count)]})
    with Wire(server.host, server.port) as slow, Wire(server.host, server.port) as wire:
        slow.send(message("POST", "/v2/models/ragged/infer", large))
        for at in range(20):
            answer = wire.infer("swift", {"inputs": [tensor("x", "FP32", [1, 4], [at] * 4)]})
            assert answer.json()["outputs"][0]["data"] == [2 * at] * 4
        assert json.loads(slow.receive().body)["outputs"][0]["shape"] == [1, count]
