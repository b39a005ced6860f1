"""The models under load, how they are asked, and what headrace knows of them."""

import time
from pathlib import Path
from typing import Any

import models
import numpy as np
import servers
import workloads
from harness import Curve, Pressure, Subject
from row_saturated import read_profiles
from servers import Launch

from headrace.loadtest.plan import Caller

DEADLINE_S = 0.150
INPUTS = 64
PROFILE_LIMIT_S = 120.0
PATIENCE = 2.0
"""Clients give up after so many deadlines."""


def caller(deadline_s: float, **more: Any) -> Caller:
    """A client that gives up at twice its deadline."""
    return Caller(deadline_s=deadline_s, give_up_s=PATIENCE * deadline_s, **more)


def headrace(bench: Pressure, paths: list[Path], *options: str, name: str = "headrace") -> Launch:
    return servers.headrace(paths, bench.profiles, *options, name=name)


def heavy(bench: Pressure) -> Subject:
    """headrace with the weight-bound MLP, and one kind of caller."""
    path = bench.model("heavy", models.make_heavy)
    requests = tensor_requests("heavy", models.HEAVY[0], DEADLINE_S)
    return Subject(headrace(bench, [path]), [(caller(DEADLINE_S), requests)])


def tensor_requests(
    model: str, width: int, deadline_s: float | None, *, tenant: str = "", priority: int = 0
) -> list[bytes]:
    """One row each as binary tensors, with the deadline in a header, if there is one."""
    parameters = {"priority": priority} if priority else None
    headers = header_lines(deadline_s, tenant)
    return [
        workloads.binary_request(model, {"input": row}, "output", parameters, headers) for row in rows(width)
    ]


def header_lines(deadline_s: float | None, tenant: str = "") -> bytes:
    lines = f"x-request-timeout-seconds: {deadline_s:g}\r\n" if deadline_s else ""
    return (lines + (f"x-tenant: {tenant}\r\n" if tenant else "")).encode()


def raw_requests(width: int) -> list[bytes]:
    """The same rows as nothing but their bytes."""
    head = f"POST /infer HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {4 * width}\r\n\r\n".encode()
    return [head + row.tobytes() for row in rows(width)]


def rows(width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.random((1, width)).astype("f4") for _ in range(INPUTS)]


def learn(bench: Pressure, subject: Subject, model: str) -> Curve:
    """l(b) of a model on the server's cores, as headrace measures it at its first start.

    Raises:
        RuntimeError: it did not finish.
    """
    if model not in bench.curves:
        bench.say(f"{subject.name} measures {model}")
        with bench.serving(subject):
            ends = time.perf_counter() + PROFILE_LIMIT_S
            while not (known := curve(bench.profiles, model)) and time.perf_counter() < ends:
                time.sleep(0.1)
        if not known:
            raise RuntimeError(f"headrace did not finish measuring {model}")
        bench.curves[model] = known
    return bench.curves[model]


def curve(profiles: Path, model: str) -> Curve:
    """From the stored profile; nothing if there is none. Of several lengths, that of the longest."""
    for profile in read_profiles(profiles):
        if profile["spec"]["name"] == model and profile["latencies"]:
            longest = max(profile["latencies"], key=int)
            return {int(rows): seconds for rows, seconds in profile["latencies"][longest].items()}
    return {}


def said(known: Curve) -> str:
    """l(b) for the report."""
    return ", ".join(f"l({rows}) = {1e3 * seconds:.1f} ms" for rows, seconds in sorted(known.items()))


def best_rate(known: Curve) -> float:
    """Rows a second of the best batch: what no server with this session passes for long."""
    return max(rows / seconds for rows, seconds in known.items())


def at(known: Curve, rows: int) -> float:
    """l(rows), by straight lines between what was measured."""
    sizes = sorted(known)
    return float(np.interp(rows, sizes, [known[size] for size in sizes]))
