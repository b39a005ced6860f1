"""@headrace.CircuitBreaker around functions of all kinds: what is counted, what is refused, and what is never done."""

import asyncio
import gc
import inspect
import pickle
import re
import subprocess
import sys
import threading
import traceback
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from math import inf, nan
from pathlib import Path

import pytest

import headrace
from headrace.errors import CircuitOpen
from headrace.faults.breaker import BreakerState


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Backend:
    """What the guarded functions depend on: does as it is told, and counts."""

    def __init__(self, **options) -> None:
        self.clock = Clock()
        self.breaker = headrace.CircuitBreaker(
            **{"max_failures": 3, "reset_timeout": 60, **options}, clock=self.clock
        )
        self.error: BaseException | None = None
        self.takes = 0.0
        self.calls = 0
        self.ask = self.breaker(self._ask)
        self.aask = self.breaker(self._aask)

    def _ask(self, value: int = 1) -> int:
        """The docstring."""
        self.calls += 1
        self.clock.now += self.takes
        if self.error is not None:
            raise type(self.error)(*self.error.args)  # one that is raised twice has both tracebacks
        return 2 * value

    async def _aask(self, value: int = 1) -> int:
        await asyncio.sleep(0)
        return self._ask(value)

    def begin(self) -> object:
        return self._aask()

    def fail(self, times: int = 3, error: BaseException | None = None) -> None:
        self.error = error or ConnectionError("gone")
        for _ in range(times):
            with pytest.raises(type(self.error)):
                self.ask()
        self.error = None

    def half_open(self) -> "Backend":
        self.fail()
        self.clock.now += 60
        return self


@pytest.fixture
def backend() -> Backend:
    return Backend()


def call(backend: Backend, is_async: bool) -> int:
    return asyncio.run(backend.aask()) if is_async else backend.ask()


@contextmanager
def held(backend: Backend) -> Iterator[threading.Event]:
    """A call in another thread that does not end until it is let go."""
    has_begun, go_on = threading.Event(), threading.Event()

    @backend.breaker
    def wait() -> None:
        has_begun.set()
        assert go_on.wait(30)
        if backend.error is not None:
            raise backend.error

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(wait)
        assert has_begun.wait(30)
        try:
            yield go_on
        finally:
            go_on.set()
            with suppress(ConnectionError):
                future.result()


def test_as_people_write_it():
    @headrace.CircuitBreaker(max_failures=3, reset_timeout=60)
    def divide(a: float, b: float) -> float:
        return a / b

    assert divide(1, b=2) == 0.5
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            divide(1, 0)
    with pytest.raises(CircuitOpen):
        divide(1, 2)
    assert divide.breaker.state == "open"


def test_what_the_docs_show_runs():
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
    section = page.partition("## In your own code")[2].partition("\n## ")[0]
    names = {"headrace": headrace}
    for block in re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert names["store"].state == "forced_open"


@pytest.mark.parametrize("is_async", [False, True])
def test_it_opens_is_tried_and_closes(backend, is_async):
    backend.error = ConnectionError("gone")
    for _ in range(3):
        with pytest.raises(ConnectionError):
            call(backend, is_async)
    for _ in range(5):
        with pytest.raises(CircuitOpen):
            call(backend, is_async)
    assert backend.calls == 3, "open, nothing is called"
    backend.clock.now += 60
    with pytest.raises(ConnectionError):
        call(backend, is_async)
    with pytest.raises(CircuitOpen):
        call(backend, is_async)
    backend.error = None
    backend.clock.now += 60
    assert call(backend, is_async) == 2
    assert backend.breaker.state is BreakerState.CLOSED


def test_the_refusal_says_why_and_when_to_come_again(backend):
    backend.fail()
    backend.clock.now += 20
    with pytest.raises(CircuitOpen) as refused:
        backend.ask()
    assert (
        str(refused.value)
        == "the circuit breaker of _ask is open: 3 runs in a row failed (ConnectionError); it is tried again in 40 s"
    )
    assert refused.value.retry_after_s == 40


def test_a_refusal_reaches_another_process_whole(backend):
    """Of one that cannot be read, a pool of processes is broken."""
    backend.fail()
    with pytest.raises(CircuitOpen) as refused:
        backend.ask()
    there = pickle.loads(pickle.dumps(refused.value))
    assert (type(there), str(there), there.retry_after_s) == (CircuitOpen, str(refused.value), 60)


def test_one_breaker_guards_several_functions_and_has_a_name():
    backend = Backend(name="the feature store")
    other = backend.breaker(lambda: 5)
    backend.fail()
    with pytest.raises(CircuitOpen, match="the circuit breaker of the feature store is open"):
        other()
    with pytest.raises(CircuitOpen):
        asyncio.run(backend.aask())


