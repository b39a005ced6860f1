"""`@headrace.CircuitBreaker`: what keeps failing is not called for a while, in a program of one's own.

The state machine is the server's (faults/breaker.py); this file adds the clock, the lock and the decorator. Light on
purpose: it needs nothing but the standard library.
"""

import functools
import os
import time
from collections.abc import Callable, Iterable
from math import inf
from random import Random
from threading import RLock  # noqa: TID251 - held while a few numbers change; no thread is started here
from typing import Any, TypeVar, cast
from weakref import WeakSet

from headrace.errors import CircuitOpen
from headrace.faults.breaker import (
    EXCLUDED,
    FAILED,
    OK,
    SLOW,
    Breaker,
    BreakerPolicy,
    BreakerSnapshot,
    BreakerState,
    Permit,
)
from headrace.library.batched import is_async, name_of
from headrace.library.guardable import check_function, check_numbers, exception_types, never_awaited
from headrace.library.trial import Trial, is_on_trial_here

Function = TypeVar("Function", bound=Callable[..., Any])

JITTER = 0.2
"""Of a time open that grows, so that many processes do not all come back at once."""
UNDER_TRIAL_S = 1.0
"""When to come again, at most, while a trial runs: nobody knows how it will end."""


Call = tuple[Permit, float, Trial | None]
"""One that was let through: with what leave, when it began, and the trial that it is."""


