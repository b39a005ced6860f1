"""What the sender understands of an HTTP answer: its status, where it ends, and how long to wait before calling again."""

import re
from typing import NamedTuple

END = b"\r\n\r\n"
CHUNKED, UNTIL_CLOSE = -1, -2
"""In place of a length."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: |\r|$)")
_FIELDS = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|retry-after):[ \t]*([^\r]*)", re.IGNORECASE
)
_RETRY_AFTER_MS = re.compile(rb'"retry_after_ms"\s*:\s*(\d+(?:\.\d+)?)')
_BODILESS = frozenset({204, 304})


class Head(NamedTuple):
    """Of an answer.

    Attributes:
        status: HTTP status.
        length: of the body in bytes, or CHUNKED, or UNTIL_CLOSE.
        closes: whether the connection ends with it.
        retry_after_s: of the header, in whole seconds; 0 without one.
    """

    status: int
    length: int
    closes: bool
    retry_after_s: float


def read_head(head: bytes) -> Head:
    """The meaning of a head without the empty line at its end.

    Raises:
        ValueError: it is no answer of HTTP/1.
    """
    if (found := _STATUS.match(head)) is None:
        raise ValueError(f"this is no HTTP/1 answer: {head[:80]!r}")
    status = int(found[2])
    fields = {name.lower(): value.strip() for name, value in _FIELDS.findall(head)}
    connection = fields.get(b"connection", b"").lower()
    closes = connection == b"close" or (found[1] == b"0" and connection != b"keep-alive")
    length = UNTIL_CLOSE
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        length = CHUNKED
    elif (said := fields.get(b"content-length")) is not None:
        length = int(said)
    elif status in _BODILESS:
        length = 0
    after = fields.get(b"retry-after", b"")
    return Head(status, length, closes or length == UNTIL_CLOSE, float(after) if after.isdigit() else 0.0)


def body_end(answer: bytes | bytearray, start: int, head: Head) -> int | None:
    """Where the answer ends whose body begins at `start`; None if that is still to come.

    Raises:
        ValueError: a chunk has no length.
    """
    if head.length >= 0:
        end = start + head.length
        return end if len(answer) >= end else None
    if head.length == UNTIL_CLOSE:
        return None
    while (line := answer.find(b"\r\n", start)) >= 0:
        size = int(bytes(answer[start:line]).partition(b";")[0], 16)
        if size == 0:
            return _trailer_end(answer, line)
        start = line + 2 + size + 2
    return None


def _trailer_end(answer: bytes | bytearray, line: int) -> int | None:
    """Behind the last chunk: at once an empty line, or fields and then one."""
    end = answer.find(END, line)
    return end + len(END) if end >= 0 else None


def retry_after(head: Head, answer: bytes | bytearray) -> float:
    """Seconds after which the server wants to be called again, as exactly as it says; 0 if it does not."""
    if found := _RETRY_AFTER_MS.search(answer):
        return float(found[1]) / 1e3
    return head.retry_after_s
