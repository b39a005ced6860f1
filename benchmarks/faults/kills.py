"""A model's worker is killed again and again, at any moment, while it and its neighbour on the same cores are asked."""

from dataclasses import dataclass

import numpy as np
import subjects
import watching
from asking import Asked, Asking, Heard
from bench import middle, spread
from faulty import Faults, count_text
from load import fetch
from prometheus_client.parser import text_string_to_metric_families
from report import Row, Target
from scraped import METRICS
from servers import Server
from subjects import HEAVY, LIGHT

RATES = {LIGHT: 200.0, HEAVY: 20.0}
DEADLINE_S = 2.0
KILLS, QUICK_KILLS = 100, 12
ROUNDS, QUICK_ROUNDS = 4, 1
LEAST_S, MOST_S = 0.3, 2.2
"""Between two kills: some come while the next worker is being started."""
CALM_S, QUICK_CALM_S = 30.0, 8.0
LAST_S = 3.0
"""After the last kill of a run."""
SERVING_AGAIN_S, BESIDE = 1.0, 1.3
OUTCOMES = "inference_requests_total"


@dataclass
class Turn:
    """A run with kills, at these times of it, or a calm one. `answers`: as many as the server says it gave."""

    heard: Heard
    answers: int
    at: list[float]

    def p99_ms(self, whose: int) -> float:
        found = self.heard.of(whose)
        return 1e3 * float(np.percentile(found.latency[found.is_ok], 99))

    def again_s(self) -> list[float]:
        """For each kill, how long after it a call that came then was answered; not of those before the next kill."""
        light = self.heard.of(0)
        ended, scheduled = light.ended[light.is_good], light.scheduled[light.is_good]
        found = []
        for at, until in zip(self.at, [*self.at[1:], np.inf], strict=True):
            after = ended[(scheduled >= at)]
            first = after.min() if len(after) else np.inf
            if first < until:
                found.append(float(first) - at)
        return found

    def longest_s(self) -> float:
        """The longest time without a right answer of the model whose worker is killed."""
        light = self.heard.of(0)
        ends = np.sort(light.ended[light.is_good])
        return float(np.diff(ends).max()) if len(ends) > 1 else float("inf")


