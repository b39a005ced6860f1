"""Compressed bodies: which coding a header names, and gzip and deflate bounded by what they may become.

A few kilobytes can inflate to gigabytes, so nothing here makes more bytes than it was allowed; what would is refused
while it is being read. Small bodies are done on the loop, larger ones by the transcoder (transcode.py).
"""

import zlib
from enum import StrEnum

from headrace.errors import InvalidRequest, UnsupportedCoding

INFLATED_ON_LOOP = 1 << 16
"""Bytes, of what comes and of what it becomes: 0.2 ms. More is for a worker."""
DEFLATED_ON_LOOP = 1 << 14
"""Bytes: deflating takes several times as long."""
LEVEL = 1
"""Fastest: tensors hardly shrink further at a higher one, and text by a tenth."""


class Coding(StrEnum):
    """What bodies may be compressed with."""

    GZIP = "gzip"
    DEFLATE = "deflate"


WINDOW = {Coding.GZIP: 16 + zlib.MAX_WBITS, Coding.DEFLATE: zlib.MAX_WBITS}
"""How zlib names them: deflate is, on the web, a zlib stream."""


def coding_of_body(value: str) -> Coding | None:
    """What a Content-Encoding says; None for a body that is as it is.

    Raises:
        UnsupportedCoding: any other, or several.
    """
    name = value.strip().lower()
    if name in {"", "identity"}:
        return None
    try:
        return Coding(name)
    except ValueError as exc:
        raise UnsupportedCoding(value) from exc


def coding_for_answer(value: str) -> Coding | None:
    """What an Accept-Encoding asks for; None for the answer as it is.

    Many HTTP libraries offer a list of their own accord, and compressing for them is work nobody asked for. So it
    counts as asking to name one coding, or to weigh several (`;q=`): then the highest weight wins, and of equal ones
    the first.
    """
    offers = [weighed(each) for each in value.lower().split(",") if each.strip()]
    names = [name for name, _ in offers if name != "identity"]
    if len(names) != 1 and ";" not in value:
        return None
    best, most = None, 0.0
    for name, weight in offers:
        if weight > most and (name == "identity" or name in WINDOW):
            best, most = name, weight
    return None if best is None or best == "identity" else Coding(best)


def weighed(offer: str) -> tuple[str, float]:
    """`gzip;q=0.5` → its name and weight; 0 for a weight nobody can read."""
    name, _, parameter = offer.partition(";")
    key, _, weight = parameter.partition("=")
    if key.strip() != "q":
        return name.strip(), 1.0
    try:
        value = float(weight)
    except ValueError:
        return name.strip(), 0.0
    return name.strip(), value if 0 <= value <= 1 else 0.0


def inflate(data: bytes | memoryview, coding: Coding, limit: int) -> bytes | None:
    """The body as it was, or None if it would have more than `limit` bytes.

    Raises:
        InvalidRequest: the data is not of that coding, or ends too early.
    """
    stream = zlib.decompressobj(WINDOW[coding])
    try:
        content = stream.decompress(data, limit + 1)
    except zlib.error as exc:
        raise InvalidRequest(f"the body cannot be decompressed as {coding}: {exc}") from exc
    if len(content) > limit:
        return None
    if not stream.eof:
        raise InvalidRequest(f"the {coding} body ends too early")
    if stream.unused_data:
        raise InvalidRequest(f"there are {len(stream.unused_data)} bytes after the end of the {coding} body")
    return content


def deflate(data: bytes | memoryview, coding: Coding) -> bytes:
    """The body, compressed."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW[coding])
    return stream.compress(data) + stream.flush()
