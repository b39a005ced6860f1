"""An exchange over plain ASGI: its answer is awaited, and its client may go away meanwhile."""

import asyncio
from typing import Any

from starlette.types import Receive, Send

from headrace.frontends.desk import Desk, Exchange, Response


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
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(disconnected(receive))
            waited: list[asyncio.Future[Any]] = [gone, self._response]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
        if self._response.done():
            return self._response.result()
        self.drop()
        return None


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(send: Send, response: Response) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": response.body})
