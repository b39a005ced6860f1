"""Plain ASGI: bodies that are counted while they are here, and exchanges whose answers are awaited."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.errors import BodiesFull
from headrace.frontends.desk import Desk
from headrace.frontends.exchange import Exchange
from headrace.frontends.responses import Response


class CountingBodies:
    """An application with its requests' bodies counted from their arrival until they are answered."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk, held = self._desk, 0

        async def counted() -> Message:
            nonlocal held
            message = await receive()
            if size := len(message.get("body", b"")):
                if not desk.has_room(size):
                    raise BodiesFull
                held += size
                desk.received_bytes += size
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            desk.received_bytes -= held


class AsgiExchange(Exchange):
    """An exchange whose answer is awaited."""

    __slots__ = ("_response",)

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def respond(self, response: Response) -> None:
        if not self._response.done():
            self._response.set_result(response)

    async def response_or_disconnect(self, receive: Receive) -> Response | None:
        """The answer; None if the client went away first, and then the request is dropped."""
        try:
            async with asyncio.TaskGroup() as tasks:
                gone = tasks.create_task(disconnected(receive))
                waited: list[asyncio.Future[Any]] = [gone, self._response]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
        finally:
            self.desk.received_bytes -= self.size
        if self._response.done():
            return self._response.result()
        self.drop()
        return None


async def receive_body(
    desk: Desk, request: Request, json_length: int | None, content_length: int | None
) -> bytes:
    """A body that is to be answered by a model.

    Args:
        desk: knows how large it may be.
        request: its body is read.
        json_length: bytes of it that are JSON; None if all are.
        content_length: what its headers say that it has, if they do.

    Raises:
        HeadraceError: it is too large, or too much is being received.
        ClientDisconnect: the client went away.
    """
    if content_length is not None and (refusal := desk.refuse_size(json_length, content_length)) is not None:
        raise refusal
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if (refusal := desk.refuse_size(json_length, len(body))) is not None:
            raise refusal
    return bytes(body)


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(send: Send, response: Response) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": response.body})
