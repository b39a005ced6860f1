"""The load that `headrace bench` is asked for: from what a person types to callers, schedules and bodies."""

from collections import Counter
from dataclasses import dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any

import click
import numpy as np

from headrace.errors import ConfigurationError
from headrace.loadtest import schedules, wire
from headrace.loadtest.plan import Caller, Schedule
from headrace.loadtest.trace import Trace, read_trace

PATTERNS = ("poisson", "bursts", "steps", "even")
NAMED = 20
"""Callers of a trace that are told apart: the busiest; the rest are one more."""
OTHERS = "others"
NOBODY = "(none)"
"""Name of the caller whose calls have an empty cell."""
LENGTH_LEVELS = 64
"""Lengths of a trace that get bodies of their own; those between take the next longer one."""
MOST_CALLS = 20_000_000
"""In a run: what becomes of each takes some 200 bytes in the process that sends."""
FLAGS = {"yes": True, "no": False}
MILLISECONDS = {"deadline_ms": "deadline_s", "give_up_ms": "give_up_s", "pause_ms": "pause_s"}
CALLER_KEYS = (
    *("part", "priority", "tenant", "retries", "heeds_retry_after", "sends_deadline"),
    *MILLISECONDS,
)


@dataclass(frozen=True)
class Load:
    """What is sent, apart from how fast.

    Attributes:
        pattern: one of PATTERNS; not used where there is a trace.
        steps: (rate, seconds) of the pattern steps.
        trace: recorded arrivals instead of a pattern.
        keys: how many different inputs.
        zipf: exponent of the keys' popularity; None: all are as likely.
        viral: (at, for, part): one key takes that part of the calls for so long.
        callers: who calls.
    """

    pattern: str
    steps: tuple[tuple[float, float], ...]
    trace: Trace | None
    keys: int
    zipf: float | None
    viral: tuple[float, float, float] | None
    callers: tuple[Caller, ...]

    @property
    def has_rate(self) -> bool:
        """Whether the load itself says how fast it is."""
        return self.trace is not None or self.pattern == "steps"

    def seconds(self, wanted: float | None, usual: float, rate: float | None = None) -> float:
        """How long the run is to be: as wanted, or else as its steps or trace are long at this rate."""
        if self.pattern == "steps":
            return sum(seconds for _, seconds in self.steps)
        if wanted is None and self.trace is not None:
            return (self.trace if rate is None else self.trace.scaled(rate)).seconds
        return wanted or usual

    def schedule(self, rate: float | None, seconds: float, seed: int) -> Schedule:
        """The calls of a run. A trace is made faster or slower to have the rate, if one is given.

        Raises:
            ConfigurationError: they would be too many.
        """
        if (count := self._count(rate, seconds)) > MOST_CALLS:
            raise ConfigurationError(
                f"{count:.3g} calls in {seconds:g} s are more than the {MOST_CALLS:,} that a run may have: lower its rate or length"
            )
        if self.trace is not None:
            trace = (self.trace if rate is None else self.trace.scaled(rate)).repeated(seconds)
            return self._completed(trace.times, seconds, seed, trace)
        match self.pattern, rate:
            case "steps", _:
                times = schedules.steps(self.steps, seed)
            case "even", float(rate):
                times = schedules.even(rate, seconds)
            case "bursts", float(rate):
                times = schedules.bursts(rate, seconds, seed)
            case _, float(rate):
                times = schedules.poisson(rate, seconds, seed)
            case _:
                raise AssertionError("a pattern without a rate")
        return self._completed(times, seconds, seed)

    def _count(self, rate: float | None, seconds: float) -> float:
        """About how many calls such a run has."""
        if self.pattern == "steps":
            return sum(each * time for each, time in self.steps)
        if rate is None:
            assert self.trace is not None, "nothing else has a rate of its own"
            rate = len(self.trace.times) / self.trace.seconds
        return rate * seconds

    def _completed(
        self, times: np.ndarray, seconds: float, seed: int, trace: Trace | None = None
    ) -> Schedule:
        count = len(times)
        if self.zipf is not None:
            keys = schedules.keys_zipf(count, self.keys, self.zipf, seed)
        elif trace is not None and trace.keys is not None:
            keys = trace.keys % self.keys
        else:
            keys = schedules.keys_uniform(count, self.keys, seed)
        if self.viral is not None:
            keys = schedules.keys_viral(times, keys, *self.viral, seed=seed)
        if trace is not None and trace.callers is not None:
            callers = trace.callers
        else:
            callers = schedules.assign_callers(count, self.callers, seed)
        return schedules.make(times, keys, callers, seconds)

    def words(self, rate: float | None, seconds: float) -> str:
        """For the report."""
        if self.trace is not None:
            what = f"{len(self.trace.times)} recorded calls" + (f" at {rate:.4g}/s" if rate else "")
        elif self.pattern == "steps":
            what = "Poisson in steps of " + ", ".join(
                f"{each:g}/s for {time:g} s" for each, time in self.steps
            )
        else:
            what = f"{self.pattern}, {rate:.4g}/s"
        keys = f"{self.keys} inputs" + (f", Zipf {self.zipf:g}" if self.zipf is not None else "")
        if self.viral is not None:
            at, lasts, part = self.viral
            keys += f", one of them with {part:.0%} of the calls from {at:g} s on for {lasts:g} s"
        return f"{what}, {seconds:g} s, {keys}"


