"""Asks the skills as any caller would: JSON, many items in one request, files as multipart; and the curl lines for it."""

import json
import os
import shlex
from collections.abc import Iterable, Sequence
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from uuid import uuid4

from case import Case
from parcels import Failure

ITEMS = 32
"""Items of one request: few enough to be answered in a moment, and enough to fill a batch."""
TIMEOUT_S = 60
UNAVAILABLE = 503
MOST_TRIES = 200


class Request(NamedTuple):
    """A request to a skill, as its bytes."""

    path: str
    content_type: str
    body: bytes


class Caller:
    """One connection."""

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(address, timeout=TIMEOUT_S)

    def ask(self, request: Request) -> dict[str, Any]:
        """The answer's JSON; refused because too much waits, it comes again when it is told to.

        Raises:
            Failure: the server has no answer.
        """
        headers = {"Content-Type": request.content_type}
        for _ in range(MOST_TRIES):
            self._connection.request("POST", request.path, request.body, headers)
            response = self._connection.getresponse()
            content = response.read()
            if response.status != UNAVAILABLE or b'"retry_after_ms"' not in content:
                break
            # The promise of the skill cannot be kept now, and the server says when to come again.
            Event().wait(json.loads(content)["retry_after_ms"] / 1000)
        if response.status != 200:
            raise Failure(f"{request.path} is answered with {response.status}: {content[:500].decode()}")
        answer: dict[str, Any] = json.loads(content)
        return answer

    def answers(self, skill: str, cases: Sequence[Case]) -> Iterable[dict[str, Any]]:
        """Of each case, in order.

        Raises:
            Failure: an item has none.
        """
        if any(files(case) for case in cases):
            for case in cases:
                yield self.ask(one(skill, case))["answer"]
            return
        for first in range(0, len(cases), ITEMS):
            answered = self.ask(many(skill, cases[first : first + ITEMS]))["answers"]
            for each in answered:
                if "error" in each:
                    raise Failure(f"{skill} cannot answer an item: {each['error']}")
            yield from answered

    def close(self) -> None:
        self._connection.close()


def one(skill: str, case: Case) -> Request:
    """One item: JSON, or multipart where a file is in it."""
    path = f"/v1/skills/{skill}"
    if not files(case):
        return Request(path, "application/json", json.dumps(case.item).encode())
    boundary = uuid4().hex
    parts = [part(boundary, name, value) for name, value in case.item.items()]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return Request(path, f"multipart/form-data; boundary={boundary}", body)


def part(boundary: str, name: str, value: Any) -> bytes:
    """One field of a form, with the file's bytes or with JSON."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
    if isinstance(value, Path):
        head += f'; filename="{value.name}"\r\nContent-Type: application/octet-stream'
        return f"{head}\r\n\r\n".encode() + value.read_bytes() + b"\r\n"
    content = value if isinstance(value, str) else json.dumps(value)
    return f"{head}\r\n\r\n{content}\r\n".encode()


def many(skill: str, cases: Sequence[Case]) -> Request:
    items = {"items": [case.item for case in cases]}
    return Request(f"/v1/skills/{skill}", "application/json", json.dumps(items).encode())


def files(case: Case) -> list[Path]:
    return [value for value in case.item.values() if isinstance(value, Path)]


def curl(skill: str, case: Case, address: str) -> list[str]:
    """The command for one item, as its arguments."""
    url = f"http://{address}/v1/skills/{skill}"
    if not files(case):
        return ["curl", "-s", url, "-d", json.dumps(case.item)]
    fields = []
    for name, value in case.item.items():
        said = f"@{shortest(value)}" if isinstance(value, Path) else value
        fields += ["-F", f"{name}={said}"]
    return ["curl", "-s", url, *fields]


def shortest(path: Path) -> str:
    return min(str(path), os.path.relpath(path), key=len)


def pasteable(arguments: Sequence[str]) -> str:
    return shlex.join(arguments)
