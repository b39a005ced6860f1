"""Sentences of mixed lengths, one in five long: what buckets spare the short ones."""

import sys
from dataclasses import replace

import models
import numpy as np
import workloads
from bench import middle, ratios, spread
from harness import Crowd, Play, Pressure, Subject, at_most, void_notes
from report import Row
from scraped import INPUT_BYTES, PADDING_BYTES, Scraped, mean_rows, scraping
from servers import HEADRACE, HERE, Launch
from subjects import caller, header_lines, headrace, learn, said

NAME = "minilm"
SHORT, LONG = "short", "long"
PARTS = {SHORT: 0.8, LONG: 0.2}
LENGTHS = {SHORT: (16, 64), LONG: (256, 512)}
SENTENCES = 64
DEADLINE_S = 2.0
LOAD = 0.7
WINDOW_S = 20.0
AROUND = 60.0
"""Requests a second around which a core saturates with this mix."""
HALF = 0.5
BUCKETS, ONE = "headrace, lengths", "headrace, one bucket"
Runs = dict[str, list[tuple[Play, Scraped]]]


def measure(bench: Pressure) -> Row:
    model = bench.packaged(NAME, models.MINILM)
    pads = [text for name in ("input_ids", "attention_mask") for text in ("--pad", f"{NAME}:{name}=0")]
    subject = Subject(headrace(bench, [model], *pads, name=BUCKETS), crowd())
    known = learn(bench, subject, NAME)
    rate = LOAD * bench.saturation(subject, AROUND).goodput
    runs: Runs = {}
    for turn in range(bench.rounds):
        for each in (subject, replace(subject, launch=without_buckets(subject.launch))):
            with bench.serving(each) as server, scraping(server, [NAME]) as scraped:
                play = bench.poisson(server, each.crowd, rate, bench.seconds(WINDOW_S), seed=turn)
            runs.setdefault(each.name, []).append((play, scraped))
    row = Row("Mixed lengths, one in five long", how(bench, said(known), rate))
    row.columns = [
        "server",
        "padding",
        "mean batch",
        "goodput/s",
        "short p50 ms",
        "short p99 ms",
        "long p99 ms",
    ]
    row.lines = [line(name, of) for name, of in runs.items()]
    short = {name: [play.of(SHORT).latency.p99 for play, _ in of] for name, of in runs.items()}
    plays = [play for of in runs.values() for play, _ in of]
    text = "short ones' p99 ≤ half of the same run with one bucket"
    row.targets = [at_most(text, ratios(short[BUCKETS], short[ONE]), HALF, plays, "x")]
    row.notes = void_notes(plays)
    row.raw = {
        name: [{**play.raw(), "padding": padding(scraped), "sizes": scraped.sizes} for play, scraped in of]
        for name, of in runs.items()
    }
    return row


def crowd() -> Crowd:
    rng = np.random.default_rng(4)
    found: Crowd = []
    for name, (least, most) in LENGTHS.items():
        requests = []
        for length in rng.integers(least, most + 1, SENTENCES):
            ids = rng.integers(1000, workloads.VOCABULARY, (1, length))
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            output, headers = workloads.SENTENCE_OUTPUT, header_lines(DEADLINE_S)
            requests.append(workloads.binary_request(NAME, feed, output, headers=headers))
        found.append((caller(DEADLINE_S, name=name, part=PARTS[name]), requests))
    return found


def without_buckets(launch: Launch) -> Launch:
    """The same command line for the same server with one bucket."""
    script = [sys.executable, str(HERE / "pressure" / "one_bucket.py")]

    def command(port: int) -> list[str]:
        own = launch.command(port)
        return [*script, *own[own.index(str(HEADRACE)) + 1 :]]

    return replace(launch, name=ONE, command=command)


def how(bench: Pressure, curve: str, rate: float) -> str:
    (short, long), parts = LENGTHS.values(), [f"{100 * part:.0f} %" for part in PARTS.values()]
    return f"""paraphrase-MiniLM-L3 (at the length headrace measures at: {curve}), one sentence a request, {parts[0]} of {short[0]} to {short[1]} tokens and \
{parts[1]} of {long[0]} to {long[1]}, padding allowed (`--pad`), Poisson arrivals at {rate:.0f}/s, {LOAD} of what headrace saturates \
at; deadline {DEADLINE_S:g} s. One bucket: the same server and command line, with every length in one bucket, so that batches are \
made in the order of deadlines and padded to their longest row. Padding: bytes of it beside all bytes of inputs, from the \
metrics. {bench.pinning} In turn, started anew; medians of {bench.rounds} round(s) (lowest to highest)."""


def padding(scraped: Scraped) -> float:
    return scraped.total(PADDING_BYTES, NAME) / max(1.0, scraped.total(INPUT_BYTES, NAME))


def line(name: str, of: list[tuple[Play, Scraped]]) -> list[str]:
    short = [play.of(SHORT).latency for play, _ in of]
    long = [play.of(LONG).latency for play, _ in of]
    return [
        name,
        f"{100 * middle([padding(scraped) for _, scraped in of]):.1f} %",
        f"{middle([mean_rows(scraped.sizes[NAME]) for _, scraped in of]):.1f}",
        spread([play.whole.goodput for play, _ in of], 1),
        spread([1e3 * each.p50 for each in short], 0),
        spread([1e3 * each.p99 for each in short], 0),
        spread([1e3 * each.p99 for each in long], 0),
    ]
