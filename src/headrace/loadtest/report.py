"""A load test as one HTML file that needs nothing else: no network, no script; on paper, a phone or a dark screen.

Whatever comes from outside (names, commands, answers) is escaped where it enters the page. Needs the extra `bench`.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from headrace.loadtest import plots
from headrace.loadtest.analysis import Percentiles, Summary
from headrace.loadtest.document import LoadTest
from headrace.loadtest.live import milliseconds
from headrace.loadtest.scrape import batch_sizes
from headrace.loadtest.search import Outcome

MOST_PLOTTED = 12
"""Callers with a line of their own; the table has all."""
STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --dim: #59636e; --line: #d1d9e0; --paper: #fff; --kept: #1a7f37; --failed: #c21c2c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9198a1; --line: #3d444d; --paper: #0d1117; --kept: #3fb950; --failed: #ff7b72 } }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper) }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.verdict { border-left: .3rem solid var(--failed); padding: .3rem .8rem } .verdict.kept { border-color: var(--kept) }
.verdict b { color: var(--failed); text-transform: uppercase } .verdict.kept b { color: var(--kept) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .8rem; margin: 1rem 0; padding: 0 }
.figures div { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .7rem }
.figures dt { color: var(--dim); font-size: .85rem } .figures dd { margin: 0; font-size: 1.25rem }
figure { margin: 0 } svg { width: 100%; height: auto } figcaption, .note { color: var(--dim); font-size: .9rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } table.words td { text-align: left; white-space: normal; overflow-wrap: anywhere }
""".strip()


def to_html(test: LoadTest) -> str:
    """The page."""
    setup = test.setup
    title = f"{setup.model}: headrace bench"
    body = [
        f"<h1>{escape(title)}</h1>",
        verdict(test),
        headline(test),
        *(drawings(test)),
        *(search(test.outcomes) if test.outcomes else ()),
        callers(test),
        statuses(test.analysis.whole),
        *faults(test.analysis.first_faults),
        how(test),
        words(),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def verdict(test: LoadTest) -> str:
    state, text = test.verdict.state, test.verdict.text
    return f'<p id="verdict" class="verdict {escape(state)}"><b>{escape(state)}</b> {escape(text)}</p>'


def headline(test: LoadTest) -> str:
    """The numbers somebody asks for first."""
    whole = test.analysis.whole
    figures = {
        "offered": f"{whole.offered:.4g} /s",
        "served": f"{whole.served:.4g} /s",
        "goodput": f"{whole.goodput:.4g} /s",
        "good calls": part(whole.good_calls, whole.calls),
        "p50": f"{milliseconds(whole.latency.p50)} ms",
        "p99": f"{milliseconds(whole.latency.p99)} ms",
        "refusals' p99": f"{milliseconds(whole.refusal.p99)} ms" if whole.refusal.count else "none refused",
        "send lag p99": f"{milliseconds(test.analysis.lag.p99)} ms",
    }
    if test.found is not None:
        figures = {"highest rate": f"{test.found.rate:.4g} /s"} | figures
    if test.analysis.fairness is not None:
        figures["fairness (Jain)"] = f"{test.analysis.fairness:.3f}"
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures.items()
    )
    note = '<p class="note">Of the run that the search ended with.</p>' if test.outcomes else ""
    return f'<dl id="figures" class="figures">{cells}</dl>{note}'


def drawings(test: LoadTest) -> Iterator[str]:
    """The plots, each with its heading."""
    windows = test.windows()
    deadlines = {each.name: each.deadline_s for each in test.record.who if each.deadline_s is not None}
    yield drawing("over-time", "Offered load, served rate and goodput", plots.rates(windows))
    yield drawing("latency-over-time", "Latency over time", plots.latencies(windows, deadlines))
    yield drawing(
        "latency-by-percentile", "Latency by percentile", plots.distribution(test.latencies, deadlines)
    )
    if sizes := batch_sizes(test.record):
        yield drawing("batch-size", "Batch size", plots.batch_sizes(sizes))
    if len(test.record.who) > 1:
        calls = [each.calls for each in test.analysis.callers]
        busiest = sorted(range(len(calls)), key=calls.__getitem__, reverse=True)[:MOST_PLOTTED]
        series = {test.record.who[at].name: test.windows(at) for at in sorted(busiest)}
        yield drawing("goodput-by-caller", "Goodput by caller", plots.goodput_by_caller(series))


