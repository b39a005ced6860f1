"""What a circuit breaker can be told and what it can guard: each mistake is an error that says what to do instead."""

import inspect
from collections.abc import Iterable, Mapping
from math import isfinite

from headrace.library.batched import name_of

Number = int | float | None


def check_numbers(
    *, counts: Mapping[str, Number], seconds: Mapping[str, Number], rates: Mapping[str, Number]
) -> None:
    """None is for what is left out.

    Raises:
        TypeError: one is no number.
        ValueError: one is out of its range.
    """
    given = [
        (name, value)
        for kind in (counts, seconds, rates)
        for name, value in kind.items()
        if value is not None
    ]
    for name, value in given:
        kind, wanted = (int, "a whole number") if name in counts else ((int, float), "a number")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}, and has to be {wanted}")
        if name in counts and value < 1:
            raise ValueError(f"{name} is {value}, and has to be at least 1")
        if name in seconds and not (isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value:g} seconds, and has to be above 0 and finite")
        if name in rates and not 0 < value <= 1:
            raise ValueError(
                f"{name} is {value:g}, and has to be above 0 and at most 1: 0.5 is half of the calls"
            )


def exception_types(given: object) -> tuple[type[BaseException], ...]:
    """As `isinstance` takes them.

    Raises:
        TypeError: one is no type of exception.
    """
    types = tuple(given) if isinstance(given, Iterable) and not isinstance(given, type) else (given,)
    for each in types:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(
                f"exclude has {each!r}, which is no type of exception: give types, as except does"
            )
    return types


def check_function(function: object) -> None:
    """Whether a breaker can tell when a call of it has ended, and how.

    Raises:
        TypeError: it cannot.
    """
    if isinstance(function, staticmethod | classmethod | property):
        kind = type(function).__name__
        raise TypeError(f"the breaker got a {kind}: put @{kind} above the breaker, not below it")
    if isinstance(function, type):
        raise TypeError(f"{function.__name__} is a class: guard those of its methods that may fail")
    if not callable(function):
        raise TypeError(f"{function!r} is no function")
    for each in (function, getattr(function, "__call__", None)):  # noqa: B004 - an object may be a generator function too
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(
                f"{name_of(function)} is a generator, which fails after its call has ended: guard the function that "
                "it calls for each item"
            )


def never_awaited(result: object, name: str) -> TypeError:
    """The error for a sync function that returned something to be awaited."""
    if inspect.iscoroutine(result):
        result.close()  # nobody will, and Python would warn of it
    return TypeError(
        f"{name} returned something to be awaited, which fails after its call has ended: guard an async function "
        "that awaits it"
    )
