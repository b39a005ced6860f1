"""Answers a second through a kill: of the model whose worker it is, beside one whose worker it is, and with a chain."""

from pathlib import Path

import numpy as np
import subjects
import watching
from asking import Asked, Asking, Heard
from faulty import Faults, count_text
from report import Row
from subjects import FACTORS, HEAVY, LIGHT, TINY

from headrace.loadtest.plots import INK, PAPER, coordinates, drawing, finished, look

SKILL, SKILL_WITH_CHAIN = "ranker", "ranker-with-chain"
RATES = {SKILL: 300.0, HEAVY: 15.0}
DEADLINE_S = 0.1
BEFORE_S, AFTER_S, BIN_S = 2.0, 4.0, 0.05
KILLS, QUICK_KILLS = 10, 2
OWN, NEIGHBOURS, CHAIN = "its own worker", "the neighbour's", "its own, with a fallback chain"
RUNS = {OWN: (SKILL, SKILL), NEIGHBOURS: (SKILL, HEAVY), CHAIN: (SKILL_WITH_CHAIN, SKILL_WITH_CHAIN)}
"""Whose worker is killed → the skill that is asked, and the model whose worker that is."""
SKILL_YAML = """format: 1
variants: {{full: {{model: full.onnx}}, tiny: {{model: tiny.onnx}}}}
{chain}"""
CHAIN_YAML = """fallback: {chain: [{variant: tiny}]}
"""


def measure(bench: Faults) -> Row:
    folder = bench.folder / "models" / "goodput"
    paths = [
        make_skill(folder / SKILL, ""),
        make_skill(folder / SKILL_WITH_CHAIN, CHAIN_YAML),
        subjects.make(folder / f"{HEAVY}.onnx", subjects.HEAVY_WIDTHS, FACTORS[HEAVY]),
    ]
    kills = bench.kills(KILLS, QUICK_KILLS)
    row = Row("Goodput through a kill", how(bench, kills))
    row.columns = ["killed", "before, answers/s", "least in 50 ms", "below half for s", "degraded", "wrong"]
    for run, (skill, victim) in RUNS.items():
        heard, at = killing(bench, paths, run, skill, victim, kills)
        bench.say(f"{run}: {count_text(heard)}")
        points = around(heard, at)
        row.raw[run] = {"points": points}
        row.lines.append(line(run, heard, points))
    return row


def killing(
    bench: Faults, paths: list[Path], run: str, skill: str, victim: str, kills: int
) -> tuple[Heard, list[float]]:
    """What the skill's callers heard, and when the victim's worker was killed."""
    factors = {"": FACTORS[LIGHT], "variant:tiny": FACTORS[TINY]}
    asked = (
        Asked(skill, "input", subjects.ECHO, subjects.WIDTH, RATES[SKILL], DEADLINE_S, factors, {}),
        subjects.asked(HEAVY, RATES[HEAVY], 1.0),
    )
    with bench.served(paths, asked, f"headrace, {run}") as server:
        bench.warm(server, asked)
        asking = Asking(server.port, asked, kills * (BEFORE_S + AFTER_S) + BEFORE_S, 1, bench.core)
        at = []
        for number in range(kills):
            asking.wait_until(BEFORE_S + number * (BEFORE_S + AFTER_S))
            if (killed := watching.kill(server, victim)) is not None:
                at.append(killed - asking.zero)
        return asking.heard().of(0), at


def make_skill(folder: Path, chain: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "skill.yaml").write_text(SKILL_YAML.format(chain=chain))
    subjects.make(folder / "full.onnx", subjects.LIGHT_WIDTHS, FACTORS[LIGHT])
    subjects.make(folder / "tiny.onnx", subjects.TINY_WIDTHS, FACTORS[TINY])
    return folder


def around(heard: Heard, kills: list[float]) -> list[tuple[float, float]]:
    """Seconds from a kill → good answers a second then, the mean over the kills."""
    edges = np.arange(-BEFORE_S, AFTER_S + BIN_S / 2, BIN_S)
    good = heard.ended[heard.is_good & (heard.latency <= DEADLINE_S)]
    counts = [np.histogram(good - at, edges)[0] for at in kills]
    rates = np.mean(counts, axis=0) / BIN_S
    return [(float(at) + BIN_S / 2, float(rate)) for at, rate in zip(edges[:-1], rates, strict=True)]


def line(run: str, heard: Heard, points: list[tuple[float, float]]) -> list[str]:
    before = float(np.mean([rate for at, rate in points if at < 0]))
    after = [rate for at, rate in points if at >= 0]
    below = BIN_S * sum(rate < before / 2 for rate in after)
    return [
        run,
        f"{before:.0f}",
        f"{min(after):.0f}",
        f"{below:.2f}",
        str(int(heard.is_degraded.sum())),
        str(heard.wrong),
    ]


def how(bench: Faults, kills: int) -> str:
    return f"""A skill whose first variant is a light MLP is asked {RATES[SKILL]:.0f} times a second with a deadline of {1e3 * DEADLINE_S:.0f} ms, a heavy \
MLP beside it {RATES[HEAVY]:.0f} times. One worker is killed every {BEFORE_S + AFTER_S:g} s; good answers (right, and within the deadline) are \
counted in bins of {1e3 * BIN_S:.0f} ms around the kill, the mean of {kills} kills. The chain: another variant. {bench.pinning}"""


def plot(row: Row, path: Path) -> None:
    """A file of its own."""
    figure, axes = drawing("seconds since the kill", "answers in time, a second")
    for at, (run, found) in enumerate(row.raw.items()):
        colour, style = look(at)
        axes.plot(*coordinates(found["points"]), style, color=colour, label=run)
    axes.axvline(0, color=INK, linewidth=0.8)
    title = "Goodput through a kill of"
    words = (
        "Answers in time of a light model, two seconds before a worker is killed until four seconds after it."
    )
    svg = finished(figure, axes, "faults", title, words, heading=title)
    path.write_text(svg.replace("<title", f"{PAPER}<title", 1))
