"""One infer request on a connection of the lean path: its body while it arrives, then its answer."""

from typing import Protocol

from headrace.errors import BodiesFull, HeadraceError
from headrace.frontends.chain import Mark
from headrace.frontends.desk import Desk, Route
from headrace.frontends.exchange import Exchange
from headrace.frontends.headers import Wishes
from headrace.frontends.responses import Response

BINARY_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
    b"inference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n%b"
)
JSON_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
LARGE_BODY = 1 << 16
"""A larger body is written by itself rather than copied behind its head."""
MOST_CHUNKS = 256


class Connection(Protocol):
    """Where a cycle's answer goes."""

    def write(self, content: bytes) -> None:
        """Write unless the connection is closing."""

    def write_response(self, response: Response, keep_alive: bool) -> None:
        """Write head and body."""

    def finish(self) -> None:
        """A request was answered: the next one may start."""


class NoEvent:
    """In place of the event that uvicorn sets to wake an ASGI task: there is no task."""

    def set(self) -> None:
        """Nobody waits."""


NO_EVENT = NoEvent()


class LeanCycle(Exchange):
    """One infer request on a connection. uvicorn asks it what it asks its own cycles."""

    message_event = NO_EVENT
    header_length: int | None = None
    is_started = False
    body_complete = False
    response_complete = False
    disconnected = False
    keep_alive = True

    def __init__(self, desk: Desk, connection: Connection, route: Route, is_plain: bool) -> None:
        """`is_plain`: keep_alive and wishes are as for most; else `be_special` says how they are."""
        # Not by way of super: one is made for every request.
        self.desk = desk
        self.connection = connection
        self.route = route
        self.is_plain = is_plain
        self.chunks: list[bytes] | bytearray = []

    def be_special(self, keep_alive: bool, wishes: Wishes | None = None) -> None:
        """What is not as for most requests."""
        self.is_plain = False
        self.keep_alive = keep_alive
        if wishes is not None:
            self.wish(wishes)

    def degrade(self, marks: tuple[Mark, ...]) -> None:
        """As of Exchange; there is more to say than to most."""
        super().degrade(marks)
        self.be_special(self.keep_alive)

    def receive(self, chunk: bytes) -> HeadraceError | None:
        """A piece of the body; the reason not to receive more, or None."""
        if isinstance(self.chunks, bytearray):
            self.chunks += chunk
        elif len(self.chunks) < MOST_CHUNKS:
            self.chunks.append(chunk)
        else:
            # Many tiny chunks: an object each would take many times their bytes.
            self.chunks = bytearray().join([*self.chunks, chunk])
        self.size += len(chunk)
        desk = self.desk
        desk.received_bytes += len(chunk)
        if desk.received_bytes > desk.settings.max_received_bytes:
            return BodiesFull()
        return desk.refuse_size(self.header_length, self.size)

    def start_if_complete(self) -> None:
        """Begin once the body is there and the connection's earlier answers are out."""
        if not self.body_complete or not self.is_started or self.response_complete:
            return
        chunks, self.chunks = self.chunks, []
        if isinstance(chunks, bytearray):
            body = bytes(chunks)
        else:
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self.started = self.desk.clock()
        self.begin_as_wished(self.route, body, self.header_length)

    def respond(self, response: Response) -> None:
        if not self.response_complete:
            self.response_complete = True
            self.desk.received_bytes -= self.size
            self.connection.write_response(response, self.keep_alive)
            self.connection.finish()

    def respond_body(self, content: bytes, header_length: int | None) -> None:
        """The same bytes as for any response, with less to do for the most frequent kind."""
        if not self.is_plain or self.record is not None or len(content) >= LARGE_BODY:
            super().respond_body(content, header_length)
        elif not self.response_complete:
            self.response_complete = True
            self.desk.received_bytes -= self.size
            if header_length is None:
                answer = JSON_ANSWER % (len(content), content)
            else:
                answer = BINARY_ANSWER % (header_length, len(content), content)
            self.connection.write(answer)
            self.connection.finish()

    def disconnect(self) -> None:
        """The client is gone."""
        if not self.response_complete:
            self.response_complete = self.disconnected = True
            self.desk.received_bytes -= self.size
            self.drop()
