"""However an infer request reaches the server, the same bytes come back.

There are four ways in: parsed and lean, lean with a head that was parsed before, lean in pieces, and as an ordinary
ASGI route (where URLs in absolute form go, as they are sent to proxies). The last is the reference.
"""

import gzip
import struct
import zlib

import pytest

from headrace.testing import RunningServer
from tests.integration.wire import Answer, Wire, binary, chunked, dumps, message, tensor

pytestmark = pytest.mark.integration

PATH = "/v2/models/{}/infer"
ROW = [0.5, -1.25, 3.0, 1e-7]
ROW_BYTES = struct.pack("<4f", *ROW)
FLAT = {"inputs": [tensor("x", "FP32", [1, 4], ROW)]}
NOT_A_NUMBER = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[NaN,Infinity,-Infinity,0]}]}'
PAIR = [tensor("a", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6]]), tensor("b", "FP32", [2, 3], [0, 0, 0, 1, 1, 1])]

Request = tuple[str, bytes, dict[str, str]]


def json_request(path: str, content: object, **headers: str) -> Request:
    return path, content if isinstance(content, bytes) else dumps(content), headers


def binary_request(path: str, inputs: list[tuple[str, str, list[int], bytes]], **others: object) -> Request:
    return path, *binary(inputs, **others)


