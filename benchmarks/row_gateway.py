"""The gateway's CPU a request, without sockets and without a worker."""

import json
import subprocess
import sys

from bench import HERE, Bench, spread
from report import Row, Target

BUDGET_US = 25.0
BATCHES = (1, 32)
REQUESTS = 20_000
HOW = """In one process, between a transport that forgets and a channel that answers at once (gateway_cpu.py): decoding, \
queue, batch assembly, encoding, metrics; not the kernel's sockets. The 64-float MLP; CPU time, median of five runs \
(lowest to highest)."""


def measure(bench: Bench) -> Row:
    row = Row("Gateway CPU a request", HOW, ["requests a batch", "form", "CPU us a request"])
    for kind in ("JSON", "binary"):
        for batch in BATCHES:
            options = [
                "--folder",
                str(bench.folder / "models"),
                "--requests",
                str(round(bench.seconds(REQUESTS))),
            ]
            if kind == "binary":
                options.append("--binary")
            done = subprocess.run(
                [sys.executable, str(HERE / "gateway_cpu.py"), str(batch), *options],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"gateway_cpu.py failed: {done.stderr[-500:]}")
            found = json.loads(done.stdout)
            bench.say(f"gateway, {kind}, batches of {batch}: {spread(found['us'], 1)} us a request")
            row.lines.append([f"{found['mean_batch']:.1f}", kind, spread(found["us"], 1)])
            row.raw[f"{kind} {batch}"] = found
    best = sorted(row.raw[f"JSON {BATCHES[-1]}"]["us"])
    middle = best[len(best) // 2]
    text = f"≤ {BUDGET_US:g} us a request in batches of {BATCHES[-1]}, JSON (without the sockets)"
    row.targets = [Target(text, middle <= BUDGET_US, f"{middle:.1f} us")]
    return row
