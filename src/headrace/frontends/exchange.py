"""From an infer request's body to its answer's bytes, whichever socket it came from.

An Exchange is one request being answered; LeanCycle (cycle.py) and the ASGI route (rest.py) each make one and hear from
it how to respond. Both therefore send the same bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from headrace.admission.terms import best_terms
from headrace.batching.ticket import Ticket
from headrace.errors import BodiesFull, HeadraceError, InvalidRequest, NotReady
from headrace.events import RequestsFailed
from headrace.frontends.body_chain import BodyChain
from headrace.frontends.chain import Mark, awaited, has_chain, version_asked
from headrace.frontends.desk import Codec, Desk, Route, note_error
from headrace.frontends.headers import NO_WISHES, Wishes
from headrace.frontends.lobby import Guest
from headrace.frontends.responses import Response, answer_response, unexpected
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest
from headrace.parts import Part
from headrace.protocol import compression, transcode
from headrace.protocol.compression import Coding
from headrace.protocol.request import Peek
from headrace.protocol.response import LARGE_JSON
from headrace.records import Record
from headrace.routing.entry import Entry

Then = Callable[[bytes, int], None]
Otherwise = Callable[[HeadraceError], None]


class Exchange(ABC):
    """One infer request. `respond` is called once, unless the client goes away first."""

    # What most requests never change is a default of the class: one is made for every request.
    wishes = NO_WISHES
    started = 0.0
    size = 0
    request: InferRequest
    _codec: Codec
    _entry: Entry
    _ticket: Ticket | None = None
    _chain: BodyChain | None = None
    _guest: Guest | None = None
    degraded: tuple[Mark, ...] = ()
    record: Record | None = None

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

    def respond_body(self, content: bytes, header_length: int | None) -> None:
        """Send a successful answer; header_length as in protocol/response.py's Body."""
        if self.record is not None:
            self.record.note(self.desk.clock(), "answered", status=200, bytes=len(content))
        coding = self.wishes.answer_coding
        if coding is None or len(content) < self.desk.settings.compress_from_bytes:
            self._respond_coded(content, header_length)
        elif len(content) <= compression.DEFLATED_ON_LOOP:
            self._respond_compressed(content, header_length, coding, compression.deflate(content, coding))
        else:

            def respond(compressed: bytes, _: int) -> None:
                self._respond_compressed(content, header_length, coding, compressed)

            def respond_all_the_same(_: HeadraceError) -> None:
                self._respond_coded(content, header_length)

            Transcoding(self, transcode.DEFLATE[coding], 0, content, respond, respond_all_the_same)

    def _respond_compressed(
        self, content: bytes, header_length: int | None, coding: Coding, compressed: bytes
    ) -> None:
        if len(compressed) < len(content):
            self._respond_coded(compressed, header_length, coding)
        else:
            self._respond_coded(content, header_length)

    def _respond_coded(self, content: bytes, header_length: int | None, coding: Coding | None = None) -> None:
        degraded = b", ".join(dict.fromkeys([each.header for each in self.degraded]))
        self.respond(answer_response(content, header_length, self.wishes.request_id, coding, degraded))

    def degrade(self, marks: tuple[Mark, ...]) -> None:
        """The answer is less than what was asked, and says so."""
        self.degraded = marks

    def begin_as_wished(self, route: Route, body: bytes, header_length: int | None) -> None:
        """As `begin`, where the body may be compressed."""
        request_id, coding = self.wishes.request_id, self.wishes.coding
        if request_id is not None:
            self.record = self.desk.records.open(request_id.decode(), route.model, self.started)
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
            # Where something else may answer in its place, that needs the body.
            asked = version_asked(self.desk.catalog, route)
            is_decoded_later = has_chain(asked) or self.desk.lobby.takes(asked)
            if not is_decoded_later and self.refuse_unseen(self.find(route)):
                return
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
            version = self.find(route)
            json_length = len(body) if header_length is None else header_length
            if not self.desk.lag.is_calm and self.refuse_if_behind(version):
                return
            if json_length > LARGE_JSON and 0 <= json_length <= len(body):
                if has_chain(version):
                    self._chain = BodyChain(self, version, body, header_length)
                if not self._refuse_if_full(version):
                    submit = partial(self._submit_to, route)
                    Transcoding(self, transcode.TO_BINARY, json_length, body, submit)
                return
            self.submit(version, body, header_length)
        except NotReady as exc:
            asked = version_asked(self.desk.catalog, route)
            if self.waits_undecoded(asked, partial(self.begin, route, body, header_length)):
                return
            if asked is not None and has_chain(asked):
                self._chain = BodyChain(self, asked, body, header_length)
            self.fail(exc)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - a fault of ours costs this request, not the connection
            self.fail(unexpected(exc, self.wishes.request_id))

    def _submit_to(self, route: Route, body: bytes, header_length: int | None) -> None:
        """As `submit`, for whatever the URL means by now: another copy may have taken the version's place."""
        self.submit(self.find(route), body, header_length)

    def find(self, route: Route) -> ModelVersion:
        """The version that is asked.

        Raises:
            NotFound: there is none.
            NotReady: there is, and it cannot answer now.
        """
        return self.desk.catalog.find(route.model, route.version)

    @property
    def takes_less(self) -> bool:
        """Something else than what was asked for may answer, where there is a chain."""
        return True

    @property
    def has_waited(self) -> bool:
        """Its model had to come into memory first: what the skill promises is not for that."""
        return self._guest is not None

    def waits_undecoded(self, asked: ModelVersion | None, go_on: Callable[[], None]) -> bool:
        """Wait for what was never in memory before, if that is why nothing can answer; True if so, or if it was refused."""
        desk = self.desk
        if asked is None:
            return False
        coming = awaited(desk, asked, falls_back=self.takes_less)
        if coming is None:
            if desk.lobby.takes(asked):
                desk.catalog.residency.missed(asked)
            return False
        allowed_s = best_terms(asked.source.config, desk.deadline_s, self.wishes.timeout_s).allowed_s
        if self.record is not None:
            self.record.note(desk.clock(), "waits", model=coming.source.name, reason=coming.reason or None)
        self._guest = desk.lobby.wait(coming, self.started + allowed_s, go_on, self.fail)
        return True

    def submit(self, version: ModelVersion, body: bytes, header_length: int | None) -> None:
        """Decode the body for the version and queue it; or refuse it by what it is seen to be without its data.

        Raises:
            HeadraceError: the request cannot be decoded.
        """
        desk = self.desk
        codec = self._codec = desk.codec(version)
        chain, peek = None, None
        if codec.has_chain:
            chain = self._chain = BodyChain(self, version, body, header_length)
        if codec.entry.is_pressed:
            peek = codec.decoder.peek(body, header_length)
            refusal = desk.refusal(codec, peek, self.started, self.wishes, has_waited=self.has_waited)
            if refusal is not None:
                self.refuse(version, refusal)
                return
        request = self.request = codec.decoder.decode(body, header_length, peek)
        if chain is not None:
            chain.own = request
        ticket = desk.ticket(codec, request, self, self.started, self.wishes)
        if self.has_waited:
            ticket.target = ticket.deadline
        if ticket.record is not None:
            self.record = ticket.record
        self.wait_for(codec.entry, ticket)

    def wait_for(self, entry: Entry, ticket: Ticket) -> None:
        """What the exchange waits for, and what is dropped with it."""
        self._entry, self._ticket = entry, ticket
        entry.submit(ticket)

    def turn_to(self, codec: Codec, request: InferRequest) -> None:
        """Something else than what was asked answers from now on: this request, with this codec."""
        self._codec, self.request = codec, request

    def transcode(self, body: bytes, json_length: int, then: Then, otherwise: Otherwise) -> None:
        """Have the large JSON of a body made binary."""
        Transcoding(self, transcode.TO_BINARY, json_length, body, then, otherwise)

    def end(self, part: Part) -> None:
        """The model's answer: encode it here, or elsewhere if it is large."""
        try:
            encoder, chain = self._codec.encoder, self._chain
            if chain is not None:
                chain.keep(part)
            if encoder.is_large(self.request, part):
                content, header_length = encoder.encode(self.request, part, mark_json=True)
                if header_length is not None:
                    Transcoding(self, transcode.TO_JSON, header_length, content, self._respond_rendered)
                    return
            else:
                content, header_length = encoder.encode(self.request, part)
            if chain is not None:
                content, header_length = chain.marked(content, header_length)
                # It holds this exchange and the body: a circle would wait for the collector.
                self._chain = None
            self.respond_body(content, header_length)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - one answer's fault must not cost its batch-mates theirs
            self.fail(unexpected(exc, self.wishes.request_id))

    def _respond_rendered(self, content: bytes, header_length: int) -> None:
        chain, self._chain = self._chain, None
        if chain is None:
            self.respond_body(content, header_length or None)
        else:
            self.respond_body(*chain.marked(content, header_length or None))

    def fail(self, error: HeadraceError) -> None:
        """Respond with an error, unless something else answers in place of what failed."""
        if self._chain is not None:
            last = self._chain.go_on(error)
            if last is None:
                return
            error, self._chain = last, None
        response = self.desk.errors.write(error, self.wishes.request_id)
        if self.record is not None:
            note_error(self.record, self.desk.clock(), response.status, error)
        self.respond(response)

    def refuse_unseen(self, version: ModelVersion) -> bool:
        """Refuse what would be refused whatever its body holds; True if so."""
        return self.refuse_if_behind(version) or self._refuse_if_full(version)

    def refuse_if_behind(self, version: ModelVersion) -> bool:
        """Refuse the request while the gateway itself falls behind, unless the model would have nothing to do; True if so."""
        refusal = self.desk.lag.refusal()
        if refusal is None or self.desk.codec(version).entry.is_hungry:
            return False
        self.refuse(version, refusal)
        return True

    def _refuse_if_full(self, version: ModelVersion) -> bool:
        refusal = self.refusal_unseen(version)
        if refusal is not None:
            self.refuse(version, refusal)
        return refusal is not None

    def refusal_unseen(self, version: ModelVersion) -> HeadraceError | None:
        """The reason to refuse the request whatever its body holds, or None."""
        codec = self.desk.codec(version)
        if not codec.entry.is_pressed:
            return None
        peek, has_waited = self.unseen(codec), self.has_waited
        return self.desk.refusal(codec, peek, self.started, self.wishes, has_waited=has_waited)

    def unseen(self, codec: Codec) -> Peek:
        """What is known of a request before its body is looked at."""
        return codec.decoder.unseen

    def refuse(self, version: ModelVersion, refusal: HeadraceError) -> None:
        """Respond with a refusal that no pipeline has counted."""
        self.count_refusal(version, refusal)
        self.fail(refusal)

    def count_refusal(self, version: ModelVersion, refusal: HeadraceError) -> None:
        """For the metrics."""
        desk, source = self.desk, version.source
        waited_s = desk.clock() - self.started
        desk.report(RequestsFailed(source.name, source.version, refusal.code, [waited_s]))

    def drop(self) -> None:
        """The client is gone."""
        if self.record is not None:
            self.record.note(self.desk.clock(), "left")
        if self._guest is not None:
            self._guest.leave()
        if self._chain is not None:
            self._chain.leave()
            self._chain = None
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
        then: Then,
        otherwise: Otherwise | None = None,
    ) -> None:
        """`then` is called with what became of the body; `otherwise`, or the exchange's `fail`, with an error."""
        self._exchange = exchange
        self._then = then
        self._otherwise = otherwise or exchange.fail
        request = transcode.task(operation, number, body)
        ticket = Ticket(request, self, exchange.started, exchange.started + exchange.desk.deadline_s)
        ticket.tenant = exchange.wishes.tenant or exchange.wishes.stranger or ""
        if exchange.record is not None:
            ticket.record = exchange.record.of(stage="transcoder")
        exchange.wait_for(exchange.desk.transcoder(), ticket)

    def end(self, part: Part) -> None:
        try:
            self._then(*transcode.result(part.outputs.array(0, part).data))
        except HeadraceError as exc:
            self._exchange.fail(exc)
        except Exception as exc:  # noqa: BLE001 - as in Exchange.begin
            self._exchange.fail(unexpected(exc, self._exchange.wishes.request_id))

    def fail(self, error: HeadraceError) -> None:
        self._otherwise(error)
