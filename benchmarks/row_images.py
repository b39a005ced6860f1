"""Large tensors: what it costs to carry an image, beside Triton."""

import models
import servers
import workloads
from bench import Bench, middle, rate, ratios, spread
from load import Seen
from report import Row, Target
from servers import TritonBatching
from turns import Runs, Turns

CONNECTIONS = (1, 8)
WINDOW_S = 3.0
MEGABYTES = 4 * models.IMAGE[0] * models.IMAGE[1] * models.IMAGE[2] / 1e6
ROUNDS = 3
HOW = f"""[1, 224, 224, 3] of FP32 = {MEGABYTES:.3f} MB a request as binary tensors, 672 floats back (the largest of each \
column and channel), so that carrying is what takes time. Triton's core runs the same session in its Python backend, no delay. In turn; \
1 MB = 10⁶ bytes; medians (lowest to highest)."""


def measure(bench: Bench) -> Row:
    model = bench.model("image", models.make_image_peaks)
    work = workloads.images(model, "image", "input", "output")
    path = bench.workload("image", work)
    launches = [servers.headrace([model], bench.folder / "profiles")]
    missing = [reason for name, reason in bench.peers.missing.items() if name == "nvidia-pytriton"]
    if not missing:
        shapes = (list(models.IMAGE), list(models.IMAGE[1:]))
        launches.append(
            servers.triton(bench.peers, model, shapes, TritonBatching(), "Triton core, Python backend")
        )
    turns = Turns(bench, launches, work.requests[0], path)
    runs = turns.take(min(ROUNDS, bench.rounds), CONNECTIONS, bench.seconds(WINDOW_S))
    row = Row("600 kB images, binary", HOW)
    row.columns = ["server", "connections", "MB/s", "p50 ms", "gateway CPU ms/MB", "all CPU ms/MB"]
    row.lines = [
        line(name, count, seen) for count in CONNECTIONS for name, of in runs.items() for seen in [of[count]]
    ]
    row.notes = [f"Not measured: {each}" for each in missing + turns.missing]
    row.targets = [target(runs)]
    row.raw = turns.raw()
    return row


def line(name: str, count: int, seen: list[Seen]) -> list[str]:
    return [
        name,
        str(count),
        spread([rate(each) * MEGABYTES for each in seen], 0),
        f"{middle([each.p50_ms for each in seen]):.2f}",
        f"{middle([cpu_ms(each, 'gateway') for each in seen]):.2f}",
        f"{middle([cpu_ms(each, 'all') for each in seen]):.2f}",
    ]


def cpu_ms(seen: Seen, who: str) -> float:
    """Milliseconds a megabyte."""
    return 1e3 * seen.cpu_s[who] / max(1e-9, seen.answers * MEGABYTES)


def target(runs: Runs) -> Target:
    """The issue names no ratio: the figures beside Triton's are what is asked for."""
    count = CONNECTIONS[-1]
    text = f"beside Triton at {count} connections: no target, a figure"
    if len(runs) < len(("headrace", "Triton")):
        return Target(text, None, "nobody to compare with")
    ours, theirs = (of[count] for of in runs.values())
    cpu = ratios([cpu_ms(each, "all") for each in ours], [cpu_ms(each, "all") for each in theirs])
    speed = ratios([rate(each) for each in ours], [rate(each) for each in theirs])
    return Target(text, None, f"{spread(speed)}x the MB/s with {spread(cpu)}x the CPU a MB")
