"""Bad input over sockets: a clear error of the right code, and everybody else is served on."""

import contextlib
import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually, serving
from tests.integration.wire import Closed, Wire, binary, dumps, message, tensor

pytestmark = pytest.mark.integration

PATH = "/v2/models/swift/infer"
X = tensor("x", "FP32", [1, 4], [1, 2, 3, 4])
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _is_served_on(server: RunningServer) -> Iterator[None]:
    """Whatever a test does to the server, others are answered after it."""
    yield
    with Wire(server.host, server.port) as wire:
        assert wire.infer("swift", {"inputs": [X]}).json()["outputs"][0]["data"] == [2, 4, 6, 8]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"null", b"1", b'"x"', b"[]", b"{}", b"{", b"}", b'{"inputs"}', b"{'inputs':[]}"),
        *(b'{"inputs":null}', b'{"inputs":{}}', b'{"inputs":[null]}', b'{"inputs":[[]]}', b'{"inputs":[{}]}'),
        b'{"inputs":[{"name":1,"datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":null,"shape":[1,4],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP33","shape":[1,4],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":"1,4","data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4.5],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,"4"],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,null],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[[1,4]],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[],"data":[1]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[4],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4,1],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,-4],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1e400],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,99999999999999999999999],"data":[1]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[9223372036854775807,4],"data":[1]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[18446744073709551615,4],"data":[1]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":null}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":"1234"}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":{"0":1}}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4,5]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,"4"]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,null]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,true]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,[4]]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,1e39]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,NaN,]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,nan]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}],"outputs":{}}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}],"outputs":[{}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}],"parameters":[]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}],"id":1}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]} {}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}\0',
        b'{"inputs":[{"name":"\xff","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":'
        + b"[" * 30000
        + b"]" * 30000
        + b"}]}",
        b"[" * 60000,
        b'{"a":' * 10000 + b"1" + b"}" * 10000,
        bytes(range(256)),
    ],
)
def test_a_body_that_is_no_request_is_refused_and_the_connection_goes_on(wire: Wire, body: bytes) -> None:
    answer = wire.post(PATH, body)
    assert answer.status == 400, answer.body[:300]
    assert answer.error
    assert answer.json()["code"] == "invalid_request"
    assert wire.infer("swift", {"inputs": [X]}).status == 200


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT8", [128]),
        ("INT8", [-129]),
        ("UINT8", [256]),
        ("UINT8", [-1]),
        ("INT16", [1 << 15]),
        ("UINT32", [1 << 32]),
        ("INT64", [1 << 63]),
        ("UINT64", [1 << 64]),
        ("UINT64", [-1]),
        ("INT64", [10**4000]),
        ("INT32", [1.5]),
        ("INT32", [1e3]),
        ("INT32", [True]),
        ("INT32", ["1"]),
        ("BOOL", [2]),
        ("BOOL", [1.0]),
        ("BOOL", ["true"]),
        ("BYTES", [1]),
        ("BYTES", [None]),
        ("FP64", [10**400]),
    ],
)
def test_a_value_that_does_not_fit_its_datatype_is_refused(
    wire: Wire, datatype: str, values: list[object]
) -> None:
    filler = ["a"] * 3 if datatype == "BYTES" else [1] * 3
    answer = wire.infer(f"same_{datatype}", {"inputs": [tensor("x", datatype, [1, 4], values + filler)]})
    assert answer.status == 400, answer.body
    assert "'x'" in answer.error
    assert datatype in answer.error


@pytest.mark.parametrize(
    "parameters",
    [
        {"binary_data_size": -1},
        {"binary_data_size": "16"},
        {"binary_data_size": 16.0},
        {"binary_data_size": True},
        {"binary_data_size": 1 << 70},
        {"binary_data_size": 12},
        {"binary_data_size": 17},
    ],
)
def test_a_wrong_binary_size_is_refused(wire: Wire, parameters: dict[str, object]) -> None:
    head = dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": parameters}]})
    answer = wire.infer("swift", head + bytes(16), {"Inference-Header-Content-Length": str(len(head))})
    assert answer.status == 400
    assert "'x'" in answer.error or "'swift'" in answer.error


def test_strings_that_are_no_utf_8_are_refused_by_a_model_that_needs_it(wire: Wire) -> None:
    data = b"".join(struct.pack("<I", 2) + b"\xff\xfe" for _ in range(4))
    body, headers = binary([("x", "BYTES", [1, 4], data)], parameters={"binary_data_output": True})
    answer = wire.infer("same_BYTES", body, headers)
    assert answer.status == 400
    assert "UTF-8" in answer.error


