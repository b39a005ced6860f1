"""What a row found: a table, how it was measured, and whether its targets were reached."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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


def write(folder: Path, heading: str, rows: dict[str, Row]) -> str:
    """Both reports; returns the one for people."""
    text = "\n\n".join([heading, *(row.markdown() for row in rows.values())]) + "\n"
    (folder / "report.md").write_text(text)
    found = {name: asdict(row) for name, row in rows.items()}
    (folder / "report.json").write_text(json.dumps({"heading": heading, "rows": found}, indent=1))
    return text
