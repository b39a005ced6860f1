"""Two hundred models where there is room for ten, asked by Zipf's law; beside it the traffic of the ten hottest alone."""

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import subjects
from asking import AHEAD_S, Asking, Heard
from belady import belady
from faulty import count_text
from limited import ONE_SESSION, Memory, budget_for, limit_for
from report import Row, Target
from watch import Seen, Watch

from headrace.execution.wire import Profile
from headrace.loadtest.plots import COLOURS, PAPER, coordinates, drawing, finished

MODELS, ROOM, ZIPF, DEADLINE_S = 200, 10, 1.1, 10.0
HOTTEST = 5
"""Whose latency is compared. Not all ten can always be there: each request of the tail takes the room of one."""
SEED = 6
ALL_S, ALONE_S = 300.0, 100.0
QUICK_ALL_S, QUICK_ALONE_S = 60.0, 20.0
LEARNED = 0.2
"""Of a run, before latencies count: when it begins nothing is in memory."""
LEAST_HITS, LEAST_IN_TIME, MOST_SLOWER = 0.9, 0.99, 1.3
OVER, LEAST_OVER = 0.02, 50e6
MB = 1e6


@dataclass(frozen=True)
class Variant:
    """One way to serve them.

    Attributes:
        title, words: for the report.
        options: of the server.
        is_measured: the server finds profiles of all models; else it has their files alone.
        part: of the row's seconds.
        rate: calls a second, for all models together.
        rounds: runs of the hot models' traffic alone.
    """

    title: str
    words: str
    options: tuple[str, ...] = ()
    is_measured: bool = True
    part: float = 1.0
    rounds: int = 2
    rate: float = 4.0


OWN = Variant("200 models, room for 10", "Each has a worker of its own.")
SHARED = Variant(
    "200 models, room for 10, shared workers",
    "Up to 20 share a worker.",
    options=("--sessions-per-worker", "20"),
    rounds=1,
    rate=12.0,
)
UNMEASURED = Variant(
    "200 models, room for 10, none measured",
    "Each has a worker of its own, and of none is known what it takes before it is asked for.",
    is_measured=False,
    part=1 / 3,
    rounds=0,
)


@dataclass(frozen=True)
class Run:
    """Of so many seconds.

    Attributes:
        most_at_start: private bytes of all workers, while the server started.
        kills: by the kernel for want of memory, None where nobody counts them.
    """

    seconds: float
    heard: Heard
    seen: Seen
    most_at_start: int
    kills: int | None

    @property
    def over(self) -> tuple[int, int]:
        """The most bytes that workers had above the budget, below 0 if they never were, and the budget then."""
        at_start = self.most_at_start - self.seen.told[0].budget, self.seen.told[0].budget
        return max(at_start, self.seen.over)

    @property
    def hits(self) -> float:
        """Part of the requests that found their model in memory, by the server's own count."""
        return 1 - self.seen.grown("absent") / max(1, len(self.heard.status))

    def late_or_lost(self, whose: slice) -> int:
        """Calls for these models without a right answer within the deadline."""
        heard = self.heard
        return int((chosen(heard, whose) & ~(heard.is_good & (heard.latency <= DEADLINE_S))).sum())

    def calls(self, whose: slice) -> int:
        return int(chosen(self.heard, whose).sum())


def own(bench: Memory) -> Row:
    return measure(bench, OWN)


def shared(bench: Memory) -> Row:
    return measure(bench, SHARED)


def unmeasured(bench: Memory) -> Row:
    return measure(bench, UNMEASURED)