FP32, NO_SUCH, STRINGS = PATH.format("same_FP32"), PATH.format("nobody"), PATH.format("same_BYTES")
GOOD: dict[str, Request] = {
    "flat JSON": json_request(FP32, FLAT),
    "nested JSON with an id": json_request(
        FP32, {"id": "é/1", "inputs": [tensor("x", "FP32", [1, 4], [ROW])]}
    ),
    "keys nobody knows": json_request(FP32, {**FLAT, "model_name": "m", "more": [1]}),
    "no rows": json_request(FP32, {"inputs": [tensor("x", "FP32", [0, 4], [])]}),
    "NaN and infinities": json_request(FP32, NOT_A_NUMBER),
    "two inputs": json_request(PATH.format("pair"), {"inputs": PAIR}),
    "outputs chosen": json_request(PATH.format("pair"), {"inputs": PAIR, "outputs": [{"name": "gap"}]}),
    "one output binary": json_request(
        PATH.format("pair"),
        {
            "inputs": PAIR,
            "outputs": [{"name": "gap", "parameters": {"binary_data": True}}, {"name": "total"}],
        },
    ),
    "binary in, JSON out": binary_request(FP32, [("x", "FP32", [1, 4], ROW_BYTES)]),
    "binary in and out": binary_request(
        FP32, [("x", "FP32", [1, 4], ROW_BYTES)], parameters={"binary_data_output": True}
    ),
    "raw": (FP32, ROW_BYTES, {"Inference-Header-Content-Length": "0"}),
    "strings": json_request(STRINGS, {"inputs": [tensor("x", "BYTES", [1, 4], ["a", "", "é", "\0"])]}),
    "a version": json_request(
        "/v2/models/times/versions/2/infer", {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}
    ),
    "a name with a space": json_request(
        "/v2/models/white%20space/infer", {"inputs": [tensor("x", "FP32", [1, 64], [0.25] * 64)]}
    ),
    "a query": json_request(FP32 + "?x=1", FLAT),
    "large JSON": json_request(
        PATH.format("ragged"), {"inputs": [tensor("x", "FP32", [1, 20000], [0.125] * 20000)]}
    ),
    "large binary": binary_request(
        PATH.format("ragged"),
        [("x", "FP32", [1, 50000], bytes(200000))],
        parameters={"binary_data_output": True},
    ),
}
BAD: dict[str, Request] = {
    "no such model": json_request(NO_SUCH, FLAT),
    "no such version": json_request("/v2/models/times/versions/3/infer", FLAT),
    "an empty body": json_request(FP32, b""),
    "no JSON": json_request(FP32, b"{"),
    "wrong type": json_request(FP32, {"inputs": [tensor("x", "INT32", [1, 4], [1, 2, 3, 4])]}),
    "wrong shape": json_request(FP32, {"inputs": [tensor("x", "FP32", [1, 5], [1, 2, 3, 4, 5])]}),
    "wrong count": json_request(FP32, {"inputs": [tensor("x", "FP32", [1, 4], [1])]}),
    "wrong name": json_request(FP32, {"inputs": [tensor("é", "FP32", [1, 4], ROW)]}),
    "missing input": json_request(PATH.format("pair"), {"inputs": PAIR[:1]}),
    "unknown output": json_request(FP32, {**FLAT, "outputs": [{"name": "z"}]}),
    "binary that is short": binary_request(FP32, [("x", "FP32", [1, 4], ROW_BYTES[:-1])]),
    "an unreadable header length": json_request(FP32, FLAT, **{"Inference-Header-Content-Length": "x"}),
    "a header length out of range": json_request(FP32, FLAT, **{"Inference-Header-Content-Length": "99999"}),
    "a compression nobody speaks": json_request(FP32, FLAT, **{"Content-Encoding": "br"}),
    "a compression nobody speaks, with an id": json_request(
        FP32, FLAT, **{"Content-Encoding": "br", "X-Request-Id": "a-1"}
    ),
    "a body that is not gzip": json_request(FP32, FLAT, **{"Content-Encoding": "gzip"}),
    "an error with an id": json_request(NO_SUCH, FLAT, **{"X-Request-Id": "a-1"}),
    "classes of strings": json_request(
        STRINGS,
        {
            "inputs": [tensor("x", "BYTES", [1, 4], ["a", "b", "c", "d"])],
            "outputs": [{"name": "y", "parameters": {"classification": 1}}],
        },
    ),
    "a sequence": json_request(FP32, {**FLAT, "parameters": {"sequence_id": 1}}),
    "the backend raises": json_request(
        PATH.format("failing"), {"inputs": [tensor("x", "FP32", [1, 4], [13, 0, 0, 0])]}
    ),
    "an output without JSON form": binary_request(
        PATH.format("same_FP16"), [("x", "FP16", [1, 4], bytes(8))]
    ),
}
LARGE = dumps({"inputs": [tensor("x", "FP32", [1, 20000], [0.125] * 20000)]})
GOOD |= {
    "classes": json_request(FP32, {**FLAT, "outputs": [{"name": "y", "parameters": {"classification": 2}}]}),
    "classes of a large output": json_request(
        PATH.format("ragged"),
        LARGE[:-1] + b',"outputs":[{"name":"y","parameters":{"classification":3}}]}',
    ),
    "an id": json_request(FP32, FLAT, **{"X-Request-Id": "a-1"}),
    "an id nobody can echo": json_request(FP32, FLAT, **{"X-Request-Id": "a b"}),
    "a small body in gzip": (FP32, gzip.compress(dumps(FLAT)), {"Content-Encoding": "gzip"}),
    "a large body in deflate": (PATH.format("ragged"), zlib.compress(LARGE), {"Content-Encoding": "deflate"}),
    "a large answer in gzip": (PATH.format("ragged"), LARGE, {"Accept-Encoding": "gzip"}),
    "a small answer asked for in gzip": json_request(FP32, FLAT, **{"Accept-Encoding": "gzip"}),
    "an answer of some kilobytes in deflate, with an id": json_request(
        PATH.format("ragged"),
        {"inputs": [tensor("x", "FP32", [1, 800], [0.125] * 800)]},
        **{"Accept-Encoding": "deflate", "X-Request-Id": "b", "X-Request-Timeout-Seconds": "4"},
    ),
}
OFFER = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAEAAEAAAAIAAAAA"}


def plainly(server: RunningServer, request: Request) -> Answer:
    with Wire(server.host, server.port) as wire:
        return wire.request("POST", *request)


def by_asgi(server: RunningServer, request: Request) -> Answer:
    path, body, headers = request
    return plainly(server, (f"http://{server.address}{path}", body, headers))


@pytest.mark.parametrize("request_", GOOD.values(), ids=GOOD)
def test_a_good_request_gets_the_same_bytes_by_every_way(server: RunningServer, request_: Request) -> None:
    reference = by_asgi(server, request_)
    assert reference.status == 200, reference.raw[:500]
    assert plainly(server, request_).raw == reference.raw
    with Wire(server.host, server.port) as wire:
        assert [wire.request("POST", *request_).raw for _ in range(3)] == [reference.raw] * 3, "a known head"


