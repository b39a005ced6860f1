"""Models and versions for people, as a tree: what survey.py found, or how a server's fare."""

import sys
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter

from msgspec import convert
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from headrace.cli.chain import in_words
from headrace.cli.survey import Found
from headrace.model_config import Fallback

WIDTH = 120
"""Where no terminal says how wide it is."""
STYLES = {"READY": "green", "LOADING": "yellow", "ABSENT": "dim"}
"""State of a version → how it looks; all others are worth a look."""


def print_tree(found: list[Found]) -> None:
    output = console()
    for _, versions in groupby(found, itemgetter("name")):
        output.print(model_tree(list(versions)))


def console() -> Console:
    """Standard output, as wide as its terminal."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def model_tree(versions: list[Found]) -> Tree:
    model = Tree(Text(versions[0]["name"], "bold"), guide_style="dim")
    for each in versions:
        is_ready = each["state"] == "READY"
        head = Text.assemble(
            f"version {each['version']}  ",
            (each["state"], "green" if is_ready else "bold red"),
            (f"  {each['backend']}".rstrip() + f"  {each['path']}", "dim"),
        )
        branch = model.add(head)
        branch.add(details(each) if is_ready else Text(each["reason"]))
        if not is_ready and each["crash"] is not None:
            add_trace(branch, each["crash"]["trace"])
    return model


def print_versions(found: list[Found]) -> None:
    """Versions as a server's /v1/versions describes them."""
    output = console()
    for name, versions in groupby(found, itemgetter("name")):
        model = Tree(Text(name, "bold"), guide_style="dim")
        for each in versions:
            add_version(model, each)
        output.print(model)


def add_version(model: Tree, version: Found) -> None:
    workers = ", ".join(map(str, version["pids"]))
    head = Text.assemble(
        f"version {version['version']}  ",
        (version["state"], STYLES.get(version["state"], "bold red")),
        (f"  {counted(version['instances'], 'instance')}, process {workers}" if workers else "", "dim"),
    )
    branch = model.add(head)
    if version["reason"]:
        branch.add(Text(version["reason"]))
    breaker, crash = version["breaker"], version["crash"]
    if breaker is not None and breaker["state"] != "closed":
        why = f": {breaker['reason']}" if breaker["reason"] else ""
        branch.add(Text(f"breaker {breaker['state'].replace('_', ' ')}{why}"))
    if crash is not None:
        died = f"{counted(version['deaths'], 'death')} of workers, the last " if version["deaths"] else ""
        at = datetime.fromtimestamp(crash["at"], UTC).astimezone()
        add_trace(branch.add(Text(f"{died}at {at:%Y-%m-%d %H:%M:%S}: {crash['reason']}")), crash["trace"])


def add_trace(branch: Tree, trace: str) -> None:
    """Where a worker's threads were when it crashed, if it could say so."""
    if trace:
        branch.add(Text(trace, "dim"))


def details(found: Found) -> Table:
    grid = columns(2)
    for heading in ("inputs", "outputs"):
        grid.add_row(Text(heading, "dim"), tensors(found[heading], is_joined=found["joins_requests"]))
    batching = "one request at a time"
    if found["joins_requests"]:
        batching = f"requests share runs; each may bring up to {found['max_batch_size']} rows"
    grid.add_row(Text("batching", "dim"), Text("\n".join([batching, *found["notes"]])))
    runs_on = f"{counted(found['instances'], 'instance')} x {counted(found['threads'], 'thread')}"
    grid.add_row(Text("runs on", "dim"), runs_on)
    if found["fallback"] is not None:
        grid.add_row(Text("falls back", "dim"), Text(in_words(convert(found["fallback"], Fallback))))
    for latency in found["latencies"]:
        grid.add_row(Text("a run takes", "dim"), latencies(latency["seconds"], latency["row_elements"]))
    return grid


def tensors(specs: list[Found], *, is_joined: bool) -> Table:
    grid = columns(4)
    for spec in specs:
        remarks = Text(remark(spec, is_joined=is_joined), "dim")
        grid.add_row(Text(spec["name"]), spec["datatype"], Text(shape(spec)), remarks)
    return grid


def columns(count: int) -> Table:
    """A grid whose last column takes what is left."""
    grid = Table.grid(padding=(0, 2))
    for at in range(count):
        grid.add_column(no_wrap=at < count - 1)
    return grid


def shape(spec: Found) -> str:
    """Sizes; `batch` for the batch axis, its name for a padded length, `?` where any size may come."""
    sizes = [
        "batch" if axis == spec["batch_axis"] else length or ("?" if size < 0 else str(size))
        for axis, (size, length) in enumerate(zip(spec["shape"], spec["lengths"], strict=True))
    ]
    return f"[{', '.join(sizes)}]"


def remark(spec: Found, *, is_joined: bool) -> str:
    if is_joined and spec["batch_axis"] is None:
        return "the same for all requests that share a run"
    if spec.get("pad_value") is not None:
        return f"padded with {spec['pad_value']:g}"
    if any(spec["lengths"]):
        return "cut to its row's length"
    return "" if spec.get("survives_padding", True) else "padding changes it"


def latencies(seconds: dict[str, float], row_elements: int) -> Text:
    text = Text()
    for at, (rows, taken) in enumerate(seconds.items()):
        text.append(f"{', ' if at else ''}{duration(taken)} for {rows}")
        text.append("" if at else " row" if rows == "1" else " rows")
    return text.append(f", where a row has {counted(row_elements, 'element')}", "dim")


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
