"""A tight and a loose class at one model that cannot serve both: the tight one has a reserved share."""

import models
from bench import middle, spread
from harness import Curve, Play, Pressure, Subject, at_least, void_notes
from report import Row
from subjects import best_rate, caller, headrace, learn, said, tensor_requests

from headrace.loadtest.plan import Caller

NAME = "classes"
TIGHT, LOOSE = "tight", "loose"
DEADLINES_S = {TIGHT: 0.030, LOOSE: 0.100}
PRIORITIES = {TIGHT: 1, LOOSE: 2}
SHARE = 0.7
LOAD = 1.2
WINDOW_S = 6.0
KEPT = 0.9
SKILL = f"""format: 1
share: {{priorities: {{1: {SHARE}, 2: null}}, default_priority: 2}}
"""


def measure(bench: Pressure) -> Row:
    folder = bench.folder / "models" / NAME
    models.make_between(folder / "model.onnx")
    (folder / "skill.yaml").write_text(SKILL)
    both = [member(name) for name in DEADLINES_S]
    subject = Subject(headrace(bench, [folder], name="headrace, two classes"), both)
    known = learn(bench, subject, NAME)
    rate = LOAD * bench.saturation(subject, best_rate(known)).goodput
    plays: dict[str, list[Play]] = {"alone": [], "together": []}
    with bench.serving(subject) as server:
        for turn in range(bench.rounds):
            seconds = bench.seconds(WINDOW_S)
            plays["alone"].append(bench.poisson(server, both[:1], rate / 2, seconds, seed=turn))
            plays["together"].append(bench.poisson(server, both, rate, seconds, seed=turn))
    row = Row("Two classes", how(bench, known, rate))
    row.columns = ["run", "class", "offered/s", "goodput/s", "p99 ms", "refusals' p99 ms"]
    row.lines = [
        line(run, name, of)
        for run, of in plays.items()
        for name in (DEADLINES_S if run == "together" else [TIGHT])
    ]
    ratios = [
        together.of(TIGHT).goodput / max(1.0, alone.of(TIGHT).goodput)
        for alone, together in zip(plays["alone"], plays["together"], strict=True)
    ]
    everything = [play for of in plays.values() for play in of]
    text = f"tight class's goodput ≥ {KEPT} of what it gets alone at its rate"
    row.targets = [at_least(text, ratios, KEPT, everything)]
    row.notes = void_notes(everything)
    row.raw = {run: [play.raw() for play in of] for run, of in plays.items()}
    return row


def member(name: str) -> tuple[Caller, list[bytes]]:
    deadline_s, priority = DEADLINES_S[name], PRIORITIES[name]
    requests = tensor_requests(NAME, models.BETWEEN[0], deadline_s, priority=priority)
    return caller(deadline_s, name=name, priority=priority), requests


def how(bench: Pressure, known: Curve, rate: float) -> str:
    return f"""A lighter MLP (64-3072-3072-3072-8, 76 MB; {said(known)}) at {LOAD} times the highest goodput of both classes together: \
{rate:.0f}/s, half of them of priority 1 with a deadline of {1e3 * DEADLINES_S[TIGHT]:.0f} ms, half of priority 2 with \
{1e3 * DEADLINES_S[LOOSE]:.0f} ms. `skill.yaml` reserves {SHARE} of the device time for priority 1. {bench.pinning} Alone: \
the same calls of priority 1 at the same rate, and nobody else. In turn; medians of {bench.rounds} round(s) (lowest to highest)."""


def line(run: str, name: str, plays: list[Play]) -> list[str]:
    found = [play.of(name) for play in plays]
    return [
        run,
        f"{name}, {1e3 * DEADLINES_S[name]:.0f} ms",
        f"{middle([each.offered for each in found]):.0f}",
        spread([each.goodput for each in found], 0),
        f"{middle([1e3 * each.latency.p99 for each in found]):.1f}",
        f"{middle([1e3 * each.refusal.p99 for each in found]):.1f}",
    ]
