"""What all endpoints but infer share: a route, JSON in and out, errors as the protocol has them, an echoed id."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route as StarletteRoute

from headrace.errors import HeadraceError, InvalidRequest
from headrace.frontends.headers import find_request_id
from headrace.frontends.responses import ErrorWriter, unexpected
from headrace.protocol.tensors import encode_values

Endpoint = Callable[[Request], Awaitable[StarletteResponse]]
LARGEST_SETTING = 1 << 20
"""Bytes of a body that only sets something."""


def get(path: str, endpoint: Endpoint) -> StarletteRoute:
    return StarletteRoute(path, translating(endpoint), methods=["GET"])


def post(path: str, endpoint: Endpoint) -> StarletteRoute:
    return StarletteRoute(path, translating(endpoint), methods=["POST"])


def get_and_post(path: str, read: Endpoint, write: Endpoint) -> StarletteRoute:
    """One route for both, so that another verb is told of both."""

    async def endpoint(request: Request) -> StarletteResponse:
        return await (write if request.method == "POST" else read)(request)

    return StarletteRoute(path, translating(endpoint), methods=["GET", "POST"])


def translating(endpoint: Endpoint) -> Endpoint:
    """Our errors become the protocol's answers, and an X-Request-Id comes back."""

    @wraps(endpoint)
    async def translated(request: Request) -> StarletteResponse:
        request_id = request_id_of(request)
        try:
            response = await endpoint(request)
        except HeadraceError as exc:
            return respond_error(request, exc, request_id)
        except ClientDisconnect:
            return StarletteResponse()  # to nobody
        except Exception as exc:  # noqa: BLE001 - a fault of ours costs this request, and is written down
            return respond_error(request, unexpected(exc, request_id), request_id)
        if request_id is not None:
            response.headers["x-request-id"] = request_id.decode()
        return response

    return translated


def request_id_of(request: Request) -> bytes | None:
    """The X-Request-Id to echo, if there is one."""
    return find_request_id(request.headers.raw)


def respond(content: object, status: int = 200) -> StarletteResponse:
    """JSON, with exactly the content type that clients compare with."""
    return StarletteResponse(encode_values(content), status, {"content-type": "application/json"})


def respond_error(request: Request, error: HeadraceError, request_id: bytes | None) -> StarletteResponse:
    """As the application's `state.errors` has it."""
    writer: ErrorWriter = request.app.state.errors
    status, headers, body = writer.write(error, request_id)
    return StarletteResponse(body, status, {name.decode(): value.decode() for name, value in headers})


async def read_body(request: Request, limit: int = LARGEST_SETTING) -> bytes:
    """The body, if it is not larger than a body of this kind can be.

    Raises:
        InvalidRequest: it is.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise InvalidRequest(f"the body has more than {limit} bytes")
    return bytes(body)


async def read_object(request: Request, limit: int = LARGEST_SETTING) -> dict[str, Any]:
    """The body's JSON object; an empty one for an empty body.

    Raises:
        InvalidRequest: it is not one, or too large.
    """
    body = await read_body(request, limit)
    if not body.strip():
        return {}
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"failed to parse the request JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise InvalidRequest("failed to parse the request JSON: expected an object")
    return content
