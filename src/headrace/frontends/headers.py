"""The headers of an infer request that mean something here."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from headrace.errors import InvalidRequest
from headrace.frontends.tenants import Tenants
from headrace.protocol.compression import Coding, coding_for_answer, coding_of_body

MILLISECONDS = 1e-3
NUMBER = re.compile(rb"-?[0-9]{1,19}")
LONGEST_PRIORITY = 9
LARGEST_INT32 = (1 << 31) - 1
REQUEST_ID = re.compile(rb"[!-~]{1,128}")
"""What is echoed: visible ASCII of a length that fits a line of a log."""


class Wishes(NamedTuple):
    """What most requests do not ask for; None where a header is missing.

    Attributes:
        timeout_s: seconds from arrival.
        coding: what the body is compressed with.
        answer_coding: what the answer is to be compressed with.
        request_id: to be echoed.
        tenant, stranger: as in Whose.
        priority: its level, 1 first; 0 where none is named.
    """

    timeout_s: float | None = None
    coding: Coding | None = None
    answer_coding: Coding | None = None
    request_id: bytes | None = None
    tenant: str | None = None
    stranger: str | None = None
    priority: int = 0


NO_WISHES = Wishes()


class InferHeaders(NamedTuple):
    """Lengths in bytes; None where the header is missing, and for wishes where there are none."""

    header_length: int | None
    content_length: int | None
    expects_continue: bool
    wishes: Wishes | None


def read_headers(headers: Iterable[tuple[bytes, bytes]], tenants: Tenants) -> InferHeaders:
    """Read lower-case headers; `tenants` says whose they are.

    Proxies add deadlines and ids of their own, so one that cannot be read is ignored.

    Raises:
        InvalidRequest: the length of the JSON header cannot be read.
        UnsupportedCoding: the body is compressed with something else than gzip or deflate.
    """
    header_length: int | None = None
    content_length: int | None = None
    expects_continue = False
    wished: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name == b"content-length":
            content_length = int(value) if value.isdigit() else None
        elif name == b"inference-header-content-length":
            header_length = read_header_length(value)
        elif name == b"expect":
            expects_continue = value.lower() == b"100-continue"
        elif name in WISHES or name in tenants.headers:
            wished.append((name, value))
    return InferHeaders(
        header_length, content_length, expects_continue, read_wishes(wished, tenants) if wished else None
    )


def read_wishes(headers: list[tuple[bytes, bytes]], tenants: Tenants) -> Wishes | None:
    """What these headers ask for; None if that is nothing.

    Raises:
        UnsupportedCoding: as for read_headers.
    """
    tenant, stranger = tenants.of_headers(headers)
    wishes = Wishes(tenant=tenant, stranger=stranger)
    accepted: list[str] = []
    for name, value in headers:
        if name in TIMEOUTS:
            seconds = TIMEOUTS[name](value)
            if seconds is not None and (wishes.timeout_s is None or seconds < wishes.timeout_s):
                wishes = wishes._replace(timeout_s=seconds)
        elif name == b"content-encoding":
            wishes = wishes._replace(coding=coding_of_body(value.decode("latin-1")))
        elif name == b"accept-encoding":
            accepted.append(value.decode("latin-1"))
        elif name == b"x-request-id":
            wishes = wishes._replace(request_id=read_request_id(value))
        elif name == b"x-request-priority":
            wishes = wishes._replace(priority=read_priority(value))
    if accepted:
        wishes = wishes._replace(answer_coding=coding_for_answer(",".join(accepted)))
    return None if wishes == NO_WISHES else wishes


def find_request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The X-Request-Id to echo, if there is one; of several the last."""
    found = None
    for name, value in headers:
        if name == b"x-request-id":
            found = read_request_id(value)
    return found


def read_request_id(value: bytes) -> bytes | None:
    """An id that can be echoed, or None."""
    text = value.strip()
    return text if REQUEST_ID.fullmatch(text) else None


def read_priority(value: bytes) -> int:
    """A priority level; 0 for what is none."""
    text = value.strip()
    return int(text) if text.isdigit() and len(text) <= LONGEST_PRIORITY else 0


def read_header_length(value: bytes) -> int:
    text = value.strip()
    if not NUMBER.fullmatch(text):
        raise InvalidRequest(
            f"Unable to parse Inference-Header-Content-Length, got: {value.decode('latin-1')}"
        )
    length = int(text)
    if not 0 <= length <= LARGEST_INT32:
        raise InvalidRequest(f"inference header size should be in range (0, {LARGEST_INT32}), got: {length}")
    return length


def number(value: bytes, unit_s: float) -> float | None:
    """Seconds, or None for what is no positive number."""
    try:
        seconds = float(value) * unit_s
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


TIMEOUTS: dict[bytes, Callable[[bytes], float | None]] = {
    b"x-request-timeout-seconds": lambda value: number(value, 1.0),
    b"x-envoy-expected-rq-timeout-ms": lambda value: number(value, MILLISECONDS),
}
"""Headers that set a deadline, with how to read them as seconds."""
WISHES = frozenset(
    {*TIMEOUTS, b"content-encoding", b"accept-encoding", b"x-request-id", b"x-request-priority"}
)
"""Headers of what most requests do not ask for."""
