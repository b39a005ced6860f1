"""The load generator against a server that does nothing: its figures are only worth what it can reach itself."""

import shutil
import subprocess
import sys

import models
import numpy as np
import servers
import workloads
from bench import HERE, Bench, middle, rate, spread
from fixed import VALUE
from load import Workload
from report import Row, Target
from servers import Launch

CONNECTIONS = 32
LEAST = 60_000
WINDOW_S = 2.4
SCRIPT = 'wrk.method="POST"\nlocal file = io.open("{body}", "rb")\nwrk.body = file:read("*a")\nfile:close()\n'
HOW = f"""A server that answers every read with the same bytes, on a core of its own; {CONNECTIONS} connections send the MLP's \
requests. All other rows are measured with the project's own generator, which checks every answer; wrk, where it is \
installed, sends one request over and over and checks nothing. In turn, medians (lowest to highest)."""


def measure(bench: Bench) -> Row:
    model = bench.model("mlp", models.make_mlp)
    real = workloads.vectors(model, "mlp", models.WIDTHS[0], binary=False)
    expected = [np.full((1, 1), VALUE, "f4")] * len(real.requests)
    work = Workload(real.requests, expected, "output", real.rtol, real.atol)
    path = bench.workload("fixed", work)
    launch = Launch("fixed answer", lambda port: [sys.executable, str(HERE / "fixed.py"), str(port)])
    rates: dict[str, list[float]] = {"ours": []}
    if shutil.which("wrk"):
        rates["wrk"] = []
    with servers.running(launch, work.requests[0], bench.logs) as server:
        for _ in range(bench.rounds):
            seconds = bench.seconds(WINDOW_S)
            rates["ours"].append(rate(bench.load(server, path, CONNECTIONS, seconds)))
            if "wrk" in rates:
                rates["wrk"].append(wrk(bench, server.port, work.requests[0], max(1, round(seconds))))
    row = Row("The load generator itself", HOW, ["generator", "requests/s"])
    row.lines = [[name, spread(each, 0)] for name, each in rates.items()]
    reached = middle(rates["ours"])
    row.targets = [Target(f"≥ {LEAST:,} requests/s", reached >= LEAST, f"{reached:,.0f}")]
    row.raw = dict(rates)
    return row


def wrk(bench: Bench, port: int, request: bytes, seconds: int) -> float:
    """Requests a second by wrk, pinned like our own generator."""
    body, script = bench.folder / "workloads" / "body", bench.folder / "workloads" / "post.lua"
    body.write_bytes(request.partition(b"\r\n\r\n")[2])
    script.write_text(SCRIPT.format(body=body))
    pin = ["taskset", "-c", str(bench.core)] if bench.core is not None and shutil.which("taskset") else []
    url = f"http://127.0.0.1:{port}/v2/models/mlp/infer"
    done = subprocess.run(
        [*pin, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "-s", str(script), url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    words = done.stdout.partition("Requests/sec:")[2].split()
    return float(words[0]) if words else 0.0
