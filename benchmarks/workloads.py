"""Requests as clients would send them, each with the bare runtime's answer."""

import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from load import Workload

INPUTS = 64
IMAGES = 32
SENTENCES = 256
SENTENCE_OUTPUT = "onnx::Shape_422"
DIGITS = (2, 3, 4, 5, 6, 7)
MEDIAN_TOKENS, SPREAD, LEAST_TOKENS, MOST_TOKENS = 22, 0.6, 5, 128
VOCABULARY, CLS, SEP = 30522, 101, 102
RTOL, ATOL = 1e-4, 1e-5
PADDED_ATOL = 1e-4
"""Padded sentences are summed in another order than bare ones."""

Feed = dict[str, np.ndarray]


def bare_session(model: Path, threads: int = 1, *, spins: bool = True) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    options.log_severity_level = 4
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def vectors(model: Path, name: str, width: int, *, binary: bool) -> Workload:
    """Single rows of floats between 0 and 1, written with 2 to 7 digits, so that JSON bodies differ in length."""
    given = rows(width)
    feeds = [{"input": row.astype("f4")} for row in given]
    if binary:
        requests = [binary_request(name, feed, "output") for feed in feeds]
    else:
        requests = [json_request(name, row) for row in given]
    return Workload(requests, answers(model, feeds, "output"), "output", RTOL, ATOL)


def rows(width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random((1, width)).round(DIGITS[at % len(DIGITS)]) for at in range(INPUTS)]


def images(model: Path, name: str, source: str, output: str) -> Workload:
    """Pictures of smooth noise around 0, as they are after the mean was subtracted."""
    rng = np.random.default_rng(2)
    coarse = rng.normal(0, 60, (IMAGES, 1, 28, 28, 3)).astype("f4")
    feeds = [{source: each.repeat(8, axis=1).repeat(8, axis=2)} for each in coarse]
    requests = [binary_request(name, feed, output) for feed in feeds]
    return Workload(requests, answers(model, feeds, output), output, RTOL, ATOL)


def sentences(model: Path, name: str) -> Workload:
    """Token ids of mixed lengths; see `lengths`."""
    feeds = sentence_feeds()
    requests = [binary_request(name, feed, SENTENCE_OUTPUT) for feed in feeds]
    expected = answers(model, feeds, SENTENCE_OUTPUT)
    return Workload(requests, expected, SENTENCE_OUTPUT, RTOL, PADDED_ATOL)


def sentence_feeds() -> list[Feed]:
    rng = np.random.default_rng(3)
    feeds = []
    for length in lengths(rng):
        ids = rng.integers(1000, VOCABULARY, (1, length))
        ids[0, 0], ids[0, -1] = CLS, SEP
        feeds.append({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return feeds


def lengths(rng: np.random.Generator) -> list[int]:
    """Log-normal around 22 tokens, 5 to 128, always the same: questions and comments, most short, a few long."""
    drawn = rng.lognormal(log(MEDIAN_TOKENS), SPREAD, SENTENCES)
    return np.clip(drawn.round(), LEAST_TOKENS, MOST_TOKENS).astype(int).tolist()


def answers(model: Path, feeds: list[Feed], output: str) -> list[np.ndarray]:
    session = bare_session(model)
    return [session.run([output], feed)[0] for feed in feeds]


def json_request(model: str, row: np.ndarray) -> bytes:
    tensor = {"name": "input", "shape": list(row.shape), "datatype": "FP32", "data": row.ravel().tolist()}
    return http_request(
        model, json.dumps({"inputs": [tensor]}).encode(), b"content-type: application/json\r\n"
    )


def binary_request(
    model: str, feed: Feed, output: str, parameters: dict[str, Any] | None = None, headers: bytes = b""
) -> bytes:
    """With the request's own parameters, and with header lines of its own."""
    inputs: list[dict[str, Any]] = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": "FP32" if array.dtype == np.float32 else "INT64",
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in feed.items()
    ]
    wanted = [{"name": output, "parameters": {"binary_data": True}}]
    named = {"parameters": parameters} if parameters else {}
    meta = json.dumps({**named, "inputs": inputs, "outputs": wanted}).encode()
    body = b"".join([meta, *(array.tobytes() for array in feed.values())])
    headers += b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(
        meta
    )
    return http_request(model, body, headers)


def http_request(model: str, body: bytes, headers: bytes) -> bytes:
    line = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: 127.0.0.1\r\n".encode()
    return line + headers + b"content-length: %d\r\n\r\n" % len(body) + body