def test_rows_beside_a_row_that_is_no_utf_8_are_answered(server: RunningServer) -> None:
    bad = b"".join(struct.pack("<I", 2) + b"\xff\xfe" for _ in range(4))
    good = b"".join(struct.pack("<I", 2) + b"ok" for _ in range(4))
    wires = [Wire(server.host, server.port) for _ in range(16)]
    for at, wire in enumerate(wires):
        body, headers = binary([("x", "BYTES", [1, 4], bad if at % 4 == 0 else good)])
        wire.send(message("POST", "/v2/models/same_BYTES/infer", body, headers))
    for at, wire in enumerate(wires):
        answer = wire.receive()
        wire.close()
        assert answer.status == (400 if at % 4 == 0 else 200)


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    """A server with small limits."""
    folder = tmp_path_factory.mktemp("tight")
    graphs.ragged(folder / "ragged.onnx")
    (folder / "swift.fake").write_text("{}")
    limits = {
        "http_max_input_size": 200_000,
        "max_request_bytes": MIB,
        "max_received_bytes": 4 * MIB,
        "receive_timeout_s": 0.5,
    }
    with run_server([folder], profile_dir=profiles, **limits) as running:
        yield running


TOO_LARGE = (
    "request JSON size of {} bytes exceeds the maximum allowed input size of 200000 bytes. "
    "Use --http-max-input-size to increase the limit."
)


def test_json_that_is_too_large_is_refused_before_it_comes(tight: RunningServer) -> None:
    with Wire(tight.host, tight.port) as wire:
        whole = message("POST", PATH, b"")
        wire.send(whole.replace(b"Content-Length: 0", b"Content-Length: 200001"))
        answer = wire.receive()
        assert (answer.status, answer.error) == (400, TOO_LARGE.format(200001))
        assert wire.is_ended()


def test_json_that_grows_too_large_in_chunks_is_refused(tight: RunningServer) -> None:
    with Wire(tight.host, tight.port) as wire:
        wire.send(message("POST", PATH, b"", {"Transfer-Encoding": "chunked"}))
        for _ in range(21):
            wire.send(b"%x\r\n%s\r\n" % (10000, b" " * 10000))
        answer = wire.receive()
        assert answer.status == 400
        assert "exceeds the maximum allowed input size" in answer.error
        assert wire.is_ended()


@pytest.mark.parametrize(("path", "size"), [("/v2/repository/index", 3 * MIB), ("/nowhere", 3 * MIB)])
def test_other_endpoints_do_not_collect_large_bodies(tight: RunningServer, path: str, size: int) -> None:
    with Wire(tight.host, tight.port) as wire:
        wire.send(message("POST", path, b"").replace(b"Content-Length: 0", b"Content-Length: %d" % size))
        try:
            wire.send(bytes(size))
            status = wire.receive().status
        except (ConnectionError, Closed):
            return  # refused by closing
        assert status in {400, 404}


