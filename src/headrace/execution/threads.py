"""An event loop in a thread of its own, for callers that have none, and the threads in which it runs what blocks."""

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

Pool = ThreadPoolExecutor
STOP_S = 5.0
"""What still runs after that is left behind: the threads are daemons."""


class Closable(Protocol):
    """What lives on the loop."""

    async def close(self) -> None:
        """No more work; returns when what was begun is done."""


Resident = TypeVar("Resident", bound=Closable)


class LoopThread(Generic[Resident]):
    """A daemon thread with a loop, and one resident on it. May be used from any thread but its own."""

    def __init__(self, name: str, threads: int, move_in: Callable[[Pool], Resident], owner: object) -> None:
        """Start.

        Args:
            name: of the threads.
            threads: in the pool that the resident gets for what blocks.
            move_in: makes the resident, on the loop.
            owner: the thread ends with this object at the latest.
        """
        self._loop = asyncio.new_event_loop()
        pool = ThreadPoolExecutor(threads, thread_name_prefix=f"headrace {name}")
        self._ending = threading.Lock()
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name=f"headrace {name} loop", daemon=True)
        self._thread.start()
        self._resident: Resident = self._ask(moved_in(move_in, pool)).result()
        # Used once at most, by `stop` or when the owner is gone. Nothing waits then: that may be in any thread.
        self._finish = weakref.finalize(owner, request_end, self._loop, self._resident, pool, os.getpid())
        self._finish.atexit = False
        LIVING.add(self)

    @property
    def is_alive(self) -> bool:
        """False in a forked child too."""
        return self._thread.is_alive() and not self._has_ended

    def call(self, ask: Callable[[Resident], Coroutine[Any, Any, Any]]) -> Any:
        """Have the resident asked, and wait."""
        future = self._ask(ask(self._resident))
        try:
            return future.result()
        finally:
            future.cancel()  # interrupted while waiting: it need not be run

    async def acall(self, ask: Callable[[Resident], Coroutine[Any, Any, Any]]) -> Any:
        """The same, while the caller's own loop goes on."""
        return await asyncio.wrap_future(self._ask(ask(self._resident)))

    def stop(self) -> None:
        """Stop, and wait until what ran is answered."""
        if self._thread.is_alive():
            # A finalizer that is called does nothing any more at exit, so it is detached.
            if (detached := self._finish.detach()) is not None:
                _, request, args, _ = detached
                request(*args)
            self._thread.join(STOP_S)

    def _ask(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        with self._ending:
            if not self._has_ended:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise RuntimeError("it was closed while this call came")

    def _run(self) -> None:
        self._loop.run_forever()
        with self._ending:
            self._has_ended = True
        self._loop.run_until_complete(cancel_rest())
        self._loop.close()


async def moved_in(move_in: Callable[[Pool], Resident], pool: Pool) -> Resident:
    return move_in(pool)


async def cancel_rest() -> None:
    """What came after the end had begun."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)


def request_end(loop: asyncio.AbstractEventLoop, resident: Closable, pool: Pool, pid: int) -> None:
    """Have the resident close, then the loop stop."""
    if pid != os.getpid():
        INHERITED.append(
            (loop, pool)
        )  # a forked child has no part in it: closing them would reach the parent's
        return

    async def end() -> None:
        await resident.close()
        pool.shutdown(wait=False)
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)


@contextmanager
def starting() -> Iterator[None]:
    """One thread starts another at a time. A forked child has a lock of its own: it may inherit a held one."""
    with STARTING.setdefault(os.getpid(), threading.Lock()):
        yield


def stop_all() -> None:
    """At exit: what runs is answered, and no thread is in the middle of something when the interpreter goes."""
    for each in list(LIVING):
        each.stop()


STARTING: dict[int, threading.Lock] = {}
INHERITED: list[object] = []
LIVING: "weakref.WeakSet[LoopThread[Any]]" = weakref.WeakSet()
atexit.register(stop_all)
