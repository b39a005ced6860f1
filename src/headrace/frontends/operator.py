"""For whoever runs the server: what serves, how it fares, and a hand on its circuit breakers.

GET  /v1/versions         all versions, with their workers, breakers and last crashes
GET  /v1/versions/NAME    those of a model, or of all variants of a skill
GET  /v1/memory           each device's memory, and what each version holds of it, in bytes
POST /v1/breakers/NAME    {"state": "open" | "closed" | "auto"}
"""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from headrace.errors import InvalidRequest, Unavailable, UnknownVersion
from headrace.faults.breaker import Breaker, BreakerState
from headrace.frontends.desk import Desk, milliseconds
from headrace.frontends.routes import get, post, read_object, respond
from headrace.frontends.skill_desk import base_name, is_first, name_of
from headrace.lifecycle.catalog import IndexEntry
from headrace.lifecycle.crash import Crash

STATES = {"open": BreakerState.FORCED_OPEN, "closed": BreakerState.FORCED_CLOSED, "auto": None}
"""What a breaker is told → the state that it then keeps; None: its own."""
FIELDS = ("state", "version", "variant")

Described = dict[str, Any]


class OperatorApi:
    """The endpoints. Lives on the loop."""

    def __init__(self, desk: Desk) -> None:
        self._catalog = desk.catalog
        self._clock = desk.clock
        self._may_change = desk.settings.load_api

    def routes(self) -> list[BaseRoute]:
        return [
            get("/v1/versions", self.all),
            get("/v1/versions/{name}", self.named),
            get("/v1/memory", self.memory),
            post("/v1/breakers/{name}", self.force),
        ]

    async def all(self, _: Request) -> Response:
        return respond({"versions": [self._described(each) for each in self._catalog.index()]})

    async def named(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = self._catalog.versions(name)
        names = {name}
        if found and is_first(found[-1]):
            variants = found[-1].source.config.variants
            names |= {name_of(self._catalog, name, each) for each in variants}
        return respond({"versions": self._of(names)})

    async def memory(self, _: Request) -> Response:
        return respond(asdict(self._catalog.residency.view()))

    async def force(self, request: Request) -> Response:
        """Answered with the versions whose breakers do now as they are told."""
        if not self._may_change:
            raise Unavailable("breakers cannot be forced here: the server was started with --no-load-api")
        name, body = request.path_params["name"], read_wish(await read_object(request))
        if (variant := body.get("variant")) is not None:
            name = name_of(self._catalog, name, variant)
        wanted = body.get("version")
        versions = self._catalog.versions(name)
        chosen = [each for each in versions if wanted is None or each.source.version == wanted]
        if not chosen:
            raise UnknownVersion(name, wanted)
        for each in chosen:
            each.pipeline.force_breaker(STATES[body["state"]])
        numbers = {each.source.version for each in chosen}
        return respond({"versions": [each for each in self._of({name}) if each["version"] in numbers]})

    def _of(self, names: set[str]) -> list[Described]:
        return [self._described(each) for each in self._catalog.index() if each.name in names]

    def _described(self, entry: IndexEntry) -> Described:
        """A version in JSON's types; what is not loaded has only its state."""
        version = next(
            (each for each in self._catalog.loaded(entry.name) if each.source.version == entry.version),
            None,
        )
        if version is None:
            return unloaded(entry)
        snapshot, now = version.snapshot(), self._clock()
        breaker = version.pipeline.breaker
        return {
            "name": entry.name,
            "version": entry.version,
            "skill": base_name(version),
            "variant": version.source.config.variant or None,
            "state": version.state.value,
            "reason": entry.reason,
            "deaths": snapshot.deaths,
            "instances": snapshot.instances,
            "pids": list(snapshot.pids),
            "breaker": None if breaker is None else breaker_described(breaker, now),
            "crash": crash_described(snapshot.crash),
        }


def unloaded(entry: IndexEntry) -> Described:
    return {
        "name": entry.name,
        "version": entry.version,
        "skill": entry.name,
        "variant": None,
        "state": entry.state,
        "reason": entry.reason,
        "deaths": 0,
        "instances": 0,
        "pids": [],
        "breaker": None,
        "crash": None,
    }


def breaker_described(breaker: Breaker, now: float) -> Described:
    """As of BreakerSnapshot; the time in milliseconds."""
    seen = breaker.snapshot(now)
    return {
        "state": seen.state.value,
        "reason": seen.reason,
        "ok": seen.ok,
        "slow": seen.slow,
        "failed": seen.failed,
        "trips": seen.trips,
        "retry_after_ms": milliseconds(seen.retry_after_s),
    }


def crash_described(crash: Crash | None) -> Described | None:
    """The last end of a worker that nobody asked for: why, when (since the epoch), and where its threads were."""
    return None if crash is None else {"reason": crash.reason, "at": crash.at, "trace": crash.trace}


def read_wish(body: dict[str, Any]) -> dict[str, str]:
    """What a breaker is told.

    Raises:
        InvalidRequest: it cannot be understood.
    """
    unknown = [key for key in body if key not in FIELDS]
    if unknown:
        raise InvalidRequest(f"unknown field '{unknown[0][:100]}': there are {', '.join(FIELDS)}")
    if not isinstance(body.get("state"), str) or body["state"] not in STATES:
        raise InvalidRequest('say what the breaker is to do, as in {"state": "open"}: open, closed or auto')
    for key in ("version", "variant"):
        if not isinstance(body.get(key, ""), str):
            raise InvalidRequest(f"'{key}' should be text")
    return body
