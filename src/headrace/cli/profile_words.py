"""A model's curve and its golden point, for people."""

from rich.text import Text

from headrace.batching.golden_point import ENOUGH, OF_MEMORY, WORTH_CAPPING_S, Bound
from headrace.batching.policy import OF_TIGHTEST
from headrace.byte_sizes import in_words
from headrace.cli.profile import Profiled
from headrace.cli.tables import print_table
from headrace.cli.tree import console, counted, duration

HEADS = ("rows", "peak MB", "rows/s", "mean", "p50", "p99", "")
MEGABYTE = 1e6


def print_profile(profiled: Profiled) -> None:
    """The curve, and below it where the golden point is and which bound it comes from."""
    output, curve = console(), profiled.curve
    runs_on = f"{counted(curve.instances, 'instance')} x {counted(curve.threads, 'thread')}"
    head = f"  rows of {counted(curve.cost, 'element')}; {runs_on}"
    each_alone = ", one of them measured alone" if curve.instances > 1 else ""
    output.print(Text.assemble((f"{profiled.name}/{profiled.version}", "bold"), f"{head}{each_alone}"))
    print_table(HEADS, table_of(profiled))
    output.print(golden_words(profiled), soft_wrap=True)
    for bound in profiled.golden.allowed:
        output.print(bound_words(profiled, bound), soft_wrap=True)
    if profiled.served.rows != profiled.golden.rows:
        output.print(
            f"A server's batches grow to {counted(profiled.served.rows, 'row')} where much waits: it keeps the objective by "
            "when it sends a batch and whom it refuses, not by the batch's size.",
            soft_wrap=True,
        )


def table_of(profiled: Profiled) -> list[tuple[str | Text, ...]]:
    chosen = profiled.golden.rows
    return [
        (
            str(each.rows),
            "" if each.nbytes is None else f"{each.nbytes / MEGABYTE:.1f}",
            f"{each.rate:,.0f}" if each.rate >= 10 else f"{each.rate:.2g}",  # noqa: PLR2004 - three digits do
            duration(each.mean_s),
            duration(each.p50_s),
            duration(each.p99_s),
            Text("◀ golden point", "bold yellow") if each.rows == chosen else "",
        )
        for each in profiled.points
    ]


def golden_words(profiled: Profiled) -> Text:
    golden = profiled.golden
    return Text.assemble(
        ("golden point  ", "bold yellow"),
        f"batches of {counted(golden.rows, 'row')}; {golden.bound.value} binds",
    )


def bound_words(profiled: Profiled, bound: Bound) -> Text:
    """What a bound allows, and why."""
    golden = profiled.golden
    is_binding = bound is golden.bound
    words = {
        Bound.ROWS: lambda: profiled.curve.end,
        Bound.MEMORY: lambda: memory_words(profiled),
        Bound.OBJECTIVE: lambda: objective_words(profiled),
        Bound.THROUGHPUT: lambda: throughput_words(profiled),
    }[bound]()
    mark = ("  ▶ ", "bold yellow") if is_binding else ("    ", "")
    rows = f"{golden.allowed[bound]:>5} {'row ' if golden.allowed[bound] == 1 else 'rows'}"
    return Text.assemble(mark, f"{bound.value:<12}{rows}  ", (words, "" if is_binding else "dim"))


def memory_words(profiled: Profiled) -> str:
    budget = profiled.budget
    allowed = f"{OF_MEMORY:.0%} of {in_words(budget.budget)} are {in_words(OF_MEMORY * budget.budget)}"
    first = profiled.points[0].nbytes
    if first is not None and first > OF_MEMORY * budget.budget:
        return f"{allowed}, and a run of one row takes {in_words(first)}"
    return f"{allowed} ({budget.limit})"


def objective_words(profiled: Profiled) -> str:
    assert profiled.objective_s is not None, "else it bounds nothing"
    promised, alone = duration(profiled.objective_s), min(each.p99_s for each in profiled.points)
    part_s = OF_TIGHTEST * profiled.objective_s
    if alone <= part_s:
        return f"99 of 100 runs within {duration(part_s)}, half of the {promised} promised"
    than = "all" if alone > profiled.objective_s else "half"
    return (
        f"a row alone takes up to {duration(alone)}, more than {than} of the {promised} promised: runs may take twice that, "
        "since smaller ones would not keep it either"
    )


def throughput_words(profiled: Profiled) -> str:
    if profiled.points[-1].p50_s < WORTH_CAPPING_S:
        return f"runs this short ({duration(profiled.points[-1].p50_s)}) are worth any number of rows"
    best = max(each.rate for each in profiled.points)
    return f"the fewest rows with {ENOUGH:.0%} of the best, {best:,.0f} rows a second"
