"""What came of a load test, for people: a table on stdout, and the verdict below it."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.tree import WIDTH
from headrace.loadtest.analysis import Summary
from headrace.loadtest.document import LoadTest
from headrace.loadtest.live import milliseconds
from headrace.loadtest.search import Outcome

COLUMNS = (
    "caller",
    "offered/s",
    "served/s",
    "good/s",
    "good",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "refused",
    "their p99",
)
LOOKS = {"kept": "bold green", "failed": "bold red", "void": "bold red"}
ENDS = {"gave_up": "given up", "lost": "lost", "not_sent": "never sent"}


def print_figures(test: LoadTest) -> None:
    """The callers, how attempts ended that were not served, and the verdict."""
    console = Console(highlight=False)
    # A terminal too narrow wraps its lines; cut off, they would say something else.
    console.width = max(WIDTH, console.width)
    analysis = test.analysis
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for at, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if at else "left", no_wrap=bool(at))
    for each in (analysis.whole, *(analysis.callers if len(analysis.callers) > 1 else ())):
        table.add_row(*cells(each))
    console.print(table)
    console.print(Text("; ".join(remarks(test)), "dim"))
    for fault in analysis.first_faults[:3]:
        console.print(Text(f"unexpected: {fault}", "yellow"))
    state = test.verdict.state
    console.print(Text.assemble((state.upper(), LOOKS[state]), f": {test.verdict.text}"))


def cells(summary: Summary) -> tuple[str, ...]:
    latency, refusal = summary.latency, summary.refusal
    return (
        summary.name,
        f"{summary.offered:.4g}",
        f"{summary.served:.4g}",
        f"{summary.goodput:.4g}",
        f"{summary.good_calls / summary.calls:.1%}" if summary.calls else "-",
        *(milliseconds(each) if latency.count else "-" for each in (latency.p50, latency.p99, latency.p999)),
        str(refusal.count),
        milliseconds(refusal.p99) if refusal.count else "-",
    )


def remarks(test: LoadTest) -> list[str]:
    """What does not go into the table: other ends of attempts, retries, lag, fairness."""
    whole, analysis = test.analysis.whole, test.analysis
    said = [f"send lag p99 {milliseconds(analysis.lag.p99)} ms"]
    said += [
        f"{count} {ENDS.get(name, f'with status {name}')}"
        for name, count in sorted(whole.statuses.items())
        if name != "200"
    ]
    if retries := whole.attempts - whole.calls:
        said.append(f"{retries} retries")
    if analysis.fairness is not None:
        said.append(f"Jain's index {analysis.fairness:.3f}")
    return said


def print_outcome(console: Console, outcome: Outcome) -> None:
    """A trial of a search, as soon as it is over."""
    trial = outcome.trial
    state = "void" if outcome.void else "passed" if outcome.is_passed else "failed"
    p99 = "-" if outcome.p99_ms is None else f"{outcome.p99_ms:.3g} ms"
    text = Text.assemble(
        f"{trial.phase.value:8}{trial.rate:>10.4g}/s for {trial.seconds:.1f} s: ",
        (state, "green" if outcome.is_passed else "red"),
        f"  p99 {p99}, {outcome.late} of {outcome.total} late",
    )
    console.print(text, soft_wrap=True)
    if outcome.void:
        console.print(Text(f"        {outcome.void}", "dim"), soft_wrap=True)
