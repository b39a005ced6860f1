"""What goes out: the answer of a model, or an error as the protocol's clients read it. Whatever the socket, the same bytes."""

from collections.abc import Callable
from math import ceil
from random import Random
from typing import NamedTuple
from uuid import uuid4

import structlog

from headrace.errors import CircuitOpen, HeadraceError, InferenceFailed, ModelAbsent, NoRoom, Overloaded
from headrace.protocol.compression import Coding
from headrace.protocol.response import encode_error
from headrace.protocol.status import HEADERS, HTTP_STATUS, REASONS, REFUSALS, RETRY_AFTER_S

Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
JITTER = 0.25
"""Of a time to try again, added at random: whoever was refused together should not come back together."""
LONGEST_RETRY_S = 60.0
"""A longer forecast is not worth believing."""
UNKNOWN_RETRY_S = 1.0
"""Where nobody can say: a breaker that waits for a worker, a load that was never measured."""
MILLISECONDS = 1e3

log = structlog.get_logger()


class Response(NamedTuple):
    """Status, headers in the order they are sent, body."""

    status: int
    headers: Headers
    body: bytes


class ErrorWriter:
    """Errors as responses."""

    def __init__(self, refuse_with: int, draw: Callable[[], float] | None = None) -> None:
        """How refusals look.

        Args:
            refuse_with: the status of what is refused because too much is here already.
            draw: gives a number from 0 up to 1, another one each time.
        """
        self._status = {**HTTP_STATUS, **dict.fromkeys(REFUSALS, refuse_with)}
        self._draw = draw or Random().random  # noqa: S311 - spreads clients, hides nothing

    def write(self, error: HeadraceError, request_id: bytes | None = None) -> Response:
        """An error as the protocol's clients read it."""
        kind, headers = type(error), [JSON]
        retry_after_s: float | None = RETRY_AFTER_S.get(kind)
        retry_after_ms = None
        if (reason := REASONS.get(kind)) is not None:
            retry_after_s = after(error)
            if retry_after_s is not None:
                retry_after_ms = ceil(retry_after_s * MILLISECONDS * (1 + JITTER * self._draw()))
        body = encode_error(error, request_id.decode() if request_id is not None else None, retry_after_ms)
        headers.append((b"content-length", b"%d" % len(body)))
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, ceil(retry_after_s))))
        if reason is not None:
            headers.append((b"x-reject-reason", reason))
        if request_id is not None:
            headers.append((b"x-request-id", request_id))
        headers += HEADERS.get(kind, ())
        return Response(self._status[kind], headers, body)


def after(error: HeadraceError) -> float | None:
    """Seconds after which what was refused may be sent again; None: not as things are."""
    if isinstance(error, Overloaded | CircuitOpen | ModelAbsent | NoRoom):
        known = error.retry_after_s
        return None if known is None else min(known or UNKNOWN_RETRY_S, LONGEST_RETRY_S)
    return RETRY_AFTER_S[type(error)]


def answer_response(
    content: bytes,
    header_length: int | None,
    request_id: bytes | None = None,
    coding: Coding | None = None,
    degraded: bytes = b"",
) -> Response:
    """An infer request's answer; `degraded` is how it is less than what was asked, as a header has it."""
    headers = [JSON]
    if header_length is not None:
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % header_length),
        ]
    if degraded:
        headers.append((b"x-degraded", degraded))
    if coding is not None:
        headers.append((b"content-encoding", coding.encode()))
    if request_id is not None:
        headers.append((b"x-request-id", request_id))
    headers.append((b"content-length", b"%d" % len(content)))
    return Response(200, headers, content)


def unexpected(exc: Exception, request_id: bytes | None = None) -> HeadraceError:
    """A fault of ours: logged with its trace, answered with the id to look for."""
    name = request_id.decode() if request_id is not None else uuid4().hex
    log.error("request_failed_unexpectedly", request_id=name, exc_info=exc)
    return InferenceFailed(
        f"internal error: {type(exc).__name__}; the server's log has the details under request_id {name}"
    )
