"""The other servers with the heavy MLP: as shipped, and as somebody would tune them who knows the deadline and l(b)."""

from typing import NamedTuple

import models
import servers
from harness import Curve, Pressure, Subject
from servers import HERE, NotServing, TritonBatching
from subjects import DEADLINE_S, at, caller, raw_requests, tensor_requests

MOSEC, TRITON = "mosec", "Triton core"
SHAPES = ([models.HEAVY[0]], [models.HEAVY[-1]])
BATCHES = (1, 4, 8, 12, 16, 24, 32, 48, 64)
TRIED = 2
"""So many of the largest batches that fit."""
RUNS_AHEAD = (1, 2)
MARGIN = 0.9
"""Of the deadline: what is left is for the way there and back."""
TUNED_AT = 2.0
"""Times the rate of the best batch: where the settings are compared."""
TUNE_S = 2.5


class Setting(NamedTuple):
    """Rows of the largest batch, requests that may wait, and seconds they may."""

    rows: int
    waiting: int
    wait_s: float


def shipped(bench: Pressure) -> list[Subject]:
    """With batching on, and everything else as it comes."""
    found = []
    if "mosec" not in bench.peers.missing:
        found.append(mosec(bench, f"{MOSEC} as shipped"))
    if "nvidia-pytriton" not in bench.peers.missing:
        found.append(triton(bench, f"{TRITON} as shipped", TritonBatching()))
    return found


def tuned(bench: Pressure, known: Curve, rate: float) -> list[Subject]:
    """Of each the settings that reach the most at twice the rate that the best batch allows."""
    found = []
    if "mosec" not in bench.peers.missing:
        found.append(
            best(
                bench,
                [mosec_for(bench, each) for each in settings(known, 1 if bench.is_quick else TRIED)],
                rate,
            )
        )
    if "nvidia-pytriton" not in bench.peers.missing:
        found.append(
            best(
                bench,
                [triton_for(bench, each) for each in settings(known, 1 if bench.is_quick else TRIED)],
                rate,
            )
        )
    return found


def settings(known: Curve, tried: int) -> list[Setting]:
    """What could be answered in time behind a run or two, with batches about as large as that allows."""
    found = []
    for ahead in RUNS_AHEAD:
        fitting = [rows for rows in BATCHES if (ahead + 1) * at(known, rows) <= MARGIN * DEADLINE_S]
        found += [
            Setting(rows, ahead * rows, MARGIN * DEADLINE_S - at(known, rows)) for rows in fitting[-tried:]
        ]
    return found or [Setting(1, 1, MARGIN * DEADLINE_S)]


def best(bench: Pressure, candidates: list[Subject], rate: float) -> Subject:
    goodputs: dict[str, float] = {}
    for each in candidates:
        try:
            with bench.serving(each) as server:
                play = bench.poisson(server, each.crowd, TUNED_AT * rate, bench.seconds(TUNE_S), seed=0)
        except NotServing as exc:
            bench.say(str(exc))
            continue
        goodputs[each.name] = play.whole.goodput
    return max(candidates, key=lambda each: goodputs.get(each.name, 0.0))


def mosec_for(bench: Pressure, setting: Setting) -> Subject:
    """A bounded queue, no delay, and a time limit, which is for all of a request: the options mosec has."""
    rows, waiting = setting.rows, setting.waiting
    options = ("--wait", "0", "--capacity", str(waiting), "--timeout", str(round(1e3 * DEADLINE_S)))
    return mosec(bench, f"{MOSEC} tuned (batch {rows}, capacity {waiting})", *options, rows=rows)


def triton_for(bench: Pressure, setting: Setting) -> Subject:
    """A bounded queue, no delay, and a queue policy that refuses what has waited too long to make it."""
    rows, waiting, wait_us = setting.rows, setting.waiting, round(1e6 * setting.wait_s)
    policy = f"""default_queue_policy {{ timeout_action: REJECT default_timeout_microseconds: {wait_us} \
max_queue_size: {waiting} }}"""
    name = f"{TRITON} tuned (batch {rows}, queue {waiting}, {wait_us // 1000} ms)"
    return triton(bench, name, TritonBatching(rows=rows, policy=policy))


def mosec(bench: Pressure, name: str, *options: str, rows: int = 64) -> Subject:
    """mosec's API is its user's: rows come and go as bytes."""
    path = bench.model("heavy", models.make_heavy)
    script = HERE / "pressure" / "peer_mosec_raw.py"
    launch = servers.mosec(bench.peers, path, *options, name=name, script=script, rows=rows)
    return Subject(launch, [(caller(DEADLINE_S), raw_requests(models.HEAVY[0]))])


def triton(bench: Pressure, name: str, batching: TritonBatching) -> Subject:
    path = bench.model("heavy", models.make_heavy)
    launch = servers.triton(bench.peers, path, SHAPES, batching, name)
    return Subject(launch, [(caller(DEADLINE_S), tensor_requests("heavy", models.HEAVY[0], DEADLINE_S))])
