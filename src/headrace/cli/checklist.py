"""What was understood of models' settings: as JSON's types, and for people as a tree of models and versions."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec
from msgspec.structs import replace as replace_fields
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from headrace.cli.chain import in_words
from headrace.cli.tree import WIDTH, columns, counted
from headrace.config import Settings, Tenant
from headrace.messages import Shape
from headrace.model_config import DeclaredTensor, ModelConfig, QueuePolicy, Residence, Warmup
from headrace.repository.source import Source

UNSAID = ModelConfig()
APART = ("notes", "described")
"""Fields of a configuration that are no settings: what is ignored, and the original once more."""
MOST_NAMED = 12
"""Labels or features on a line; JSON has all."""
Line = tuple[str, RenderableType]


def understood(source: Source) -> dict[str, Any]:
    """One version in JSON's types; `settings` has only what its repository says."""
    said = {
        field: msgspec.to_builtins(value, str_keys=True)
        for field in source.config.__struct_fields__
        if field not in APART and (value := getattr(source.config, field)) != getattr(UNSAID, field)
    }
    return {
        "name": source.name,
        "version": source.version,
        "layout": source.layout,
        "path": str(source.path),
        "backend": source.backend,
        "is_refused": bool(source.problem),
        "problem": source.problem,
        "settings": said,
        "ignored": list(source.config.notes),
    }


def print_checklist(sources: list[Source]) -> None:
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    for name, versions in groupby(sources, attrgetter("name")):
        model = Tree(Text(name, "bold"), guide_style="dim")
        for each in versions:
            model.add(head(each)).add(Text(each.problem) if each.problem else details(each.config))
        console.print(model)
    models = counted(len({each.name for each in sources}), "model")
    refused = sum(bool(each.problem) for each in sources)
    console.print(
        Text(
            f"{models}, {counted(len(sources), 'version')}: {refused or 'none'} refused",
            "bold red" if refused else "",
        )
    )


def weighted(source: Source, weights: Mapping[str, float]) -> Source:
    """With the weight that the command line gives it."""
    weight = weights.get(source.name, source.config.weight)
    return replace(source, config=replace_fields(source.config, weight=weight))


def kept(source: Source, settings: Settings) -> Source:
    """With what the command line says of its being in memory."""
    said = source.config.residence
    residence = replace_fields(
        said,
        is_pinned=said.is_pinned or source.name in settings.pin,
        is_preloaded=True if source.name in settings.preload else said.is_preloaded,
    )
    return replace(source, config=replace_fields(source.config, residence=residence))


def print_tenants(tenants: Mapping[str, Tenant]) -> None:
    """Who shares the device by name, if anybody does."""
    if tenants:
        said = (
            f"{name} weighs {each.weight:g}" + (f" ({counted(len(each.keys), 'key')})" if each.keys else "")
            for name, each in tenants.items()
        )
        console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
        console.print(Text(f"{counted(len(tenants), 'tenant')}: {', '.join(said)}"))


def head(source: Source) -> Text:
    state = ("REFUSED", "bold red") if source.problem else ("OK", "green")
    where = "  ".join(filter(None, (source.layout, source.backend, str(source.path))))
    return Text.assemble(f"version {source.version}  ", state, (f"  {where}", "dim"))


def details(config: ModelConfig) -> RenderableType:
    lines = [
        *interface(config),
        *running(config),
        *staying(config.residence),
        *waiting(config),
        *around(config),
    ]
    if not lines:
        lines = [
            ("", Text("nothing is said of it: `headrace models` loads it and shows what is found out", "dim"))
        ]
    lines += [("ignored", Text(note, "yellow")) for note in config.notes]
    grid = columns(2)
    before = ""
    for heading, line in lines:
        grid.add_row(Text("" if heading == before else heading, "dim"), line)
        before = heading
    return grid


def interface(config: ModelConfig) -> Iterator[Line]:
    """What callers send and get."""
    if config.description:
        yield "description", Text(config.description)
    for heading, declared in (("inputs", config.inputs), ("outputs", config.outputs)):
        if declared:
            yield heading, tensors(declared, is_batched=bool(config.max_batch_size))
    transforms = config.steps
    for heading, side in (("callers send", "inputs"), ("callers get", "outputs")):
        for name, step in (transforms.get(side) or {}).items():
            yield heading, Text(f"{name}: {step.get('kind', '?')}{settings_of(step)}")
    if transform := transforms.get("transform"):
        yield "transform", Text(settings_of(transform).removeprefix(", "))


def settings_of(step: dict[str, Any]) -> str:
    said = {key: value for key, value in step.items() if key != "kind" and value not in (None, False, {}, [])}
    return "".join(f", {key}" if value is True else f", {key} {short(value)}" for key, value in said.items())


def short(value: Any) -> str:
    """On a line: the names of what is nested, and the first of many."""
    if not isinstance(value, list | dict):
        return str(value)
    names = [each if isinstance(each, str) else json.dumps(each) for each in value]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"[{', '.join(names[:MOST_NAMED])}{more}]"


