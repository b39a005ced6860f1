"""The lean path: infer requests leave uvicorn's HTTP protocol when they are complete, before the ASGI machinery.

Everything else (keep-alive parsing, other routes, shutdown) stays uvicorn's, and so a LeanCycle has what uvicorn asks
of its own request cycles. A connection is swept by one timer for all (`sweep`), not by a timer a request.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from headrace.errors import HeadraceError, InvalidRequest, SlowSender
from headrace.frontends.cycle import LARGE_BODY, LeanCycle
from headrace.frontends.desk import Desk, Head
from headrace.frontends.headers import NO_WISHES, InferHeaders, find_request_id, read_headers
from headrace.frontends.responses import Response

MOST_HEADER_BYTES = 1 << 16
MOST_PIPELINED = 128
"""Requests that may wait on a connection for the answers before theirs: each takes many times its bytes."""


class LeanProtocol(HttpToolsProtocol):
    """One connection. uvicorn makes one for each, on the loop."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        desk: Desk,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._desk = desk
        # Mutable: the request whose body is arriving (a lean one, or one of uvicorn's), the one whose turn it is to be
        # answered, the lean ones that are not answered yet, since when a request has been arriving, when the
        # connection was last of use, whether headers are arriving and their bytes, a request that may have come whole
        # with its content length, and the answer the connection is being closed with.
        self._arriving: LeanCycle | None = None
        self._handed_over: RequestResponseCycle | None = None
        self._turn: LeanCycle | RequestResponseCycle | None = None
        self._due: list[LeanCycle] = []
        self._since: float | None = None
        self._last_use = desk.clock()
        self._in_headers = False
        self._header_bytes: int | None = None
        self._whole: LeanCycle | None = None
        self._whole_size = 0
        self._refusal: Response | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in self._due:
            cycle.disconnect()
        self._due = []
        self._arriving = None
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: what has come is answered, and then the connection ends."""
        super().shutdown()
        last: LeanCycle | RequestResponseCycle | None = self.cycle
        if isinstance(last, LeanCycle):
            last.be_special(keep_alive=False)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            self.flow.pause_reading()  # nothing more is read: whoever goes on sending is to notice
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        is_first = self._since is None and self._is_answered()
        if is_first:
            end = data.find(b"\r\n\r\n") + 4
            known = self._desk.heads.get(data[:end])
            if (
                known is not None
                and known.content_length == len(data) - end
                and self._desk.has_room(known.content_length)
            ):
                self._receive_known(known, data[end:])
                return
        try:
            self._feed(data)
            if self._in_headers:
                self._count_headers(len(data))
            elif is_first and self._since is None:
                self._remember(data)
        except httptools.HttpParserError as exc:
            if self._refusal is None:
                self.refuse(InvalidRequest(f"malformed HTTP request: {exc}"))

    def _feed(self, data: bytes) -> None:
        """Parse. Some clients offer to go on in HTTP/2, and there the parser stops, the body unread."""
        while self._refusal is None:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                data = self._without_offer() + data[exc.args[0] :]
            else:
                return

    def _without_offer(self) -> bytes:
        """The head that was just read, to be parsed again as if no other protocol had been offered."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self.refuse(InvalidRequest("this server is no proxy: it does not CONNECT"))
        self.parser = httptools.HttpRequestParser(self)
        fields = [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"".join([b"%s %s HTTP/%s\r\n" % (method, self.url, version.encode()), *fields, b"\r\n"])

    def _receive_known(self, head: Head, body: bytes) -> None:
        """One whole infer request, whose head was parsed before."""
        desk = self._desk
        cycle = LeanCycle(desk, self, head.route, head.is_plain)
        cycle.started = self._last_use = desk.clock()
        cycle.size = head.content_length
        desk.received_bytes += head.content_length
        self.cycle = self._turn = cycle  # type: ignore[assignment]
        self._due.append(cycle)
        if head.is_plain:
            cycle.begin(head.route, body, head.header_length)
        else:
            cycle.be_special(head.keep_alive, head.wishes)
            cycle.begin_as_wished(head.route, body, head.header_length)

    def _remember(self, data: bytes) -> None:
        """If the data was exactly one infer request, remember what its head means."""
        cycle, self._whole = self._whole, None
        if cycle is None or cycle.wishes.request_id is not None:
            return  # a head with an id comes once
        end = data.find(b"\r\n\r\n") + 4
        size = len(data) - end
        if self._whole_size == size:
            wishes = None if cycle.wishes is NO_WISHES else cycle.wishes
            head = Head(cycle.route, size, cycle.header_length, cycle.keep_alive, wishes, cycle.is_plain)
            self._desk.remember(data[:end], head)

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._arriving = self._handed_over = None
        self._since = self._last_use = self._desk.clock()
        self._in_headers = True
        self._whole = None
        self._header_bytes = None

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_headers = False
        if self._refusal is not None or self.parser.should_upgrade():
            return
        if len(self.pipeline) >= MOST_PIPELINED:
            self.refuse(InvalidRequest(f"more than {MOST_PIPELINED} requests wait on this connection"))
            return
        route = self._desk.route(self.url)
        if route is None or self.parser.get_method() != b"POST":
            self._hand_to_uvicorn()
            return
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        cycle = LeanCycle(self._desk, self, route, keep_alive)
        cycle.keep_alive = keep_alive
        cycle.is_started = self._is_answered()
        self.cycle = cycle  # type: ignore[assignment]
        self._arriving = cycle
        self._due.append(cycle)
        if cycle.is_started:
            self._turn = cycle
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]
        try:
            headers = read_headers(self.headers, self._desk.tenants)
            self._check(headers)
        except HeadraceError as exc:
            self.refuse(exc)
            return
        cycle.header_length = headers.header_length
        if headers.wishes is not None:
            cycle.be_special(keep_alive, headers.wishes)
        if headers.content_length is not None and not headers.expects_continue:
            self._whole, self._whole_size = cycle, headers.content_length
        if headers.expects_continue and cycle.is_started:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        cycle = self._arriving
        if cycle is None:
            if self._refusal is None:
                super().on_body(body)
        elif (refusal := cycle.receive(body)) is not None:
            self.refuse(refusal)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._since = self._handed_over = None
        cycle, self._arriving = self._arriving, None
        if cycle is not None:
            cycle.body_complete = True
            cycle.start_if_complete()
        elif self._refusal is None:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read its answers: take no more requests from it."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._is_nobodys_turn():
            self._go_on()

    def write(self, content: bytes) -> None:
        """Write unless the connection is closing."""
        if not self.transport.is_closing():
            self.transport.write(content)

    def write_response(self, response: Response, keep_alive: bool) -> None:
        """Head and body as uvicorn would write them."""
        if self.transport.is_closing():
            return
        status, headers, body = response
        head = [STATUS_LINE[status]]
        for name, value in headers:
            head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
        if len(body) < LARGE_BODY:
            head.append(body)
            self.transport.write(b"".join(head))
        else:
            self.transport.write(b"".join(head))
            self.transport.write(body)
        if not keep_alive:
            self.transport.close()

    def finish(self) -> None:
        """A lean request is answered: the next one on this connection may start."""
        self.server_state.total_requests += 1
        due = self._due
        if len(due) == 1:
            due.clear()
        else:
            self._due = [cycle for cycle in due if not cycle.response_complete]
        self._go_on()

    def on_response_complete(self) -> None:
        """One of uvicorn's is answered."""
        super().on_response_complete()
        if self._refusal is not None and self._is_nobodys_turn():
            self._go_on()

    def _go_on(self) -> None:
        """It is the next one's turn; after the last one's, the refusal's."""
        if self.transport.is_closing() or self.flow.write_paused:
            return
        if self.flow.read_paused and self._refusal is None:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._refusal is not None:
            self.write_response(self._refusal, keep_alive=False)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Uvicorn starts what was pipelined; a lean request may be next in line."""
        self._turn = cycle
        if isinstance(cycle, LeanCycle):
            cycle.is_started = True
            cycle.start_if_complete()
        else:
            super()._start_asgi_task(cycle, app)

    def refuse(self, error: HeadraceError) -> None:
        """Answer the request that is arriving with an error and close: the rest of it is not read.

        Earlier requests of this connection that are still being answered come first.
        """
        request_id = find_request_id(self.headers) if self._since is not None else None
        lean, handed_over = self._arriving, self._handed_over
        if lean is not None:
            self._refusal = self._desk.refuse_unread(lean.route.model, error, request_id)
        else:
            self._refusal = self._desk.errors.write(error, request_id)
        self._arriving = self._handed_over = None
        if lean is not None:
            lean.disconnect()
            self._due.remove(lean)
        elif handed_over is not None:
            if handed_over.response_started:
                self.transport.close()  # its answer is out, or a part of it: nothing more is to be said
                return
            # What the application still says for it goes nowhere.
            handed_over.disconnected = True
            handed_over.message_event.set()
        arriving = lean or handed_over
        if self.pipeline and self.pipeline[0][0] is arriving:
            self.pipeline.popleft()
        if self._turn is arriving:
            self._turn = None
        if self._is_nobodys_turn():
            self._go_on()
        else:
            self.flow.pause_reading()

    def sweep(self, now: float) -> None:
        """Close the connection if its request does not arrive, or nothing has come for long."""
        settings = self._desk.settings
        if self.transport.is_closing() or self._refusal is not None:
            return
        if self._since is not None:
            if now - self._since > settings.receive_timeout_s and not self.flow.read_paused:
                self.refuse(SlowSender(settings.receive_timeout_s))
        elif (
            self._is_answered()
            and self.timeout_keep_alive_task is None
            and now - self._last_use > settings.keep_alive_s
        ):
            self.transport.close()

    def _is_answered(self) -> bool:
        """Nothing is due on this connection."""
        last: LeanCycle | RequestResponseCycle | None = self.cycle
        return last is None or last.response_complete

    def _is_nobodys_turn(self) -> bool:
        """The next one may be answered."""
        return self._turn is None or self._turn.response_complete

    def _check(self, headers: InferHeaders) -> None:
        if headers.content_length is not None:
            refusal = self._desk.refuse_size(headers.header_length, headers.content_length)
            if refusal is not None:
                raise refusal

    def _count_headers(self, nbytes: int) -> None:
        """Only a message whose headers have not ended with the data is counted: most arrive at once.

        The data it began in is not, for what came before it there belongs to others.
        """
        if self._header_bytes is None:
            self._header_bytes = 0
            return
        self._header_bytes += nbytes
        if self._header_bytes > MOST_HEADER_BYTES and self._refusal is None:
            self.refuse(InvalidRequest(f"the headers have more than {MOST_HEADER_BYTES} bytes"))

    def _hand_to_uvicorn(self) -> None:
        """Not an infer request: replay what was held back."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        self._handed_over = self.cycle


def sweep(connections: Iterable[object], now: float) -> None:
    """Sweep all connections; called about once a second."""
    for connection in list(connections):
        if isinstance(connection, LeanProtocol):
            connection.sweep(now)
