"""Every fault at every step of a worker's life, and a kill whenever the core reports something: the tests', all of them."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from faulty import Faults
from report import Row, Target

ROOT = Path(__file__).parents[2]
TESTS = [f"tests/integration/faults/{name}.py" for name in ("test_injected", "test_reported")]
LIMIT_S = 1200.0
BROKEN = ("failure", "error")


def measure(bench: Faults) -> Row:
    cases, broken = scenarios(bench, "injected", TESTS)
    row = Row("Injected faults", HOW)
    row.targets = [
        Target(
            "no hang, no lost ticket, no leaked process, descriptor, arena or lease",
            bool(cases) and not broken,
            f"{cases - len(broken)} of {cases} scenarios",
        )
    ]
    row.notes = broken
    return row


def scenarios(bench: Faults, name: str, tests: list[str]) -> tuple[int, list[str]]:
    """How many of the tests there are, of a quick run those of the default run only; and a line on each that failed."""
    log = bench.logs / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    report = log.with_suffix(".xml")
    marks = "not load" if bench.is_quick else "load or not load"
    command = [sys.executable, "-m", "pytest", *tests, "-m", marks, f"--junitxml={report}", "-q"]
    with log.open("wb") as file:
        subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, timeout=LIMIT_S, check=False)
    cases = list(ET.parse(report).getroot().iter("testcase"))
    broken = [each.get("name", "") for each in cases if any(each.find(kind) is not None for kind in BROKEN)]
    return len(cases), [f"Not so: {each}; see {log}" for each in broken]


HOW = """Kills, aborts, exits, exceptions, hangs and stops at each step that a worker passes, of a copy loaded beside the one that serves and of \
one with nothing before it; and a kill of all workers of a model when the core reports an event of each kind. Meanwhile its callers and its \
neighbour's are answered, each with the number it sent; afterwards processes, descriptors, memory files, requests held and runs that hold the \
device token are counted and compared with before."""
