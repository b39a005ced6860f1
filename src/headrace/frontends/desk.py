"""From an infer request's body to its answer's bytes, whichever socket it came from.

An Exchange is one request being answered; LeanCycle (http.py) and the ASGI route (rest.py) each make one and hear from
it how to respond. Both therefore send the same bytes.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote
from uuid import uuid4

import structlog

from headrace.admission.gate import patience
from headrace.batching.ticket import Reply, Ticket
from headrace.config import Settings
from headrace.errors import (
    BodiesFull,
    DeadlineExceeded,
    HeadraceError,
    InferenceFailed,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
)
from headrace.frontends.headers import NO_WISHES, Wishes
from headrace.frontends.tenants import Tenants
from headrace.lifecycle.catalog import Catalog
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest, ModelSpec
from headrace.model_config import ModelConfig
from headrace.parts import Part
from headrace.pipeline import Pipeline
from headrace.protocol import compression, transcode
from headrace.protocol.compression import Coding
from headrace.protocol.request import RequestDecoder
from headrace.protocol.response import LARGE_JSON, ResponseEncoder, encode_error
from headrace.protocol.status import HEADERS, HTTP_STATUS, RETRY_AFTER_S
from headrace.routing.entry import Entry, entry_of

INFER = re.compile(rb"^/v2/models/([^/?]+)(?:/versions/([0-9]+))?/infer(?:\?.*)?$")
MOST_ROUTES = 4096
LONGEST_HEAD = 1024

log = structlog.get_logger()


class Route(NamedTuple):
    """What an infer URL names."""

    model: str
    version: str | None


class Head(NamedTuple):
    """What a request's line and headers were found to mean. `is_plain`: keep_alive, and no wishes."""

    route: Route
    content_length: int
    header_length: int | None
    keep_alive: bool
    wishes: Wishes | None
    is_plain: bool


class Codec(NamedTuple):
    """A version's entry, and the decoder and encoder of what it takes and gives; under one spec of its model."""

    model_spec: ModelSpec
    entry: Entry
    decoder: RequestDecoder
    encoder: ResponseEncoder
    policies: ModelConfig | None


class Response(NamedTuple):
    """Status, headers in the order they are sent, body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Desk:
    """Takes infer requests in. Lives on the loop."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        clock: Callable[[], float],
        transcoder: Callable[[], Pipeline],
    ) -> None:
        """`transcoder` gives the pipeline in front of the transcoding worker, starting it if need be."""
        self.catalog = catalog
        self.settings = settings
        self.deadline_s = settings.deadline_s
        self._max_received_bytes = settings.max_received_bytes
        self.clock = clock
        self.transcoder = transcoder
        self.tenants = Tenants(settings)
        # The mutable state: what was worked out once, and the bytes of bodies that are not answered yet.
        self._routes: dict[bytes, Route | None] = {}
        self._codecs: dict[ModelVersion, Codec] = {}
        self.heads: dict[bytes, Head] = {}
        self.received_bytes = 0

    def route(self, url: bytes) -> Route | None:
        """What an infer URL names; None for any other URL."""
        try:
            return self._routes[url]
        except KeyError:
            pass
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        route = None
        if match := INFER.match(url):
            model, version = match.groups()
            route = Route(unquote(model.decode("latin-1")), version.decode() if version else None)
        self._routes[url] = route
        return route

    def remember(self, head: bytes, meaning: Head) -> None:
        """Clients send the same head again and again: the same bytes need not be parsed twice."""
        if len(self.heads) >= MOST_ROUTES:
            self.heads.clear()
        if len(head) <= LONGEST_HEAD:
            self.heads[head] = meaning

    def codec(self, version: ModelVersion) -> Codec:
        """The entry, decoder and encoder under the version's present spec."""
        codec = self._codecs.get(version)
        model_spec = version.pipeline.spec
        if codec is None or codec.model_spec is not model_spec:
            entry = entry_of(version)
            labels = {each.name: each.labels for each in version.source.config.outputs}
            encoder = ResponseEncoder(entry.spec, labels)
            config = version.source.config
            policies = config if config.has_policies else None
            codec = Codec(model_spec, entry, RequestDecoder(entry.spec), encoder, policies)
            # What was swapped or unloaded since the last time is forgotten here.
            kept = {each: known for each, known in self._codecs.items() if each.accepts}
            self._codecs = {**kept, version: codec}
        return codec

    def ticket(
        self,
        codec: Codec,
        request: InferRequest,
        reply: Reply,
        started: float,
        header_timeout_s: float | None,
    ) -> Ticket:
        """A ticket with the earliest of all deadlines that concern the request."""
        error: type[DeadlineExceeded | RequestTimeout] = RequestTimeout
        timeout_s, level = self.deadline_s, 0
        if codec.policies is not None:
            level, timeout_s = patience(codec.policies, request.priority, request.timeout_s, timeout_s)
        elif request.timeout_s is not None and request.timeout_s < timeout_s:
            timeout_s = request.timeout_s
        if header_timeout_s is not None and header_timeout_s < timeout_s:
            timeout_s, error = header_timeout_s, DeadlineExceeded
        ticket = Ticket(request, reply, started, started + timeout_s, error)
        ticket.level = level
        return ticket

    def has_room(self, nbytes: int) -> bool:
        """Whether so many bytes more may be received."""
        return self.received_bytes + nbytes <= self._max_received_bytes

    def refuse_size(self, header_length: int | None, size: int) -> HeadraceError | None:
        """The reason not to receive a body of that size, or None."""
        settings = self.settings
        json_size = header_length or size
        if json_size > settings.http_max_input_size:
            return RequestTooLarge(json_size, settings.http_max_input_size)
        if size > settings.max_request_bytes:
            return InvalidRequest(
                f"request of {size} bytes exceeds the maximum of {settings.max_request_bytes} bytes. "
                "Use --max-request-bytes to increase the limit."
            )
        return None

    def most_inflated(self, header_length: int | None) -> int:
        """Bytes that a compressed body may become."""
        settings = self.settings
        if header_length:
            return settings.max_request_bytes
        return min(settings.http_max_input_size, settings.max_request_bytes)


