"""One request for a skill: its items, a ticket each, and their answers once all are there."""

from functools import partial
from typing import NamedTuple

import msgspec

from headrace.admission.forecast import arrival_of
from headrace.batching.ticket import Ticket
from headrace.errors import HeadraceError, InvalidRequest, NotReady
from headrace.frontends.asgi import AsgiExchange
from headrace.frontends.chain import Mark, has_chain, version_asked
from headrace.frontends.desk import Codec, Route
from headrace.frontends.responses import unexpected
from headrace.frontends.skill_bodies import Body, read_body
from headrace.frontends.skill_chain import ItemChain, read_for_others
from headrace.frontends.skill_desk import SkillCodec, SkillDesk, head_of
from headrace.frontends.skill_items import MOST_NUMBERS_BYTES, Item
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest
from headrace.parts import Part
from headrace.protocol.parameters import NOTHING_ASKED
from headrace.protocol.request import Peek
from headrace.records import Record
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
        # The mutable state: what was asked, the tickets that stand for the items, where their answers go, their answers or
        # errors as far as they have come, and by whom those were given that are less than what was asked.
        self._asked: ModelVersion | None = None
        self._waiting: list[tuple[Entry, Ticket]] = []
        self._replies: list[ItemReply] = []
        self._answers: list[bytes | HeadraceError | None] = []
        self._lesser: dict[int, Lesser] = {}
        self._missing = 0
        self._is_many = False

    def find(self, route: Route) -> ModelVersion:
        """As of Exchange, with the variant and version of the query."""
        return self._skills.find(route.model, self._variant, self._version)

    def unseen(self, codec: Codec) -> Peek:
        """As of Exchange; bodies of this API have no parameters, so there is nothing to learn of those."""
        return codec.decoder.unseen._replace(asked=NOTHING_ASKED)

    def begin(self, route: Route, body: bytes, header_length: int | None) -> None:
        """Read the items and queue them, or fail."""
        try:
            version = self._asked = self.find(route)
            if self.refuse_if_behind(version):
                return
            if (refusal := self.refusal_unseen(version)) is not None:
                self.count_refusal(version, refusal)
                self._fall_back(version, body, refusal)
                return
            codec = self._skills.codec(version)
            content = read_body(route.model, self._content_type, body, codec.reader.readers)
            self._take(content)
            if len(body) > MOST_NUMBERS_BYTES:
                codec.reader.check_numbers(content.items)
            self._queue(version, codec, content.items)
        except NotReady as exc:
            asked = version_asked(
                self.desk.catalog, Route(self._skills.name(route.model, self._variant), self._version)
            )
            if not self.waits_undecoded(asked, partial(self.begin, route, body, header_length)):
                self._fall_back(asked, body, exc)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - a fault of ours costs this request, not the connection
            self.fail(unexpected(exc, self.wishes.request_id))

    def _fall_back(self, version: ModelVersion | None, body: bytes, error: HeadraceError) -> None:
        """What was asked cannot answer: each item falls back, if there is something to fall back to."""
        self._asked = version
        try:
            if version is None or not self._falls_back(version):
                self.fail(error)
            elif not self.refuse_if_behind(version):
                content = read_for_others(self._skills, version, self._content_type, body)
                self._take(content)
                is_known = bool(version.pipeline.spec.outputs)
                codec = self._skills.codec(version) if is_known else None
                if codec is not None and len(body) > MOST_NUMBERS_BYTES:
                    codec.reader.check_numbers(content.items)
                self._fail_each([reply for reply, _ in self._read(version, codec, content.items)], error)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - as in begin
            self.fail(unexpected(exc, self.wishes.request_id))

    @property
    def takes_less(self) -> bool:
        """Whoever asks for a variant by its name wants that one."""
        return self._variant is None

    def _falls_back(self, version: ModelVersion) -> bool:
        return self.takes_less and has_chain(version)

    def _take(self, content: Body) -> None:
        self._is_many = content.is_many
        most = self.desk.settings.max_batch_size
        if len(content.items) > most:
            raise InvalidRequest(f"the request has {len(content.items)} items, and at most {most} are taken")
        self._answers = [None] * len(content.items)

    def _read(
        self, version: ModelVersion, codec: SkillCodec | None, items: list[Item]
    ) -> list[tuple["ItemReply", InferRequest | None]]:
        """Where the answers of the items go, and the items as the codec reads them, if there is one.

        Those that it cannot read have their errors for answers.
        """
        found: list[tuple[ItemReply, InferRequest | None]] = []
        falls_back, request = self._falls_back(version), None
        for at, item in enumerate(items):
            reply = ItemReply(self, at, at if self._is_many else None)
            if codec is not None:
                try:
                    request = codec.reader.read(item)
                except HeadraceError as exc:
                    self._answers[at] = exc
                    reply.note_unread(exc, self.desk.clock())
                    continue
                reply.turn_to(codec)
            if falls_back:
                reply.chain = ItemChain(self._skills, version, item, reply, self.started, self.wishes)
                reply.chain.own = request
                self._replies.append(reply)
            found.append((reply, request))
        return found

    def _queue(self, version: ModelVersion, codec: SkillCodec, items: list[Item]) -> None:
        found = self._read(version, codec, items)
        tickets = [
            self.desk.ticket(codec.of_model, request, reply, self.started, self.wishes, reply.number)
            for reply, request in found
            if request is not None
        ]
        if self.has_waited:
            for ticket in tickets:
                ticket.target = ticket.deadline
        if len(tickets) > 1 and (refusal := ask_together(codec.entry, tickets)) is not None:
            if self._falls_back(version):
                self.count_refusal(version, refusal)
                self._fail_each([reply for reply, _ in found], refusal)
            else:
                self.refuse(version, refusal)
            return
        self._missing = len(tickets)
        self._waiting = [(codec.entry, each) for each in tickets]
        if not tickets:
            self._finish()
        for ticket in tickets:
            codec.entry.submit(ticket)

    def _fail_each(self, replies: list["ItemReply"], error: HeadraceError) -> None:
        self._missing = len(replies)
        if not replies:
            self._finish()
        for each in replies:
            each.fail(error)

    def wait_for_item(self, entry: Entry, ticket: Ticket) -> None:
        """An item waits for something else now."""
        self._waiting.append((entry, ticket))
        entry.submit(ticket)

    def item_done(self, index: int, answer: bytes | HeadraceError, lesser: "Lesser | None" = None) -> None:
        """An item's answer or error has come."""
        self._answers[index] = answer
        if lesser is not None:
            self._lesser[index] = lesser
        self._missing -= 1
        if not self._missing:
            self._finish()

    def _finish(self) -> None:
        answers, lesser = self._answers, self._lesser
        self._let_go()
        assert self._asked is not None, "there are answers"
        if lesser:
            self.degrade(tuple(lesser[at].mark for at in sorted(lesser)))
        if not self._is_many:
            (only,) = answers
            if isinstance(only, bytes):
                degraded = b',"degraded":%b' % lesser[0].mark.json if lesser else b""
                self.respond_body(b'%b%b,"answer":%b}' % (self._head(), degraded, only), None)
            elif only is not None:
                self.fail(only)
            return
        errors = [each for each in answers if isinstance(each, HeadraceError)]
        if errors and len(errors) == len(answers):
            self.fail(errors[0])
            return
        degraded = b""
        if lesser:
            each_mark = [lesser[at].mark.json if at in lesser else b"null" for at in range(len(answers))]
            degraded = b',"degraded":[%b]' % b",".join(each_mark)
        shown = [each if isinstance(each, bytes) else item_error(each) for each in answers]
        self.respond_body(b'%b%b,"answers":[%b]}' % (self._head(), degraded, b",".join(shown)), None)

    def _head(self) -> bytes:
        """Who answered: what was asked, unless something else gave all the answers there are."""
        assert self._asked is not None, "there are answers"
        heads = {
            self._lesser[at].head if at in self._lesser else None
            for at, each in enumerate(self._answers)
            if isinstance(each, bytes)
        }
        other = heads.pop() if len(heads) == 1 else None
        if other is not None:
            return other
        if self._asked.pipeline.spec.outputs:
            return self._skills.codec(self._asked).head
        return head_of(self._asked)

    def drop(self) -> None:
        """The client is gone: items that wait are not run."""
        super().drop()  # the body may still be with the transcoder
        for entry, ticket in self._waiting:
            entry.drop(ticket)
        self._let_go()

    def _let_go(self) -> None:
        """Of what holds the items, and would be held in a circle until the collector comes."""
        for each in self._replies:
            if each.chain is not None:
                each.chain.leave()
                each.chain = None
        self._replies = []