def test_methods_are_guarded_for_all_objects_of_the_class():
    class Store:
        breaker = headrace.CircuitBreaker(max_failures=1)

        def __init__(self, rows: dict[int, int]) -> None:
            self.rows = rows

        @breaker
        def get(self, key: int) -> int:
            return self.rows[key]

        @staticmethod
        @breaker
        def double(value: int) -> int:
            return 2 * value

    good, bad = Store({1: 10}), Store({})
    assert (good.get(1), good.double(2)) == (10, 4)
    with pytest.raises(KeyError):
        bad.get(1)
    with pytest.raises(CircuitOpen):
        good.get(1)


def test_the_function_keeps_its_name_its_docstring_and_its_kind(backend):
    assert (backend.ask.__name__, backend.ask.__doc__) == ("_ask", "The docstring.")
    assert inspect.iscoroutinefunction(backend.aask)
    assert not inspect.iscoroutinefunction(backend.ask)


def test_objects_and_partial_functions_are_guarded_by_what_they_do():
    class Asker:
        async def __call__(self, value: int) -> int:
            return value

    breaker = headrace.CircuitBreaker()
    assert asyncio.run(breaker(Asker())(3)) == 3
    assert breaker(partial(divmod, 7))(2) == (3, 1)


# What the known ones get wrong.


def test_no_lock_is_held_while_the_function_runs(backend):
    with held(backend):
        assert backend.ask() == 2


def test_half_open_one_call_at_a_time_goes_through(backend):
    backend.half_open()
    with held(backend) as go_on:
        for _ in range(10):
            with pytest.raises(CircuitOpen, match=r"half open: .*one call is on trial right now") as refused:
                backend.ask()
            assert refused.value.retry_after_s == 1
        assert backend.calls == 3
        go_on.set()
    assert backend.ask() == 2


def test_of_many_that_come_to_a_half_open_breaker_at_once_one_is_let_through(backend):
    async def everybody() -> list[object]:
        return await asyncio.gather(*(backend.aask() for _ in range(50)), return_exceptions=True)

    backend.half_open()
    answers = asyncio.run(everybody())
    assert answers[0] == 2
    assert all(isinstance(each, CircuitOpen) for each in answers[1:])


@pytest.mark.parametrize("is_trial", [False, True])
def test_a_cancelled_call_is_no_failure_and_gives_its_permit_back(backend, is_trial):
    async def cancelled() -> None:
        task = asyncio.get_running_loop().create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    @backend.breaker
    async def forever() -> None:
        await asyncio.Event().wait()

    if is_trial:
        backend.half_open()
    for _ in range(5):
        asyncio.run(cancelled())
    assert backend.breaker.snapshot().failed == 0
    assert backend.ask() == 2, "the permit is there for the next one"


def test_a_call_that_is_never_finished_gives_its_permit_back_when_it_is_collected(backend):
    backend.half_open()
    coroutine = backend.aask()
    copy_context().run(coroutine.send, None)
    with pytest.raises(CircuitOpen):
        backend.ask()
    del coroutine
    gc.collect()
    assert backend.ask() == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_is_no_exception_of_the_function_is_not_counted(backend, error):
    backend.fail(5, error)
    assert backend.breaker.snapshot().failed == 0
    backend.half_open().fail(1, error)
    assert backend.ask() == 2
    assert backend.breaker.state is BreakerState.CLOSED, "the permit was given back"


def test_excluded_is_neither_failure_nor_success():
    backend = Backend(exclude=ValueError, trials=1)
    backend.fail(2)
    backend.fail(5, UnicodeError("the caller's fault, as a ValueError"))
    assert backend.breaker.state is BreakerState.CLOSED
    backend.fail(1)
    assert backend.breaker.state is BreakerState.OPEN, "the row of failures went on"
    backend.clock.now += 60
    backend.fail(1, ValueError())
    assert backend.breaker.state is BreakerState.HALF_OPEN


def test_refusals_are_new_ones_whose_traceback_does_not_grow(backend):
    backend.fail()
    refusals = []
    for _ in range(20):
        with pytest.raises(CircuitOpen) as refused:
            backend.ask()
        refusals.append(refused.value)
    assert len(set(map(id, refusals))) == 20
    assert len({len(traceback.extract_tb(each.__traceback__)) for each in refusals}) == 1


def test_refusals_and_calls_leave_nothing_behind(backend):
    """Half of what a reference to each would take; the long version is run by hand: benchmarks/faults."""

    def growth(times: int, step: float) -> int:
        """Bytes, once it has settled."""
        before = 0
        for at in range(2 * times):
            if at == times:
                before = tracemalloc.get_traced_memory()[0]
            backend.clock.now += step
            with suppress(CircuitOpen, ValueError):
                backend.ask()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        assert growth(3000, step=0.1) < 4 * 3000, "calls"
        backend.fail()
        assert growth(3000, step=0) < 4 * 3000, "refusals"
        backend.error = ValueError()
        assert growth(3000, step=60) < 4 * 3000, "trials that fail"
    finally:
        tracemalloc.stop()


