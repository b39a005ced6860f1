"""From a model's metadata to whole HTTP requests, for any server of the Open Inference Protocol."""

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from headrace import strings
from headrace.errors import ConfigurationError
from headrace.loadtest.plan import Caller
from headrace.messages import NUMPY_TYPES, Datatype, Shape

Json = dict[str, Any]

NO_JSON = frozenset({Datatype.FP16, Datatype.BF16})
"""Datatypes that travel as bytes only."""
PIXELS, INTEGERS = 256, 100
"""What random integers stay below."""
LETTERS = str.maketrans("0123456789", "ghijklmnop")
"""Words have none but letters: what reads texts may answer 422 to a number."""
JSON_DIGITS = 4
"""Behind the point of random floats: callers send no seventeen."""


@dataclass(frozen=True)
class Tensor:
    """An input in a model's metadata; -1 in the shape where any size may come."""

    name: str
    datatype: Datatype
    shape: Shape


@dataclass(frozen=True)
class Metadata:
    """What a server says of a model, as far as a request needs it. `version` is empty for whichever the server takes."""

    name: str
    inputs: tuple[Tensor, ...]
    version: str = ""


@dataclass(frozen=True)
class Body:
    """What a request carries. header_length is set where binary tensors follow its JSON."""

    content: bytes
    header_length: int | None = None


def parse_metadata(document: Json, version: str = "") -> Metadata:
    """What GET /v2/models/NAME answered.

    Raises:
        ConfigurationError: it is no model's metadata.
    """
    try:
        inputs = tuple(
            Tensor(str(each["name"]), Datatype(each["datatype"]), tuple(int(size) for size in each["shape"]))
            for each in document["inputs"]
        )
        return Metadata(str(document["name"]), inputs, version)
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(
            f"this is no model's metadata, which has a name and inputs with name, datatype and shape: {str(document)[:200]}"
        ) from exc


def read_metadata(url: str, model: str, version: str = "", *, timeout_s: float = 10.0) -> Metadata:
    """Ask a server what a model takes.

    Raises:
        ConfigurationError: nothing answers there, or not with a model's metadata; with what to do.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigurationError(
            f"'{url}' is not a URL like http://127.0.0.1:8000; load is sent over plain HTTP only"
        )
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path.rstrip("/") + _path(model, version))
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as exc:
        raise ConfigurationError(
            f"{url} does not answer ({str(exc) or type(exc).__name__}): start a server there, or say where it is"
        ) from exc
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise ConfigurationError(
            f"{url} answers {response.status} for model '{model}': {content[:300].decode(errors='replace')}"
        )
    try:
        return parse_metadata(json.loads(content), version)
    except ValueError as exc:
        raise ConfigurationError(
            f"{url} does not speak the Open Inference Protocol: it answered {content[:100]!r}"
        ) from exc


def random_inputs(
    metadata: Metadata, count: int, seed: int, *, lengths: Sequence[int] = (), binary: bool = False
) -> list[Body]:
    """That many different bodies of random tensors of the declared shapes, one row each.

    Floats are normal, pixels (UINT8) of all values, other integers below 100, which most vocabularies have; but masks, by
    their name, are 1 and types 0, since a model that looks them up has no others.

    Args:
        metadata: of the model.
        count: of bodies, one a key.
        seed: of the draw.
        lengths: what axes of any size get, except the first: one drawn for each body; 1 if none are given.
        binary: tensors as bytes behind the JSON, and the answer's likewise.
    """
    rng = np.random.default_rng(seed)
    bodies = []
    for _ in range(count):
        length = int(rng.choice(lengths)) if lengths else 1
        arrays = []
        for each in metadata.inputs:
            first, rest = each.shape[:1], each.shape[1:]
            shape = (*(max(1, abs(size)) for size in first), *(length if size < 0 else size for size in rest))
            arrays.append(_random(each, shape, rng))
        bodies.append(encode(metadata, arrays, binary=binary))
    return bodies


def encode(metadata: Metadata, arrays: Sequence[np.ndarray], *, binary: bool) -> Body:
    """The body of one request: an array for each of the model's inputs, of any dtype that holds its values; BYTES as text."""
    entries, tail = [], []
    for tensor, array in zip(metadata.inputs, arrays, strict=True):
        entry: Json = {"name": tensor.name, "shape": list(array.shape), "datatype": tensor.datatype.value}
        if binary or tensor.datatype in NO_JSON:
            tail.append(_to_bytes(tensor.datatype, array))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        entries.append(entry)
    document: Json = {"inputs": entries}
    if tail:
        document["parameters"] = {"binary_data_output": True}
    header = _dump(document)
    return Body(header + b"".join(tail), len(header) if tail else None)


