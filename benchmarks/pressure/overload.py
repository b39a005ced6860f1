"""More than a server can do: what it still answers in time, beside servers as shipped and tuned by hand."""

import contenders
from bench import middle, spread
from harness import Curve, Play, Pressure, Subject, at_least, void_notes
from report import Row, Target
from servers import NotServing
from subjects import DEADLINE_S, best_rate, heavy, learn, said

PEAK, LOADS = 0.0, (1.1, 2.0, 5.0, 10.0)
"""Times its own saturation; 0 stands for the rate at which that was found, again in each round."""
WINDOW_S = 4.0
KEPT = 0.9
MOST_REFUSAL_MS = 10.0
Runs = dict[str, dict[float, list[Play]]]
"""Server → load → one a round."""


def measure(bench: Pressure) -> Row:
    ours = heavy(bench)
    known = learn(bench, ours, "heavy")
    rate = best_rate(known)
    theirs = contenders.tuned(bench, known, rate)
    # One round of those as shipped is enough to see that they keep next to nothing.
    as_shipped = contenders.shipped(bench)
    subjects = [ours, *theirs, *as_shipped]
    runs: Runs = {}
    missing = list(bench.peers.missing.values())
    for turn in range(bench.rounds):
        for subject in [each for each in subjects if not turn or each not in as_shipped]:
            try:
                take_turn(bench, subject, rate, turn, runs)
            except NotServing as exc:
                bench.say(str(exc))
                missing.append(str(exc))
                subjects.remove(subject)
    row = Row("Overload", how(bench, known))
    row.columns = [
        "server",
        "load",
        "offered/s",
        "goodput/s",
        "of its peak",
        "p99 ms",
        "refusals' p99 ms",
        "CPU cores",
    ]
    row.lines = [line(load, of[load], of[PEAK]) for of in runs.values() for load in (PEAK, *LOADS)]
    row.targets = targets(runs, ours.name, [each.name for each in theirs])
    row.notes = [f"Not measured: {each}" for each in missing]
    row.notes += void_notes([play for of in runs.values() for plays in of.values() for play in plays])
    row.raw = {
        name: {str(load): [play.raw() for play in plays] for load, plays in of.items()}
        for name, of in runs.items()
    }
    return row


def how(bench: Pressure, known: Curve) -> str:
    return f"""A weight-bound MLP (64-4096-4096-4096-8, 134 MB), one row a request, binary tensors (mosec: bare bytes), deadline \
{1e3 * DEADLINE_S:.0f} ms in a header, Poisson arrivals; clients give up after {2e3 * DEADLINE_S:.0f} ms and do not call again. \
headrace measured {said(known)}. {bench.pinning} Every server runs one onnxruntime session with one thread. Saturation is each \
server's own: the highest goodput on a ladder of rates; the peak is that rate again, in each round, right before the loads. A call is good if it was \
answered with 200 within the deadline, counted from when it was due. Tuned: the best at twice saturation of several settings \
of batch size, bound of the queue and time limit, computed from l(b). In turn; medians of {bench.rounds} rounds (lowest to highest)."""


def take_turn(bench: Pressure, subject: Subject, around: float, turn: int, runs: Runs) -> None:
    peak = bench.saturation(subject, around)
    with bench.serving(subject) as server:
        for at, load in enumerate((PEAK, *LOADS)):
            rate = load * peak.goodput if load else peak.rate
            play = bench.poisson(server, subject.crowd, rate, bench.seconds(WINDOW_S), seed=100 * turn + at)
            runs.setdefault(subject.name, {}).setdefault(load, []).append(play)


def line(load: float, plays: list[Play], peaks: list[Play]) -> list[str]:
    goodputs = [play.whole.goodput for play in plays]
    return [
        plays[0].server,
        (f"{load:g}x" if load else "peak") + (" (void)" if any(play.is_void for play in plays) else ""),
        f"{middle([play.whole.offered for play in plays]):.0f}",
        spread(goodputs, 0),
        f"{middle(kept(plays, peaks)):.2f}",
        f"{middle([1e3 * play.whole.latency.p99 for play in plays]):.1f}",
        f"{middle([play.refusal_p99_ms for play in plays]):.1f}",
        f"{middle([play.cpu for play in plays]):.2f}",
    ]


def kept(plays: list[Play], peaks: list[Play]) -> list[float]:
    """Goodput beside the peak of the same round."""
    return [
        play.whole.goodput / max(1.0, peak.whole.goodput) for play, peak in zip(plays, peaks, strict=False)
    ]


def targets(runs: Runs, ours: str, tuned: list[str]) -> list[Target]:
    own = runs[ours]
    p99s = {load: middle([1e3 * play.whole.latency.p99 for play in own[load]]) for load in LOADS}
    refusals = {load: middle([play.refusal_p99_ms for play in own[load]]) for load in LOADS}
    return [
        *(
            at_least(
                f"goodput ≥ {KEPT} of its own peak at {load:g}x", kept(own[load], own[PEAK]), KEPT, own[load]
            )
            for load in LOADS
        ),
        *(beside(runs, ours, [name for name in tuned if name in runs], load) for load in LOADS),
        everywhere(f"accepted p99 ≤ {1e3 * DEADLINE_S:.0f} ms at every load", p99s, 1e3 * DEADLINE_S, own),
        everywhere(f"refusals' p99 < {MOST_REFUSAL_MS:g} ms at every load", refusals, MOST_REFUSAL_MS, own),
    ]


def everywhere(text: str, found_ms: dict[float, float], most: float, own: dict[float, list[Play]]) -> Target:
    """Medians by load, as far as their runs count and there is anything to measure."""
    counted = {
        load: each
        for load, each in found_ms.items()
        if each == each and not any(play.is_void for play in own[load])  # noqa: PLR0124 - nan: nobody was refused
    }
    figure = ", ".join(f"{load:g}x: {each:.1f}" for load, each in counted.items())
    without = ", ".join(f"{load:g}x" for load in found_ms if load not in counted)
    figure += f"; not at {without}: void, or none" if without else ""
    return Target(text, max(counted.values()) <= most if counted else None, figure)


def beside(runs: Runs, ours: str, tuned: list[str], load: float) -> Target:
    """In absolute terms, against the tuned server that is best there."""
    text = f"goodput ≥ the best tuned server's at {load:g}x"
    if not tuned:
        return Target(text, None, "nobody to compare with")
    goodputs = {name: [play.whole.goodput for play in runs[name][load]] for name in [ours, *tuned]}
    best = max(tuned, key=lambda name: middle(goodputs[name]))
    ratios = [a / max(1.0, b) for a, b in zip(goodputs[ours], goodputs[best], strict=False)]
    plays = runs[ours][load] + runs[best][load]
    return at_least(text, ratios, 1.0, plays, f"x {best} ({middle(goodputs[best]):.0f}/s)")


def points(runs: dict[str, dict[str, list[dict]]]) -> dict[str, list[tuple[float, float]]]:
    """Server → (offered, goodput), medians over rounds; from a row's raw figures."""
    return {
        name: sorted(
            (
                middle([play["whole"]["offered"] for play in plays]),
                middle([play["whole"]["goodput"] for play in plays]),
            )
            for plays in of.values()
        )
        for name, of in runs.items()
    }