def test_the_clock_of_the_wall_does_not_matter(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1e12)
    breaker = headrace.CircuitBreaker(max_failures=1, reset_timeout=3600)
    with pytest.raises(ZeroDivisionError):
        breaker(lambda: 1 / 0)()
    monkeypatch.setattr("time.time", lambda: 2e12)
    assert breaker.state is BreakerState.OPEN


# What else can go on around a call.


def test_what_began_before_it_opened_says_nothing_after(backend):
    with held(backend) as go_on:
        backend.half_open()
        backend.error = ConnectionError()
        go_on.set()
    assert backend.breaker.state is BreakerState.HALF_OPEN


def test_a_trial_that_hangs_keeps_others_from_trying_for_reset_timeout_only(backend):
    backend.half_open()
    with held(backend):
        with pytest.raises(CircuitOpen):
            backend.ask()
        backend.clock.now += 60
        assert backend.ask() == 2
        assert backend.breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_trial_calls_of_the_same_breaker_is_part_of_it(backend, is_async):
    @backend.breaker
    def outer() -> int:
        return 1 + backend.ask()

    @backend.breaker
    async def aouter() -> int:
        return 1 + sum(await asyncio.gather(backend.aask(), backend.aask()))

    backend.half_open()
    assert (asyncio.run(aouter()) if is_async else outer()) == (5 if is_async else 3)
    assert backend.breaker.state is BreakerState.CLOSED


def test_what_a_trial_calls_is_refused_once_the_breaker_is_open_again(backend):
    @backend.breaker
    def outer() -> int:
        backend.breaker.force_open()
        return backend.ask()

    backend.half_open()
    with pytest.raises(CircuitOpen, match="forced open"):
        outer()


def test_a_trial_inside_of_another_breakers_trial_is_one_of_both(backend):
    outer = Backend().half_open()
    backend.half_open()

    @outer.breaker
    @backend.breaker
    def both() -> int:
        return outer.ask() + backend.ask()

    assert both() == 4
    assert {outer.breaker.state, backend.breaker.state} == {BreakerState.CLOSED}


def test_once_a_trial_has_ended_its_tasks_are_nobodys(backend):
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def later() -> int:
            await go_on.wait()
            return await backend.aask()

        @backend.breaker
        async def outer() -> asyncio.Task[int]:
            return asyncio.get_running_loop().create_task(later())

        task = await outer()
        backend.half_open()
        with held(backend):
            go_on.set()
            with pytest.raises(CircuitOpen):
                await task

    backend.half_open()
    asyncio.run(scenario())


def test_another_breakers_refusal_is_not_held_against_this_one(backend):
    inner = Backend()
    inner.fail()
    outer = backend.breaker(inner.ask)
    for _ in range(5):
        with pytest.raises(CircuitOpen):
            outer()
    assert backend.breaker.state is BreakerState.CLOSED


def test_slow_calls_open_it():
    backend = Backend(max_failures=None, slow_call=1.0, slow_rate=0.5, min_calls=4, window=1000)
    for backend.takes in (0.5, 1.0, 1.5):
        backend.ask()
    assert backend.breaker.snapshot().slow == 1
    backend.ask()
    assert backend.breaker.snapshot().reason == "2 of 4 runs were slow"
    for _ in range(5):  # however often: how slow is too slow was said, not learned
        backend.clock.now += 60
        backend.ask()
        assert backend.breaker.snapshot().reason == "on trial it was slow"


def test_the_rate_of_failures_opens_it():
    backend = Backend(max_failures=None, failure_rate=0.25, min_calls=4)
    for _ in range(3):
        backend.ask()
    backend.fail(1)
    assert backend.breaker.state is BreakerState.OPEN


def test_the_time_open_is_fixed_or_grows_up_to_the_longest():
    for longest, within in ((None, [(60, 60)] * 3), (150.0, [(48, 72), (96, 144), (120, 180)])):
        backend = Backend(longest_reset_timeout=longest)
        backend.fail()
        for least, most in within:
            assert least <= backend.breaker.snapshot().retry_after_s <= most
            backend.clock.now += backend.breaker.snapshot().retry_after_s
            backend.fail(1)


def test_an_operator_forces_it_open_and_closed_and_lets_it_go(backend):
    backend.breaker.force_open()
    with pytest.raises(CircuitOpen, match="forced open: forced by the operator; until it is reset"):
        backend.ask()
    backend.breaker.force_closed()
    backend.fail(10)
    assert backend.ask() == 2
    assert (backend.breaker.state, backend.breaker.snapshot().failed) == ("forced_closed", 10)
    backend.breaker.reset()
    assert backend.breaker.state == "closed"
    assert backend.breaker.snapshot().failed == 0


