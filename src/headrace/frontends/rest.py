"""Everything over HTTP that need not be fast, and infer as an ordinary ASGI route: the reference for the lean path."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from headrace import __version__
from headrace.errors import HeadraceError, NotReady, UnknownVersion
from headrace.frontends.asgi import AsgiExchange, receive_body, send_response
from headrace.frontends.chain import version_asked
from headrace.frontends.desk import Desk, Route
from headrace.frontends.docs import Docs
from headrace.frontends.explain import Explain
from headrace.frontends.extensions import Extensions
from headrace.frontends.headers import read_headers
from headrace.frontends.load_api import LoadApi
from headrace.frontends.operator import OperatorApi
from headrace.frontends.routes import get, request_id_of, respond
from headrace.frontends.skills import SkillsFirst, skill_routes
from headrace.lifecycle.version import ModelVersion
from headrace.lifecycle.watcher import Watcher
from headrace.protocol import metadata
from headrace.telemetry.logs import LogSettings

Metrics = Callable[[str], tuple[bytes, str]]
Statistics = Callable[[str, str], dict[str, Any]]


def make_app(
    desk: Desk, metrics: Metrics, statistics: Statistics, log_settings: LogSettings, watcher: Watcher
) -> Starlette:
    """The ASGI application.

    Args:
        desk: where infer requests go.
        metrics: gives the exposition and its content type for what a scraper accepts.
        statistics: gives a version's entry in the statistics by model and version.
        log_settings: what /v2/logging shows and changes.
        watcher: loads and unloads.
    """
    rest = Rest(desk, metrics, statistics)
    register_url_convertor("digits", DigitsConvertor())
    model = "/v2/models/{model}"
    version = model + "/versions/{version:digits}"
    routes = [
        *skill_routes(desk),
        *Explain(desk.records, desk.clock).routes(),
        *OperatorApi(desk).routes(),
        get("/v2/health/live", rest.live),
        get("/v2/health/ready", rest.ready),
        get("/v2", rest.server_metadata),
        get("/v2/", rest.server_metadata),
        get("/v2/models", rest.models),
        get("/v2/models/stats", rest.all_statistics),
        *LoadApi(desk.catalog, watcher, desk.settings).routes(),
        get("/metrics", rest.metrics),
        *Extensions(log_settings).routes(),
        *Docs().routes(),
    ]
    for prefix in (version, model):
        routes += [
            get(prefix, rest.model_metadata),
            get(prefix + "/ready", rest.model_ready),
            get(prefix + "/config", rest.model_config),
            get(prefix + "/stats", rest.model_statistics),
            StarletteRoute(prefix + "/infer", InferRoute(desk), methods=["POST"]),
        ]
    app = SkillsFirst(routes, exception_handlers={HTTPException: not_routed})
    app.state.errors = desk.errors
    app.router.redirect_slashes = False  # a path with a slash at its end is another path, and not there
    return app


class DigitsConvertor(Convertor[str]):
    """A version is a name of digits, not a number: 01 is not 1, and a long one cannot overflow."""

    regex = "[0-9]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class Rest:
    """The endpoints but infer."""

    def __init__(self, desk: Desk, metrics: Metrics, statistics: Statistics) -> None:
        self._desk = desk
        self._catalog = desk.catalog
        self._metrics = metrics
        self._statistics = statistics

    async def live(self, _: Request) -> StarletteResponse:
        return respond({"live": True})

    async def ready(self, _: Request) -> StarletteResponse:
        is_ready = self._catalog.is_ready
        return respond({"ready": is_ready}, 200 if is_ready else 503)

    async def server_metadata(self, _: Request) -> StarletteResponse:
        return respond(metadata.server_metadata(self._desk.settings.server_id, __version__))

    async def models(self, _: Request) -> StarletteResponse:
        return respond({"models": list(dict.fromkeys(each.source.name for each in self._catalog))})

    async def model_metadata(self, request: Request) -> StarletteResponse:
        version = await self._known(request)
        names = [
            each.source.version
            for each in self._catalog.versions(version.source.name)
            if each.is_within_reach
        ]
        return respond(metadata.model_metadata(self._desk.codec(version).entry.spec, names))

    async def model_ready(self, request: Request) -> StarletteResponse:
        """A model without a version is ready if any version is."""
        name, wanted = named(request)
        versions = self._chosen(name, wanted)
        is_ready = any(each.is_within_reach for each in versions)
        return respond({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    async def model_config(self, request: Request) -> StarletteResponse:
        version = await self._known(request)
        spec, written = self._desk.codec(version).entry.spec, version.source.config.described
        return respond(metadata.model_config(spec, version.snapshot().instances, written))

    async def model_statistics(self, request: Request) -> StarletteResponse:
        name, wanted = named(request)
        return self._respond_statistics(self._chosen(name, wanted))

    async def all_statistics(self, _: Request) -> StarletteResponse:
        return self._respond_statistics(list(self._catalog))

    async def metrics(self, request: Request) -> StarletteResponse:
        content, content_type = self._metrics(request.headers.get("accept", ""))
        return StarletteResponse(content, headers={"content-type": content_type})

    def _respond_statistics(self, versions: list[ModelVersion]) -> StarletteResponse:
        return respond(
            {"model_stats": [self._statistics(each.source.name, each.source.version) for each in versions]}
        )

    async def _known(self, request: Request) -> ModelVersion:
        """The version that is asked about; one that was never in memory comes for that."""
        route, lobby = Route(*named(request)), self._desk.lobby
        try:
            return self._catalog.find(*route)
        except NotReady:
            asked = version_asked(self._catalog, route)
            if asked is None or not lobby.takes(asked):
                raise
            await lobby.come(asked, self._desk.clock() + self._desk.deadline_s)
            return self._catalog.find(*route)

    def _chosen(self, name: str, wanted: str | None) -> list[ModelVersion]:
        versions = self._catalog.versions(name)
        if wanted is None:
            return versions
        chosen = [each for each in versions if each.source.version == wanted]
        if not chosen:
            raise UnknownVersion(name, wanted)
        return chosen


class InferRoute:
    """Infer as plain ASGI: the body is read, the answer awaited."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            headers = read_headers(request.headers.raw, self._desk.tenants)
            body = await receive_body(self._desk, request, headers.header_length, headers.content_length)
        except HeadraceError as exc:
            model, _ = named(request)
            await send_response(send, self._desk.refuse_unread(model, exc, request_id_of(request)))
            return
        except ClientDisconnect:
            return
        exchange = AsgiExchange(self._desk)
        if headers.wishes is not None:
            exchange.wish(headers.wishes)
        exchange.begin_as_wished(Route(*named(request)), body, headers.header_length)
        response = await exchange.response_or_disconnect(receive)
        if response is not None:
            await send_response(send, response)


async def not_routed(request: Request, exc: Exception) -> StarletteResponse:
    """No such path, or not with this verb."""
    assert isinstance(exc, HTTPException), "registered for HTTPException"
    text = {404: "Not Found", 405: "Method Not Allowed"}.get(exc.status_code, exc.detail)
    response = respond({"error": text}, exc.status_code)
    if (request_id := request_id_of(request)) is not None:
        response.headers["x-request-id"] = request_id.decode()
    for name, value in (exc.headers or {}).items():
        response.headers[name] = value
    return response


def named(request: Request) -> tuple[str, str | None]:
    """The model and version in the path."""
    return request.path_params["model"], request.path_params.get("version")
