"""Two models that both want all of the same cores, with equal weights: who gets how much, and does either get slower?"""

from dataclasses import dataclass

import models
from bench import middle, spread
from harness import Crowd, Curve, Play, Pressure, Subject, judged, void_notes
from report import Row, Target
from scraped import DEVICE_SECONDS, Scraped, mean_rows, scraping, slower
from servers import Server
from subjects import headrace, learn, said, tensor_requests

from headrace.loadtest.plan import Caller

WIDTHS = {"heavy": models.HEAVY, "medium": models.MEDIUM}
MAKE = {"heavy": models.make_heavy, "medium": models.make_medium}
CONNECTIONS = 160
"""For each model: a batch that runs, one that waits, and some. Nothing is refused then, so that the gateway has the same
work to do beside either."""
WINDOW_S = 6.0
EVEN, OFF, NEAR = 0.5, 0.05, 0.10


@dataclass
class Watched:
    """A run and what the server says of it."""

    play: Play
    scraped: Scraped

    def device_s(self, model: str) -> float:
        return self.scraped.total(DEVICE_SECONDS, model)

    @property
    def part(self) -> float:
        """The first model's of all device time."""
        spent = [self.device_s(model) for model in WIDTHS]
        return spent[0] / max(1e-9, sum(spent))


def measure(bench: Pressure) -> Row:
    paths = [bench.model(name, make) for name, make in MAKE.items()]
    subjects = {
        name: Subject(headrace(bench, paths, name=f"headrace with two models, {name} asked"), crowd(name))
        for name in WIDTHS
    }
    known = {name: learn(bench, each, name) for name, each in subjects.items()}
    both = [each for name in WIDTHS for each in subjects[name].crowd]
    together = Subject(headrace(bench, paths, name="headrace with two models, both asked"), both)
    runs: dict[str, list[Watched]] = {}
    with bench.serving(together) as server:
        for turn in range(bench.rounds):
            for name in WIDTHS:
                alone = watch(bench, server, subjects[name].crowd, turn)
                runs.setdefault(f"{name} alone", []).append(alone)
            runs.setdefault("together", []).append(watch(bench, server, both, turn))
    row = Row("Two models, equal weights, the same cores", how(bench, known))
    row.columns = [
        "run",
        "model",
        "answers/s",
        "device time s",
        "mean batch",
        "l(b) beside alone",
    ]
    row.lines = [
        line(runs, run, name) for run in runs for name in WIDTHS if run in {"together", f"{name} alone"}
    ]
    row.targets = targets(runs)
    row.notes = void_notes([each.play for of in runs.values() for each in of])
    row.raw = {
        run: [{**each.play.raw(), "sizes": each.scraped.sizes, "part": each.part} for each in of]
        for run, of in runs.items()
    }
    return row


def crowd(model: str) -> Crowd:
    return [(Caller(name=model), tensor_requests(model, WIDTHS[model][0], None))]


def watch(bench: Pressure, server: Server, callers: Crowd, turn: int) -> Watched:
    with scraping(server, list(WIDTHS)) as scraped:
        play = bench.saturated(server, callers, CONNECTIONS * len(callers), bench.seconds(WINDOW_S), turn)
    return Watched(play, scraped)


def how(bench: Pressure, known: dict[str, Curve]) -> str:
    curves = "; ".join(f"{name}: {said(each)}" for name, each in known.items())
    return f"""One server with a 64-4096-4096-4096-8 (heavy) and a 64-2048-2048-2048-8 MLP (medium), weight 1 each, one session of one \
thread each where the server has one core ({curves}). Each is asked over \
{CONNECTIONS} connections that ask again when they have their answer, alone and then both at once. {bench.pinning} Device time is \
Δ`{DEVICE_SECONDS}`; l(b) is compared between runs of the same batch size, by the statistics. In turn; medians of {bench.rounds} \
round(s) (lowest to highest)."""


def line(runs: dict[str, list[Watched]], run: str, name: str) -> list[str]:
    of = runs[run]
    found = [each.play.of(name) for each in of]
    beside = spread(longer(runs, name)) if run == "together" else ""
    return [
        run,
        name,
        spread([each.goodput for each in found], 0),
        spread([each.device_s(name) for each in of]),
        f"{middle([mean_rows(each.scraped.sizes[name]) for each in of]):.1f}",
        beside,
    ]


def longer(runs: dict[str, list[Watched]], name: str) -> list[float]:
    """Round by round, how much longer its runs took beside the other model than alone."""
    pairs = zip(runs["together"], runs[f"{name} alone"], strict=True)
    found = [slower(here.scraped.sizes[name], there.scraped.sizes[name]) for here, there in pairs]
    return [each for each in found if each is not None]


def targets(runs: dict[str, list[Watched]]) -> list[Target]:
    plays = [each.play for of in runs.values() for each in of]
    parts = [each.part for each in runs["together"]]
    is_even = abs(middle(parts) - EVEN) <= OFF
    found = [judged("device time 50:50 ± 5", is_even, f"heavy {spread(parts)}", plays)]
    for name in WIDTHS:
        ratios = longer(runs, name)
        is_near = abs(middle(ratios) - 1) <= NEAR if ratios else None
        figure = f"{spread(ratios)}x" if ratios else "no batch size ran both alone and together"
        found.append(
            judged(f"l(b) of {name} within {100 * NEAR:.0f} % of running alone", is_near, figure, plays)
        )
    return found