def drawing(name: str, heading: str, svg: str) -> str:
    return f'<section id="{name}"><h2>{escape(heading)}</h2><figure>{svg}</figure></section>'


def search(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Every trial, in its order."""
    rows = [
        (
            each.trial.phase.value,
            f"{each.trial.rate:.4g}",
            f"{each.trial.seconds:.1f}",
            str(each.total),
            str(each.late),
            "-" if each.p99_ms is None else f"{each.p99_ms:.3g}",
            "void" if each.void else "passed" if each.is_passed else "failed",
        )
        for each in outcomes
    ]
    heads = ("trial", "calls/s", "seconds", "counted", "late", "p99 ms", "")
    yield f'<section id="trials"><h2>The search</h2>{table(heads, rows)}</section>'


def callers(test: LoadTest) -> str:
    """All of them together, then each."""
    analysis = test.analysis
    each_one = [
        caller_row(summary, who.deadline_s)
        for summary, who in zip(analysis.callers, test.record.who, strict=True)
    ]
    rows = [caller_row(analysis.whole, None), *each_one] if len(each_one) > 1 else each_one
    heads = (
        *("caller", "calls", "attempts", "offered/s", "served/s", "good/s", "good calls", "deadline ms"),
        *("p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "refused", "refused p99 ms"),
    )
    return f'<section id="callers"><h2>Callers</h2>{table(heads, rows)}</section>'


def caller_row(summary: Summary, deadline_s: float | None) -> tuple[str, ...]:
    refused = summary.refusal
    return (
        summary.name,
        str(summary.calls),
        str(summary.attempts),
        f"{summary.offered:.4g}",
        f"{summary.served:.4g}",
        f"{summary.goodput:.4g}",
        part(summary.good_calls, summary.calls),
        f"{deadline_s * 1000:g}" if deadline_s else "-",
        *times(summary.latency),
        str(refused.count),
        milliseconds(refused.p99) if refused.count else "-",
    )


def times(found: Percentiles) -> tuple[str, ...]:
    values = (found.p50, found.p90, found.p99, found.p999, found.max)
    return tuple(milliseconds(each) if found.count else "-" for each in values)


def statuses(whole: Summary) -> str:
    rows = [(name, str(count), part(count, whole.attempts)) for name, count in sorted(whole.statuses.items())]
    return (
        f'<section id="statuses"><h2>What attempts ended with</h2>'
        f"{table(('status', 'attempts', 'of all'), rows)}</section>"
    )


def faults(first: Sequence[str]) -> Iterator[str]:
    """The first answers that nobody expected, as they came."""
    if first:
        items = "".join(f"<li><code>{escape(each)}</code></li>" for each in first)
        yield f'<section id="faults"><h2>Unexpected answers</h2><ul>{items}</ul></section>'


def how(test: LoadTest) -> str:
    setup = test.setup
    machine = setup.machine
    rows = [
        ("command", setup.command),
        ("server", f"{setup.server} at {setup.url}"),
        ("model", setup.model),
        ("load", setup.load),
        ("seed", str(setup.seed)),
        ("cores", " ".join(setup.pinning)),
        ("machine", f"{machine.cpu}, {machine.cores} cores for the generator, {machine.system}"),
        ("generator's CPU", f"{test.analysis.own_cpu_s:.1f} s in a run of {test.analysis.seconds:.1f} s"),
        ("started", setup.started),
    ]
    return f'<section id="how"><h2>How it was run</h2>{table((), rows, "words")}</section>'


def words() -> str:
    return (
        '<section id="words"><h2>Words</h2><p class="note">The load is open loop unless it says otherwise: every call is '
        "sent when its schedule says, however slow the server is, and its latency counts from then. Offered: first attempts. "
        "Served: answered with 200. Good: answered with 200 within the caller's deadline, if it has one. Refused: answered with "
        "429, 503 or 504. A run is void when the 99th percentile of how late calls were sent passes 5 ms: then the generator, "
        "not the server, made its latencies.</p></section>"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    opened = f'<table class="{kind}">' if kind else "<table>"
    return f'<div class="wide" tabindex="0">{opened}{f"<thead><tr>{head}</tr></thead>" if head else ""}<tbody>{body}</tbody></table></div>'


def part(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"
