"""Too little memory at every step of a worker's life: the tests', all of them."""

from injected import scenarios
from limited import Memory
from report import Row, Target

SELECTED = ["tests/integration/faults/test_injected.py", "-k", "memory"]


def measure(bench: Memory) -> Row:
    cases, broken = scenarios(bench, "allocation-failures", SELECTED)
    row = Row("Allocation failures", HOW)
    row.targets = [
        Target(
            "no hang, nothing left reserved or held, a clear error",
            bool(cases) and not broken,
            f"{cases - len(broken)} of {cases} scenarios",
        )
    ]
    row.notes = broken
    return row


HOW = """Memory runs out at each step that a worker passes, while it loads, runs and ends, of a copy loaded beside the one that serves and of one with \
nothing before it. Its callers and its neighbour's are answered meanwhile, each with the number it sent; afterwards what is held is compared with before."""