class CircuitBreaker:
    """Guards functions that depend on one thing which may fail: after too many failures they are not called for a while.

    ```python
    @headrace.CircuitBreaker(max_failures=3, reset_timeout=60)
    def fetch_features(user: int) -> list[float]: ...


    fetch_features(7)  # after three failures in a row: headrace.errors.CircuitOpen, for a minute
    ```

    Closed, every call goes through, and is counted when it has ended. Open, every call is refused at once, with a
    CircuitOpen of its own. After `reset_timeout` it is half open: one call at a time goes through as a trial, the others are
    refused; after `trials` that went well it is closed again, after one that failed open. What began before the last
    change of state is not counted.

    One object may guard several functions and methods, sync and async ones, from any thread and event loop; no lock is
    held while they run. A call that is cancelled, or ends by another exception that is not an Exception, is not
    counted: put time limits inside of the function. What a function on trial calls of the same breaker is part of the trial.
    """

    def __init__(  # noqa: PLR0913 - options that people give by name
        self,
        max_failures: int | None = 5,
        reset_timeout: float = 60.0,
        *,
        longest_reset_timeout: float | None = None,
        failure_rate: float | None = None,
        slow_call: float | None = None,
        slow_rate: float = 0.8,
        window: float = 10.0,
        min_calls: int = 10,
        trials: int = 1,
        exclude: type[BaseException] | Iterable[type[BaseException]] = (),
        name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """All times are in seconds.

        Args:
            max_failures: in a row, that open it. None leaves it to the rates.
            reset_timeout: how long it stays open; a trial that has not ended by then keeps others from trying no longer.
            longest_reset_timeout: if given, each time it opens again it stays open twice as long, up to this, 20 % more or
                less; each minute without trouble takes one doubling back.
            failure_rate: from 0 to 1: the part of the calls in the window that has to fail to open it.
            slow_call: a call that takes longer counts as slow, and on trial as failed. None: slowness does not matter.
            slow_rate: the part of the calls in the window that has to be slow to open it.
            window: how far back the rates look.
            min_calls: in the window, before the rates mean anything.
            trials: calls in a row that have to go well before it closes again.
            exclude: exceptions that are the caller's fault: such a call counts neither as failed nor as gone well. Another
                breaker's CircuitOpen is always one of them.
            name: in errors; the function's if left out.
            clock: in place of time.monotonic, for tests.

        Raises:
            TypeError: an argument is of the wrong kind.
            ValueError: an argument cannot be so.
        """
        if callable(max_failures):
            raise TypeError(
                "the breaker got a function in place of options: write @CircuitBreaker() with brackets"
            )
        check_numbers(
            counts={"max_failures": max_failures, "min_calls": min_calls, "trials": trials},
            seconds={
                "reset_timeout": reset_timeout,
                "longest_reset_timeout": longest_reset_timeout,
                "slow_call": slow_call,
                "window": window,
            },
            rates={"failure_rate": failure_rate, "slow_rate": slow_rate},
        )
        if max_failures is None and failure_rate is None and slow_call is None:
            raise ValueError(
                "nothing would ever open the breaker: give max_failures, failure_rate or slow_call"
            )
        grows = longest_reset_timeout is not None
        longest_s = reset_timeout if longest_reset_timeout is None else longest_reset_timeout
        if longest_s < reset_timeout:
            raise ValueError(
                f"longest_reset_timeout is {longest_s:g}, and has to be at least reset_timeout, {reset_timeout:g}"
            )
        policy = BreakerPolicy(
            window_s=window,
            min_calls=min_calls,
            failure_rate=failure_rate,
            slow_rate=slow_rate,
            max_failures=max_failures,
            reset_s=reset_timeout,
            longest_reset_s=longest_s,
            jitter=JITTER if grows else 0.0,
            trials=trials,
            trial_s=reset_timeout,
            max_slow_trips=None,
        )
        self.name = name
        self._excluded: tuple[type[BaseException], ...] = (CircuitOpen, *exception_types(exclude))
        self._slow_s = inf if slow_call is None else slow_call
        self._reset_s = reset_timeout
        self._clock = clock
        # The mutable state, all of it under the lock. Reentrant: a collected coroutine gives its permit back wherever
        # the collector happens to run, which may be in here.
        self._lock = RLock()
        self._breaker = Breaker(policy, Random().random)  # noqa: S311 - spreads trials, hides nothing
        self._last_error = ""
        LIVING.add(self)

    def __call__(self, function: Function, /) -> Function:
        """The same function, guarded; its `breaker` is this object.

        Raises:
            TypeError: it is none that a breaker can guard; the message says what to do.
        """
        check_function(function)
        guard = self._guarded_async if is_async(function) else self._guarded_sync
        guarded: Any = guard(function, name_of(function))
        guarded.breaker = self
        return cast("Function", guarded)

    @property
    def state(self) -> BreakerState:
        """A string too: closed, open, half_open, forced_open or forced_closed."""
        with self._lock:
            return self._breaker.state(self._clock())

    def snapshot(self) -> BreakerSnapshot:
        """The state, why, what was counted in the window, and in how many seconds to come again."""
        with self._lock:
            return self._breaker.snapshot(self._clock())

    def force_open(self) -> None:
        """Refuse every call until `reset`."""
        with self._lock:
            self._breaker.force(BreakerState.FORCED_OPEN)

    def force_closed(self) -> None:
        """Let every call through until `reset`; they are counted, for `snapshot`."""
        with self._lock:
            self._breaker.force(BreakerState.FORCED_CLOSED)

    def reset(self) -> None:
        """Closed and by itself, as if new."""
        with self._lock:
            self._breaker.force(None)

    def replace_lock(self) -> None:
        """Nobody in this process can let go of the one there was."""
        self._lock = RLock()

    def _guarded_sync(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            call = self._begin(name)
            try:
                result = function(*args, **kwargs)
                if hasattr(type(result), "__await__"):
                    raise never_awaited(result, name)
            except BaseException as exc:
                self._end(call, exc)
                raise
            self._end(call, None)
            return result

        return guarded

    def _guarded_async(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            call = self._begin(name)
            try:
                result = await function(*args, **kwargs)
            except BaseException as exc:
                self._end(call, exc)
                raise
            self._end(call, None)
            return result

        return guarded

    def _begin(self, name: str) -> Call | None:
        """Let a call through; None if it is part of one that was.

        Raises:
            CircuitOpen: it may not be made now.
        """
        with self._lock:
            now = self._clock()
            permit = self._breaker.permit(now)
            if permit is None:
                if self._breaker.state(now) is BreakerState.HALF_OPEN and is_on_trial_here(self):
                    return None
                raise self._refusal(name, now)
        return permit, now, Trial(self) if permit.is_trial else None

    def _end(self, call: Call | None, error: BaseException | None) -> None:
        """The call ended, with that error or with none."""
        if call is None:
            return
        permit, began, trial = call
        if trial is not None:
            trial.end()
        with self._lock:
            now = self._clock()
            if error is None:
                outcome = SLOW if now - began > self._slow_s else OK
            elif isinstance(error, Exception) and not isinstance(error, self._excluded):
                outcome = FAILED
            else:
                outcome = EXCLUDED
            if outcome is FAILED or outcome is SLOW:
                self._last_error = type(error).__name__ if error is not None else ""
            self._breaker.record(permit, outcome, now)

    def _refusal(self, name: str, now: float) -> CircuitOpen:
        """A new one each time: an exception that is raised again and again grows by a traceback each time."""
        breaker, name = self._breaker, self.name or name
        retry_after_s = breaker.retry_after_s(now) or min(UNDER_TRIAL_S, self._reset_s)
        reason = breaker.reason
        match breaker.state(now):
            case BreakerState.FORCED_OPEN:
                then = "until it is reset"
            case BreakerState.HALF_OPEN:
                then = "one call is on trial right now"
            case _:
                then = f"it is tried again in {retry_after_s:.3g} s"
                reason += f" ({self._last_error})" if self._last_error else ""
        error = CircuitOpen(name, reason, retry_after_s)
        error.args = (
            f"the circuit breaker of {name} is {breaker.state(now).replace('_', ' ')}: {reason}; {then}",
        )
        return error


LIVING: "WeakSet[CircuitBreaker]" = WeakSet()


def replace_locks() -> None:
    """A forked child has only the thread that forked: another may have held one. A trial of such a thread is overdue one day."""
    for each in LIVING:
        each.replace_lock()


os.register_at_fork(after_in_child=replace_locks)
