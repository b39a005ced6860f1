"""The headers of an infer request that mean something here."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from headrace.errors import InvalidRequest, Unsupported

MILLISECONDS = 1e-3
NUMBER = re.compile(rb"-?[0-9]{1,19}")
LARGEST_INT32 = (1 << 31) - 1


class InferHeaders(NamedTuple):
    """Values in seconds and bytes; None where the header is missing."""

    header_length: int | None
    content_length: int | None
    timeout_s: float | None
    expects_continue: bool


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> InferHeaders:
    """Read lower-case headers.

    Proxies add deadlines of their own, so one that cannot be read is ignored.

    Raises:
        InvalidRequest: the length of the JSON header cannot be read.
        Unsupported: the body is compressed.
    """
    header_length: int | None = None
    content_length: int | None = None
    timeout_s: float | None = None
    expects_continue = False
    for name, value in headers:
        if name == b"content-length":
            content_length = int(value) if value.isdigit() else None
        elif name == b"inference-header-content-length":
            header_length = read_header_length(value)
        elif name in TIMEOUTS:
            if (seconds := TIMEOUTS[name](value)) is not None and (timeout_s is None or seconds < timeout_s):
                timeout_s = seconds
        elif name == b"expect":
            expects_continue = value.lower() == b"100-continue"
        elif name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise Unsupported(
                f"Unsupported compression type '{value.decode('latin-1')}': send the body as it is"
            )
    return InferHeaders(header_length, content_length, timeout_s, expects_continue)


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