class Exchange(ABC):
    """One infer request. `respond` is called once, unless the client goes away first."""

    # What most requests never change is a default of the class: one is made for every request.
    wishes = NO_WISHES
    header_timeout_s: float | None = None
    started = 0.0
    size = 0
    request: InferRequest
    _codec: Codec
    _entry: Entry
    _ticket: Ticket | None = None

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.started = desk.clock()

    @abstractmethod
    def respond(self, response: Response) -> None:
        """Send the answer."""

    def hold(self, nbytes: int) -> None:
        """So many bytes more are held for this request until it is answered.

        Raises:
            BodiesFull: there is no room for them.
        """
        if not self.desk.has_room(nbytes):
            raise BodiesFull
        self.size += nbytes
        self.desk.received_bytes += nbytes

    def wish(self, wishes: Wishes) -> None:
        """Take in what the headers ask for; before it begins."""
        self.wishes = wishes
        self.header_timeout_s = wishes.timeout_s

    def respond_body(self, content: bytes, header_length: int | None) -> None:
        """Send a successful answer; header_length as in protocol/response.py's Body."""
        coding = self.wishes.answer_coding
        if coding is None or len(content) < self.desk.settings.compress_from_bytes:
            self.respond(answer_response(content, header_length, self.wishes.request_id))
        elif len(content) <= compression.DEFLATED_ON_LOOP:
            self._respond_compressed(content, header_length, coding, compression.deflate(content, coding))
        else:

            def respond(compressed: bytes, _: int) -> None:
                self._respond_compressed(content, header_length, coding, compressed)

            def respond_all_the_same(_: HeadraceError) -> None:
                self.respond(answer_response(content, header_length, self.wishes.request_id))

            Transcoding(self, transcode.DEFLATE[coding], 0, content, respond, respond_all_the_same)

    def _respond_compressed(
        self, content: bytes, header_length: int | None, coding: Coding, compressed: bytes
    ) -> None:
        request_id = self.wishes.request_id
        if len(compressed) < len(content):
            self.respond(answer_response(compressed, header_length, request_id, coding))
        else:
            self.respond(answer_response(content, header_length, request_id))

    def begin_as_wished(self, route: Route, body: bytes, header_length: int | None) -> None:
        """As `begin`, where the body may be compressed."""
        coding = self.wishes.coding
        if coding is None:
            self.begin(route, body, header_length)
            return

        def begin(content: bytes, outcome: int = transcode.IN_FULL) -> None:
            if outcome == transcode.TOO_MUCH:
                refusal = self.desk.refuse_size(header_length, limit + 1)
                raise refusal or InvalidRequest(f"the body becomes more than {limit} bytes when decompressed")
            self.hold(len(content))
            self.begin(route, content, header_length)

        limit = self.desk.most_inflated(header_length)
        try:
            if len(body) <= compression.INFLATED_ON_LOOP:
                content = compression.inflate(body, coding, min(limit, compression.INFLATED_ON_LOOP))
                if content is not None:
                    begin(content)
                    return
            Transcoding(self, transcode.INFLATE[coding], limit, body, begin)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - as in begin
            self.fail(unexpected(exc, self.wishes.request_id))

    def begin(self, route: Route, body: bytes, header_length: int | None) -> None:
        """Decode, admit and queue the request, or fail it."""
        try:
            version = self.desk.catalog.find(route.model, route.version)
            json_length = len(body) if header_length is None else header_length
            if json_length > LARGE_JSON and 0 <= json_length <= len(body):
                submit = partial(self._submit_to, route)
                Transcoding(self, transcode.TO_BINARY, json_length, body, submit)
                return
            self.submit(version, body, header_length)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - a fault of ours costs this request, not the connection
            self.fail(unexpected(exc, self.wishes.request_id))

    def _submit_to(self, route: Route, body: bytes, header_length: int | None) -> None:
        """As `submit`, for whatever the URL means by now: another copy may have taken the version's place."""
        self.submit(self.desk.catalog.find(route.model, route.version), body, header_length)

    def submit(self, version: ModelVersion, body: bytes, header_length: int | None) -> None:
        """Decode the body for the version and queue it.

        Raises:
            HeadraceError: the request cannot be decoded.
        """
        codec = self._codec = self.desk.codec(version)
        request = self.request = codec.decoder.decode(body, header_length)
        ticket = self.desk.ticket(codec, request, self, self.started, self.header_timeout_s)
        self.wait_for(codec.entry, ticket)

    def wait_for(self, entry: Entry, ticket: Ticket) -> None:
        """What the exchange waits for, and what is dropped with it."""
        self._entry, self._ticket = entry, ticket
        entry.submit(ticket)

    def end(self, part: Part) -> None:
        """The model's answer: encode it here, or elsewhere if it is large."""
        try:
            encoder = self._codec.encoder
            if encoder.is_large(self.request, part):
                content, header_length = encoder.encode(self.request, part, mark_json=True)
                if header_length is not None:
                    Transcoding(self, transcode.TO_JSON, header_length, content, self._respond_rendered)
                    return
            else:
                content, header_length = encoder.encode(self.request, part)
            self.respond_body(content, header_length)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - one answer's fault must not cost its batch-mates theirs
            self.fail(unexpected(exc, self.wishes.request_id))

    def _respond_rendered(self, content: bytes, header_length: int) -> None:
        self.respond_body(content, header_length or None)

    def fail(self, error: HeadraceError) -> None:
        """Respond with an error."""
        self.respond(error_response(error, self.wishes.request_id))

    def drop(self) -> None:
        """The client is gone."""
        if self._ticket is not None:
            self._entry.drop(self._ticket)


