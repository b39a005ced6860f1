"""The gateway itself is killed under load, and started again where it was."""

import os
import signal
import time
from dataclasses import dataclass

import subjects
import watching
from asking import Asking
from bench import spread
from faulty import Faults, count_text
from report import Row, Target
from servers import family
from subjects import HEAVY, LIGHT

RATES = {LIGHT: 200.0, HEAVY: 20.0}
DEADLINE_S = 1.0
ROUNDS, QUICK_ROUNDS = 5, 1
LOADED_S = 1.5
LEFT_S = 2.0
GONE_LIMIT_S, ANSWER_LIMIT_S = 10.0, 30.0


@dataclass
class Killed:
    """One gateway's end: until its last process was gone, until the next one's first answer, and what that logged."""

    gone_s: float
    answered_s: float
    wrong: int
    complaints: list[str]


def measure(bench: Faults) -> Row:
    folder = bench.folder / "models" / "gateway"
    paths = [
        subjects.make(folder / f"{LIGHT}.onnx", subjects.LIGHT_WIDTHS, subjects.FACTORS[LIGHT]),
        subjects.make(folder / f"{HEAVY}.onnx", subjects.HEAVY_WIDTHS, subjects.FACTORS[HEAVY]),
    ]
    rounds = QUICK_ROUNDS if bench.is_quick else ROUNDS
    found = [once(bench, paths, seed) for seed in range(rounds)]
    row = Row("Gateway killed", how(bench, rounds))
    gone = [each.gone_s for each in found]
    answered = [each.answered_s for each in found]
    complaints = [line for each in found for line in each.complaints]
    row.targets = [
        Target("no process left after 2 s", max(gone) <= LEFT_S, f"the last was gone after {spread(gone)} s"),
        Target(
            "clean start on the same port",
            not complaints and max(answered) < float("inf"),
            f"first answers after {spread(answered)} s; complaints: {len(complaints)}",
        ),
        Target(
            "0 wrong answers", not any(each.wrong for each in found), str(sum(each.wrong for each in found))
        ),
    ]
    row.notes = [f"The next one logged: {line}" for line in complaints[:3]]
    return row


def how(bench: Faults, rounds: int) -> str:
    return f"""A light and a heavy MLP are asked {RATES[LIGHT]:.0f} and {RATES[HEAVY]:.0f} times a second; the gateway gets SIGKILL \
{LOADED_S:g} s after the first call, and is started again on the same port, while the callers go on, as soon as none of its processes is \
left. {bench.pinning} {rounds} round(s)."""


def once(bench: Faults, paths: list, seed: int) -> Killed:
    asked = tuple(subjects.asked(name, RATES[name], DEADLINE_S) for name in (LIGHT, HEAVY))
    with bench.served(paths, asked, "headrace, killed") as server:
        everybody = family(server.process.pid)
        asking = Asking(server.port, asked, 3 * LOADED_S, seed, bench.core)
        asking.wait_until(LOADED_S)
        os.kill(server.process.pid, signal.SIGKILL)
        gone = watching.wait_for(lambda: not any(map(watching.is_running, everybody)), GONE_LIMIT_S)
        again = time.perf_counter()
        with bench.served(paths, asked, "headrace, again", port=server.port) as next_one:
            answered_s = next_one.first_answer_s
            heard = asking.heard()
            complaints = [line for line in bench.log_of(next_one) if "error" in line or "Traceback" in line]
    bench.say(f"gone {gone}, answered again {time.perf_counter() - again:.1f} s: {count_text(heard)}")
    return Killed(GONE_LIMIT_S if gone is None else gone, answered_s, heard.wrong, complaints)
