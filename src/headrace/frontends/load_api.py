"""Load, unload and index: the protocol's model repository extension."""

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.config import Settings
from headrace.errors import InvalidRequest, Unavailable, Unsupported
from headrace.execution.aside import aside
from headrace.frontends.routes import post, read_body, respond
from headrace.lifecycle.catalog import Catalog
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.watcher import Watcher
from headrace.repository.override import Override, read_override

REPOSITORY = "/v2/repository"
MODEL = "/models/{model:path}"  # a name with a slash is to be told what is wrong with it


class LoadBody(msgspec.Struct):
    """What a load or unload request may hold."""

    parameters: dict[str, object] | None = None


class LoadApi:
    """The endpoints below /v2/repository."""

    def __init__(self, catalog: Catalog, watcher: Watcher, settings: Settings) -> None:
        self._catalog = catalog
        self._watcher = watcher
        self._settings = settings

    def routes(self) -> list[Route]:
        """The index reads one repository like all; loading into one by name is not spoken here."""
        named = REPOSITORY + "/{repository}"
        return [
            post(REPOSITORY + "/index", self.index),
            post(named + "/index", self.index),
            post(REPOSITORY + MODEL + "/load", self.load),
            post(REPOSITORY + MODEL + "/unload", self.unload),
            post(named + MODEL + "/load", self.refuse_repository),
            post(named + MODEL + "/unload", self.refuse_repository),
        ]

    async def index(self, request: Request) -> Response:
        only_ready = read_only_ready(await read_body(request))
        return respond(
            [
                {"name": each.name, "version": each.version, "state": each.state, "reason": each.reason}
                for each in self._catalog.index()
                if not only_ready or each.state == VersionState.READY
            ]
        )

    async def load(self, request: Request) -> Response:
        """Answered when the model is served, or cannot be."""
        name = self._name(request)
        body = await read_body(request, self._settings.max_request_bytes)
        await self._watcher.load(name, await aside(partial(read_load, body)) if body.strip() else None)
        return Response(headers={"content-type": "application/json"})

    async def unload(self, request: Request) -> Response:
        """Answered when nobody is sent to the model any more. It has no dependents here."""
        name = self._name(request)
        body = await read_body(request)
        if body.strip():
            read_unload(body)
        await self._watcher.unload(name)
        return Response(headers={"content-type": "application/json"})

    async def refuse_repository(self, _: Request) -> Response:
        raise Unsupported("'repository_name' specification is not supported")

    def _name(self, request: Request) -> str:
        """The model's name.

        Raises:
            InvalidRequest: it is none.
            Unavailable: the operator does not want it.
        """
        if not self._settings.load_api:
            raise Unavailable("explicit model load / unload is not allowed if polling is enabled")
        name: str = request.path_params["model"]
        if not name.strip():
            raise InvalidRequest("Model name cannot be empty. Please enter a valid name to deploy.")
        if name in {".", ".."} or any(each in name for each in "/\\\0"):
            raise InvalidRequest("model name must not contain path traversal characters")
        return name


def read_load(body: bytes) -> Override | None:
    """What a load request wants in place of what lies on disk."""
    return read_override(read_parameters(body))


def read_unload(body: bytes) -> None:
    """Check an unload request: there is one parameter, and it makes no difference."""
    value = read_parameters(body).get("unload_dependents", False)
    if not isinstance(value, bool):
        raise InvalidRequest("Invalid value for 'unload_dependents': expected a boolean")


def read_parameters(body: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(body, type=LoadBody).parameters or {}
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"the body is no load request: {exc}") from exc


def read_only_ready(body: bytes) -> bool:
    """The index's one option."""
    if not body.strip():
        return False
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        # What cannot be read is most often an absurd value of `ready`, the only key there is.
        raise InvalidRequest("Invalid value for 'ready': expected a boolean") from exc
    ready = content.get("ready", False) if isinstance(content, dict) else None
    if not isinstance(ready, bool):
        raise InvalidRequest("Invalid value for 'ready': expected a boolean")
    return ready
