"""`headrace models --profile`: how fast a model runs by rows, what it takes, and which batch is worth it: its golden point."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from headrace.batching.golden_point import Bound, GoldenPoint, Point, golden_point, of_curve
from headrace.config import Settings
from headrace.errors import ConfigurationError, LoadFailed
from headrace.execution.profiles import Curve, Measured, ProfileStore
from headrace.execution.wire import Load
from headrace.lifecycle.budget import Budget
from headrace.repository.source import Source

MILLISECONDS = 1e3


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to know.

    Attributes:
        names: of the models.
        latency_p99_ms: to promise in place of what their skills do; None for that.
        is_again: measure even what was measured before.
        plot: a file for the drawing; None for none.
    """

    names: tuple[str, ...]
    latency_p99_ms: float | None
    is_again: bool
    plot: Path | None


@dataclass(frozen=True, slots=True)
class Profiled:
    """A model's curve and what follows from it."""

    name: str
    version: str
    curve: Curve
    points: tuple[Point, ...]
    budget: Budget
    objective_s: float | None
    golden: GoldenPoint

    @property
    def served(self) -> GoldenPoint:
        """What a server's batches grow to: the objective is kept by when a batch is sent, not by its size."""
        allowed = self.golden.allowed
        return golden_point({bound: rows for bound, rows in allowed.items() if bound is not Bound.OBJECTIVE})


def show_profiles(asked: Asked, settings: Settings, paths: tuple[Path, ...], *, as_json: bool) -> None:
    """Measure what was not measured before, and show it.

    Raises:
        click.ClickException: a model is not there, cannot be loaded or not be measured, or the plot not be drawn.
    """
    import json

    from headrace.cli.profile_words import print_profile

    if asked.plot is not None:
        check_plot(asked)
    profiled = profiles(asked, settings, paths)
    if asked.plot is not None:
        draw(profiled[0], asked.plot)
    if as_json:
        click.echo(json.dumps([described(each) for each in profiled], indent=2))
        return
    for each in profiled:
        print_profile(each)


def profiles(asked: Asked, settings: Settings, paths: tuple[Path, ...]) -> list[Profiled]:
    """Of each model that is asked for, in that order.

    Raises:
        click.ClickException: as of show_profiles.
    """
    from headrace.lifecycle.machine_budget import budget_reader
    from headrace.repository.find import find_sources

    try:
        sources = chosen(find_sources(paths, settings.model_name), asked.names)
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc
    budget = budget_reader(settings, time.monotonic)(0)
    store = ProfileStore(settings.profile_dir)
    found = []
    for source in sources:
        curve = curve_of(source, settings, store, budget, is_again=asked.is_again)
        promised = source.config.latency_p99_s
        if asked.latency_p99_ms is not None:
            promised = asked.latency_p99_ms / MILLISECONDS
        points = points_of(curve, store)
        golden = of_curve(points, budget.budget, promised)
        found.append(Profiled(source.name, source.version, curve, points, budget, promised, golden))
    return found


