"""An event loop in a thread of its own, for callers that have none, and the threads in which it runs what blocks."""

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

STOP_S = 5.0
"""What still runs after that is left behind: the threads are daemons."""


class Pool:
    """Threads that run what blocks, for a loop. Submit from the loop only.

    Not concurrent.futures' pool, which takes nothing more once the main thread has ended, though others go on.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"headrace {name} {at}", daemon=True)
            for at in range(threads)
        ]
        for each in self._threads:
            each.start()

    def submit(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Run it; it must not raise."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.put((work, future))
        return future

    def end(self) -> None:
        """What was begun ends, the rest is not run."""
        for _ in self._threads:
            self._jobs.put(None)

    def join(self) -> None:
        for each in self._threads:
            each.join(STOP_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, future = job
            result = work()
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
                future.get_loop().call_soon_threadsafe(settle, future, result)
            del job, work, future, result  # nothing is held while waiting for the next one


Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


def settle(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)


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
        self._pool = pool = Pool(name, threads)
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
            self._finish()
            self._thread.join(STOP_S)

    def finish(self) -> None:
        """At exit: what runs ends, nothing more is begun. Who waits still is a daemon thread, and hears nothing."""
        if self._thread.is_alive():
            self._pool.end()
            self._pool.join()

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
        pool.end()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)


@contextmanager
def starting() -> Iterator[None]:
    """One thread starts another at a time. A forked child has a lock of its own: it may inherit a held one."""
    with STARTING.setdefault(os.getpid(), threading.Lock()):
        yield


def finish_all() -> None:
    """At exit: no thread is in the middle of a function when the interpreter goes."""
    for each in list(LIVING):
        each.finish()


STARTING: dict[int, threading.Lock] = {}
INHERITED: list[object] = []
LIVING: "weakref.WeakSet[LoopThread[Any]]" = weakref.WeakSet()
atexit.register(finish_all)