def test_binary_tensors_do_not_count_as_json_but_as_request(tight: RunningServer) -> None:
    for nbytes, status in ((800_000, 200), (2 * MIB, 400)):
        body, headers = binary(
            [("x", "FP32", [1, nbytes // 4], bytes(nbytes))], parameters={"binary_data_output": True}
        )
        with Wire(tight.host, tight.port) as wire:
            wire.send(message("POST", "/v2/models/ragged/infer", body[:1000], headers).replace(
                b"Content-Length: 1000", b"Content-Length: %d" % len(body)
            ))  # fmt: skip
            if status == 200:
                wire.send(body[1000:])
            answer = wire.receive()
            assert answer.status == status
            if status == 400:
                assert "--max-request-bytes" in answer.error


def test_all_that_is_being_received_is_bounded(tight: RunningServer) -> None:
    """Many senders that have sent most of a request hold memory; the one too many is refused."""
    nbytes = MIB - 10_000
    body, headers = binary([("x", "FP32", [1, nbytes // 4], bytes(nbytes))])
    whole = message("POST", "/v2/models/ragged/infer", body, headers)
    wires = [Wire(tight.host, tight.port) for _ in range(6)]
    try:
        for wire in wires[:4]:
            wire.send(whole[:-1000])
        for wire in wires[4:]:
            wire.send(whole[:-1000])
        refused = [wire.receive() for wire in wires]
        # Whoever was not refused for the bytes is refused for the time: nobody ever sends the rest.
        assert {answer.status for answer in refused} == {503, 408}
        assert "as many bytes of requests as it may" in next(a.error for a in refused if a.status == 503)
    finally:
        for wire in wires:
            wire.close()
    with Wire(tight.host, tight.port) as wire:
        assert wire.infer("swift", {"inputs": [X]}).status == 200


@pytest.mark.parametrize("path", [PATH, "/v2/repository/index", "/v2/health/live"])
@pytest.mark.parametrize("part", ["line", "headers", "body"])
def test_a_sender_that_stops_is_told_and_let_go(tight: RunningServer, path: str, part: str) -> None:
    whole = message("POST", path, dumps({"inputs": [X]}))
    cut = {"line": 10, "headers": whole.index(b"\r\n\r\n"), "body": len(whole) - 5}[part]
    with Wire(tight.host, tight.port) as wire:
        wire.send(whole[:cut])
        answers = wire.rest()
    # The path's own error may come first: a wrong verb or no such path is known before the body.
    assert b"HTTP/1.1 2" not in answers
    if path == PATH or part != "body":
        assert answers.startswith(b"HTTP/1.1 408 ")
        assert b"the request did not arrive completely within 0.5 s" in answers


def test_a_sender_of_single_bytes_is_not_kept_by_each_of_them(tight: RunningServer) -> None:
    whole = message("POST", PATH, dumps({"inputs": [X]}))
    with Wire(tight.host, tight.port) as wire:
        sent = 0

        def is_refused() -> bool:
            nonlocal sent
            if sent < len(whole) - 1:
                try:
                    wire.send(whole[sent : sent + 1])
                except ConnectionError:
                    return True
                sent += 1
                return False
            return True

        eventually(is_refused, "the connection is closed, or all but a byte was sent")
        with_answer = True
        try:
            assert wire.receive().status == 408
        except Closed:
            with_answer = False
        assert with_answer or wire.is_ended()


def test_a_client_that_leaves_in_the_middle_is_forgotten(server: RunningServer) -> None:
    whole = message("POST", PATH, dumps({"inputs": [X]}))
    for cut in (1, 30, len(whole) - 1, len(whole)):
        for _ in range(20):
            wire = Wire(server.host, server.port)
            wire.send(whole[:cut])
            wire.close()


def test_a_half_closed_connection_still_gets_its_answer_or_its_end(server: RunningServer) -> None:
    with Wire(server.host, server.port) as wire:
        wire.send(message("POST", PATH, dumps({"inputs": [X]})))
        wire.half_close()
        answer = wire.rest()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n" * 3 + b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nBad Name: 1\r\n\r\n",
        b"POST /v2/models/swift/infer HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_closed(server: RunningServer, data: bytes) -> None:
    with Wire(server.host, server.port) as wire:
        wire.send(data)
        try:
            answer = wire.receive()
        except Closed:
            return
        assert 400 <= answer.status < 500
        assert wire.is_ended()


def refused(wire: Wire, *pieces: bytes) -> bytes:
    """Send as far as the server takes it; what comes back until it closes."""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            wire.send(piece)
    return wire.rest()


@pytest.mark.parametrize("path", [PATH, "/v2/models/mlp", "/nowhere"])
def test_endless_headers_are_refused(server: RunningServer, path: str) -> None:
    fields = [b"X-%d: %s\r\n" % (at, b"y" * 100) for at in range(3000)]
    with Wire(server.host, server.port) as wire:
        answer = refused(wire, f"POST {path} HTTP/1.1\r\n".encode(), *fields)
    # Where the refusal crosses bytes that are still being sent, the kernel may end the connection before it is read.
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_an_endless_url_is_refused(server: RunningServer) -> None:
    with Wire(server.host, server.port) as wire:
        answer = refused(wire, b"POST /v2/models/" + b"a" * 300_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_pipelined_nonsense_ends_the_connection_after_what_came_before_is_answered(
    server: RunningServer,
) -> None:
    good = message("POST", "/v2/models/doubler/infer", dumps({"id": "1", "inputs": [X]}))
    with Wire(server.host, server.port) as wire:
        wire.send(good + good + b"nonsense\r\n\r\n")
        assert [wire.receive().status for _ in range(3)] == [200, 200, 400]
        assert wire.is_ended()


def test_a_pipelined_bad_request_costs_its_neighbours_nothing(wire: Wire) -> None:
    def ask(content: object) -> bytes:
        return message("POST", PATH, dumps(content))

    wire.send(
        ask({"inputs": [X]}) + ask({"inputs": []}) + ask({"inputs": [X]}) + ask("x") + ask({"inputs": [X]})
    )
    assert [wire.receive().status for _ in range(5)] == [200, 400, 200, 400, 200]


def test_a_hundred_pipelined_requests_are_all_answered_in_order(wire: Wire) -> None:
    wire.send(
        b"".join(
            message("POST", PATH, dumps({"id": str(at), "inputs": [X]} if at % 7 else {"inputs": []}))
            for at in range(100)
        )
    )
    for at in range(100):
        answer = wire.receive()
        assert answer.status == (200 if at % 7 else 400)
        if at % 7:
            assert json.loads(answer.body)["id"] == str(at)


@pytest.mark.parametrize("path", [PATH, "/v2/health/live"])
def test_thousands_of_pipelined_requests_are_refused(server: RunningServer, path: str) -> None:
    request = message("POST", path, dumps({"inputs": [X]})) if path == PATH else message("GET", path)
    with Wire(server.host, server.port) as wire:
        answers = refused(wire, request * 5000)
    assert answers.count(b"HTTP/1.1 ") < 5000


@pytest.mark.parametrize("path", [PATH, "/v2/health/live"])
def test_a_row_of_pipelined_requests_may_end_in_the_middle_of_one(wire: Wire, path: str) -> None:
    """More bytes at once than headers may have, and in the end headers that have not ended."""
    body = dumps({"inputs": [X]}) if path == PATH else b""
    request = message("POST" if body else "GET", path, body, {"X-Long": "y" * 900})
    many = 80
    wire.send(request * many + request[:20])
    statuses = {wire.receive().status for _ in range(many)}
    wire.send(request[20:])
    assert {*statuses, wire.receive().status} == {200}


def test_bytes_being_received_are_bounded_for_heads_seen_before_too(tmp_path: Path, profiles: Path) -> None:
    (tmp_path / "slow.fake").write_text('{"seconds": 0.3}')
    with run_server([tmp_path], profile_dir=profiles, instances=1, max_received_bytes=100_000) as server:
        values = " " * 30_000 + "1,2,3,4"
        body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[%s]}]}' % values.encode()
        request = message("POST", "/v2/models/slow/infer", body)
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(server.host, server.port)) for _ in range(12)]
            wires[0].send(request)
            assert wires[0].receive().status == 200
            for wire in wires:
                wire.send(request)
            statuses = [wire.receive().status for wire in wires]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) <= 3


HELD = {
    "a model": PATH,
    "a model by way of a proxy": "http://headrace" + PATH,
    "a skill": "/v1/skills/swift",
    "loading": "/v2/repository/models/swift/load",
    "settings": "/v2/logging",
}


@pytest.mark.parametrize("path", HELD.values(), ids=HELD)
def test_bodies_are_counted_wherever_they_go_and_given_back_however_they_end(
    tmp_path: Path, profiles: Path, path: str
) -> None:
    (tmp_path / "swift.fake").write_text("{}")
    with run_server([tmp_path], profile_dir=profiles, max_received_bytes=100_000) as server:
        desk = server.server.desk
        whole = message("POST", path, b'{"inputs":[]}' + b" " * 60_000)
        with Wire(server.host, server.port) as wire:
            with Wire(server.host, server.port) as leaving:
                leaving.send(whole[:-1])
                eventually(lambda: desk.received_bytes > 60_000, "they are counted")
                wire.send(whole)
                refused = wire.receive()
                assert (refused.status, refused.json()["code"]) == (503, "bodies_full")
                assert refused.headers["retry-after"] == "1"
            eventually(lambda: desk.received_bytes == 0, "they are given back")
        with Wire(server.host, server.port) as wire:
            assert wire.request("POST", path, b'{"inputs":[]}' + b" " * 60_000).status != 503
        eventually(lambda: desk.received_bytes == 0, "they are given back")


def test_what_a_skill_s_compressed_body_becomes_is_counted(tmp_path: Path, profiles: Path) -> None:
    (tmp_path / "stuck.fake").write_text('{"hang_value": 77}')
    limits = {"max_received_bytes": 300_000, "exit_timeout_s": 0}
    with run_server([tmp_path], profile_dir=profiles, **limits) as server:
        desk = server.server.desk
        body = gzip.compress(b'{"x":[77,2,3,4]}' + b" " * 200_000)
        sent = message("POST", "/v1/skills/stuck", body, {"Content-Encoding": "gzip"})
        with Wire(server.host, server.port) as leaving, Wire(server.host, server.port) as wire:
            leaving.send(sent)
            eventually(lambda: desk.received_bytes > 200_000, "it is counted")
            wire.send(sent)
            assert wire.receive().json()["code"] == "bodies_full"
        eventually(lambda: desk.received_bytes == 0, "it is given back")


def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_error_of_the_server(
    tmp_path: Path, profiles: Path
) -> None:
    (tmp_path / "swift.fake").write_text("{}")
    with serving([tmp_path], profiles, "--drain-delay-s", "0") as running:
        for path in HELD.values():
            with running.connect() as wire:
                wire.send(message("POST", path, b"{}")[:-1])
        running.process.terminate()
        assert running.process.stderr is not None
        assert running.process.stderr.read() == b""