class Lesser(NamedTuple):
    """Of an item whose answer is less than what was asked: how, and what the answer says of who gave it."""

    mark: Mark
    head: bytes


class ItemReply:
    """Where one item's answer goes. `number` is which it is, if there are several."""

    chain: ItemChain | None = None
    _codec: SkillCodec | None = None

    def __init__(self, exchange: SkillExchange, index: int, number: int | None) -> None:
        self._exchange = exchange
        self._index = index
        self.number = number

    @property
    def record(self) -> Record | None:
        """As of ItemCaller."""
        record = self._exchange.record
        return record if record is None or self.number is None else record.of(item=self.number)

    def note_unread(self, error: HeadraceError, now: float) -> None:
        """Write down that the item cannot be read; of an only one the request's own answer says so."""
        if self.number is not None and (record := self.record) is not None:
            record.note(now, "refused", code=error.code, reason=str(error))

    def turn_to(self, codec: SkillCodec) -> None:
        """As of ItemCaller."""
        self._codec = codec

    def wait_for(self, entry: Entry, ticket: Ticket) -> None:
        """As of ItemCaller."""
        self._exchange.wait_for_item(entry, ticket)

    def give(self, content: bytes, head: bytes) -> None:
        """As of ItemCaller."""
        chain, self.chain = self.chain, None
        lesser = None
        if chain is not None and (mark := chain.mark) is not None:
            chain.report()
            lesser = Lesser(mark, head)
        self._exchange.item_done(self._index, content, lesser)

    def end(self, part: Part) -> None:
        assert self._codec is not None, "whoever submits the ticket says who reads its answer"
        try:
            if self.chain is not None:
                self.chain.keep(part)
            content = self._codec.writer.write(part)
        except HeadraceError as exc:
            self.fail(exc)
        except Exception as exc:  # noqa: BLE001 - one answer's fault must not cost its batch-mates theirs
            self.fail(unexpected(exc, self._exchange.wishes.request_id))
        else:
            self.give(content, self._codec.head)

    def fail(self, error: HeadraceError) -> None:
        if self.chain is not None:
            last = self.chain.go_on(error)
            if last is None:
                return
            error, self.chain = last, None
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
