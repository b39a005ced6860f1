"""What `headrace bench` does: ask the server what it serves, probe it, run the load or the search, write what came of it."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from headrace.cli.bench_options import GIVE_UP_S, address, budget_end, check_options, load_of
from headrace.cli.client import Client
from headrace.cli.load import Load, make_bodies, parse_lengths
from headrace.cli.load_figures import print_figures, print_outcome
from headrace.cli.pinning import Pinning, pin
from headrace.loadtest import wire
from headrace.loadtest.analysis import analyse
from headrace.loadtest.document import LoadTest, Setup, this_machine, to_json
from headrace.loadtest.live import LiveTable
from headrace.loadtest.plan import Caller
from headrace.loadtest.record import Record
from headrace.loadtest.scrape import BatchSizes
from headrace.loadtest.search import FULL, QUICK, Outcome, Search, Trial, find_max
from headrace.loadtest.sender import ClosedLoop, LoadTestFailed, Requests, Target, send, send_closed
from headrace.loadtest.verdict import judge, judge_search, outcome_of

SECONDS, QUICK_SECONDS = 10.0, 3.0
PROBE_S = 0.5
MODEST = 0.5
"""Of what one connection gets: a rate that a server keeps that runs requests one at a time."""
START_S = 2.0
"""What a run takes beside its schedule and waiting for its end: a process starts and ends, the report is written."""
ASK_S = 10.0


@dataclass(frozen=True)
class Bench:
    """All that the runs of a load test share.

    Attributes:
        target: whom to call.
        load: what is sent.
        requests: by caller and key.
        objective_s: of the 99th percentile, if there is one.
        pinning: where the generator runs.
        sizes: reads the server's batch sizes.
        console: stderr.
        ends: by time.monotonic, when the budget does; None without one.
    """

    target: Target
    load: Load
    requests: Requests
    objective_s: float | None
    pinning: Pinning
    sizes: BatchSizes
    console: Console
    ends: float | None

    def left_s(self) -> float:
        """How long a schedule may still be, with what a run takes beside it; without a budget there is no end."""
        if self.ends is None:
            return float("inf")
        return self.ends - time.monotonic() - START_S - max(each.give_up_s for each in self.load.callers)

    def run(self, rate: float | None, seconds: float, seed: int) -> Record:
        """One open-loop run, shown while it lasts."""
        schedule = self.load.schedule(rate, seconds, seed)
        return self._shown(send, schedule)

    def run_closed(self, connections: int, seconds: float, seed: int) -> Record:
        """One closed-loop run, likewise."""
        return self._shown(send_closed, ClosedLoop(connections, seconds, seed))

    def probe(self) -> float:
        """Answers a second of a single connection, 0 if all were refused.

        Raises:
            click.ClickException: the server does not answer such requests.
        """
        caller = Caller("probe", give_up_s=GIVE_UP_S)
        found = send_closed(
            self.target, ClosedLoop(1, PROBE_S), [caller], self.requests[:1], core=self.pinning.core
        )
        whole = analyse(found).whole
        if not whole.latency.count and not whole.refusal.count:
            what = found.first_faults[0] if found.first_faults else f"no answer within {GIVE_UP_S:g} s"
            raise click.ClickException(
                f"the server does not answer these requests: {what}\n"
                "Give requests that it answers with --inputs, or lengths that it takes with --lengths"
            )
        return max(whole.served, 1 / whole.latency.max) if whole.latency.count else 0.0

    def _shown(self, way: Callable[..., Record], what: Any) -> Record:
        with LiveTable(self.console, lambda: self.sizes.latest) as show:
            return way(
                self.target,
                what,
                self.load.callers,
                self.requests,
                core=self.pinning.core,
                progress=show,
                sample=self.sizes,
            )


def bench(**options: Any) -> bool:
    """Run what the options say; True unless the run is void or missed its objective.

    Raises:
        HeadraceError: the server cannot be asked, or a file not be read.
        click.ClickException: likewise, or the options cannot work.
    """
    started = time.monotonic()
    check_options(options)
    client = Client(options["url"], ASK_S)
    host, port = address(options["url"])
    model = client.ready_model(options["model"])
    load = load_of(options)
    metadata = wire.read_metadata(options["url"], model)
    load, requests = requests_for(load, metadata, host, port, options)
    console = Console(stderr=True, highlight=False)
    made = Bench(
        Target(host, port),
        load,
        requests,
        None if options["p99_ms"] is None else options["p99_ms"] / 1000,
        pin(options["core"], host, is_wanted=not options["no_pin"]),
        BatchSizes(f"http://{authority(host, port)}", model),
        console,
        budget_end(started, options),
    )
    console.print(f"{model} at {options['url']}", markup=False)
    for sentence in made.pinning.words:
        console.print(sentence, style="dim", markup=False, soft_wrap=True)
    setup = Setup(
        shlex.join(["headrace", *sys.argv[1:]]) if Path(sys.argv[0]).name == "headrace" else "headrace bench",
        options["url"],
        client.server(),
        model,
        "",
        options["seed"],
        made.pinning.words,
        this_machine(),
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        test = search(made, setup, options) if options["find_max"] else single(made, setup, options)
    except LoadTestFailed as exc:
        raise click.ClickException(str(exc)) from exc
    print_figures(test)
    write(test, options["report"], options["json_file"])
    return test.verdict.is_kept


def requests_for(
    load: Load, metadata: wire.Metadata, host: str, port: int, options: dict[str, Any]
) -> tuple[Load, Requests]:
    """The requests, and the load with as many keys as there are bodies."""
    if options["inputs"] is not None:
        bodies = wire.read_inputs(options["inputs"])
        load = replace(load, keys=len(bodies))
    else:
        lengths = parse_lengths(options["lengths"])
        load, bodies = make_bodies(
            load, metadata, seed=options["seed"], lengths=lengths, binary=options["binary"]
        )
    return load, wire.build(metadata, authority(host, port), load.callers, bodies)


def authority(host: str, port: int) -> str:
    """As URLs and the Host header have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def single(made: Bench, setup: Setup, options: dict[str, Any]) -> LoadTest:
    """One run: at the rate that was given, or a modest one."""
    load, rate, seed = made.load, options["rate"], options["seed"]
    alone = made.probe()
    if rate is None and not load.has_rate and options["concurrency"] is None:
        rate = modest(alone)
        made.console.print(
            f"no --rate: one connection gets {alone:.4g} answers/s; taking half of it", markup=False
        )
    seconds = load.seconds(options["seconds"], QUICK_SECONDS if options["quick"] else SECONDS, rate)
    left_s = made.left_s()
    if seconds > left_s:
        if left_s <= 0:
            raise click.UsageError("--budget-s leaves no time for a run: raise it, or lower --give-up-ms")
        if load.pattern == "steps":
            raise click.UsageError(
                f"--steps take {seconds:g} s and --budget-s leaves {left_s:.1f} s: raise it"
            )
        seconds = left_s
    if options["concurrency"] is not None:
        words = f"closed loop, {options['concurrency']} connections, {seconds:.3g} s, {load.keys} inputs"
        record = made.run_closed(options["concurrency"], seconds, seed)
    else:
        words = load.words(rate, seconds)
        record = made.run(rate, seconds, seed)
    analysis = analyse(record)
    return LoadTest(replace(setup, load=words), record, analysis, judge(record, analysis, made.objective_s))


