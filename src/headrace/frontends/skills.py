"""The skills API: sentences, files and records in, answers out. No tensors, no shapes.

    POST /v1/skills/NAME    {"text": "..."} -> {"skill", "variant", "version", "answer": {"label": {...}}}
    GET  /v1/skills         what there is, and what it takes

Every model is a skill. Each item is a ticket of its own: it shares runs with everybody else's, and fails alone.
"""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from headrace.errors import HeadraceError
from headrace.frontends.asgi import receive_body, send_response
from headrace.frontends.desk import Desk, Route
from headrace.frontends.headers import read_headers
from headrace.frontends.routes import get, request_id_of, translating
from headrace.frontends.skill_bodies import is_json, media_type
from headrace.frontends.skill_desk import SkillDesk
from headrace.frontends.skill_exchange import SkillExchange
from headrace.frontends.skill_list import SkillList

PATH = "/v1/skills"
NOT_JSON_ALONE = 1
"""In place of the length of a body's JSON where it is a form or file: only the whole body's size counts then."""


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


class SkillRoute:
    """/v1/skills/NAME as plain ASGI: for POST the body is read, and the answer awaited."""

    def __init__(self, skills: SkillDesk, listed: SkillList) -> None:
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
