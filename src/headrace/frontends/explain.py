"""What became of single requests: of those that came with an id, as long as it is remembered.

GET /v1/requests/ID    one of them, step by step
GET /v1/requests       the last ones
"""

from collections.abc import Callable
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from headrace.errors import InvalidRequest, UnknownRequest
from headrace.frontends.routes import get, respond
from headrace.records import Records
from headrace.telemetry.explain import told, told_shortly

PATH = "/v1/requests"
USUAL, MOST = 20, 1000
"""Requests in a list."""


class Explain:
    """The endpoints."""

    def __init__(self, records: Records, clock: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """Both; an id may have any characters."""
        return [get(PATH, self.newest), get(PATH + "/{id:path}", self.one)]

    async def one(self, request: Request) -> Response:
        request_id = request.path_params["id"]
        record = self._records.find(request_id)
        if record is None:
            raise UnknownRequest(request_id, self._why_unknown())
        return respond(told(record, self._clock()))

    async def newest(self, request: Request) -> Response:
        limit, model = read_limit(request.query_params.get("limit")), request.query_params.get("model")
        chosen = (each for each in self._records.newest() if model is None or each.model == model)
        now = self._clock()
        return respond({"requests": [told_shortly(each, now) for each in islice(chosen, limit)]})

    def _why_unknown(self) -> str:
        records = self._records
        if not records.most:
            return "nothing is written down here; start the server with --explained-requests above 0"
        sent = "send an x-request-id header (or an id in the body) of at most 128 characters"
        if not len(records):
            return f"no request with an id has come yet; {sent}"
        return (
            f"only requests with an id are written down, the last {records.most} of them, and the oldest known now "
            f"came {records.oldest_age_s():.0f} s ago; {sent}"
        )


def read_limit(value: str | None) -> int:
    """How many requests are to be listed.

    Raises:
        InvalidRequest: it is no number that can be served.
    """
    if value is None:
        return USUAL
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(MOST)) and 1 <= int(value) <= MOST):
        raise InvalidRequest(f"limit should be a number from 1 to {MOST}, not '{value[:100]}'")
    return int(value)