def search(made: Bench, setup: Setup, options: dict[str, Any]) -> LoadTest:
    """The highest rate under the objective, with the last run that passed, or else the last one."""
    objective_s = made.objective_s
    assert objective_s is not None, "checked before"
    outcomes: list[Outcome] = []
    shown: list[Record] = []

    def run(trial: Trial) -> Outcome:
        record = made.run(trial.rate, trial.seconds, trial.seed)
        outcome = outcome_of(trial, record, analyse(record), objective_s)
        if outcome.is_passed or not any(each.is_passed for each in outcomes):
            shown[:] = [record]
        outcomes.append(outcome)
        print_outcome(made.console, outcome)
        return outcome

    start = modest(made.probe())
    found = find_max(
        Search(start, effort=QUICK if options["quick"] else FULL, seed=options["seed"]), run, made.left_s
    )
    if not shown:
        raise click.ClickException(f"the budget is too small for a search: {found.reason}")
    [record] = shown
    words = f"a search from {start:.4g}/s; its runs: {made.load.words(found.rate or start, record.seconds)}"
    return LoadTest(
        replace(setup, load=words),
        record,
        analyse(record),
        judge_search(found, objective_s),
        tuple(outcomes),
        found,
    )


def modest(alone: float) -> float:
    """A rate to begin with.

    Raises:
        click.ClickException: nothing is known, since all was refused.
    """
    if not alone:
        raise click.ClickException("the server refuses a single connection already: see why, or give --rate")
    return MODEST * alone


def write(test: LoadTest, report: Path | None, json_file: Path | None) -> None:
    """The files that were asked for.

    Raises:
        click.ClickException: one cannot be written.
    """
    files: dict[Path, Callable[[LoadTest], str]] = {}
    if json_file is not None:
        files[json_file] = lambda test: json.dumps(to_json(test), indent=1) + "\n"
    if report is not None:
        from headrace.loadtest.report import to_html

        files[report] = to_html
    faults = []
    for path, render in files.items():
        try:
            path.write_text(render(test), encoding="utf-8")
        except OSError as exc:
            faults.append(f"{path} cannot be written: {exc.strerror}")
        else:
            click.echo(f"written: {path}", err=True)
    if faults:
        raise click.ClickException("; ".join(faults))