def read_load(trace: Path | None, base: Caller, callers: tuple[Caller, ...], **options: object) -> Load:
    """The load of the options.

    Args:
        trace: a CSV file. Its callers call if none are given, each as a tenant of its own; its lengths are in the keys.
        base: the single caller if nothing else says who calls, and what a trace's callers are like.
        callers: as given.
        options: further fields of Load.

    Raises:
        ConfigurationError: the file is no trace.
    """
    if trace is None:
        return Load(trace=None, callers=callers or (base,), **options)  # type: ignore[arg-type] # click's types
    recorded = read_trace(trace)
    if callers or recorded.callers is None:
        recorded, callers = replace(recorded, callers=None), callers or (base,)
    else:
        recorded, callers = named_callers(recorded, base)
    return Load(trace=recorded, callers=callers, **options)  # type: ignore[arg-type] # click's types


def named_callers(trace: Trace, base: Caller) -> tuple[Trace, tuple[Caller, ...]]:
    """The trace with at most NAMED callers and OTHERS, and what they are like."""
    assert trace.callers is not None
    busiest = [at for at, _ in Counter(trace.callers.tolist()).most_common(NAMED)]
    names = [trace.names[at] for at in busiest]
    renumbered = np.full(len(trace.names), len(busiest), np.int16)
    renumbered[busiest] = np.arange(len(busiest), dtype=np.int16)
    if len(trace.names) > NAMED:
        names.append(OTHERS)
    callers = tuple(replace(base, name=each or NOBODY, tenant=each) for each in names)
    return replace(trace, callers=renumbered[trace.callers]), callers


def make_bodies(
    load: Load, metadata: wire.Metadata, *, seed: int, lengths: tuple[int, ...], binary: bool
) -> tuple[Load, list[wire.Body]]:
    """Random inputs, a body a key; a trace with lengths has a key for each of them, none longer than the longest given."""
    recorded = load.trace.lengths if load.trace is not None else None
    if load.trace is None or recorded is None or load.zipf is not None:
        return load, wire.random_inputs(metadata, load.keys, seed, lengths=lengths, binary=binary)
    cut = np.clip(recorded, 1, max(lengths, default=None))
    levels = np.unique(np.quantile(cut, np.linspace(0, 1, LENGTH_LEVELS), method="higher")).astype(int)
    bodies = [
        wire.random_inputs(metadata, 1, seed + at, lengths=(int(length),), binary=binary)[0]
        for at, length in enumerate(levels)
    ]
    trace = replace(load.trace, keys=np.searchsorted(levels, cut).astype(np.int32))
    return replace(load, trace=trace, keys=len(bodies)), bodies


def parse_steps(text: str | None) -> tuple[tuple[float, float], ...]:
    """`RATE:SECONDS,RATE:SECONDS,…`."""
    try:
        steps = [tuple(map(float, each.split(":"))) for each in text.split(",")] if text else []
        parsed = tuple((rate, seconds) for rate, seconds in steps)
    except ValueError:
        parsed = ((0.0, 0.0),)
    if any(not 0 <= rate < inf or not 0 < seconds < inf for rate, seconds in parsed):
        raise click.BadParameter(
            f"'{text}' is not RATE:SECONDS,…, as in 100:5,1000:5,100:10", param_hint="'--steps'"
        )
    return parsed


def parse_viral(text: str | None) -> tuple[float, float, float] | None:
    """`AT:FOR:PART`."""
    if text is None:
        return None
    try:
        at, lasts, part = map(float, text.split(":"))
    except ValueError:
        at, lasts, part = -1.0, -1.0, -1.0
    if not (at >= 0 and lasts > 0 and 0 < part <= 1):
        raise click.BadParameter(
            f"'{text}' is not AT:FOR:PART, as in 5:10:0.3: from the fifth second on, for ten, 30 % of the calls",
            param_hint="'--viral'",
        )
    return at, lasts, part


def parse_lengths(text: str | None) -> tuple[int, ...]:
    """`16,128,512`."""
    try:
        lengths = tuple(map(int, text.split(","))) if text else ()
    except ValueError:
        lengths = (0,)
    if any(each < 1 for each in lengths):
        raise click.BadParameter(
            f"'{text}' are not lengths above 0, as in 16,128,512", param_hint="'--lengths'"
        )
    return lengths


def parse_callers(texts: tuple[str, ...], base: Caller) -> tuple[Caller, ...]:
    """`NAME:key=value,…` each; what is not said is as for the single caller."""
    callers = tuple(parse_caller(each, base) for each in texts)
    names = [each.name for each in callers]
    if len(set(names)) < len(names):
        raise click.BadParameter("two callers have one name", param_hint="'--caller'")
    return callers


def parse_caller(text: str, base: Caller) -> Caller:
    name, _, rest = text.partition(":")
    caller = replace(base, name=name)
    pairs = [each.partition("=") for each in rest.split(",") if each]
    if not name or any(key not in CALLER_KEYS for key, _, _ in pairs):
        raise click.BadParameter(
            f"'{text}' is not NAME:key=value,… with keys out of {', '.join(CALLER_KEYS)}",
            param_hint="'--caller'",
        )
    for key, _, value in pairs:
        try:
            caller = replace(caller, **caller_value(key, value))
        except (ValueError, KeyError) as exc:
            raise click.BadParameter(f"{name}: '{value}' is no {key}", param_hint="'--caller'") from exc
    return caller


def caller_value(key: str, value: str) -> dict[str, Any]:
    """The field of Caller that a key sets."""
    if key in MILLISECONDS:
        return {MILLISECONDS[key]: positive(float(value)) / 1000}
    kind = {each.name: each.type for each in fields(Caller)}[key]
    if kind is bool:
        return {key: FLAGS[value]}
    if kind is str:
        if not value.isprintable():  # it goes into a header
            raise ValueError(value)
        return {key: value}
    if kind is float:
        return {key: positive(float(value))}
    if int(value) < 0:
        raise ValueError(value)
    return {key: int(value)}


def positive(value: float) -> float:
    if not 0 < value < inf:
        raise ValueError(value)
    return value
