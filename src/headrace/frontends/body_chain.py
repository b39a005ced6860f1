"""An infer request on its way down its skill's chain: its body is kept, to be decoded again for whoever answers in the end."""

from collections.abc import Callable
from typing import Protocol

from headrace.batching.ticket import Reply, Ticket
from headrace.errors import HeadraceError
from headrace.frontends.chain import Chain, Mark
from headrace.frontends.desk import Codec, Desk
from headrace.frontends.headers import Wishes
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest
from headrace.parts import Part
from headrace.protocol.response import LARGE_JSON, Body, with_parameters
from headrace.records import Record
from headrace.routing.entry import Entry
from headrace.routing.static import StaticAnswers


class Caller(Reply, Protocol):
    """The exchange of an infer request, as its chain sees it."""

    desk: Desk
    started: float
    wishes: Wishes
    record: Record | None

    def degrade(self, marks: tuple[Mark, ...]) -> None:
        """The answer will be less than what was asked."""

    def turn_to(self, codec: Codec, request: InferRequest) -> None:
        """From now on the answer is written for this request, by this codec."""

    def wait_for(self, entry: Entry, ticket: Ticket) -> None:
        """Submit the ticket, and wait for it."""

    def transcode(
        self,
        body: bytes,
        json_length: int,
        then: Callable[[bytes, int], None],
        otherwise: Callable[[HeadraceError], None],
    ) -> None:
        """Have a large JSON body made binary."""


class BodyChain(Chain):
    """Of one infer request."""

    def __init__(self, caller: Caller, version: ModelVersion, body: bytes, header_length: int | None) -> None:
        super().__init__(caller.desk, version, caller.started, caller.wishes)
        self._caller = caller
        self._body = body
        self._header_length = header_length
        self._json_length = len(body) if header_length is None else header_length
        self._is_large = LARGE_JSON < self._json_length <= len(body)

    def marked(self, content: bytes, header_length: int | None) -> Body:
        """An answer with what it is less, if it is, as the caller's program reads it."""
        mark = self.mark
        if mark is None:
            return content, header_length
        self.report()
        return with_parameters(content, header_length, {"degraded": mark.by, "degraded_reason": mark.reason})

    def _descend(self) -> HeadraceError | None:
        if self._is_large:
            # Nobody decodes so much JSON on the loop: first it is made binary, then the steps are tried.
            self._is_large = False
            self._caller.transcode(self._body, self._json_length, self._on_binary, self._on_no_binary)
            return None
        return super()._descend()

    def _on_binary(self, body: bytes, header_length: int) -> None:
        self._body, self._header_length = body, header_length
        self._fail_again()

    def _on_no_binary(self, _: HeadraceError) -> None:
        self._descent.give_up()
        self._fail_again()

    def _fail_again(self) -> None:
        assert self._descent.first is not None, "something failed, or nobody would be here"
        self._fail(self._descent.first)

    @property
    def _record(self) -> Record | None:
        return self._caller.record

    def _fail(self, error: HeadraceError) -> None:
        self._caller.fail(error)

    def _read(self, version: ModelVersion) -> tuple[Codec, InferRequest]:
        codec = self._desk.codec(version)
        request = codec.decoder.decode(self._body, self._header_length)
        if request.id and self._wishes.request_id is None and self._caller.record is None:
            # What is refused by its envelope is not known by the id in its body before now.
            self._caller.record = self._desk.records.open(request.id, self.version.source.name, self._started)
        return codec, request

    def _ticket(self, codec: Codec, request: InferRequest) -> Ticket:
        return self._desk.ticket(codec, request, self._caller, self._started, self._wishes)

    def _run(self, version: ModelVersion, codec: Codec, ticket: Ticket) -> None:  # noqa: ARG002 - as of Chain
        self._turn_to(codec, ticket.request)
        self._caller.wait_for(codec.entry, ticket)

    def _answer(self, codec: Codec, request: InferRequest, part: Part) -> None:
        self._turn_to(codec, request)
        self._caller.end(part)

    def _take_static(self, answers: StaticAnswers) -> None:
        codec, request = self._of_own()
        part = answers.part(codec.entry.spec, request.wanted, request.rows, self._desk.clock())
        self._note("falls back", step="static", reason=self._descent.reason)
        self._answer(codec, request, part)

    def _turn_to(self, codec: Codec, request: InferRequest) -> None:
        mark = self.mark
        assert mark is not None, "only lesser answers come from here"
        self._caller.degrade((mark,))
        self._caller.turn_to(codec, request)
