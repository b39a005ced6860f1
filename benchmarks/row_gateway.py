"""The gateway's CPU a request, without sockets and without a worker."""

import json
import subprocess
import sys
from statistics import median
from typing import Any

from bench import HERE, Bench, spread
from report import Row, Target

BUDGET_US = 25.0
REFUSAL_BUDGET_US = 60.0
BATCHES = (1, 32)
REFUSED_FLOATS = (64, 640)
"""A row, of JSON of about half a kilobyte and of not quite four."""
REQUESTS = 20_000
HOW = """In one process, between a transport that forgets and a channel that answers at once (gateway_cpu.py): decoding, \
queue, batch assembly, encoding, metrics; not the kernel's sockets. The 64-float MLP; CPU time, median of five runs \
(lowest to highest). Refused on arrival: more waits than can be answered in time, so the forecast refuses each by its \
envelope, and its data is not decoded."""


def measure(bench: Bench) -> Row:
    row = Row("Gateway CPU a request", HOW, ["requests a batch", "form", "CPU us a request"])
    for kind in ("JSON", "binary"):
        for batch in BATCHES:
            found = run(bench, str(batch), *options_of(kind))
            bench.say(f"gateway, {kind}, batches of {batch}: {spread(found['us'], 1)} us a request")
            row.lines.append([f"{found['mean_batch']:.1f}", kind, spread(found["us"], 1)])
            row.raw[f"{kind} {batch}"] = found
    refusals = []
    for kind in ("JSON", "binary"):
        for floats in REFUSED_FLOATS:
            found = run(bench, "--refused", "--floats", str(floats), *options_of(kind))
            form = f"{kind}, {found['body_bytes']} bytes"
            bench.say(f"gateway, refused on arrival, {form}: {spread(found['us'], 1)} us a request")
            row.lines.append(["refused on arrival", form, spread(found["us"], 1)])
            row.raw[f"refused {kind} {floats}"] = found
            refusals.append(median(found["us"]))
    middle = median(row.raw[f"JSON {BATCHES[-1]}"]["us"])
    text = f"≤ {BUDGET_US:g} us a request in batches of {BATCHES[-1]}, JSON (without the sockets)"
    refused = f"≤ {REFUSAL_BUDGET_US:g} us a refusal of a body below 4 kB (without the sockets)"
    row.targets = [
        Target(text, middle <= BUDGET_US, f"{middle:.1f} us"),
        Target(refused, max(refusals) <= REFUSAL_BUDGET_US, f"{max(refusals):.1f} us at most"),
    ]
    return row


def options_of(kind: str) -> list[str]:
    return ["--binary"] if kind == "binary" else []


def run(bench: Bench, *options: str) -> dict[str, Any]:
    """What gateway_cpu.py finds."""
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "gateway_cpu.py"),
            *options,
            "--requests",
            str(round(bench.seconds(REQUESTS))),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"gateway_cpu.py failed: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
