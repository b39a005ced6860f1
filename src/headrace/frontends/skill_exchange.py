"""One request for a skill: its items, a ticket each, and their answers once all are there."""

import msgspec

from headrace.admission.forecast import arrival_of
from headrace.batching.ticket import Ticket
from headrace.errors import HeadraceError, InvalidRequest
from headrace.frontends.asgi import AsgiExchange
from headrace.frontends.desk import Codec, Route
from headrace.frontends.responses import unexpected
from headrace.frontends.skill_bodies import read_body
from headrace.frontends.skill_desk import SkillCodec, SkillDesk
from headrace.frontends.skill_items import MOST_NUMBERS_BYTES, Item
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest
from headrace.parts import Part
from headrace.protocol.parameters import NOTHING_ASKED
from headrace.protocol.request import Peek
from headrace.routing.entry import Entry

_encode = msgspec.json.Encoder().encode


class SkillExchange(AsgiExchange):
    """One request for a skill: its items' tickets, and their answers once all are there."""

    def __init__(
        self, skills: SkillDesk, content_type: bytes, variant: str | None, version: str | None
    ) -> None:
        super().__init__(skills.desk)
        self._skills = skills
        self._content_type = content_type
        self._variant = variant
        self._version = version
        # The mutable state: the items' tickets, and their answers or errors as far as they have come.
        self._codec_of_skill: SkillCodec | None = None
        self._tickets: list[Ticket] = []
        self._answers: list[bytes | HeadraceError | None] = []
        self._missing = 0
        self._is_many = False

    def find(self, route: Route) -> ModelVersion:
        """As of Exchange, with the variant and version of the query."""
        return self._skills.find(route.model, self._variant, self._version)

    def unseen(self, codec: Codec) -> Peek:
        """As of Exchange; bodies of this API have no parameters, so there is nothing to learn of those."""
        return codec.decoder.unseen._replace(asked=NOTHING_ASKED)

    def begin(self, route: Route, body: bytes, header_length: int | None) -> None:  # noqa: ARG002 - as of Exchange
        """Read the items and queue them, or fail."""
        try:
            version = self.find(route)
            if self.refuse_unseen(version):
                return
            codec = self._codec_of_skill = self._skills.codec(version)
            content = read_body(route.model, self._content_type, body, codec.reader.readers)
            self._is_many = content.is_many
            most = self.desk.settings.max_batch_size
            if len(content.items) > most:
                raise InvalidRequest(
                    f"the request has {len(content.items)} items, and at most {most} are taken"
                )
            if len(body) > MOST_NUMBERS_BYTES:
                codec.reader.check_numbers(content.items)
            self._queue(version, codec, content.items)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - a fault of ours costs this request, not the connection
            self.fail(unexpected(exc, self.wishes.request_id))

    def _queue(self, version: ModelVersion, codec: SkillCodec, items: list[Item]) -> None:
        requests: list[InferRequest | HeadraceError] = []
        for item in items:
            try:
                requests.append(codec.reader.read(item))
            except HeadraceError as exc:
                requests.append(exc)
        self._answers = [each if isinstance(each, HeadraceError) else None for each in requests]
        tickets = [
            self.desk.ticket(
                codec.of_model,
                each,
                ItemReply(self, at),
                self.started,
                self.wishes,
                at if self._is_many else None,
            )
            for at, each in enumerate(requests)
            if isinstance(each, InferRequest)
        ]
        if len(tickets) > 1 and (refusal := ask_together(codec.entry, tickets)) is not None:
            self.refuse(version, refusal)
            return
        self._missing = len(tickets)
        self._tickets = tickets
        if not tickets:
            self._finish()
        for ticket in tickets:
            codec.entry.submit(ticket)

    def item_done(self, index: int, answer: bytes | HeadraceError) -> None:
        """An item's answer or error has come."""
        self._answers[index] = answer
        self._missing -= 1
        if not self._missing:
            self._finish()

    def write(self, part: Part) -> bytes:
        """An item's answer as JSON."""
        assert self._codec_of_skill is not None, "tickets come from its reader"
        return self._codec_of_skill.writer.write(part)

    def _finish(self) -> None:
        answers = self._answers
        assert self._codec_of_skill is not None, "there are answers"
        head = self._codec_of_skill.head
        if not self._is_many:
            (only,) = answers
            if isinstance(only, bytes):
                self.respond_body(b'%b,"answer":%b}' % (head, only), None)
            elif only is not None:
                self.fail(only)
            return
        errors = [each for each in answers if isinstance(each, HeadraceError)]
        if errors and len(errors) == len(answers):
            self.fail(errors[0])
            return
        shown = [each if isinstance(each, bytes) else item_error(each) for each in answers]
        self.respond_body(b'%b,"answers":[%b]}' % (head, b",".join(shown)), None)

    def drop(self) -> None:
        """The client is gone: items that wait are not run."""
        super().drop()  # the body may still be with the transcoder
        if self._codec_of_skill is not None:
            for ticket in self._tickets:
                self._codec_of_skill.entry.drop(ticket)


class ItemReply:
    """Where one item's answer goes."""

    def __init__(self, exchange: SkillExchange, index: int) -> None:
        self._exchange = exchange
        self._index = index

    def end(self, part: Part) -> None:
        try:
            answer: bytes | HeadraceError = self._exchange.write(part)
        except HeadraceError as exc:
            answer = exc
        except Exception as exc:  # noqa: BLE001 - one answer's fault must not cost its batch-mates theirs
            answer = unexpected(exc, self._exchange.wishes.request_id)
        self._exchange.item_done(self._index, answer)

    def fail(self, error: HeadraceError) -> None:
        self._exchange.item_done(self._index, error)


def ask_together(entry: Entry, tickets: list[Ticket]) -> HeadraceError | None:
    """The reason not to take in what one request brings, or None.

    What a skill promises is kept or broken for the whole request: that its items wait for each other is no reason to
    refuse some of them, so once they are taken in they may take until their deadline. A deadline of the caller's own
    is held against each item by itself.
    """
    first = tickets[0]
    if first.target == first.deadline:
        return None
    requests = [each.request for each in tickets]
    whole = arrival_of(first)._replace(
        rows=sum(each.rows for each in requests),
        cost=max(each.group.cost for each in requests),
        nbytes=sum(each.nbytes for each in requests),
    )
    for each in tickets:
        each.target = each.deadline
    return entry.refusal(whole)


def item_error(error: HeadraceError | None) -> bytes:
    """An item's error among the answers of others."""
    assert error is not None, "all items are done"
    return _encode({"error": {"code": error.code, "message": str(error)}})
