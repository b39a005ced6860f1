"""`@headrace.batched`: a function over a list, called with one item at a time, batches its callers by itself.

Light on purpose: `import headrace` brings it along; what does the work is imported by the first call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

if TYPE_CHECKING:  # for the annotations of this file only: a worker need not import it
    import asyncio

    from headrace.execution.threads import LoopThread
    from headrace.library.host import Host

Item = TypeVar("Item")
Result = TypeVar("Result")

Sync = Callable[[list[Item]], Sequence[Result | Exception]]
Async = Callable[[list[Item]], Coroutine[Any, Any, Sequence[Result | Exception]]]


@dataclass(frozen=True, slots=True)
class Options:
    """How callers are batched; `batched` says what each field is."""

    max_batch_size: int
    max_queue: int
    timeout_s: float | None
    concurrency: int

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_queue", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, and has to be at least 1")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ValueError(f"timeout_s is {self.timeout_s:g}, and has to be above 0; None is no limit")


class Decorator(Protocol):
    """What `batched(...)` with options gives: it takes the function."""

    @overload
    def __call__(self, function: Async[Item, Result], /) -> AsyncBatched[Item, Result]: ...
    @overload
    def __call__(self, function: Sync[Item, Result], /) -> Batched[Item, Result]: ...


@overload
def batched(function: Async[Item, Result], /) -> AsyncBatched[Item, Result]: ...
@overload
def batched(function: Sync[Item, Result], /) -> Batched[Item, Result]: ...
@overload
def batched(
    *, max_batch_size: int = 32, max_queue: int = 1024, timeout_s: float | None = None, concurrency: int = 1
) -> Decorator: ...
def batched(
    function: Any = None,
    /,
    *,
    max_batch_size: int = 32,
    max_queue: int = 1024,
    timeout_s: float | None = None,
    concurrency: int = 1,
) -> Any:
    """Make a function over a list one that is called with one item and returns one result.

    ```python
    @headrace.batched(max_batch_size=32)
    def classify(texts: list[str]) -> list[str]: ...

    classify("I love it")  # from as many threads as there are: those that wait travel together
    ```

    Nobody waits for a batch to fill: what has come while the last batch ran is the next one. How many go at once is
    learned from how long runs take, up to `max_batch_size`: where more items in a run bring nothing, fewer go.

    The function returns a list with one result for each item, in their order; an exception in it is raised for that
    item. If it raises, each item of that batch is tried once more, alone, so that only the culprit's caller gets the
    exception. A sync function runs in a thread of its own, an `async def` one on the loop of its callers, with nobody's
    context variables.

    Args:
        function: over a list; left out where options are given.
        max_batch_size: items in one call.
        max_queue: items that may wait; who comes then gets headrace.errors.QueueFull at once.
        timeout_s: seconds an item may wait until it is run; then its caller gets TimeoutError. None is no limit.
        concurrency: calls of the function that may run at once.

    Raises:
        ValueError: an option cannot be so.
        TypeError: the function is none.
    """
    options = Options(max_batch_size, max_queue, timeout_s, concurrency)

    def decorate(function: Any) -> Any:
        if not callable(function):
            raise TypeError(f"{function!r} is no function: give one over a list of items")
        return AsyncBatched(function, options) if is_async(function) else Batched(function, options)

    return decorate if function is None else decorate(function)


class AsyncBatched(Generic[Item, Result]):
    """An `async def` over a list, called with one item. Each event loop has a queue of its own."""

    def __init__(self, function: Async[Item, Result], options: Options) -> None:
        functools.update_wrapper(cast("Any", self), function)
        self._function = function
        self._options = options
        self._hosts: dict[asyncio.AbstractEventLoop, Host] = {}

    async def __call__(self, item: Item) -> Result:
        """The item's result.

        Raises:
            QueueFull: too many wait.
            TimeoutError: it waited too long.
            Exception: what the function raised for it, or gave as its result.
        """
        result: Result = await self._host().ask(item)
        return result

    async def many(self, items: Iterable[Item]) -> list[Result]:
        """Results in the order of the items; of several failures, the first in that order is raised."""
        results: list[Result] = await self._host().ask_many(items)
        return results

    def _host(self) -> Host:
        from asyncio import get_running_loop  # noqa: PLC0415 - the module's docstring says why

        from headrace.library.host import Host, run_async  # noqa: PLC0415 - likewise

        loop = get_running_loop()
        host = self._hosts.get(loop)
        if host is None:
            hosts = {each: host for each, host in self._hosts.items() if not each.is_closed()}
            host = hosts[loop] = Host(name_of(self._function), run_async(self._function), self._options)
            self._hosts = hosts
        return host


class Batched(Generic[Item, Result]):
    """A function over a list, called with one item, from any thread or loop; it runs in a thread of its own.

    That thread starts with the first call, and ends with the object, at exit or with `close`. A forked child starts
    its own.
    """

    def __init__(self, function: Sync[Item, Result], options: Options) -> None:
        functools.update_wrapper(cast("Any", self), function)
        self._function = function
        self._options = options
        # The mutable state: who does the work, from the first call on.
        self._engine: LoopThread[Host] | None = None

    def __call__(self, item: Item) -> Result:
        """The item's result; the calling thread waits for it. On an event loop use `acall`.

        Raises:
            QueueFull: too many wait.
            TimeoutError: it waited too long.
            Exception: what the function raised for it, or gave as its result.
        """
        result: Result = self._thread().call(lambda host: host.ask(item))
        return result

    def many(self, items: Iterable[Item]) -> list[Result]:
        """Results in the order of the items; of several failures, the first in that order is raised."""
        results: list[Result] = self._thread().call(lambda host: host.ask_many(items))
        return results

    async def acall(self, item: Item) -> Result:
        """The same as calling it, from an event loop, which goes on meanwhile."""
        result: Result = await self._thread().acall(lambda host: host.ask(item))
        return result

    def close(self) -> None:
        """Answer what runs, refuse what waits, end the thread; the next call starts another."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()

    def _thread(self) -> LoopThread[Host]:
        engine = self._engine
        return engine if engine is not None and engine.is_alive else self._start()

    def _start(self) -> LoopThread[Host]:
        from headrace.execution.threads import LoopThread, starting  # noqa: PLC0415 - the module's docstring says why
        from headrace.library.host import Host, run_in_threads  # noqa: PLC0415 - likewise

        name, function, options = name_of(self._function), self._function, self._options
        with starting():
            engine = self._engine
            if engine is None or not engine.is_alive:
                engine = self._engine = LoopThread(
                    name,
                    options.concurrency,
                    lambda pool: Host(name, run_in_threads(function, pool), options),
                    owner=self,
                )
        return engine


def name_of(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
