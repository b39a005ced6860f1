"""What a row found: a table, how it was measured, and whether its targets were reached; and when and where that was."""

import json
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench import Bench

BUSY_MACHINE = 0.3
"""Load average a core above which somebody else is at work."""
MARKS = {True: "reached", False: "MISSED", None: "not judged"}


@dataclass
class Target:
    """`reached` is None where it could not be judged; the figure then says why."""

    text: str
    reached: bool | None
    figure: str


@dataclass
class Row:
    """One piece of work that was measured. `raw` is what the JSON report keeps beside the table."""

    title: str
    how: str
    columns: list[str] = field(default_factory=list)
    lines: list[list[str]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """For people."""
        parts = [f"## {self.title}", self.how]
        if self.lines:
            table = [self.columns, ["---"] * len(self.columns), *self.lines]
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in table))
        parts += self.notes
        if self.targets:
            judged = [f"| {each.text} | {each.figure} | {MARKS[each.reached]} |" for each in self.targets]
            parts.append("\n".join(["| target | found | |", "| --- | --- | --- |", *judged]))
        return "\n\n".join(parts)


def measure_all(
    rows: Mapping[str, Callable[[Any], Row]],
    names: Collection[str],
    bench: "Bench",
    folder: Path,
    heading: Callable[[], str],
) -> tuple[dict[str, Row], list[str]]:
    """The named rows one after the other, or all if none is named, and who could not be measured.

    Both reports are written after each row, so that what was found is not lost with what comes later.
    """
    found: dict[str, Row] = {}
    failed = []
    for name in [name for name in rows if name in names] or list(rows):
        bench.say(f"row {name}")
        try:
            found[name] = rows[name](bench)
        except Exception as exc:  # noqa: BLE001 - the other rows are still worth having
            failed.append(name)
            found[name] = Row(name, f"Could not be measured: {type(exc).__name__}: {exc}")
            bench.say(found[name].how)
        write(folder, heading(), found)
    print(write(folder, heading(), found))
    return found, failed


def table(rows: Mapping[str, Row]) -> str:
    """All targets in one, a line each."""
    lines = [
        f"| {row.title} | {each.text} | {each.figure} | {MARKS[each.reached]} |"
        for row in rows.values()
        for each in row.targets
    ]
    return "\n".join(["| test | to reach | found | |", "| --- | --- | --- | --- |", *lines])


def write(folder: Path, heading: str, rows: dict[str, Row]) -> str:
    """Both reports; returns the one for people."""
    text = "\n\n".join([heading, *(row.markdown() for row in rows.values())]) + "\n"
    (folder / "report.md").write_text(text)
    found = {name: asdict(row) for name, row in rows.items()}
    (folder / "report.json").write_text(json.dumps({"heading": heading, "rows": found}, indent=1))
    return text


def heading(title: str, pinning: str, *, is_quick: bool) -> str:
    """When and where."""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("headrace", "onnxruntime", "uvicorn", "numpy")
    )
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    lines = [
        f"# {title}{', a quick run: figures are rough' if is_quick else ''}",
        f"""{time.strftime("%Y-%m-%d %H:%M")}, {processor()}, {cores} cores, {platform.system()} {platform.release()}, \
Python {platform.python_version()}, {versions}. {pinning} Everything talks over loopback.""",
    ]
    if load > BUSY_MACHINE * cores:
        lines.append(
            f"The machine was busy when this began (load average {load:.1f}): read nothing into the figures."
        )
    return "\n\n".join(lines)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