def chosen(sources: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """The newest version of each name.

    Raises:
        click.ClickException: there is none of that name, or something is wrong with it.
    """
    from headrace.repository.find import listed

    newest = {source.name: source for source in sources}
    for name in names:
        if name not in newest:
            close = get_close_matches(name, newest, 1)
            there = f"did you mean {close[0]}?" if close else f"there are {listed(newest)}"
            raise click.ClickException(f"no model at these paths is named '{name}': {there}")
        if problem := newest[name].problem:
            raise click.ClickException(f"model '{name}': {problem}")
    return [newest[name] for name in dict.fromkeys(names)]


def curve_of(
    source: Source, settings: Settings, store: ProfileStore, budget: Budget, *, is_again: bool
) -> Curve:
    """As it was measured before, or is now, with progress on stderr.

    Raises:
        click.ClickException: it cannot be measured.
    """
    # What a smaller budget allows is read off the curve; to be measured, a model may have what there is.
    settings = settings.model_copy(update={"memory_budget": None})
    try:
        load = asyncio.run(order_of(source, settings))
        key = store.key_of(load)
        known = None if is_again else store.read_curve(key)
        if known is not None:
            return known
        if store.read(key) is None:
            asyncio.run(find_out(source, settings))
        return measured(load, store, budget)
    except LoadFailed as exc:
        raise click.ClickException(f"model '{source.name}' cannot be measured: {exc}") from exc


async def order_of(source: Source, settings: Settings) -> Load:
    """What a worker of it would be told to load."""
    from headrace.lifecycle.version import ModelVersion

    return ModelVersion(source, settings, asyncio.get_running_loop().time, lambda _: None).order()


async def find_out(source: Source, settings: Settings) -> None:
    """Have it loaded as a server does it, which keeps what it finds out: what may be joined, and how it is best run.

    Raises:
        LoadFailed: it cannot be loaded.
    """
    from headrace.cli.survey import survey

    for each in await survey(settings, [source]):
        if each["state"] != "READY":
            raise LoadFailed(each["reason"])


def measured(load: Load, store: ProfileStore, budget: Budget) -> Curve:
    """By a process of its own.

    Raises:
        LoadFailed: it cannot be run.
    """
    from msgspec.structs import replace

    from headrace.execution.curve import measure

    def say(point: Measured) -> None:
        mean_ms = point.mean_s * MILLISECONDS
        click.echo(f"{load.name}: {point.runs} runs of {point.rows} rows, {mean_ms:.3g} ms each", err=True)

    curve = measure(replace(load, memory_limit=budget.room), say)
    if curve.is_noisy:
        click.echo(
            f"{load.name}: the machine was busy with something else, so these figures are not kept", err=True
        )
    else:
        store.write_curve(curve)
    return curve


def points_of(curve: Curve, store: ProfileStore) -> tuple[Point, ...]:
    """With the bytes a server counts with, where it has measured them itself: those are what bounds its batches."""
    profile = store.read(curve.key)
    footprint = profile.footprint if profile is not None else None
    if footprint is not None and curve.cost not in footprint.peaks:
        footprint = None
    return tuple(
        Point(
            each.rows,
            each.mean_s,
            each.p50_s,
            each.p99_s,
            each.nbytes if footprint is None else footprint.total(curve.cost, each.rows),
        )
        for each in curve.points
    )


def described(profiled: Profiled) -> dict[str, Any]:
    """In JSON's types; seconds and bytes."""
    curve, golden = profiled.curve, profiled.golden
    return {
        "name": profiled.name,
        "version": profiled.version,
        "row_elements": curve.cost,
        "instances": curve.instances,
        "threads": curve.threads,
        "memory_budget_bytes": profiled.budget.budget,
        "latency_p99_s": profiled.objective_s,
        "points": [asdict(each) | {"rows_per_s": each.rate} for each in profiled.points],
        "end": curve.end,
        "golden_point": {
            "rows": golden.rows,
            "bound": golden.bound.value,
            "allowed": {bound.value: rows for bound, rows in golden.allowed.items()},
        },
        "served_rows": profiled.served.rows,
        "is_noisy": curve.is_noisy,
    }


def check_plot(asked: Asked) -> None:
    """Before anything is measured for it.

    Raises:
        click.ClickException: it cannot be drawn.
    """
    from importlib.util import find_spec

    assert asked.plot is not None, "asked for"
    if len(asked.names) > 1:
        raise click.UsageError("--plot draws one model: name one with --profile")
    if asked.plot.suffix != ".svg":
        raise click.BadParameter(f"'{asked.plot}' does not end in .svg", param_hint="'--plot'")
    if find_spec("matplotlib") is None:
        raise click.ClickException("--plot needs matplotlib: pip install 'headrace[bench]'")


def draw(profiled: Profiled, file: Path) -> None:
    """The curve as a drawing of its own.

    Raises:
        click.ClickException: the file cannot be written.
    """
    from headrace.loadtest.golden_plot import Limits, golden_plot

    limits = Limits(profiled.budget.budget, profiled.objective_s)
    svg = golden_plot(f"{profiled.name}/{profiled.version}", profiled.points, limits, profiled.golden)
    try:
        file.write_text(svg)
    except OSError as exc:
        raise click.ClickException(f"{file} cannot be written: {exc.strerror}") from exc
