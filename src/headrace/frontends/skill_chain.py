"""An item of the skills API on its way down its skill's chain: each falls back by itself."""

from contextlib import suppress
from typing import Protocol

from headrace.batching.ticket import Reply, Ticket
from headrace.errors import HeadraceError, UnsupportedMediaType
from headrace.frontends.chain import Chain
from headrace.frontends.desk import Codec
from headrace.frontends.headers import Wishes
from headrace.frontends.skill_bodies import Body, read_body
from headrace.frontends.skill_desk import SkillCodec, SkillDesk, head_of
from headrace.frontends.skill_items import Item, ItemReader
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest
from headrace.parts import Part
from headrace.records import Record
from headrace.routing.entry import Entry
from headrace.routing.static import StaticAnswers


class ItemCaller(Reply, Protocol):
    """Where an item's answer goes, as its chain sees it. `number` is which it is, if there are several."""

    number: int | None

    @property
    def record(self) -> Record | None:
        """Of the item, if its request has an id."""

    def turn_to(self, codec: SkillCodec) -> None:
        """From now on the answer is written by this codec."""

    def wait_for(self, entry: Entry, ticket: Ticket) -> None:
        """Submit the ticket, and wait for it."""

    def give(self, content: bytes, head: bytes) -> None:
        """The answer; `head` says who gives it."""


class ItemChain(Chain):
    """Of one item: it is kept, to be read again for whoever answers in the end."""

    def __init__(
        self,
        skills: SkillDesk,
        version: ModelVersion,
        item: Item,
        caller: ItemCaller,
        started: float,
        wishes: Wishes,
    ) -> None:
        super().__init__(skills.desk, version, started, wishes)
        self._skills = skills
        self._item = item
        self._caller = caller

    @property
    def _record(self) -> Record | None:
        return self._caller.record

    def _fail(self, error: HeadraceError) -> None:
        self._caller.fail(error)

    def _read(self, version: ModelVersion) -> tuple[Codec, InferRequest]:
        codec = self._skills.codec(version)
        codec.reader.check_numbers([self._item])
        return codec.of_model, codec.reader.read(self._item)

    def _ticket(self, codec: Codec, request: InferRequest) -> Ticket:
        number = self._caller.number
        ticket = self._desk.ticket(codec, request, self._caller, self._started, self._wishes, number)
        if number is not None:
            ticket.target = ticket.deadline  # that items wait for each other breaks no promise
        return ticket

    def _run(self, version: ModelVersion, codec: Codec, ticket: Ticket) -> None:
        self._caller.turn_to(self._skills.codec(version))
        self._caller.wait_for(codec.entry, ticket)

    def _answer(self, codec: Codec, request: InferRequest, part: Part) -> None:  # noqa: ARG002 - as of Chain
        self._caller.turn_to(self._skills.codec(self.version))
        self._caller.end(part)

    def _take_static(self, answers: StaticAnswers) -> None:
        content = answers.json(self._desk.clock())
        self._note("falls back", step="static", reason=self._descent.reason)
        self._caller.give(content, head_of(self.version))


def read_for_others(skills: SkillDesk, version: ModelVersion, content_type: bytes, body: bytes) -> Body:
    """The items of a body that the version asked for cannot answer now: as it reads them, or else who may in its place.

    Raises:
        InvalidRequest: it cannot be read.
        UnsupportedMediaType: it is of a kind that is not taken.
    """
    name, reader = version.source.name, known_reader(skills, version)
    if reader is not None:
        return read_body(name, content_type, body, reader.readers)
    try:
        return read_body(name, content_type, body, {})
    except UnsupportedMediaType:
        return Body(
            [{}], is_many=False
        )  # a file by itself: nobody knows yet which input it is, but it is one item


def known_reader(skills: SkillDesk, version: ModelVersion) -> ItemReader | None:
    """Of the version, or of the first variant in its chain that serves; None if nothing is known of any."""
    found = [version]
    for step in version.source.config.fallback.chain:
        if step.variant:
            with suppress(HeadraceError):
                found.append(skills.desk.catalog.find(f"{version.source.name}.{step.variant}", None))
    known = next((each for each in found if each.pipeline.spec.outputs), None)
    return None if known is None else skills.codec(known).reader