def measure(bench: Faults) -> Row:
    folder = bench.folder / "models" / "kills"
    paths = [
        subjects.make(folder / f"{LIGHT}.onnx", subjects.LIGHT_WIDTHS, subjects.FACTORS[LIGHT]),
        subjects.make(folder / f"{HEAVY}.onnx", subjects.HEAVY_WIDTHS, subjects.FACTORS[HEAVY]),
    ]
    asked = tuple(subjects.asked(name, RATES[name], DEADLINE_S) for name in (LIGHT, HEAVY))
    calm: list[Turn] = []
    killed: list[Turn] = []
    rounds = QUICK_ROUNDS if bench.is_quick else ROUNDS
    with bench.served(paths, asked, "headrace, kills") as server:
        bench.warm(server, asked)
        before = watching.holding(server)
        for turn in range(rounds):
            calm.append(play(bench, server, asked, 0, 2 * turn))
            killed.append(play(bench, server, asked, bench.kills(KILLS, QUICK_KILLS) // rounds, 2 * turn + 1))
        calm.append(play(bench, server, asked, 0, 2 * rounds))
        left = watching.settled(server, before).over(before)
    row = Row("Workers killed", how(bench, rounds))
    row.columns = ["run", "model", "asked", "right", "wrong", "errors", "unanswered", "p50 ms", "p99 ms"]
    row.lines = [
        line(name, turns, whose, asked)
        for name, turns in (("calm", calm), ("kills", killed))
        for whose in range(len(asked))
    ]
    row.targets = targets(calm, killed, left)
    row.notes = [
        f"Answers nobody expected: {fault}" for turn in killed + calm for fault in turn.heard.faults[:2]
    ]
    row.raw = {"again_s": [each for turn in killed for each in turn.again_s()]}
    return row


def play(bench: Faults, server: Server, asked: tuple[Asked, ...], kills: int, seed: int) -> Turn:
    """One run: ask both, and kill the first one's worker so many times."""
    rng = np.random.default_rng(seed)
    times = 1.0 + np.cumsum(rng.uniform(LEAST_S, MOST_S, kills))
    seconds = float(times[-1]) + LAST_S if kills else (QUICK_CALM_S if bench.is_quick else CALM_S)
    answers = given(server)
    asking = Asking(server.port, asked, seconds, seed, bench.core)
    at = []
    for each in times:
        asking.wait_until(float(each))
        if (killed := watching.kill(server, asked[0].name)) is not None:
            at.append(killed - asking.zero)
    heard = asking.heard()
    bench.say(f"{len(at)} kills: {count_text(heard)}")
    return Turn(heard, given(server) - answers, at)


def given(server: Server) -> int:
    """Answers by the server's own count, of all models."""
    families = text_string_to_metric_families(fetch(server.port, [METRICS])[METRICS])
    samples = [sample for family in families for sample in family.samples if sample.name == OUTCOMES]
    return int(sum(sample.value for sample in samples if sample.labels["outcome"] == "ok"))


def how(bench: Faults, rounds: int) -> str:
    return f"""A light (64-256-128-1) and a heavy MLP (134 MB) share cores by the device token; {RATES[LIGHT]:.0f} and \
{RATES[HEAVY]:.0f} calls/s at random times with a deadline of {DEADLINE_S:g} s, each with a number of its own, which its answer has to \
hold times a factor of its model. In runs with kills the light model's worker gets SIGKILL {LEAST_S:g} to {MOST_S:g} s after the kill before, also \
while it is being started. {bench.pinning} Calm and with kills in turn, {rounds} round(s), and calm once more."""


def line(name: str, turns: list[Turn], whose: int, asked: tuple[Asked, ...]) -> list[str]:
    heard = [turn.heard.of(whose) for turn in turns]
    statuses = [each.statuses() for each in heard]
    errors = sum(count for each in statuses for status, count in each.items() if status > 0 and status != 200)
    latency = np.concatenate([each.latency[each.is_ok] for each in heard])
    return [
        name,
        asked[whose].name,
        str(sum(len(each.status) for each in heard)),
        str(sum(int(each.is_good.sum()) for each in heard)),
        str(sum(each.wrong for each in heard)),
        str(errors),
        str(sum(each.unanswered for each in heard)),
        f"{1e3 * float(np.median(latency)):.1f}",
        f"{1e3 * float(np.percentile(latency, 99)):.1f}",
    ]


def targets(calm: list[Turn], killed: list[Turn], left: str) -> list[Target]:
    turns = calm + killed
    calls = sum(len(each.heard.status) for each in turns)
    right = sum(int(each.heard.is_good.sum()) for each in turns)
    wrong = sum(each.heard.wrong for each in turns)
    unanswered = sum(each.heard.unanswered for each in turns)
    answers = sum(each.answers for each in turns)
    again = [each for turn in killed for each in turn.again_s()]
    worst = max(again, default=float("inf"))
    longest = max(turn.longest_s() for turn in killed)
    beside = [
        turn.p99_ms(1) / middle([calm[at].p99_ms(1), calm[at + 1].p99_ms(1)])
        for at, turn in enumerate(killed)
    ]
    alone = [calm[at + 1].p99_ms(1) / calm[at].p99_ms(1) for at in range(len(killed))]
    kills = sum(len(turn.at) for turn in killed)
    return [
        Target(
            "every request answered once",
            not unanswered and answers == right + wrong,
            f"{calls} asked, {unanswered} unanswered, {calls - unanswered - right - wrong} errors; "
            f"the server counts {answers} answers of the {right + wrong}",
        ),
        Target("0 wrong answers, 0 cross-talk", not wrong, f"{wrong} of {right + wrong}"),
        Target(
            f"serving again in ≤ {SERVING_AGAIN_S:g} s",
            worst <= SERVING_AGAIN_S,
            f"{kills} kills: median {middle(again):.2f} s, worst {worst:.2f} s; longest without an answer {longest:.2f} s",
        ),
        Target(
            f"neighbour's p99 ≤ {BESIDE:g} times that of an A/A run",
            middle(beside) <= BESIDE,
            f"{spread(beside)}x; A/A {spread(alone)}x",
        ),
        Target("no process, descriptor or memory file left", not left, left or "none"),
    ]
