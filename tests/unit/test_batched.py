"""A function behind @headrace.batched: who travels together, and what each caller gets."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import nan

import pytest

import headrace
from headrace.errors import QueueFull
from headrace.library.batched import AsyncBatched, Batched
from tests.integration.process import eventually


def waiting(function: Batched | AsyncBatched) -> int:
    host = function._engine._resident if isinstance(function, Batched) else list(function._hosts.values())[-1]
    return host._pipeline.snapshot().waiting


class Gate:
    """A sync function that waits to be let through, and remembers its batches."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.has_begun = threading.Event()
        self.batches: list[list[object]] = []

    def __call__(self, items: list[object]) -> list[object]:
        self.batches.append(items)
        self.has_begun.set()
        assert self.is_open.wait(30)
        return [("done", item) for item in items]


@contextmanager
def held(**options) -> Iterator[tuple[Gate, Batched, ThreadPoolExecutor]]:
    """A function that is in the middle of its first batch, and threads to call it from."""
    gate = Gate()
    function = headrace.batched(**options)(gate)
    with ThreadPoolExecutor(16) as pool:
        first = pool.submit(function, 0)
        assert gate.has_begun.wait(30)
        try:
            yield gate, function, pool
        finally:
            gate.is_open.set()
            function.close()
        assert first.result() == ("done", 0)


def test_those_that_wait_travel_together_up_to_the_most():
    with held(max_batch_size=4) as (gate, function, pool):
        others = [pool.submit(function, item) for item in range(1, 7)]
        eventually(lambda: waiting(function) == 6, "six wait")
        gate.is_open.set()
        assert [each.result() for each in others] == [("done", item) for item in range(1, 7)]
    assert [len(each) for each in gate.batches] == [1, 4, 2]


def test_who_comes_to_a_full_queue_is_refused_at_once():
    with held(max_queue=2) as (_, function, pool):
        others = [pool.submit(function, item) for item in (1, 2)]
        eventually(lambda: waiting(function) == 2, "two wait")
        with pytest.raises(QueueFull, match="2 items wait already, as many as max_queue allows"):
            function(3)
    for each in others:
        assert isinstance(each.exception(), RuntimeError)


def test_who_waits_too_long_is_told_and_not_run():
    with held(timeout_s=0.05) as (gate, function, _):
        with pytest.raises(TimeoutError, match=r"waited 0\.05 s, and was not run"):
            function(1)
        gate.is_open.set()
        assert function(2) == ("done", 2)
    assert gate.batches == [[0], [2]]


def test_several_runs_go_at_once_if_asked_for():
    both = threading.Barrier(2)

    @headrace.batched(max_batch_size=1, concurrency=2)
    def meet(items: list[int]) -> list[int]:
        both.wait(30)
        return items

    assert sorted(meet.many([1, 2])) == [1, 2]
    meet.close()


def test_closing_answers_what_runs_and_refuses_what_waits_and_the_next_call_starts_anew():
    with held() as (gate, function, pool):
        waits = pool.submit(function, 1)
        eventually(lambda: waiting(function) == 1, "one waits")
        closing = pool.submit(function.close)
        assert isinstance(waits.exception(), RuntimeError)
        gate.is_open.set()
        closing.result()
        assert function(2) == ("done", 2)


def test_a_function_that_nobody_holds_any_more_ends_its_thread():
    def same(items: list[int]) -> list[int]:
        return items

    function = headrace.batched(same)
    assert function(1) == 1
    thread, gone = function._engine._thread, weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None
    thread.join(30)
    assert not thread.is_alive()


@headrace.batched(max_batch_size=8)
def picky(items: list[object]) -> list[object]:
    """Refuses strings by raising, zero by returning an exception."""
    if any(isinstance(item, str) for item in items):
        raise ValueError(f"a string among {len(items)}")
    return [ZeroDivisionError("zero") if item == 0 else -item for item in items]


@headrace.batched(max_batch_size=8)
async def apicky(items: list[object]) -> list[object]:
    await asyncio.sleep(0)
    return picky.__wrapped__(items)


async def gathered(call: Callable, items: list[object]) -> list[object]:
    return await asyncio.gather(*map(call, items), return_exceptions=True)


@pytest.mark.parametrize("call", [apicky, picky.acall])
async def test_only_the_culprits_caller_gets_the_exception(call):
    answers = await gathered(call, [1, "a", 2, 0, 3])
    assert [answers[0], answers[2], answers[4]] == [-1, -2, -3]
    assert (type(answers[1]), str(answers[1])) == (ValueError, "a string among 1")
    assert (type(answers[3]), str(answers[3])) == (ZeroDivisionError, "zero")


