"""Seeded nonsense over sockets: whatever comes, the gateway answers or closes, serves the others, and does not grow."""

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration import graphs
from tests.integration.process import (
    ServerProcess,
    children,
    descriptors,
    eventually,
    resident_bytes,
    serving,
)
from tests.integration.wire import binary, chunked, dumps, message, tensor

pytestmark = pytest.mark.integration

SEED = 20
CLIENTS, MOST_CASES, MOST_S = 4, 1200, 6.0
MOST_GROWTH = 48 << 20
MOST_TAKEN = 64 << 20
PATIENCE_S = 2.0
TOKENS = [
    *(b"NaN", b"Infinity", b"null", b"[", b"]", b"{", b"}", b'"', b"\0", b"\xff", b"-1", b"1e999", b","),
    *(b"9" * 30, b"\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"%"),
    *(b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Connection: close\r\n"),
    *(
        b"Inference-Header-Content-Length: 0\r\n",
        b"x-request-timeout-seconds: 0.000001\r\n",
        b"POST ",
        b"GET ",
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("fuzz")
    graphs.mlp(folder / "mlp.onnx")
    graphs.ragged(folder / "ragged.onnx")
    graphs.two_inputs(folder / "pair.onnx")
    graphs.identity(folder / "strings.onnx", "BYTES")
    with serving([folder], profiles, "--receive-timeout-s", "1", "--drain-delay-s", "0") as running:
        yield running


def valid_requests() -> list[bytes]:
    row = [0.25] * graphs.FEATURES
    pair = [tensor("a", "FP32", [1, 3], [1, 2, 3]), tensor("b", "FP32", [1, 3], [[1, 2, 3]])]
    strings = b"".join(struct.pack("<I", 2) + b"ab" for _ in range(4))
    as_json = dumps({"id": "7", "inputs": [tensor("x", "FP32", [1, graphs.FEATURES], row)]})
    in_binary = binary([("x", "FP32", [1, graphs.FEATURES], struct.pack("<64f", *row))])
    return [
        message("POST", "/v2/models/mlp/infer", as_json),
        message("POST", "/v2/models/mlp/infer", *in_binary),
        message("POST", "/v2/models/mlp/infer", chunked(as_json, 50), {"Transfer-Encoding": "chunked"}),
        message("POST", "/v2/models/mlp/infer", bytes(256), {"Inference-Header-Content-Length": "0"}),
        message("POST", "/v2/models/mlp/versions/1/infer", as_json, {"Connection": "close"}),
        message("POST", "/v2/models/pair/infer", dumps({"inputs": pair, "outputs": [{"name": "gap"}]})),
        message("POST", "/v2/models/strings/infer", *binary([("x", "BYTES", [1, 4], strings)])),
        message(
            "POST",
            "/v2/models/ragged/infer",
            dumps({"inputs": [tensor("x", "FP32", [1, 9000], [1.5] * 9000)]}),
        ),
        message("GET", "/v2/models/mlp"),
        message("GET", "/v2/models/stats"),
        message("POST", "/v2/repository/index", b"{}"),
    ]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.choice(TOKENS) + data[at:]


def remove(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 40) :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.randrange(1, 40)]
    return data[:at] + piece * rng.randrange(2, 50) + data[at:]


def keep(data: bytes, rng: random.Random) -> bytes:
    return data


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [cut, flip, insert, remove, repeat, keep]


def case(rng: random.Random, valid: list[bytes]) -> list[bytes]:
    """Pieces to send one after the other: a few requests, most of them damaged, cut anywhere."""
    data = b"".join(
        rng.choice(MUTATIONS)(rng.choice(valid), rng) or b"\r\n" for _ in range(rng.randrange(1, 5))
    )
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(0, 4)))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def send_case(server: ServerProcess, pieces: list[bytes], leaves: bool) -> bytes:
    """What came back; a client that leaves does not wait for it."""
    with socket.create_connection((server.host, server.port), PATIENCE_S) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        came = b""
        with contextlib.suppress(OSError):
            for piece in pieces:
                wire.sendall(piece)
            if leaves:
                return b""
            wire.shutdown(socket.SHUT_WR)
            while data := wire.recv(1 << 16):
                came += data
    return came


def assert_http(came: bytes) -> None:
    if came:
        assert came.startswith(b"HTTP/1.1 "), came[:200]
        assert b"HTTP/1.1 500" not in came, came[-2000:]
        assert b"internal error" not in came, came[-2000:]
        assert b"Traceback" not in came


def assert_serves(server: ServerProcess) -> None:
    row = tensor("x", "FP32", [1, graphs.FEATURES], [0.25] * graphs.FEATURES)
    with server.connect() as wire:
        assert wire.infer("mlp", {"inputs": [row]}).status == 200


def test_damaged_requests_are_answered_or_closed_and_memory_stays(server: ServerProcess) -> None:
    valid = valid_requests()
    ends = time.monotonic() + MOST_S

    def client(number: int) -> int:
        rng = random.Random(SEED + number)
        for at in range(MOST_CASES // CLIENTS):
            if time.monotonic() > ends:
                return at
            assert_http(send_case(server, case(rng, valid), leaves=rng.random() < 0.2))
        return MOST_CASES // CLIENTS

    client(1000)  # what every server allocates once
    assert_serves(server)
    workers = children(server.pid)
    before, open_before = resident_bytes(server.pid), descriptors(server.pid)
    ends = time.monotonic() + MOST_S
    with ThreadPoolExecutor(CLIENTS) as pool:
        cases = sum(pool.map(client, range(CLIENTS)))
    assert cases >= CLIENTS
    assert_serves(server)
    assert children(server.pid) == workers, "no worker died of it"
    eventually(lambda: descriptors(server.pid) <= open_before, "all connections are closed")
    grown = resident_bytes(server.pid) - before
    print(f"{cases} cases, grown by {grown >> 10} kB")
    assert grown < MOST_GROWTH


def test_slow_senders_are_let_go_and_hold_nothing(server: ServerProcess) -> None:
    """Connections that begin a request and never end it; the server closes them all by itself."""
    assert_serves(server)
    open_before = descriptors(server.pid)
    rng = random.Random(SEED)
    valid = [each for each in valid_requests() if each.startswith(b"POST")]
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            wire = stack.enter_context(socket.create_connection((server.host, server.port)))
            wire.sendall(cut(rng.choice(valid), rng) or b"P")
        assert_serves(server)
        eventually(lambda: descriptors(server.pid) <= open_before, "all of them are let go")
    assert_serves(server)


def test_a_client_that_never_reads_is_not_read_from_for_ever(server: ServerProcess) -> None:
    """Its answers pile up in its own kernel and then its requests in ours: the gateway's memory stays."""
    before = resident_bytes(server.pid)
    with socket.create_connection((server.host, server.port)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        wire.setblocking(False)
        taken = 0
        with contextlib.suppress(ConnectionError):  # let go, which is as good
            while (sent := sent_now(wire, server)) and taken < MOST_TAKEN:
                taken += sent
        assert taken < MOST_TAKEN
        assert resident_bytes(server.pid) - before < MOST_GROWTH
        print(f"{taken >> 10} kB taken")
    assert_serves(server)


def sent_now(wire: socket.socket, server: ServerProcess) -> int:
    """Bytes of pipelined requests that are taken; 0 if none are though the server had time for others."""
    for _ in range(50):
        try:
            return wire.send(message("GET", "/metrics") * 200)
        except BlockingIOError:
            assert_serves(server)
    return 0