def running(config: ModelConfig) -> Iterator[Line]:
    """How it runs."""
    if config.max_batch_size is not None:
        rows = counted(config.max_batch_size, "row")
        text = f"up to {rows} a run" if config.max_batch_size else "requests never share a run"
        yield "batching", Text(text)
    for name, pad in config.pads.items():
        yield "padding", Text(f"{name} with {pad:g}, if a run confirms it")
    if config.instances or config.threads:
        instances = counted(config.instances, "instance") if config.instances else "instances as measured"
        threads = counted(config.threads, "thread") if config.threads else "threads as measured"
        yield "runs on", Text(f"{instances} x {threads}")
    for key, value in config.options.items():
        yield "options", Text(f"{key} {value}")
    for warmup in config.warmups:
        yield "warm-up", Text(warmed(warmup))


def staying(residence: Residence) -> Iterator[Line]:
    """When it is in memory."""
    if residence.is_pinned:
        yield "memory", Text("pinned: loaded at start, and stays")
    elif residence.is_preloaded is not None:
        when = "at start, before others" if residence.is_preloaded else "only when it is asked for"
        yield "memory", Text(f"loaded {when}")
    if residence.idle_s is not None:
        yield "memory", Text(f"leaves when nobody has asked for it for {residence.idle_s:g} s")


def waiting(config: ModelConfig) -> Iterator[Line]:
    """How its requests wait."""
    if config.latency_p99_s is not None:
        yield "objective", Text(f"99 of 100 answers within {config.latency_p99_s * 1000:g} ms")
    if config.priority != UNSAID.priority:
        yield (
            "priority",
            Text("high" if config.priority < UNSAID.priority else "low"),
        )
    if config.weight != UNSAID.weight:
        yield "weight", Text(f"{config.weight:g}, beside other models")
    if config.queue != UNSAID.queue and not config.levels:
        yield "queue", Text(policy(config.queue))
    for level, each in sorted(config.levels.items()):
        is_default = " (of requests that name none)" if level == config.default_level else ""
        yield "queue", Text(f"priority {level}{is_default}: {policy(each)}")


def around(config: ModelConfig) -> Iterator[Line]:
    """What else is said."""
    if len(config.variants) > 1:
        yield "variants", Text(", ".join(config.variants))
    if config.fallback.chain:
        yield "falls back", Text(in_words(config.fallback))
    if not config.may_degrade:
        yield "falls back", Text("never: callers get its own answer or an error")
    if not config.is_idempotent:
        yield "runs", Text("what may have been run is not run again")
    if config.finite_outputs:
        yield "runs", Text("NaN or an infinite number in an output is a failure")
    if config.examples:
        yield "examples", Text(str(len(config.examples)))
    for key, value in config.parameters.items():
        yield "parameters", Text(f"{key} = {value}")


def tensors(declared: tuple[DeclaredTensor, ...], *, is_batched: bool) -> Table:
    grid = columns(4)
    for each in declared:
        kind = each.datatype.value if each.datatype else "?"
        grid.add_row(
            Text(each.name), kind, Text(shape(each.dims, is_batched=is_batched)), Text(remark(each), "dim")
        )
    return grid


def shape(dims: Shape | None, *, is_batched: bool) -> str:
    if dims is None:
        return "as the model has it"
    sizes = [*(["batch"] if is_batched else []), *("?" if size < 0 else str(size) for size in dims)]
    return f"[{', '.join(sizes)}]"


def remark(declared: DeclaredTensor) -> str:
    remarks = ["may be left out"] if declared.is_optional else []
    if declared.reshape is not None:
        remarks.append(f"the model has {shape(declared.reshape, is_batched=False)}")
    if declared.labels:
        remarks.append(counted(len(declared.labels), "label"))
    return ", ".join(remarks)


def warmed(warmup: Warmup) -> str:
    inputs = ", ".join(
        f"{each.name} {each.fill} {shape(each.dims, is_batched=False)}" for each in warmup.inputs
    )
    rows = f" of {counted(warmup.batch_size, 'row')}" if warmup.batch_size else ""
    return f"{warmup.name}: {counted(warmup.count, 'run')}{rows}, {inputs}"


def policy(queue: QueuePolicy) -> str:
    parts = [f"first within {queue.share:.3g} of its device time"] if queue.share is not None else []
    parts.append(
        f"at most {counted(queue.max_queue_size, 'request')} waiting"
        if queue.max_queue_size
        else "any number waiting"
    )
    if queue.default_timeout_s is not None:
        after = "refused" if queue.on_timeout == "reject" else "served after all others"
        parts.append(f"{after} after {queue.default_timeout_s:g} s")
    if not queue.allow_timeout_override:
        parts.append("whatever timeout they ask for")
    return ", ".join(parts)
