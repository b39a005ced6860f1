"""What all infer requests share: what their URLs and heads mean, who decodes them, under which terms they are taken in."""

import re
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from headrace.admission.forecast import Arrival
from headrace.admission.terms import Terms, best_terms, terms
from headrace.batching.ticket import Reply, Ticket
from headrace.config import Settings
from headrace.errors import HeadraceError, InvalidRequest, RequestTooLarge
from headrace.events import Event
from headrace.frontends.headers import NO_WISHES, Wishes
from headrace.frontends.lag import LagWatch
from headrace.frontends.lobby import Lobby
from headrace.frontends.responses import ErrorWriter, Response
from headrace.frontends.tenants import Tenants
from headrace.frontends.turns import Turns
from headrace.lifecycle.catalog import Catalog
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest, ModelSpec
from headrace.model_config import ModelConfig
from headrace.pipeline import Pipeline
from headrace.protocol.request import Peek, RequestDecoder
from headrace.protocol.response import ResponseEncoder
from headrace.records import Record, Records
from headrace.routing.entry import Entry, entry_of
from headrace.routing.kept import KeptAnswers

INFER = re.compile(rb"^/v2/models/([^/?]+)(?:/versions/([0-9]+))?/infer(?:\?.*)?$")
MOST_ROUTES = 4096
LONGEST_HEAD = 1024


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
    """A version's entry, and the decoder and encoder of what it takes and gives; under one spec of its model.

    `terms` are those of a request that asks for nothing; `has_chain`: something else answers where it cannot.
    """

    model_spec: ModelSpec
    entry: Entry
    decoder: RequestDecoder
    encoder: ResponseEncoder
    config: ModelConfig
    terms: Terms
    has_chain: bool


