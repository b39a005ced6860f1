"""Slow calls of the file system, away from the loop.

A thread for each call, since there is one every few seconds: nothing is kept for them, and one that hangs, as a network
drive may, keeps neither the next one nor the end of the process waiting.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def aside(function: Callable[[], Result]) -> Result:
    """What the function gives or raises, from a thread of its own. Cancelled, it runs on and nobody listens."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Result] = loop.create_future()

    def give(result: Result | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as exc:  # noqa: BLE001 - handed to who waits
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(give, result, error)

    threading.Thread(target=work, name="headrace aside", daemon=True).start()
    return await answer