@pytest.mark.parametrize("request_", BAD.values(), ids=BAD)
def test_a_bad_request_gets_the_same_status_and_body_by_every_way(
    server: RunningServer, request_: Request
) -> None:
    reference, lean = by_asgi(server, request_), plainly(server, request_)
    assert reference.status >= 400
    assert lean.status == reference.status
    assert lean.body == reference.body
    # What is refused before its body has come ends the connection, and says so.
    assert {**lean.headers, "connection": ""} == {**reference.headers, "connection": ""}
    assert lean.error


@pytest.mark.parametrize("name", ["flat JSON", "binary in and out", "raw", "two inputs"])
def test_a_request_in_pieces_gets_the_same_bytes(server: RunningServer, name: str) -> None:
    path, body, headers = GOOD[name]
    expected = plainly(server, GOOD[name]).raw
    whole = message("POST", path, body, headers)
    for cut in (1, 7, 20, whole.index(b"\r\n\r\n") + 2, len(whole) - len(body), len(whole) - 1):
        with Wire(server.host, server.port) as wire:
            wire.send(whole[:cut])
            # An answer to something else in between: the first piece has surely arrived alone.
            with Wire(server.host, server.port) as other:
                assert other.get("/v2/health/live").status == 200
            wire.send(whole[cut:])
            assert wire.receive().raw == expected


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_a_chunked_body_gets_the_same_bytes(server: RunningServer, size: int) -> None:
    path, body, headers = GOOD["flat JSON"]
    with Wire(server.host, server.port) as wire:
        for _ in range(2):
            answer = wire.request(
                "POST", path, chunked(body, size), {**headers, "Transfer-Encoding": "chunked"}
            )
            assert answer.raw == plainly(server, GOOD["flat JSON"]).raw


def test_requests_of_both_ways_follow_each_other_on_one_connection(server: RunningServer, wire: Wire) -> None:
    expected = plainly(server, GOOD["flat JSON"]).raw
    for _ in range(3):
        assert wire.request("POST", *GOOD["flat JSON"]).raw == expected
        assert wire.get("/v2/health/live").json() == {"live": True}
        assert wire.get("/nowhere").status == 404


def test_pipelined_requests_are_answered_in_their_order(server: RunningServer, wire: Wire) -> None:
    def row(value: int) -> bytes:
        return dumps({"id": str(value), "inputs": [tensor("x", "FP32", [1, 4], [value] * 4)]})

    slow, swift = PATH.format("doubler"), PATH.format("swift")
    wire.send(
        message("POST", slow, row(0))
        + message("POST", swift, row(1))
        + message("GET", "/v2/health/live")
        + message("POST", swift, row(2))
        + message("GET", "/nowhere")
    )
    answers = [wire.receive() for _ in range(5)]
    assert [answers[at].json()["id"] for at in (0, 1, 3)] == ["0", "1", "2"]
    assert answers[2].json() == {"live": True}
    assert answers[4].status == 404


def test_expect_100_continue_is_answered_before_the_body_comes(server: RunningServer, wire: Wire) -> None:
    path, body, headers = GOOD["flat JSON"]
    whole = message("POST", path, body, {**headers, "Expect": "100-continue"})
    wire.send(whole[: -len(body)])
    assert wire.receive().raw == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(body)
    assert wire.receive().raw == plainly(server, GOOD["flat JSON"]).raw


@pytest.mark.parametrize("name", ["flat JSON", "raw", "large JSON"])
def test_an_offer_to_speak_http_2_is_ignored(server: RunningServer, name: str) -> None:
    path, body, headers = GOOD[name]
    assert plainly(server, (path, body, {**headers, **OFFER})).raw == plainly(server, GOOD[name]).raw


def test_connection_close_is_honoured(server: RunningServer, wire: Wire) -> None:
    path, body, headers = GOOD["flat JSON"]
    lean = wire.request("POST", path, body, {**headers, "Connection": "close"})
    assert lean.status == 200
    assert lean.headers["connection"] == "close"
    assert wire.is_ended()
    assert lean.body == plainly(server, GOOD["flat JSON"]).body


def test_http_1_0_is_answered_and_closed(server: RunningServer, wire: Wire) -> None:
    path, body, headers = GOOD["flat JSON"]
    wire.send(message("POST", path, body, headers).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert wire.receive().body == plainly(server, GOOD["flat JSON"]).body
    assert wire.is_ended()