def measure(bench: Memory, variant: Variant) -> Row:
    paths = subjects.make_all(bench.folder / "models" / "many", MODELS)
    profile = bench.measured(paths, subjects.asked(0, 1, 1.0, DEADLINE_S))
    budget = budget_for(ROOM, profile)
    with nullcontext() if variant.is_measured else bench.unmeasured():
        alone_s = variant.part * (QUICK_ALONE_S if bench.is_quick else ALONE_S)
        all_s = variant.part * (QUICK_ALL_S if bench.is_quick else ALL_S)
        alone = [play(bench, variant, paths[:ROOM], budget, alone_s, 0) for _ in range(variant.rounds // 2)]
        everybody = play(bench, variant, paths, budget, all_s, SEED)
        later = range(variant.rounds // 2, variant.rounds)
        alone += [play(bench, variant, paths[:ROOM], budget, alone_s, 1 + at) for at in later]
    room = max(ROOM, *(each.models for each in everybody.seen.told))
    trace = everybody.heard.whose.tolist()
    best = belady(trace, dict.fromkeys(trace, 1), room)
    row = Row(variant.title, how(variant, everybody, alone, budget, profile))
    row.columns = COLUMNS
    row.lines = [line("all", everybody), *(line("the ten hottest alone", each) for each in alone)]
    row.targets = targets(everybody, alone, best, room)
    row.notes = notes([everybody, *alone], room)
    row.raw = {
        "budget": budget,
        "best": best,
        "room": room,
        "runs": [raw(each) for each in (everybody, *alone)],
    }
    return row


def play(bench: Memory, variant: Variant, paths: list[Path], budget: int, seconds: float, seed: int) -> Run:
    """A server of all models, and calls for those that are hottest, as many as there are paths, at the rate they have of all."""
    counts = drawn(len(paths), round(variant.rate * seconds), seed)
    asked = tuple(subjects.asked(at, count, seconds, DEADLINE_S) for at, count in enumerate(counts))
    every = subjects.make_all(paths[0].parent, MODELS)
    options = (*ONE_SESSION, "--deadline-s", f"{DEADLINE_S:g}", *variant.options)
    with bench.bounded(
        every, asked, f"headrace, {variant.title}, {len(paths)} asked", budget, *options
    ) as server:
        with Watch(server, bench.group) as watch:
            heard = Asking(server.port, asked, seconds, seed, bench.core).heard()
        kills = bench.group.kills if bench.group else None
        run = Run(seconds, heard, watch.seen, bench.most_at_start, kills)
    bench.say(f"{len(paths)} of {MODELS} asked: {count_text(heard)}; {100 * run.hits:.1f} % hits")
    return run


def drawn(hottest: int, calls: int, seed: int) -> list[int]:
    """How often each of the hottest is asked in a run of so many calls for all."""
    chances = np.arange(1, MODELS + 1, dtype=float) ** -ZIPF
    counts = np.random.default_rng(seed).multinomial(calls, chances / chances.sum())
    return [int(each) for each in counts[:hottest]]


def chosen(heard: Heard, whose: slice) -> np.ndarray:
    """Calls for models by their places."""
    places = np.zeros(MODELS, bool)
    places[whose] = True
    return places[heard.whose]


HOT, TEN, TAIL = slice(0, HOTTEST), slice(0, ROOM), slice(ROOM, None)


def latency_ms(runs: list[Run], whose: slice, percent: float) -> float:
    """Of right answers, once the server has learned who is asked for; nan of none."""
    found = [
        run.heard.latency[
            chosen(run.heard, whose) & run.heard.is_good & (run.heard.scheduled >= LEARNED * run.seconds)
        ]
        for run in runs
    ]
    latencies = np.concatenate(found) if found else np.empty(0)
    return 1e3 * float(np.percentile(latencies, percent)) if len(latencies) else float("nan")


COLUMNS = [
    "asked",
    "calls",
    "right, in time",
    "wrong",
    "hits",
    "loads",
    "in memory, at most",
    f"p50 / p99 of the {HOTTEST} hottest, ms",
    f"of the {ROOM} hottest",
    "of the tail",
    "used at most, MB",
    "over the budget, MB",
    "cores",
]


def line(name: str, run: Run) -> list[str]:
    calls = len(run.heard.status)
    over, _ = run.over
    spans = [
        f"{latency_ms([run], whose, 50):.1f} / {latency_ms([run], whose, 99):.1f}"
        for whose in (HOT, TEN, TAIL)
    ]
    return [
        name,
        str(calls),
        str(calls - run.late_or_lost(slice(None))),
        str(run.heard.wrong),
        f"{100 * run.hits:.1f} %",
        str(run.seen.grown("loads")),
        str(max(each.models for each in run.seen.told)),
        *spans,
        f"{max(each.used for each in run.seen.samples) / MB:.0f}",
        f"{over / MB:+.0f}",
        f"{run.seen.cores:.2f}",
    ]


def targets(everybody: Run, alone: list[Run], best: float, room: int) -> list[Target]:
    tail, missed = everybody.calls(TAIL), everybody.late_or_lost(TAIL)
    kills = [each.kills for each in (everybody, *alone)]
    counted = [each for each in kills if each is not None]
    over, budget = everybody.over
    found = [
        Target(
            f"hit ratio ≥ {LEAST_HITS} of Belady's",
            everybody.hits >= LEAST_HITS * best,
            f"{everybody.hits / best:.3f}: {everybody.hits:.3f} of {best:.3f} with room for {room}",
        ),
        Target(
            f"≥ {100 * LEAST_IN_TIME:.0f} % of the tail answered within {DEADLINE_S:g} s",
            tail - missed >= LEAST_IN_TIME * tail,
            f"{100 * (1 - missed / max(1, tail)):.2f} % of {tail}",
        ),
        Target(
            "0 kernel kills",
            not sum(counted) if len(counted) == len(kills) else None,
            str(sum(counted)) if counted else "not inside a real limit",
        ),
        Target(
            "never over the budget by more than max(2 %, 50 MB)",
            over <= max(OVER * budget, LEAST_OVER),
            f"{over / MB:+.0f} MB at the most, of {budget / MB:.0f} MB",
        ),
        Target("0 wrong answers", not everybody.heard.wrong, str(everybody.heard.wrong)),
    ]
    if alone:
        found.insert(4, beside(everybody, alone))
    return found


def beside(everybody: Run, alone: list[Run]) -> Target:
    """What the tail costs the hottest."""
    ours, theirs = latency_ms([everybody], HOT, 99), latency_ms(alone, HOT, 99)
    each = " and ".join(f"{latency_ms([run], HOT, 99):.1f}" for run in alone)
    return Target(
        f"p99 of the {HOTTEST} hottest ≤ {MOST_SLOWER} times that without the tail",
        ours <= MOST_SLOWER * theirs,
        f"{ours / theirs:.2f}: {ours:.1f} ms of {theirs:.1f} ms; without the tail {each} ms",
    )


def how(variant: Variant, everybody: Run, alone: list[Run], budget: int, profile: Profile) -> str:
    limit = "" if everybody.kills is not None else "; not inside a real limit: no group could be made here"
    footprint = profile.footprint
    assert footprint is not None
    beside_it = (
        f" Before and after it the calls for the ten hottest alone, {alone[0].seconds:.0f} s."
        if alone
        else ""
    )
    return f"""{MODELS} convolutional models of 24 MB each (ten layers of 256 channels on 8 x 8), of one graph and with a content of their own; one in \
memory takes {footprint.resident / MB:.0f} MB. {variant.words} The budget is {budget / MB:.0f} MB, room for {ROOM} of them by the ledger's arithmetic, in a control \
group of {limit_for(budget) / MB:.0f} MB{limit}. Open loop, {variant.rate:g} calls/s for {everybody.seconds:.0f} s by Zipf's law (s = {ZIPF}) at random times, each with a \
deadline of {DEADLINE_S:g} s and a number of its own, which its answer holds times a factor of its model.{beside_it} A hit is a call that found its model in memory, as \
the server counts; Belady's are of the same trace, with the most models that were ever in memory at once, loads taking no time. Latencies count after the first {100 * LEARNED:.0f} % of a run."""


def notes(runs: list[Run], room: int) -> list[str]:
    found = [f"An answer nobody expected: {fault}" for run in runs for fault in run.heard.faults[:2]]
    ends = [f"{count} {name}" for name, count in sorted(runs[0].seen.outcomes.items())]
    found.append(f"How the server says that requests ended where all were asked: {', '.join(ends)}.")
    if room > ROOM:
        found.append(f"There was room for {room} models where {ROOM} were reckoned with.")
    return found


def plot(row: Row, path: Path) -> None:
    """A file of its own: bytes over the time of the run in which all were asked, and hits beside them."""
    run = row.raw["runs"][0]
    figure, axes = drawing("seconds", "MB")
    told = [(each["at_s"], each["budget"] / MB, each["reserved"] / MB) for each in run["told"]]
    used = [(each["at_s"], each["used"] / MB) for each in run["samples"]]
    axes.plot(*coordinates([(at, budget) for at, budget, _ in told]), ":", color=COLOURS[3], label="budget")
    axes.plot(*coordinates([(at, reserved) for at, _, reserved in told]), color=COLOURS[0], label="reserved")
    axes.plot(*coordinates(used), color=COLOURS[2], linewidth=1.0, label="used by workers")
    beside = axes.twinx()
    beside.plot(*coordinates(hit_rates(run)), "--", color=COLOURS[1], label="hits, %")
    beside.set_ylim(0, 100)
    beside.set_ylabel("hits, %")
    beside.grid(visible=False)
    beside.spines["right"].set_visible(True)
    title = f"{MODELS} models, room for {ROOM}"
    words = f"Bytes of all workers and bytes reserved, against the budget, and the part of the calls that found their model in memory, over {run['seconds']:.0f} s."
    svg = finished(figure, axes, "memory", title, words, heading=title)
    path.write_text(svg.replace("<title", f"{PAPER}<title", 1))


def hit_rates(run: dict[str, Any]) -> list[tuple[float, float]]:
    """Middle of a stretch between two looks at the server's counts → per cent of the calls in it that were hits."""
    due = np.array([at for at, *_ in run["calls"]])
    found = []
    for earlier, later in pairwise(run["counts"]):
        since, until = earlier["at_s"] - AHEAD_S, later["at_s"] - AHEAD_S
        calls = int(((due >= since) & (due < until)).sum())
        if calls:
            found.append(((since + until) / 2, 100 * (1 - (later["absent"] - earlier["absent"]) / calls)))
    return found


def raw(run: Run) -> dict[str, Any]:
    heard = run.heard
    return {
        "seconds": run.seconds,
        "kills": run.kills,
        "most_at_start": run.most_at_start,
        "hits": run.hits,
        "statuses": heard.statuses(),
        "calls": [
            [round(float(at), 3), int(whose), int(status), round(float(latency), 4)]
            for at, whose, status, latency in zip(
                heard.scheduled, heard.whose, heard.status, heard.latency, strict=True
            )
        ],
        **asdict(run.seen),
    }
