"""`headrace bench`: load on a running server, open loop, and what it kept of its promise."""

from math import isfinite
from pathlib import Path
from typing import Any

import click

EXTRA = frozenset({"matplotlib", "hdrh"})
MOST_KEYS = 1_000_000
"""The body of each is made before the run, and kept."""


class Positive(click.FloatRange):
    """A number above zero, which `nan` and `inf` are not."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value} is no number above 0.", param, ctx)
        return number


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", required=False)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the server listens.")
@click.option(
    "--rate",
    type=Positive(),
    help="Calls a second; half of what one connection gets, if not given.",
)
@click.option(
    "--seconds",
    type=Positive(),
    help="Length of the run; 10 if not given, 3 with --quick.",
)
@click.option(
    "--pattern",
    type=click.Choice(["poisson", "bursts", "steps", "even"]),
    default="poisson",
    show_default=True,
    help="When calls come: independently; in bursts of 3.4 times the rate; by --steps; like a metronome.",
)
@click.option(
    "--steps", metavar="RATE:SECONDS,…", help="Poisson at each rate in turn, as in 100:5,1000:5,100:10."
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Recorded calls, by columns time or timestamp, and if there are any key, caller or tenant, length. --rate makes "
    "it faster or slower, --seconds cuts or repeats it; its callers call unless --caller says who.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    metavar="N",
    help="Closed loop instead: N connections that ask again when they have their answer.",
)
@click.option(
    "--keys",
    type=click.IntRange(1, MOST_KEYS),
    default=64,
    show_default=True,
    help="How many different inputs.",
)
@click.option(
    "--zipf",
    type=Positive(),
    metavar="S",
    help="Some inputs are asked more often: Zipf's law with this exponent, as in 1.1.",
)
@click.option(
    "--viral",
    metavar="AT:FOR:PART",
    help="From a second on, for so many, one input takes that part of the calls, as in 5:10:0.3.",
)
@click.option("--binary", is_flag=True, help="Tensors as bytes instead of JSON.")
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Bodies of infer requests, one a line (.jsonl), or one whole body; random tensors if not given.",
)
@click.option(
    "--lengths",
    metavar="N,N,…",
    help="What axes of any size get, drawn for each input, as in 16,128,512; 1 if not given.",
)
@click.option(
    "--deadline-ms",
    type=Positive(),
    help="An answer later than this is no good one; the server is told, by x-request-timeout-seconds.",
)
@click.option(
    "--give-up-ms",
    type=Positive(),
    help="A client closes its connection after so long without an answer; 10000 if not given.",
)
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How often a client calls again that was refused, lost its connection or gave up.",
)
@click.option("--heed-retry-after", is_flag=True, help="It waits as long as Retry-After says, at least.")
@click.option(
    "--caller",
    "callers",
    multiple=True,
    metavar="NAME:KEY=VALUE,…",
    help="One kind of client, instead of a single one; repeat for each. Keys: part (of the calls), deadline_ms, "
    "give_up_ms, retries, pause_ms, priority, tenant, heeds_retry_after=yes, sends_deadline=no.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of all that is drawn.")
@click.option(
    "--p99-ms",
    type=Positive(),
    help="The objective: 99 % of the calls answered with success within this; the exit status is 1 if they were not.",
)
@click.option("--find-max", is_flag=True, help="Search for the highest rate that keeps --p99-ms.")
@click.option("--quick", is_flag=True, help="Shorter, and less exact.")
@click.option(
    "--budget-s",
    type=Positive(),
    help="Never take longer; with --find-max 300 if not given, 60 with --quick.",
)
@click.option(
    "--core",
    type=click.IntRange(0),
    metavar="N",
    help="The core of the generator; the last one if not given and there are two.",
)
@click.option("--no-pin", is_flag=True, help="The generator runs on any core.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page with plots."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write everything, for programs.",
)
def command(**options: Any) -> None:
    """Load a running server, and report what it keeps of its promise. MODEL may be left out where there is only one.

    Any server of the Open Inference Protocol will do. The load is open loop: when each call is sent is decided before the
    run, and its latency counts from then, so a server that stalls cannot hide it. A run whose generator was late itself
    is void. The exit status is 1 if it was void or missed the objective.

    \b
    headrace bench                                        the only model, a modest rate, 10 seconds
    headrace bench resnet --rate 200 --deadline-ms 100
    headrace bench resnet --find-max --p99-ms 50 --report max.html
    headrace bench bert --steps 100:5,1000:5,100:10 --retries 3 --lengths 16,128,512
    headrace bench bert --rate 500 --caller web:part=3,deadline_ms=50,tenant=a --caller batch:tenant=b
    """  # noqa: D301 - the character with which click keeps lines apart
    from headrace.errors import HeadraceError

    try:
        from headrace.cli.load_test import bench

        if options["report"] is not None:
            import headrace.loadtest.report  # noqa: F401 - what it needs is missed before the run, not after it
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        raise click.ClickException(
            f"bench needs {missing}; install it with: pip install 'headrace[bench]'"
        ) from exc
    try:
        is_kept = bench(**options)
    except HeadraceError as exc:
        raise click.ClickException(str(exc)) from exc
    if not is_kept:
        raise SystemExit(1)
