"""The skills API: sentences, files and records in, answers out. No tensors, no shapes.

    POST /v1/skills/NAME    {"text": "..."} -> {"skill", "variant", "version", "answer": {"label": {...}}}
    GET  /v1/skills         what there is, and what it takes

Every model is a skill. Each item is a ticket of its own: it shares runs with everybody else's, and fails alone.
"""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response as StarletteResponse
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from headrace.admission.forecast import arrival_of
from headrace.batching.ticket import Ticket
from headrace.errors import (
    HeadraceError,
    InvalidRequest,
    UnknownVariant,
    UnknownVersion,
)
from headrace.frontends.asgi import AsgiExchange, receive_body, send_response
from headrace.frontends.desk import Codec, Desk, Route
from headrace.frontends.headers import read_headers
from headrace.frontends.responses import unexpected
from headrace.frontends.routes import get, request_id_of, respond, translating
from headrace.frontends.skill_answers import AnswerWriter
from headrace.frontends.skill_bodies import is_json, media_type, read_body
from headrace.frontends.skill_items import MOST_NUMBERS_BYTES, Item, ItemReader
from headrace.lifecycle.catalog import Catalog
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest, ModelSpec
from headrace.parts import Part
from headrace.protocol.parameters import NOTHING_ASKED
from headrace.protocol.request import Peek
from headrace.routing.entry import Entry

PATH = "/v1/skills"
PRIORITIES = {1: "high", 2: "normal", 3: "low"}
MILLISECONDS = 1e3
NOT_JSON_ALONE = 1
"""In place of the length of a body's JSON where it is a form or file: only the whole body's size counts then."""

_encode = msgspec.json.Encoder().encode


class SkillCodec(NamedTuple):
    """A version's entry, and what reads its items and writes its answers; under one spec of what it takes."""

    spec: ModelSpec
    entry: Entry
    of_model: Codec
    reader: ItemReader
    writer: AnswerWriter
    head: bytes


def skill_routes(desk: Desk) -> list[StarletteRoute]:
    """The endpoints of the skills API."""
    skills = SkillDesk(desk)
    listed = SkillList(skills)
    route = SkillRoute(skills, listed)
    return [get(PATH, listed.all), StarletteRoute(PATH + "/{name}", route, methods=["GET", "POST"])]


