"""Compressed bodies: what comes back is what would have come back, and nobody can make the server unpack a bomb."""

import gzip
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from headrace.testing import RunningServer
from tests.integration.wire import Answer, Wire, binary, dumps, message, tensor

pytestmark = pytest.mark.integration

CODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
MIB = 1 << 20


def row(count: int) -> object:
    return {"id": "7", "inputs": [tensor("x", "FP32", [1, count], [1.5] * count)]}


def unpacked(answer: Answer, coding: str) -> bytes:
    assert answer.headers["content-encoding"] == coding
    assert int(answer.headers["content-length"]) == len(answer.body)
    return DECODERS[coding](answer.body)


@pytest.mark.parametrize("coding", CODERS)
@pytest.mark.parametrize("count", [4, 5_000, 100_000], ids=["small", "inflates to more", "large"])
def test_a_compressed_request_gets_the_same_answer(wire: Wire, coding: str, count: int) -> None:
    plain = wire.infer("ragged", row(count))
    packed = wire.infer("ragged", CODERS[coding](dumps(row(count))), {"Content-Encoding": coding})
    assert packed.raw == plain.raw


@pytest.mark.parametrize("coding", CODERS)
@pytest.mark.parametrize("count", [1_000, 100_000], ids=["on the loop", "in the worker"])
def test_a_compressed_answer_is_the_same_one(wire: Wire, coding: str, count: int) -> None:
    plain = wire.infer("ragged", row(count))
    packed = wire.infer("ragged", row(count), {"Accept-Encoding": coding})
    assert unpacked(packed, coding) == plain.body
    assert len(packed.body) < len(plain.body)


def test_binary_bodies_are_compressed_whole_and_lengths_are_those_of_what_they_were(wire: Wire) -> None:
    data = np.ones(50_000, "<f4").tobytes()
    body, headers = binary([("x", "FP32", [1, 50_000], data)], parameters={"binary_data_output": True})
    plain = wire.infer("ragged", body, headers)
    asked = {**headers, "Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    packed = wire.infer("ragged", gzip.compress(body), asked)
    assert unpacked(packed, "gzip") == plain.body
    name = "inference-header-content-length"
    assert packed.headers[name] == plain.headers[name]


def test_a_short_answer_or_one_that_would_not_shrink_goes_as_it_is(wire: Wire) -> None:
    short = wire.infer("ragged", row(4), {"Accept-Encoding": "gzip"})
    assert short.raw == wire.infer("ragged", row(4)).raw
    noise = np.random.default_rng(1).integers(0, 1 << 32, 5_000, np.uint32).tobytes()
    noise = (np.frombuffer(noise, np.uint32) & 0x3FFFFFFF).tobytes()
    body, headers = binary([("x", "FP32", [1, 5_000], noise)], parameters={"binary_data_output": True})
    answer = wire.infer("ragged", body, {**headers, "Accept-Encoding": "gzip"})
    assert len(answer.body) <= len(wire.infer("ragged", body, headers).body)


@pytest.mark.parametrize("offer", ["gzip, deflate", "gzip, deflate, br", "*", "br"])
def test_who_offers_what_libraries_offer_gets_the_answer_as_it_is(wire: Wire, offer: str) -> None:
    answer = wire.infer("ragged", row(1_000), {"Accept-Encoding": offer})
    assert "content-encoding" not in answer.headers


def test_errors_are_never_compressed(wire: Wire) -> None:
    answer = wire.infer("n" * 5_000, row(1), {"Accept-Encoding": "gzip"})
    assert answer.status == 404
    assert answer.error


@pytest.mark.parametrize("coding", CODERS)
def test_a_bomb_is_refused_in_the_words_for_a_large_body(wire: Wire, coding: str) -> None:
    bomb = CODERS[coding](bytes(65 * MIB))
    answer = wire.infer("ragged", bomb, {"Content-Encoding": coding})
    assert answer.status == 400
    assert "exceeds the maximum allowed input size of 67108864 bytes" in answer.error
    assert answer.json()["code"] == "too_large"
    assert wire.infer("ragged", row(4)).status == 200


def test_a_spoilt_body_is_refused_on_the_loop_and_in_the_worker(wire: Wire) -> None:
    noise = np.random.default_rng(2).bytes(100_000)
    for packed in (gzip.compress(dumps(row(4))), gzip.compress(noise)):
        answer = wire.infer("ragged", packed[:-9], {"Content-Encoding": "gzip"})
        assert answer.status == 400
        assert "ends too early" in answer.error
        assert answer.json()["code"] == "invalid_request"


def test_nothing_is_held_once_all_are_answered(server: RunningServer) -> None:
    """The bytes that bodies became are counted, and given back however the request ends."""
    desk = server.server.desk
    with Wire(server.host, server.port) as wire:
        for body in (CODERS["gzip"](dumps(row(100_000))), CODERS["gzip"](b"no JSON"), b"no gzip"):
            wire.infer("ragged", body, {"Content-Encoding": "gzip"})
        wire.send(
            message(
                "POST",
                "/v2/models/ragged/infer",
                CODERS["gzip"](dumps(row(90_000))),
                {"Content-Encoding": "gzip"},
            )
        )
    with Wire(server.host, server.port) as wire:
        for _ in range(200):
            if not desk.received_bytes:
                break
            wire.infer("ragged", row(1))
    assert desk.received_bytes == 0
