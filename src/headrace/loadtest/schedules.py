"""When calls are made, which input each brings and whose it is: drawn before the run, from a seed, and nothing else.

Arrivals are float64 seconds from the start of the run, growing. The same arguments give the same arrays.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headrace.loadtest.plan import Caller, Schedule
from headrace.loadtest.trace import Trace, read_trace

BURST, LULL = (3.4, 0.1), (0.4, 0.4)
"""Of the bursty arrivals' two states: the rate in relation to the mean one, and for how many seconds it lasts on average."""


def poisson(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Independent callers: exponential gaps.

    Raises:
        ValueError: the rate or the length is not above zero.
    """
    _check(rate, seconds)
    return _uniform(rate, seconds, np.random.default_rng(seed))


def even(rate: float, seconds: float) -> np.ndarray:
    """A metronome: the first call at once, then one every 1/rate seconds.

    Raises:
        ValueError: the rate or the length is not above zero.
    """
    _check(rate, seconds)
    times = np.arange(int(np.ceil(rate * seconds))) / rate
    return times[times < seconds]


def bursts(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Poisson arrivals whose rate switches between two states with exponential stays (MMPP-2).

    3.4 times the rate for 100 ms on average, then 0.4 times for 400 ms: (0.1 · 3.4 + 0.4 · 0.4) / 0.5 = 1, so `rate` is
    the mean over the long run. It begins in the state that the long run would find it in.

    Raises:
        ValueError: the rate or the length is not above zero.
    """
    _check(rate, seconds)
    rng = np.random.default_rng(seed)
    pieces, start = [], 0.0
    is_burst = rng.random() < BURST[1] / (BURST[1] + LULL[1])
    while start < seconds:
        factor, stay_s = BURST if is_burst else LULL
        end = min(seconds, start + rng.exponential(stay_s))
        pieces.append(start + _uniform(factor * rate, end - start, rng))
        start, is_burst = end, not is_burst
    return np.concatenate(pieces)


def steps(levels: Sequence[tuple[float, float]], seed: int) -> np.ndarray:
    """Poisson arrivals, at each (rate, seconds) in turn; a rate of 0 is a silence.

    Raises:
        ValueError: there is no step, a length is not above zero, or a rate is below.
    """
    if not levels or any(rate < 0 or seconds <= 0 for rate, seconds in levels):
        raise ValueError(
            "steps are (rate, seconds) with a rate of 0 or more and seconds above 0, at least one"
        )
    rng = np.random.default_rng(seed)
    pieces, start = [], 0.0
    for rate, seconds in levels:
        pieces.append(start + _uniform(rate, seconds, rng))
        start += seconds
    return np.concatenate(pieces)


def recorded(path: Path) -> Trace:
    """The arrivals of a recorded trace, from its first call on, and what else it says of each call.

    Raises:
        ConfigurationError: the file is no such CSV; with the line.
    """
    return read_trace(path)


def keys_uniform(n: int, count: int, seed: int) -> np.ndarray:
    """For n calls, one of `count` inputs each, all as likely."""
    return np.random.default_rng(seed).integers(0, count, n, np.int32)


def keys_zipf(n: int, count: int, s: float, seed: int) -> np.ndarray:
    """For n calls, one of `count` inputs each: the k-th with a chance in proportion to 1/(k+1)^s, so 0 is the hottest."""
    chances = np.arange(1, count + 1, dtype=float) ** -s
    return np.random.default_rng(seed).choice(count, n, p=chances / chances.sum()).astype(np.int32)


def keys_viral(
    times: np.ndarray,
    keys: np.ndarray,
    at_s: float,
    for_s: float,
    part: float,
    *,
    key: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """The same keys, but from `at_s` on, `for_s` seconds long, one of them takes `part` of the calls.

    Args:
        times: of the calls.
        keys: before.
        at_s: when it goes viral.
        for_s: how long.
        part: 0 to 1, beside the calls that it has anyway.
        key: which one; the highest there is if not given, which is the coldest where keys follow Zipf's law.
        seed: of the draw which calls turn to it.
    """
    hit = (times >= at_s) & (times < at_s + for_s) & (np.random.default_rng(seed).random(len(keys)) < part)
    viral = key if key is not None else int(keys.max(initial=0))
    return np.where(hit, np.int32(viral), keys).astype(np.int32)


def assign_callers(n: int, callers: Sequence[Caller], seed: int) -> np.ndarray:
    """For n calls the index of the caller of each, drawn by their parts.

    Raises:
        ValueError: there is no caller, or no part above zero.
    """
    parts = np.array([each.part for each in callers], float)
    if not len(parts) or parts.min() < 0 or not parts.sum():
        raise ValueError("callers need parts of 0 or more, and one of them above 0")
    return np.random.default_rng(seed).choice(len(parts), n, p=parts / parts.sum()).astype(np.int16)


def make(times: np.ndarray, keys: np.ndarray, callers: np.ndarray, seconds: float) -> Schedule:
    """The schedule of these calls, in the order of time; what is not before `seconds` is left out.

    Raises:
        ValueError: the arrays are not of one length, or a time is below zero.
    """
    if not len(times) == len(keys) == len(callers):
        raise ValueError(
            f"{len(times)} times, {len(keys)} keys and {len(callers)} callers: give one of each a call"
        )
    if len(times) and times.min() < 0:
        raise ValueError("a call before the start of the run")
    order = np.argsort(times, kind="stable")
    order = order[times[order] < seconds]
    return Schedule(times[order], keys[order].astype(np.int32), callers[order].astype(np.int16), seconds)


def _uniform(rate: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A Poisson process given its count: as many as it would have, each anywhere."""
    return np.sort(rng.random(rng.poisson(rate * seconds)) * seconds)


def _check(rate: float, seconds: float) -> None:
    if not (rate > 0 and seconds > 0):
        raise ValueError(f"a rate of {rate:g} a second for {seconds:g} s: both have to be above 0")
