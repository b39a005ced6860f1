"""A pipeline in front of a function: the queue, the policy and the l(b) of the server, with items in place of tensors.

To the pipeline the function is a model without inputs and outputs, so there is nothing to lay out or take apart: each
ticket carries its item, and what the function made of it lies with whoever waits before the pipeline answers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextvars import Context
from functools import partial
from itertools import islice
from math import inf
from typing import Any, cast

from headrace.batching.batch import Batch
from headrace.batching.latency import LatencyModel
from headrace.batching.ticket import Ticket
from headrace.errors import HeadraceError, InferenceFailed, QueueFull, RequestTimeout, ServerExiting
from headrace.execution.arena import Region
from headrace.execution.channel import InFlight
from headrace.execution.threads import Pool
from headrace.execution.wire import Done, Failed, Placed, RowError
from headrace.library.batched import Options
from headrace.messages import Group, InferRequest, ModelSpec, Wanted
from headrace.parts import Part
from headrace.pipeline import Limits, Pipeline

NO_REGION = cast("Region", None)
"""Where tensors would lie; a model without any has none."""
REQUEST = InferRequest("", (), (), 1, Group(1), Wanted((), ()), nbytes=1)
"""What every item is to the pipeline: a row, weighing one, so that the queue is bounded by their number."""
VERSION = "1"

Results = Sequence[Any]
Outcome = Results | Exception
"""What a function returned, or raised."""
Begin = Callable[[list[Any]], "asyncio.Future[Outcome]"]
"""Starts the function on a list."""


class RunCancelled(RuntimeError):
    """The function's run was cancelled: as a loop that ends does, so nothing is tried again."""


class Waiter:
    """Who waits for an item. `outcome` is set before the pipeline answers."""

    __slots__ = ("_options", "future", "outcome")

    def __init__(self, future: "asyncio.Future[Any]", options: Options) -> None:
        self.future = future
        self.outcome: Any = None
        self._options = options

    def end(self, part: Part) -> None:  # noqa: ARG002 - the result is no part of a tensor
        if not self.future.done():
            self.future.set_result(self.outcome)

    def fail(self, error: HeadraceError) -> None:
        if not self.future.done():
            self.future.set_exception(self._raised(error))

    def _raised(self, error: HeadraceError) -> BaseException:
        """What the caller gets: the function's own exception where there is one."""
        match error:
            case InferenceFailed() if isinstance(self.outcome, StopIteration):
                wrapped = RuntimeError("the function raised StopIteration, which no future can hold")
                wrapped.__cause__ = self.outcome
                return wrapped
            case InferenceFailed() if isinstance(self.outcome, Exception):
                return self.outcome
            case RequestTimeout():
                return TimeoutError(f"waited {self._options.timeout_s:g} s, and was not run")
            case QueueFull():
                error.args = (f"{self._options.max_queue} items wait already, as many as max_queue allows",)
            case ServerExiting():
                return RuntimeError("the function was closed while the item waited")
        return error


class ItemTicket(Ticket):
    """An item's place in the queue."""

    __slots__ = ("item", "waiter")

    def __init__(self, item: Any, waiter: Waiter, now: float, deadline: float) -> None:
        super().__init__(REQUEST, waiter, now, deadline)
        self.item = item
        self.waiter = waiter


class FunctionChannel:
    """The function as an instance: it runs one batch at a time. Lives on the loop."""

    def __init__(self, name: str, begin: Begin, on_credit: Callable[[], None]) -> None:
        self._name = name
        self._begin = begin
        self._on_credit = on_credit
        # The mutable state: what runs, and since when.
        self._running: Batch | None = None
        self._started = 0

    @property
    def credits(self) -> int:
        return 0 if self._running else 1

    @property
    def is_idle(self) -> bool:
        return self._running is None

    def in_flight(self) -> list[InFlight]:
        return [] if self._running is None else [self._running]

    def inputs(self) -> Region:
        return NO_REGION

    def send(self, batch: InFlight, inputs: tuple[Placed, ...], wanted: tuple[int, ...]) -> None:  # noqa: ARG002
        assert isinstance(batch, Batch), "a pipeline sends its batches"
        self._running = batch
        self._started = time.perf_counter_ns()
        self._begin([item_of(ticket) for ticket in batch.tickets]).add_done_callback(self._finish)

    def send_golden(self, batch: InFlight) -> None:
        raise NotImplementedError("a function has no golden inputs")

    def send_rebuild(self, batch: InFlight) -> None:
        raise NotImplementedError("a function has no session")

    def close(self) -> list[InFlight]:
        return []

    def _finish(self, future: "asyncio.Future[Outcome]") -> None:
        batch, self._running = self._running, None
        assert batch is not None, "what finishes was begun"
        ended = time.perf_counter_ns()
        outcome = RunCancelled(f"{self._name} was cancelled") if future.cancelled() else future.result()
        self._on_credit()
        if isinstance(outcome, Exception) and not isinstance(outcome, RunCancelled):
            for ticket in batch.tickets:
                waiter_of(ticket).outcome = outcome
            batch.on_failed(Failed(0, "", is_input=False))
            return
        errors = self._hand_out(batch.tickets, outcome)
        batch.on_done(Done(0, 0, (), self._started, self._started, ended, ended, errors), NO_REGION)

    def _hand_out(self, tickets: list[Ticket], outcome: Outcome) -> tuple[RowError, ...]:
        """Give each waiter its outcome; returns whose is an exception."""
        wrong = (
            outcome if isinstance(outcome, Exception) else wrong_results(self._name, outcome, len(tickets))
        )
        # Of wrong results nobody can tell whose they are, and trying again would hide that.
        outcomes = [type(wrong)(*wrong.args) for _ in tickets] if wrong is not None else outcome
        errors = []
        for at, (ticket, each) in enumerate(zip(tickets, cast("Results", outcomes), strict=True)):
            waiter_of(ticket).outcome = each
            if isinstance(each, Exception):
                errors.append(RowError(at, "", is_input=False))
        return tuple(errors)