def read_inputs(path: Path) -> list[Body]:
    """Bodies of infer requests from a file: a JSON object a line (.jsonl), or one whole body, with binary tensors or without.

    Raises:
        ConfigurationError: it cannot be read, is empty, or a line is no JSON object with inputs; with the line.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}") from exc
    if path.suffix != ".jsonl":
        return [_checked(str(path), content)]
    lines = [(at, line) for at, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise ConfigurationError(f"{path} is empty: give the body of an infer request a line")
    return [_checked(f"{path}: line {at}", line) for at, line in lines]


def build(
    metadata: Metadata, host: str, callers: Sequence[Caller], inputs: Sequence[Body]
) -> list[list[bytes]]:
    """By caller and key the whole request; `host` is what the Host header says.

    A caller's deadline goes into x-request-timeout-seconds if it sends it, its tenant into x-tenant, its priority into
    the parameters of the body.
    """
    return [[_request(metadata, host, caller, body) for body in inputs] for caller in callers]


def _request(metadata: Metadata, host: str, caller: Caller, body: Body) -> bytes:
    if caller.priority:
        body = _with_priority(body, caller.priority)
    is_binary = body.header_length is not None
    fields = [
        f"POST {_path(metadata.name, metadata.version)}/infer HTTP/1.1",
        f"Host: {host}",
        f"Content-Type: application/{'octet-stream' if is_binary else 'json'}",
        f"Content-Length: {len(body.content)}",
    ]
    if is_binary:
        fields.append(f"Inference-Header-Content-Length: {body.header_length}")
    if caller.sends_deadline and caller.deadline_s is not None:
        fields.append(f"X-Request-Timeout-Seconds: {caller.deadline_s:g}")
    if caller.tenant:
        fields.append(f"X-Tenant: {caller.tenant}")
    return "\r\n".join([*fields, "", ""]).encode() + body.content


def _with_priority(body: Body, priority: int) -> Body:
    document = json.loads(body.content[: body.header_length])
    document.setdefault("parameters", {})["priority"] = priority
    header = _dump(document)
    if body.header_length is None:
        return Body(header)
    return Body(header + body.content[body.header_length :], len(header))


def _checked(where: str, content: bytes) -> Body:
    """A body as somebody has it in a file: where its JSON ends, if binary tensors follow it."""
    try:
        # A byte is a character of Latin-1, so positions are the same.
        document, end = json.JSONDecoder().raw_decode(content.decode("latin-1"))
    except ValueError as exc:
        raise ConfigurationError(f"{where} does not begin with JSON: {exc}") from exc
    if not isinstance(document, dict) or not document.get("inputs"):
        raise ConfigurationError(f'{where} is no infer request: it needs {{"inputs": […]}}')
    return Body(content, end if content[end:].strip() else None)


def _random(tensor: Tensor, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    name, datatype = tensor.name.lower(), tensor.datatype
    match datatype:
        case Datatype.BYTES:
            words = [f"{each:x}".translate(LETTERS) for each in rng.integers(0, 1 << 32, max(1, prod(shape)))]
            return np.array(words[: prod(shape)], object).reshape(shape)
        case Datatype.BOOL:
            return rng.random(shape) < 0.5  # noqa: PLR2004 - as often as not
        case Datatype.FP16 | Datatype.BF16 | Datatype.FP32 | Datatype.FP64:
            return rng.standard_normal(shape).round(JSON_DIGITS)
        case _ if "mask" in name:
            return np.ones(shape, "i8")
        case _ if "type" in name:
            return np.zeros(shape, "i8")
        case _:
            return rng.integers(0, PIXELS if datatype is Datatype.UINT8 else INTEGERS, shape)


def _to_bytes(datatype: Datatype, array: np.ndarray) -> bytes:
    if datatype is Datatype.BYTES:
        texts = np.array([each.encode() for each in array.ravel()], object)
        return strings.join(texts)
    if datatype is Datatype.BF16:
        bits = array.astype("<f4").view("<u4") >> 16
        return bits.astype("<u2").tobytes()
    return array.astype(NUMPY_TYPES[datatype]).tobytes()


def _dump(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _path(model: str, version: str) -> str:
    return f"/v2/models/{quote(model, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")
