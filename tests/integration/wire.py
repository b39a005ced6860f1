"""An HTTP client that sends exactly the bytes it is told to and shows exactly the bytes that came back.

Ordinary clients repair, merge and hide what these tests are about.
"""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Answer:
    """One response. `raw` is all of it as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error's sentence, after checking that this is an error as clients read it."""
        assert self.status >= 400, self.raw[:500]
        assert self.headers["content-type"] == "application/json"
        text = self.json()["error"]
        assert isinstance(text, str)
        return text


class Closed(Exception):
    """The peer ended the connection before the whole answer had come."""


class Wire:
    """One connection."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def half_close(self) -> None:
        """No more will be sent; answers can still be read."""
        self._socket.shutdown(socket.SHUT_WR)

    def receive(self) -> Answer:
        """The next response, an interim one like 100 included.

        Raises:
            Closed: the connection ended first.
        """
        head = self._until(b"\r\n\r\n")
        lines = head[:-4].decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self._exactly(int(headers.get("content-length", "0")))
        return Answer(status, headers, body, head + body)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request in one piece and receive its answer."""
        self.send(message(method, path, body, headers))
        return self.receive()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, content: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Post bytes as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else b"" if content is None else dumps(content)
        return self.request("POST", path, body, headers)

    def infer(self, model: str, content: object, headers: Mapping[str, str] | None = None) -> Answer:
        return self.post(f"/v2/models/{model}/infer", content, headers)

    def is_ended(self) -> bool:
        """Wait for what comes next: True for the connection's end, False for more bytes."""
        if self._rest:
            return False
        try:
            self._rest = self._socket.recv(1 << 16)
        except ConnectionError:
            return True
        return not self._rest

    def rest(self) -> bytes:
        """All that still comes until the connection's end."""
        parts = []
        while not self.is_ended():
            parts.append(self._rest)
            self._rest = b""
        return b"".join(parts)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            self._more()
        end = self._rest.index(mark) + len(mark)
        head, self._rest = self._rest[:end], self._rest[end:]
        return head

    def _exactly(self, size: int) -> bytes:
        parts, missing = [self._rest], size - len(self._rest)
        while missing > 0:
            self._rest = b""
            self._more()
            parts.append(self._rest)
            missing -= len(self._rest)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def _more(self) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except ConnectionError as exc:
            raise Closed(str(exc)) from exc
        if not data:
            raise Closed("no more bytes")
        self._rest += data


def message(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: headrace"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if method == "POST" and "Transfer-Encoding" not in (headers or {}):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks of that size."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def dumps(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def tensor(name: str, datatype: str, shape: list[int], data: object) -> dict[str, Any]:
    """An input with JSON data."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def binary(inputs: list[tuple[str, str, list[int], bytes]], **others: Any) -> tuple[bytes, dict[str, str]]:
    """A request with binary tensors: its body and headers."""
    described = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, kind, shape, data in inputs
    ]
    head = dumps({"inputs": described, **others})
    body = b"".join([head, *(data for *_, data in inputs)])
    return body, {"Inference-Header-Content-Length": str(len(head))}


def split_binary(answer: Answer) -> tuple[Any, dict[str, bytes]]:
    """A binary answer's JSON, and each binary output's bytes."""
    length = int(answer.headers["inference-header-content-length"])
    head, rest = json.loads(answer.body[:length]), answer.body[length:]
    tensors = {}
    for output in head["outputs"]:
        if (size := output.get("parameters", {}).get("binary_data_size")) is not None:
            tensors[output["name"]], rest = rest[:size], rest[size:]
    assert not rest
    return head, tensors
