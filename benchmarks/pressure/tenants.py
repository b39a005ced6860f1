"""Five tenants at one model, one of them with ten times its share: what do the others notice?"""

import models
import numpy as np
from bench import middle, ratios, spread
from harness import Curve, Play, Pressure, at_least, at_most, void_notes
from report import Row, Target
from subjects import DEADLINE_S, best_rate, caller, heavy, learn, said, tensor_requests

from headrace.loadtest.analysis import jain
from headrace.loadtest.plan import Caller

POLITE = ("ann", "ben", "cleo", "dan")
ABUSER = "eve"
SHARE = 1 / (len(POLITE) + 1)
TIMES = 10.0
USED = 0.95
"""What the others use of their shares, and the fifth does while it behaves: nobody is to wait for his own requests."""
WINDOW_S = 6.0
FAIR, WORSE = 0.95, 1.3
ALONE, AGAIN, ABUSED = "all within their shares", "again", "the fifth at ten times"
OK = 200


def measure(bench: Pressure) -> Row:
    subject = heavy(bench)
    known = learn(bench, subject, "heavy")
    peak = bench.saturation(subject, best_rate(known)).goodput
    polite = [member(name, USED * SHARE) for name in POLITE]
    behaved = [*polite, member(ABUSER, USED * SHARE)]
    crowds = {ALONE: behaved, AGAIN: behaved, ABUSED: [*polite, member(ABUSER, TIMES * SHARE)]}
    plays: dict[str, list[Play]] = {}
    for turn in range(bench.rounds):
        with bench.serving(subject) as server:
            for at, (run, crowd) in enumerate(crowds.items()):
                rate = peak * sum(who.part for who, _ in crowd)
                play = bench.poisson(server, crowd, rate, bench.seconds(WINDOW_S), seed=10 * turn + at)
                plays.setdefault(run, []).append(play)
    row = Row("One tenant at ten times its share", how(bench, known, peak))
    row.columns = [
        "run",
        "offered/s",
        "goodput/s of each of the four",
        "of the fifth",
        "p99 ms of the four",
        "Jain",
    ]
    row.lines = [line(run, of) for run, of in plays.items()]
    row.targets = targets(plays)
    everything = [play for of in plays.values() for play in of]
    row.notes = void_notes(everything)
    row.raw = {run: [play.raw() for play in of] for run, of in plays.items()}
    return row


def member(name: str, part: float) -> tuple[Caller, list[bytes]]:
    who = caller(DEADLINE_S, name=name, tenant=name, part=part)
    return who, tensor_requests("heavy", models.HEAVY[0], DEADLINE_S, tenant=name)


def how(bench: Pressure, known: Curve, peak: float) -> str:
    return f"""The heavy MLP of the overload row ({said(known)}; saturation {peak:.0f}/s), tenants by header, equal weights, deadline \
{1e3 * DEADLINE_S:.0f} ms. Five tenants call at {USED} of a fifth of the saturation each; then one of them calls at {TIMES:g} times its fifth. \
The run without an abuser comes twice, so that the others' p99 beside itself shows the noise. Jain's index is that of the five \
goodputs while the fifth abuses. {bench.pinning} In turn, the server started anew for each round; medians of {bench.rounds} round(s) (lowest to highest)."""


def p99_ms(play: Play) -> float:
    """Of what the four were answered with 200."""
    record = play.record
    theirs = [at for at, who in enumerate(record.who) if who.name in POLITE]
    served = np.isin(record.callers, theirs) & (record.status == OK)
    waits = record.ended[served] - record.scheduled[served]
    return 1e3 * float(np.percentile(waits, 99)) if len(waits) else float("nan")


def fairness(play: Play) -> float:
    return jain([each.goodput for each in play.found.callers])


def line(run: str, plays: list[Play]) -> list[str]:
    four = [play.of(name).goodput for play in plays for name in POLITE]
    is_abused = run == ABUSED
    return [
        run,
        f"{middle([play.whole.offered for play in plays]):.0f}",
        spread(four, 0),
        spread([play.of(ABUSER).goodput for play in plays], 0) if is_abused else "",
        spread([p99_ms(play) for play in plays], 1),
        spread([fairness(play) for play in plays], 3) if is_abused else "",
    ]


def targets(plays: dict[str, list[Play]]) -> list[Target]:
    p99s = {run: [p99_ms(play) for play in of] for run, of in plays.items()}
    noise = spread(ratios(p99s[AGAIN], p99s[ALONE]))
    return [
        at_least(
            f"Jain's index ≥ {FAIR} while saturated",
            [fairness(play) for play in plays[ABUSED]],
            FAIR,
            plays[ABUSED],
        ),
        at_most(
            f"the others' p99 ≤ {WORSE}x of the run without an abuser",
            ratios(p99s[ABUSED], p99s[ALONE]),
            WORSE,
            plays[ABUSED] + plays[ALONE],
            f"x; beside itself {noise}x",
        ),
    ]
