"""Ten times the load for five seconds, from clients that call again at once: when is everything as before?"""

import numpy as np
from harness import Play, Pressure, at_most, void_notes
from report import Row, Target
from subjects import DEADLINE_S, best_rate, caller, heavy, learn, said

from headrace.loadtest import schedules
from headrace.loadtest.record import Record

BASE, TIMES = 0.5, 10.0
BEFORE_S, BURST_S, AFTER_S = 5.0, 5.0, 5.0
WARM_S = 1.0
RETRIES = 3
WINDOW_S = 0.25
BACK, WITHIN_S = 0.95, 1.0
OK = 200


def measure(bench: Pressure) -> Row:
    subject = heavy(bench)
    known = learn(bench, subject, "heavy")
    peak = bench.saturation(subject, best_rate(known)).goodput
    crowd = [(caller(DEADLINE_S, retries=RETRIES), requests) for _, requests in subject.crowd]
    levels = [(BASE * peak, WARM_S + BEFORE_S), (BASE * TIMES * peak, BURST_S), (BASE * peak, AFTER_S)]
    seconds = sum(length for _, length in levels)
    plays = []
    for turn in range(bench.rounds):
        with bench.serving(subject) as server:
            arrivals = schedules.steps(levels, turn)
            plays.append(bench.play(server, arrivals, crowd, seconds, turn, warm_s=WARM_S))
    row = Row("Burst with clients that call again", how(bench, known, peak))
    row.columns = ["round", "good before", "in the burst", "1 s after it", "back after s", "retries"]
    row.lines = [line(at, play) for at, play in enumerate(plays, 1)]
    row.targets = [target(plays)]
    row.notes = void_notes(plays)
    row.raw = {"plays": [play.raw() for play in plays], "good": [series(play.record) for play in plays]}
    return row


def how(bench: Pressure, known: dict[int, float], peak: float) -> str:
    return f"""The heavy MLP of the overload row ({said(known)}; saturation {peak:.0f}/s), half of its saturation, ten times that for \
{BURST_S:g} s, and half again. Clients give up after {2e3 * DEADLINE_S:.0f} ms and call again {RETRIES} times, 10 ms after \
a refusal or after giving up, whatever Retry-After says. {bench.pinning} Good: the part of calls due in a quarter of a second \
that were answered in time at the first attempt, so that what Poisson brings does not count. {bench.rounds} round(s)."""


def series(record: Record) -> list[float]:
    """By quarters of a second, the part of first attempts that were good."""
    first = record.attempt == 0
    at = (record.scheduled[first] / WINDOW_S).astype(int)
    good = (record.status[first] == OK) & (record.ended[first] - record.scheduled[first] <= DEADLINE_S)
    count = round(record.seconds / WINDOW_S)
    offered = np.bincount(at, minlength=count)[:count]
    return (np.bincount(at, weights=good, minlength=count)[:count] / np.maximum(1, offered)).tolist()


def phases(play: Play) -> tuple[list[float], list[float], list[float]]:
    """Before, in and after the burst."""
    good = series(play.record)
    begins, ends = round(BEFORE_S / WINDOW_S), round((BEFORE_S + BURST_S) / WINDOW_S)
    return good[:begins], good[begins:ends], good[ends:]


def back_after_s(play: Play) -> float:
    """Seconds from the burst's end until the windows are all as good as before; the length of the rest if they never are."""
    before, _, after = phases(play)
    least = BACK * float(np.mean(before))
    bad = [at for at, good in enumerate(after) if good < least]
    return (bad[-1] + 1) * WINDOW_S if bad else 0.0


def line(turn: int, play: Play) -> list[str]:
    before, burst, after = phases(play)
    later = after[round(WITHIN_S / WINDOW_S) :]
    parts = [f"{100 * float(np.mean(part)):.1f} %" for part in (before, burst, later)]
    return [str(turn), *parts, f"{back_after_s(play):.2f}", str(int((play.record.attempt > 0).sum()))]


def target(plays: list[Play]) -> Target:
    found = [back_after_s(play) for play in plays]
    text = f"≥ {BACK} of the goodput before within {WITHIN_S:g} s of its end"
    return at_most(text, found, WITHIN_S, plays, " s")