class Host:
    """A function's queue on one loop. Lives there; made while it runs."""

    def __init__(self, name: str, begin: Begin, options: Options) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        spec = ModelSpec(name, VERSION, "function", (), (), options.max_batch_size, joins_requests=True)
        limits = Limits(max_queue_bytes=options.max_queue, max_rows=options.max_batch_size)
        self._pipeline = Pipeline(spec, limits, time.perf_counter, lambda _: None)
        channels = [FunctionChannel(name, begin, self._pipeline.dispatch) for _ in range(options.concurrency)]
        self._pipeline.attach(channels, spec, LatencyModel())

    async def ask(self, item: Any) -> Any:
        """The item's result; who is cancelled while waiting is not run."""
        ticket = self._submit(item)
        try:
            return await ticket.waiter.future
        finally:
            self._pipeline.drop(ticket)

    async def ask_many(self, items: Iterable[Any]) -> list[Any]:
        """All results, or the first failure; as many at a time as the queue holds."""
        results: list[Any] = []
        rest = iter(items)
        while tickets := [self._submit(item) for item in islice(rest, self._options.max_queue)]:
            try:
                results += [await ticket.waiter.future for ticket in tickets]
            finally:
                self._forget(tickets)
        return results

    def _forget(self, tickets: list[ItemTicket]) -> None:
        """Whatever becomes of them now is of no interest."""
        for ticket in tickets:
            self._pipeline.drop(ticket)
            future = ticket.waiter.future
            if not future.cancel() and not future.cancelled():
                future.exception()  # asked for, so that nobody warns that it never was

    async def close(self) -> None:
        """Refuse what waits, and answer what runs."""
        self._pipeline.refuse_all(ServerExiting())
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)
        self._pipeline.close()

    def _submit(self, item: Any) -> ItemTicket:
        now, timeout_s = time.perf_counter(), self._options.timeout_s
        waiter = Waiter(self._loop.create_future(), self._options)
        ticket = ItemTicket(item, waiter, now, inf if timeout_s is None else now + timeout_s)
        self._pipeline.submit(ticket)
        return ticket


def run_async(function: Callable[[list[Any]], Awaitable[Results]]) -> Begin:
    """Runs it as a task of the loop."""
    running: set[asyncio.Task[Outcome]] = set()  # a loop holds its tasks weakly only

    async def attempt(items: list[Any]) -> Outcome:
        try:
            return await function(items)
        except Exception as exc:  # noqa: BLE001 - it is the callers' to handle
            return exc

    def begin(items: list[Any]) -> "asyncio.Future[Outcome]":
        # Its callers are several, so it has the context of none of them.
        task = asyncio.get_running_loop().create_task(attempt(items), context=Context())
        running.add(task)
        task.add_done_callback(running.discard)
        return task

    return begin


def run_in_threads(function: Callable[[list[Any]], Results], pool: Pool) -> Begin:
    """Runs it in the threads of the pool."""

    def attempt(items: list[Any]) -> Outcome:
        try:
            return function(items)
        except Exception as exc:  # noqa: BLE001 - it is the callers' to handle
            return exc
        except BaseException as exc:  # noqa: BLE001 - here it would end a loop that others wait on
            raised = RuntimeError(f"the function raised {type(exc).__name__}")
            raised.__cause__ = exc
            return raised

    return lambda items: pool.submit(partial(attempt, items))


def wrong_results(name: str, results: object, items: int) -> Exception | None:
    """What is wrong with what the function returned, if anything is."""
    if isinstance(results, str | bytes | Mapping | AbstractSet) or not hasattr(results, "__len__"):
        return TypeError(
            f"{name} returned {type(results).__name__}: return a list with one result for each item"
        )
    if len(results) != items:
        return ValueError(
            f"{name} returned {len(results)} results for {items} items: return one for each, in their order"
        )
    return None


def item_of(ticket: Ticket) -> Any:
    assert isinstance(ticket, ItemTicket), "a host submits nothing else"
    return ticket.item


def waiter_of(ticket: Ticket) -> Waiter:
    assert isinstance(ticket, ItemTicket), "a host submits nothing else"
    return ticket.waiter