class Desk:
    """Takes infer requests in. Lives on the loop."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        clock: Callable[[], float],
        transcoder: Callable[[], Pipeline],
        report: Callable[[Event], None],
        call_soon: Callable[[Callable[[], None]], object],
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        """What infer requests need.

        Args:
            catalog: knows what serves.
            settings: bounds and deadlines.
            clock: seconds.
            transcoder: gives the pipeline in front of the transcoding worker, starting it if need be.
            report: hears of what is refused here, before it comes to a pipeline.
            call_soon: has something called in the loop's next turn.
            time_of_day: seconds since the epoch.
        """
        self.catalog = catalog
        self.settings = settings
        self.deadline_s = settings.deadline_s
        self._max_received_bytes = settings.max_received_bytes
        self.clock = clock
        self.transcoder = transcoder
        self.report = report
        self.tenants = Tenants(settings)
        self.errors = ErrorWriter(settings.refuse_with)
        self.lag = LagWatch(settings.max_loop_lag_s, clock)
        self.records = Records(settings.explained_requests, clock, time_of_day)
        self.kept = KeptAnswers(settings.max_stale_bytes)
        self.turns = Turns(clock, call_soon)
        self.lobby = Lobby(catalog, clock)
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
            usual = terms(config, self.deadline_s)
            decoder, has_chain = RequestDecoder(entry.spec), bool(config.fallback.chain)
            codec = Codec(model_spec, entry, decoder, encoder, config, usual, has_chain)
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
        wishes: Wishes,
        item: int | None = None,
    ) -> Ticket:
        """A ticket under the terms that concern the request; `item` is which of its items this is, if it has several."""
        if wishes is NO_WISHES and request.timeout_s is None and not request.priority:
            granted = codec.terms
        else:
            priority = request.priority or wishes.priority
            granted = terms(codec.config, self.deadline_s, priority, request.timeout_s, wishes.timeout_s)
        level, allowed_s, target_s, is_asked, error = granted
        ticket = Ticket(request, reply, started, started + allowed_s, error)
        ticket.level = level
        ticket.target = started + target_s
        ticket.is_asked = is_asked
        if wishes is not NO_WISHES or request.tenant or request.id:
            ticket.tenant = self._whose(wishes, request.tenant)
            self._open_record(ticket, codec, wishes, item)
        return ticket

    def _open_record(self, ticket: Ticket, codec: Codec, wishes: Wishes, item: int | None) -> None:
        """Hang the request's record on its ticket, if it has an id; the header's goes before the body's."""
        request, spec = ticket.request, codec.model_spec
        request_id = request.id if wishes.request_id is None else wishes.request_id.decode()
        record = self.records.open(request_id, spec.name, ticket.arrived) if request_id else None
        if record is None:
            return
        ticket.record = record = record if item is None else record.of(item=item)
        record.note(
            self.clock(),
            "read",
            model=spec.name,
            version=spec.version,
            variant=codec.config.variant or None,
            rows=request.rows,
            bytes=request.nbytes,
            tenant=ticket.tenant or None,
            level=ticket.level or None,
            deadline_ms=milliseconds(ticket.deadline - ticket.arrived),
            target_ms=milliseconds(ticket.target - ticket.arrived),
        )

    def refusal(
        self, codec: Codec, peek: Peek, started: float, wishes: Wishes, *, has_waited: bool = False
    ) -> HeadraceError | None:
        """The reason not to decode a request at all, or None: what its ticket would be refused for.

        `has_waited`: its model had to come into memory first, for which the skill promises nothing.
        """
        asked, named = peek.asked, ""
        if asked is None:
            granted = best_terms(codec.config, self.deadline_s, wishes.timeout_s)
        else:
            timeout_s, priority, named = asked
            priority = priority or wishes.priority
            granted = codec.terms
            if priority or timeout_s is not None or wishes.timeout_s is not None:
                granted = terms(codec.config, self.deadline_s, priority, timeout_s, wishes.timeout_s)
        tenant = self._whose(wishes, named)
        refusal = codec.entry.refusal(
            Arrival(
                peek.rows,
                peek.cost,
                peek.nbytes,
                granted.level,
                tenant,
                started,
                started + granted.allowed_s,
                started + (granted.allowed_s if has_waited else granted.target_s),
                granted.is_asked,
            )
        )
        if refusal is not None and (record := self._record_of(wishes, codec.model_spec.name, started)):
            record.note(
                self.clock(),
                "refused",
                model=codec.model_spec.name,
                version=codec.model_spec.version,
                code=refusal.code,
                reason=str(refusal),
                rows=peek.rows,
                tenant=tenant or None,
                level=granted.level or None,
                deadline_ms=milliseconds(granted.allowed_s),
                target_ms=milliseconds(granted.target_s),
                **refusal.numbers,
            )
        return refusal

    def refuse_unread(self, model: str, error: HeadraceError, request_id: bytes | None) -> Response:
        """The answer to an infer request whose body is not read, or not to its end; noted under its id."""
        response = self.errors.write(error, request_id)
        if request_id is not None:
            now = self.clock()
            record = self.records.open(request_id.decode(), model, now)
            if record is not None:
                note_error(record, now, response.status, error)
        return response

    def _record_of(self, wishes: Wishes, model: str, started: float) -> Record | None:
        """That of a request whose header names an id."""
        return (
            None
            if wishes.request_id is None
            else self.records.open(wishes.request_id.decode(), model, started)
        )

    def _whose(self, wishes: Wishes, named: str) -> str:
        """The tenant: as the headers have it, or the request itself, or what stands for a key that nobody listed."""
        return wishes.tenant or (named and self.tenants.of_name(named)) or wishes.stranger or ""

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


def note_error(record: Record, now: float, status: int, error: HeadraceError) -> None:
    """The request ends with an error."""
    record.note(now, "answered", status=status, code=error.code, reason=str(error), **error.numbers)


def milliseconds(seconds: float) -> float:
    """To a thousandth, for people."""
    return round(seconds * 1e3, 3)