class Transcoding:
    """A large body on its way through the transcoder; then its exchange goes on."""

    def __init__(
        self,
        exchange: Exchange,
        operation: int,
        number: int,
        body: bytes,
        then: Callable[[bytes, int], None],
        otherwise: Callable[[HeadraceError], None] | None = None,
    ) -> None:
        """`then` is called with what became of the body; `otherwise`, or the exchange's `fail`, with an error."""
        self._exchange = exchange
        self._then = then
        self._otherwise = otherwise or exchange.fail
        request = transcode.task(operation, number, body)
        deadline = exchange.started + exchange.desk.settings.deadline_s
        exchange.wait_for(exchange.desk.transcoder(), Ticket(request, self, exchange.started, deadline))

    def end(self, part: Part) -> None:
        try:
            self._then(*transcode.result(part.outputs.array(0, part).data))
        except HeadraceError as exc:
            self._exchange.fail(exc)
        except Exception as exc:  # noqa: BLE001 - as in Exchange.begin
            self._exchange.fail(unexpected(exc, self._exchange.wishes.request_id))

    def fail(self, error: HeadraceError) -> None:
        self._otherwise(error)


def answer_response(
    content: bytes, header_length: int | None, request_id: bytes | None = None, coding: Coding | None = None
) -> Response:
    """An infer request's answer."""
    headers = [(b"content-type", b"application/json")]
    if header_length is not None:
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % header_length),
        ]
    if coding is not None:
        headers.append((b"content-encoding", coding.encode()))
    if request_id is not None:
        headers.append((b"x-request-id", request_id))
    headers.append((b"content-length", b"%d" % len(content)))
    return Response(200, headers, content)


def error_response(error: HeadraceError, request_id: bytes | None = None) -> Response:
    """An error as the protocol's clients read it."""
    body = encode_error(error, request_id.decode() if request_id is not None else None)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if (retry_after_s := RETRY_AFTER_S.get(type(error))) is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    if request_id is not None:
        headers.append((b"x-request-id", request_id))
    headers += HEADERS.get(type(error), ())
    return Response(HTTP_STATUS[type(error)], headers, body)


def unexpected(exc: Exception, request_id: bytes | None = None) -> HeadraceError:
    """A fault of ours: logged with its trace, answered with the id to look for."""
    name = request_id.decode() if request_id is not None else uuid4().hex
    log.error("request_failed_unexpectedly", request_id=name, exc_info=exc)
    return InferenceFailed(
        f"internal error: {type(exc).__name__}; the server's log has the details under request_id {name}"
    )