def test_many_threads_lose_no_count(backend):
    backend = Backend(max_failures=None, failure_rate=1.0, min_calls=10**6, window=1e6)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [backend.ask() for _ in range(200)], range(8)))
    assert backend.breaker.snapshot().ok == 1600


def test_a_forked_child_is_not_held_up_by_its_parents_threads():
    script = """
import os, threading, time, headrace
now = [0.0]
breaker = headrace.CircuitBreaker(max_failures=1, reset_timeout=60, clock=lambda: now[0])
ask, begun, go_on = breaker(lambda: 2), threading.Event(), threading.Event()
try:
    breaker(lambda: 1 / 0)()
except ZeroDivisionError:
    now[0] = 60.0
thread = threading.Thread(target=breaker(lambda: (begun.set(), go_on.wait(30))))
thread.start()
begun.wait(30)
locked, unlock = threading.Event(), threading.Event()
holder = threading.Thread(target=lambda: [breaker._lock.acquire(), locked.set(), unlock.wait(30), breaker._lock.release()])
holder.start()
locked.wait(30)
child = os.fork()
if child == 0:
    now[0] = 120.0
    os._exit(0 if ask() == 2 and breaker.state == "closed" else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
unlock.set()
go_on.set()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_it_is_light_to_import():
    script = (
        "import headrace, sys; headrace.CircuitBreaker; "
        "print(sorted(sys.modules.keys() & {'asyncio', 'numpy', 'msgspec', 'pydantic', 'concurrent.futures'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout == "[]\n"


# Mistakes.


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_failures": 0}, ValueError, "max_failures is 0, and has to be at least 1"),
        ({"max_failures": 2.5}, TypeError, "max_failures is 2.5, and has to be a whole number"),
        ({"max_failures": True}, TypeError, "max_failures is True, and has to be a whole number"),
        ({"max_failures": "3"}, TypeError, "max_failures is '3', and has to be a whole number"),
        ({"max_failures": len}, TypeError, r"write @CircuitBreaker\(\) with brackets"),
        ({"max_failures": None}, ValueError, "nothing would ever open the breaker: give max_failures"),
        ({"reset_timeout": 0}, ValueError, "reset_timeout is 0 seconds, and has to be above 0 and finite"),
        ({"reset_timeout": inf}, ValueError, "reset_timeout is inf seconds"),
        ({"reset_timeout": nan}, ValueError, "reset_timeout is nan seconds"),
        ({"reset_timeout": "1m"}, TypeError, "reset_timeout is '1m', and has to be a number"),
        ({"longest_reset_timeout": 5}, ValueError, "is 5, and has to be at least reset_timeout, 60"),
        ({"failure_rate": 50}, ValueError, "failure_rate is 50, and has to be above 0 and at most 1"),
        ({"slow_call": -1.0}, ValueError, "slow_call is -1 seconds"),
        ({"window": 0.0}, ValueError, "window is 0 seconds"),
        ({"trials": 0}, ValueError, "trials is 0"),
        ({"exclude": ["ValueError"]}, TypeError, "exclude has 'ValueError', which is no type of exception"),
        ({"exclude": ValueError("x")}, TypeError, "which is no type of exception"),
        ({"exclude": (int,)}, TypeError, "which is no type of exception"),
    ],
)
def test_a_wrong_option_is_refused_with_what_to_do(options, error, says):
    with pytest.raises(error, match=says):
        headrace.CircuitBreaker(**options)


def numbers():
    yield 1


async def anumbers():
    yield 1


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (numbers, "numbers is a generator, which fails after its call has ended: guard the function"),
        (anumbers, "anumbers is a generator"),
        (partial(numbers), "is a generator"),
        (Backend, "Backend is a class: guard those of its methods that may fail"),
        (staticmethod(len), "put @staticmethod above the breaker, not below it"),
        (classmethod(len), "put @classmethod above the breaker"),
        (property(len), "put @property above the breaker"),
        (5, "5 is no function"),
    ],
)
def test_what_cannot_be_guarded_is_refused_with_what_to_do(function, says):
    with pytest.raises(TypeError, match=says):
        headrace.CircuitBreaker()(function)


def test_a_function_that_returns_a_coroutine_cannot_be_guarded(backend):
    guarded = backend.breaker(partial(Backend.begin, backend))
    with pytest.raises(TypeError, match="guard an async function that awaits it"):
        guarded()


def test_a_clock_may_begin_below_zero():
    backend = Backend(max_failures=None, failure_rate=0.5, min_calls=4)
    backend.clock.now = -100.0
    backend.error = OSError()
    for _ in range(4):
        with pytest.raises(OSError):  # noqa: PT011 - the backend's
            backend.ask()
    assert backend.breaker.state == "open"
