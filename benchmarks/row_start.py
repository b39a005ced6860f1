"""From the start of the process to the first answer, and what the gateway weighs after work."""

import shutil

import models
import servers
import workloads
from bench import Bench, middle, spread
from report import Row, Target

STARTS, QUICK_STARTS = 5, 2
LIMIT_S = 1.0
LIMIT_MB = 100.0
CONNECTIONS = 128
WINDOW_S = 4.0
HOW = f"""`headrace serve mlp.onnx`, timed from before the process is made to the first right status; asked every 3 ms. \
Without a stored profile the model is probed and measured first. Resident: VmRSS of the gateway process after \
{CONNECTIONS} connections kept it busy for some seconds (shared memory it touched included)."""


def measure(bench: Bench) -> Row:
    model = bench.model("mlp", models.make_mlp)
    work = workloads.vectors(model, "mlp", models.WIDTHS[0], binary=False)
    path = bench.workload("mlp", work)
    profiles = bench.folder / "profiles-start"
    launch = servers.headrace([model], profiles)
    times: dict[str, list[float]] = {"without a profile": [], "with a stored profile": []}
    starts = QUICK_STARTS if bench.is_quick else STARTS
    for _ in range(starts):
        shutil.rmtree(profiles, ignore_errors=True)
        for each in times.values():  # the first of a pair leaves its profile for the second
            with servers.running(launch, work.requests[0], bench.logs) as server:
                each.append(server.first_answer_s)
    with servers.running(launch, work.requests[0], bench.logs) as server:
        fresh_mb = server.resident_mb()
        bench.load(server, path, CONNECTIONS, bench.seconds(WINDOW_S))
        worked_mb = server.resident_mb()
    row = Row("Start, and the gateway's memory", HOW)
    row.columns = ["start → first answer", f"seconds, median of {starts}"]
    row.lines = [[name, spread(each)] for name, each in times.items()]
    row.lines += [
        ["gateway after the first answer", f"{fresh_mb:.0f} MB"],
        ["after load", f"{worked_mb:.0f} MB"],
    ]
    for name, each in times.items():
        text = f"first answer within {LIMIT_S:g} s {name}"
        row.targets.append(Target(text, middle(each) <= LIMIT_S, f"{middle(each):.2f} s"))
    text = f"gateway ≤ {LIMIT_MB:g} MB resident"
    row.targets.append(Target(text, worked_mb <= LIMIT_MB, f"{worked_mb:.0f} MB"))
    row.raw = {"seconds": times, "fresh_mb": fresh_mb, "worked_mb": worked_mb}
    return row
