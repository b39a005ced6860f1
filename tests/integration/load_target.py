"""A server for tests of the load sender: answers each connection as a function says, and counts what it got."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Answer = Callable[["Visit"], Awaitable[None]]


class Visit:
    """One request: its number among all, its head, and where its answer goes."""

    def __init__(self, number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.head = head
        self.body = body
        self.writer = writer

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)


class LoadTarget:
    """What came to it. `port` is where it listens."""

    def __init__(self, answer: Answer) -> None:
        self.port = 0
        self.connections = 0
        self.visits: list[Visit] = []
        self._answer = answer
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                visit = Visit(len(self.visits), head, await reader.readexactly(length), writer)
                self.visits.append(visit)
                await self._answer(visit)
        writer.close()

    async def end(self) -> None:
        """Close what is open, however it was left."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@contextmanager
def load_target(answer: Answer) -> Iterator[LoadTarget]:
    """Listens on the loopback until the block ends."""
    target, loop = LoadTarget(answer), asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(target.serve, "127.0.0.1", 0, backlog=1024)
        target.port = server.sockets[0].getsockname()[1]
        is_up.set()
        await is_over.wait()
        server.close()
        await target.end()

    is_over, is_up = asyncio.Event(), threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    assert is_up.wait(30)
    try:
        yield target
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join(30)
        loop.close()