class SkillsFirst(Starlette):
    """The application, with a short cut for questions to skills: its middleware and routing take longer than they do."""

    def __init__(self, routes: list[BaseRoute], **options: Any) -> None:
        super().__init__(routes=routes, **options)
        self._skill = next(
            each.endpoint
            for each in routes
            if isinstance(each, StarletteRoute) and isinstance(each.endpoint, SkillRoute)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            folder, _, name = scope["path"].rpartition("/")
            if folder == PATH and name:
                scope["path_params"] = {"name": name}
                await self._skill(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class SkillDesk:
    """Takes requests for skills in. Lives on the loop."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        # The mutable state: what was worked out once.
        self._codecs: WeakKeyDictionary[ModelVersion, SkillCodec] = WeakKeyDictionary()

    def find(self, name: str, variant: str | None, version: str | None) -> ModelVersion:
        """The version a request means.

        Raises:
            NotFound: there is no such skill, variant or version.
            NotReady: there is, and it cannot answer now.
        """
        catalog = self.desk.catalog
        if variant is not None:
            name = name_of(catalog, name, variant)
        return catalog.find(name, version)

    def codec(self, version: ModelVersion) -> SkillCodec:
        """The reader and writer under the version's present spec."""
        of_model = self.desk.codec(version)
        entry = of_model.entry
        codec = self._codecs.get(version)
        if codec is None or codec.spec is not entry.spec or codec.entry is not entry:
            spec, config = entry.spec, version.source.config
            head = _encode(
                {
                    "skill": base_name(version),
                    "variant": config.variant or None,
                    "version": version.source.version,
                }
            )
            codec = SkillCodec(
                spec,
                entry,
                of_model,
                ItemReader(spec, config.steps),
                AnswerWriter(spec, config.steps),
                head[:-1],
            )
            self._codecs[version] = codec
        return codec


class SkillRoute:
    """/v1/skills/NAME as plain ASGI: for POST the body is read, and the answer awaited."""

    def __init__(self, skills: SkillDesk, listed: "SkillList") -> None:
        self._skills = skills
        self._describe = translating(listed.one)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if scope["method"] != "POST":
            await (await self._describe(request))(scope, receive, send)
            return
        content_type = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
        length = None if is_json(media_type(content_type)) else NOT_JSON_ALONE
        try:
            headers = read_headers(scope["headers"], self._skills.desk.tenants)
            body = await receive_body(self._skills.desk, request, length, headers.content_length)
        except HeadraceError as exc:
            name, desk = request.path_params["name"], self._skills.desk
            await send_response(send, desk.refuse_unread(name, exc, request_id_of(request)))
            return
        except ClientDisconnect:
            return
        exchange = SkillExchange(self._skills, content_type, *asked(scope))
        if headers.wishes is not None:
            exchange.wish(headers.wishes)
        route = Route(request.path_params["name"], None)
        exchange.begin_as_wished(route, body, length)
        response = await exchange.response_or_disconnect(receive)
        if response is not None:
            await send_response(send, response)


def asked(scope: Scope) -> tuple[str | None, str | None]:
    """The variant and version in the query."""
    if not scope["query_string"]:
        return None, None
    query = Request(scope).query_params
    return query.get("variant"), query.get("version")


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


class SkillList:
    """GET /v1/skills and /v1/skills/NAME: what there is, in callers' terms."""

    def __init__(self, skills: SkillDesk) -> None:
        self._skills = skills

    async def all(self, _: Request) -> StarletteResponse:
        catalog = self._skills.desk.catalog
        names = dict.fromkeys(each.source.name for each in catalog if is_first(each))
        return respond({"skills": [self._described(name) for name in names]})

    async def one(self, request: Request) -> StarletteResponse:
        return respond(self._described(request.path_params["name"]))

    def _described(self, name: str) -> dict[str, Any]:
        """A skill and its variants; what it takes and gives is known once a version of it is ready."""
        versions = self._skills.desk.catalog.versions(name)
        if not versions:
            raise UnknownVersion(name, None)
        shown = next((each for each in reversed(versions) if each.accepts), versions[-1])
        config = shown.source.config
        described: dict[str, Any] = {
            "name": name,
            "description": config.description,
            "ready": any(each.state is VersionState.READY for each in versions),
            "versions": [each.source.version for each in versions],
            "variants": list(config.variants) if is_first(shown) else [],
            "objective": {
                "latency_p99_ms": None
                if config.latency_p99_s is None
                else round(config.latency_p99_s * MILLISECONDS, 6),
                "priority": PRIORITIES.get(config.priority, "normal"),
            },
            "share": {
                "weight": self._skills.desk.settings.weights.get(name, config.weight),
                "priorities": {str(level): policy.share for level, policy in config.levels.items()},
                "default_priority": config.default_level or None,
            },
        }
        if not shown.accepts:
            return {**described, "reason": shown.reason, "inputs": [], "outputs": []}
        codec = self._skills.codec(shown)
        described["inputs"] = [
            {"name": each.name, "kind": each.kind, "send": each.wants, "required": not each.is_optional}
            | input_details(config.steps.get("inputs", {}).get(each.name, {}))
            for each in codec.reader.readers.values()
        ]
        described["outputs"] = outputs_described(codec.spec, config.steps)
        return described


def input_details(step: dict[str, Any]) -> dict[str, Any]:
    """What a caller should know of an input's declaration."""
    keys = ("max_tokens", "too_long", "record")
    return {key: step[key] for key in keys if key in step}


def outputs_described(spec: ModelSpec, steps: dict[str, Any]) -> list[dict[str, Any]]:
    declared = steps.get("outputs", {})
    if steps.get("transform", {}).get("after"):
        return [{"name": name, "kind": "json"} for name in declared] or [{"name": "answer", "kind": "json"}]
    described = []
    for each in spec.outputs:
        step = declared.get(each.name)
        labels = declared.get(each.name.removesuffix("_scores"), {})
        if step is None and labels.get("kind") == "labels":
            continue  # the scores are told with their labels
        axis = each.batch_axis
        shape = each.shape if axis is None else each.shape[:axis] + each.shape[axis + 1 :]
        details = {"labels": step["labels"]} if step and "labels" in step else {"shape": list(shape)}
        described.append({"name": each.name, "kind": (step or {}).get("kind", "raw"), **details})
    return described


def is_first(version: ModelVersion) -> bool:
    """Whether it is what answers under its skill's name, and no other variant."""
    config = version.source.config
    return not config.variants or config.variant == config.variants[0]


def base_name(version: ModelVersion) -> str:
    """The skill a variant belongs to."""
    name = version.source.name
    return name if is_first(version) else name.removesuffix(f".{version.source.config.variant}")


def name_of(catalog: Catalog, name: str, variant: str) -> str:
    """What a variant is served as.

    Raises:
        NotFound: there is no such skill, or it has no such variant.
    """
    versions = catalog.versions(name)
    if not versions:
        raise UnknownVersion(name, None)
    skill, variants = base_name(versions[-1]), versions[-1].source.config.variants
    if variant not in variants:
        raise UnknownVariant(skill, variant, ", ".join(variants))
    return skill if variant == variants[0] else f"{skill}.{variant}"