async def test_many_raise_the_first_failure_and_give_results_in_order():
    assert picky.many(range(1, 30)) == [-item for item in range(1, 30)]
    assert await apicky.many(range(1, 30)) == [-item for item in range(1, 30)]
    assert picky.many([]) == []
    with pytest.raises(ZeroDivisionError):
        picky.many([1, 0, "a"])
    with pytest.raises(ValueError, match="a string"):
        await apicky.many([1, "a", 0])


async def test_many_may_be_more_than_the_queue_holds():
    @headrace.batched(max_batch_size=3, max_queue=5)
    async def same(items: list[int]) -> list[int]:
        return items

    assert await same.many(range(23)) == list(range(23))


@pytest.mark.parametrize(
    ("returned", "error", "reason"),
    [
        ([1], ValueError, "wrong returned 1 results for 2 items: return one for each, in their order"),
        (None, TypeError, "wrong returned NoneType: return a list with one result for each item"),
        ("ab", TypeError, "wrong returned str: return a list"),
        ({1: 2, 3: 4}, TypeError, "wrong returned dict: return a list"),
        ({1, 2}, TypeError, "wrong returned set: return a list"),
        ((each for each in "ab"), TypeError, "wrong returned generator: return a list"),
    ],
)
async def test_wrong_results_are_said_to_all_and_nothing_is_tried_again(returned, error, reason):
    runs = []

    @headrace.batched
    async def wrong(items: list[int]) -> object:
        runs.append(items)
        return returned

    for answer in await gathered(wrong, [1, 2]):
        assert isinstance(answer, error)
        assert reason in str(answer)
    assert runs == [[1, 2]]


@pytest.mark.parametrize("raised", [StopIteration(3), SystemExit(3)])
def test_what_no_future_can_hold_is_raised_as_something_else(raised):
    @headrace.batched
    def odd(items: list[int]) -> list[int]:
        raise raised

    for _ in range(2):
        with pytest.raises(RuntimeError, match=type(raised).__name__) as caught:
            odd(1)
        assert caught.value.__cause__ is raised
    odd.close()


async def test_who_is_cancelled_while_waiting_is_not_run():
    may_end, batches = asyncio.Event(), []

    @headrace.batched
    async def slow(items: list[int]) -> list[int]:
        batches.append(items)
        await may_end.wait()
        return items

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(slow(item)) for item in (1, 2, 3)]
        while not batches:
            await asyncio.sleep(0)
        tasks += [group.create_task(slow(item)) for item in (4, 5)]
        while waiting(slow) < 2:
            await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[3].cancel()
        await asyncio.sleep(0)
        may_end.set()
    assert batches == [[1, 2, 3], [5]]
    assert [task.cancelled() for task in tasks] == [False, True, False, True, False]
    assert [tasks[at].result() for at in (0, 2, 4)] == [1, 3, 5]


async def test_a_function_that_is_cancelled_leaves_nobody_waiting():
    @headrace.batched
    async def cancelled(items: list[int]) -> list[int]:
        raise asyncio.CancelledError

    for answer in await gathered(cancelled, [1, 2]):
        assert isinstance(answer, RuntimeError)


def test_loops_may_come_one_after_the_other_and_side_by_side():
    def on_a_loop(start: int) -> list[object]:
        return asyncio.run(gathered(apicky, list(range(start, start + 20))))

    with ThreadPoolExecutor(3) as pool:
        for start, answers in zip(range(1, 300, 25), pool.map(on_a_loop, range(1, 300, 25)), strict=True):
            assert answers == [-item for item in range(start, start + 20)]
    asyncio.run(gathered(apicky, [1]))
    assert len(apicky._hosts) <= 4, "loops that are closed are forgotten"


def test_a_loop_that_ends_in_the_middle_takes_its_run_along():
    began = []

    @headrace.batched
    async def endless(items: list[int]) -> list[int]:
        began.append(items)
        await asyncio.Event().wait()
        return items

    async def leave() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(endless(1))
            while not began:
                await asyncio.sleep(0)
            task.cancel()

    asyncio.run(leave())
    assert began == [[1]]


async def test_the_run_has_the_context_of_none_of_its_callers():
    user = contextvars.ContextVar("user", default="nobody")

    @headrace.batched
    async def who(items: list[int]) -> list[str]:
        return [user.get() for _ in items]

    user.set("me")
    assert await who(1) == "nobody"


def test_the_functions_name_and_words_stay():
    assert (picky.__name__, picky.__doc__) == (
        "picky",
        "Refuses strings by raising, zero by returning an exception.",
    )
    assert isinstance(apicky, AsyncBatched)


@pytest.mark.parametrize(
    "options",
    [{"max_batch_size": 0}, {"max_queue": 0}, {"concurrency": 0}, {"timeout_s": 0}, {"timeout_s": nan}],
)
def test_options_that_cannot_be_are_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} is {value}, and has to be"):
        headrace.batched(**options)
    with pytest.raises(TypeError, match="3 is no function"):
        headrace.batched(3)
