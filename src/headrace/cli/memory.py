"""`headrace models --memory`: what a server's models hold of its memory, or what its start would make of this machine's."""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import convert
from rich.console import Console
from rich.text import Text

from headrace.byte_sizes import in_words
from headrace.cli.tables import WIDTH, print_table, printable
from headrace.cli.tree import STYLES, counted, duration
from headrace.config import Settings
from headrace.lifecycle.memory_view import DeviceMemory, MemoryView, ModelMemory
from headrace.repository.source import Source

if TYPE_CHECKING:  # for an annotation only: what it imports is not needed to ask a server
    from headrace.lifecycle.foreseen import Foreseen

BAR = 40
"""Characters that stand for a budget."""
TIMEOUT_S = 10.0
"""For a server's answer."""

FORESEEN = {"READY": "at start", "ABSENT": "when asked for", "UNAVAILABLE": "never"}
HEADS = ("model", "state", "holds", "a run more", "used", "loads in", "asked", "left", "remarks")


def show_served(url: str, names: list[str], *, as_json: bool) -> None:
    """What a server says of its memory; of all its models if none is named.

    Raises:
        click.ClickException: it does not answer, or has no such model.
    """
    from headrace.cli.client import Client

    found = Client(url, TIMEOUT_S).get("/v1/memory")
    view = convert(found, MemoryView)
    there = {each.name for each in view.models}
    if unknown := [name for name in names if name not in there]:
        raise click.ClickException(
            f"{url} has no model '{unknown[0]}'; it has: {', '.join(sorted(there)) or 'none'}"
        )
    if names:
        view = MemoryView(view.devices, tuple(each for each in view.models if each.name in names))
    show(view, (), {}, as_json=as_json)


def show_foreseen(settings: Settings, paths: tuple[Path, ...], *, as_json: bool) -> bool:
    """What a server of these paths would load at its start on this machine. True if it can be as it is said.

    Raises:
        ConfigurationError: there is nothing to serve, or a name is none of it.
    """
    import asyncio

    foreseen = asyncio.run(foreseen_here(settings, paths))
    show(foreseen.view, foreseen.mistakes, FORESEEN, as_json=as_json)
    return not foreseen.mistakes


async def foreseen_here(settings: Settings, paths: tuple[Path, ...]) -> "Foreseen":
    """Of what lies at the paths, on this machine as it is now."""
    import time

    from headrace.execution.linux import usable_cores
    from headrace.lifecycle.foreseen import foresee
    from headrace.lifecycle.machine_budget import budget_reader
    from headrace.repository.find import find_sources, refuse_unknown

    sources = find_sources(paths, settings.model_name)
    refuse_unknown(settings, {each.name for each in sources})
    return foresee(settings, sources, budget_reader(settings, time.perf_counter)(0), usable_cores())


def mistakes_here(settings: Settings, sources: list[Source]) -> list[str]:
    """Sums of memory that cannot come out on this machine, in sentences."""
    import asyncio

    from headrace.execution.linux import usable_cores
    from headrace.lifecycle.foreseen import foreseen_mistakes
    from headrace.lifecycle.machine_budget import budget_reader

    async def find() -> list[str]:
        return foreseen_mistakes(
            settings, sources, budget_reader(settings, time.perf_counter)(0), usable_cores()
        )

    return asyncio.run(find())


def show(view: MemoryView, mistakes: tuple[str, ...], states: Mapping[str, str], *, as_json: bool) -> None:
    """As JSON, or for people: devices, models, and what can never work. `states` are words for states."""
    import json

    if as_json:
        click.echo(json.dumps(asdict(view) | ({"mistakes": mistakes} if states else {}), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    for device in view.devices:
        console.print(budget_of(device), soft_wrap=True)
        console.print(bar(device), soft_wrap=True)
    print_table(*filled_columns([row(each, states) for each in view.models]))
    console.print(summary(view.models, states))
    for each in mistakes:
        console.print(Text(each, "bold red"), soft_wrap=True)


def budget_of(device: DeviceMemory) -> Text:
    """The budget's arithmetic, in numbers and words."""
    left = device.total - device.reserve - device.external
    sum_ = (
        f"  {in_words(device.total)} in all - {in_words(device.reserve)} in reserve"
        f" - {in_words(device.external)} that others hold"
    )
    models = f"{in_words(device.budget)} for models"
    is_all = device.budget >= left
    then = f" = {models}" if is_all else f" = {in_words(max(0, left))}; {models}"
    return Text.assemble((device.device, "bold"), sum_, then, (f" ({printable(device.limit)})", "dim"))


def bar(device: DeviceMemory) -> Text:
    """What is reserved of the budget: for models, and for runs."""
    reserved = device.resident + device.scratch
    of_models = filled(device.resident, device.budget)
    of_runs = max(0, filled(reserved, device.budget) - of_models)
    runs = counted(device.slots, "run")
    free = device.budget - reserved
    rest = f"{in_words(free)} free" if free >= 0 else f"{in_words(-free)} over"
    return Text.assemble(
        "     ",
        ("█" * of_models, "green" if free >= 0 else "red"),
        ("▒" * of_runs, "green" if free >= 0 else "red"),
        ("·" * max(0, BAR - of_models - of_runs), "dim"),
        f"  {in_words(device.resident)} held, ",
        f"{in_words(device.scratch)} for {runs} at once, " if device.scratch else "",
        rest,
        f"; {in_words(device.used)} used" if device.used else "",
    )


def filled(nbytes: int, budget: int) -> int:
    return min(BAR, round(BAR * nbytes / max(1, budget)))


def filled_columns(
    rows: list[tuple[str | Text, ...]],
) -> tuple[list[str], list[list[str | Text]]]:
    """Heads and rows, without the columns in which nothing stands."""
    kept = [at for at in range(len(HEADS)) if any(str(each[at]) for each in rows)]
    return [HEADS[at] for at in kept], [[each[at] for at in kept] for each in rows]


def row(model: ModelMemory, states: Mapping[str, str]) -> tuple[str | Text, ...]:
    about = "" if model.is_measured else "~"
    asked = "" if model.idle_s is None else f"{model.rate:.2g}/s, {duration(model.idle_s)} ago"
    return (
        f"{model.name}/{model.version}",
        Text(states.get(model.state, model.state), STYLES.get(model.state, "bold red")),
        Text(about + in_words(model.resident), "" if model.is_resident else "dim"),
        in_words(model.scratch) if model.scratch else "",
        in_words(model.used) if model.used else "",
        duration(model.reload_s) if model.reload_s is not None else "",
        asked,
        counted(model.evictions, "time") if model.evictions else "",
        remarks(model),
    )


def remarks(model: ModelMemory) -> str:
    said = (
        "pinned" if model.is_pinned else "",
        "gives back after each run" if model.gives_back else "",
        f"batches of up to {counted(model.cap, 'row')}" if model.cap else "",
        model.reason.removeprefix("not in memory: "),
    )
    return "; ".join(filter(None, said))


def summary(models: tuple[ModelMemory, ...], states: Mapping[str, str]) -> Text:
    """How many are in memory, and how many are not."""
    resident = sum(each.is_resident for each in models)
    absent = sum(each.state == "ABSENT" for each in models)
    where = "loaded at start" if states else "in memory"
    parts = [f"{counted(len(models), 'model')}: {resident} {where}"]
    parts += [f"{absent} loaded when asked for"] if absent else []
    parts += [f"{never} never"] if (never := len(models) - resident - absent) and states else []
    guessed = sum(not each.is_measured for each in models)
    parts += [f"{guessed} not measured yet (~)"] if guessed else []
    return Text(", ".join(parts))
