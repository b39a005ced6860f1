"""Real models with all they can take: are their workers busy, and as fast as a bare loop?"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
import servers
import workloads
from bench import HERE, Bench, rate
from load import Seen
from report import Row, Target

CONNECTIONS = 32
WINDOW_S = 16.0
BARE_S = 8.0
BUSY = 0.95
NEAR = 1.10
"""A batch that takes up to so many times as long as in the bare loop counts as taking as long."""
PROFILE_LIMIT_S = 120.0

HOW = f"""{{what}} Binary tensors, {CONNECTIONS} connections, {{threads}} thread(s) x {{instances}} instance(s) as headrace \
measured them to be best. Busy: Δinference_compute_seconds_sum / (wall x instances). The bare loop is a process of its own \
that runs batches of the same sizes with as many threads and instances (one session; several threads \
spinning, as is onnxruntime's default, or not, whichever is faster) and nothing else on the machine, while the server shares its cores with the load generator."""


@dataclass
class Saturated:
    """One server under load, and what its metrics say of the window."""

    seen: Seen
    instances: int
    threads: int
    compute_s: float
    sizes: dict[int, tuple[int, float]]  # batch size → runs, seconds a run

    @property
    def busy(self) -> float:
        return self.compute_s / (self.seen.seconds * self.instances)

    @property
    def rows(self) -> int:
        return sum(size * runs for size, (runs, _) in self.sizes.items())

    @property
    def mean_batch(self) -> float:
        return self.rows / max(1, sum(runs for runs, _ in self.sizes.values()))


def resnet(bench: Bench) -> Row:
    model = bench.packaged("nsfw", models.NSFW)
    work = workloads.images(model, "nsfw", "input:0", "outputs")
    found = saturate(bench, model, work)
    sizes = {str(size): runs for size, (runs, _) in found.sizes.items()}
    bare = bare_loop(bench, model, found, {"kind": "images", "sizes": sizes, "output": "outputs"})
    row = Row("Thin ResNet-50, saturated", how("open-nsfw, 602 kB images.", found))
    row.columns = ["batch", "runs", "ms in headrace", "ms in the bare loop", "ratio"]
    ours = theirs = 0.0
    for size, (runs, seconds) in sorted(found.sizes.items()):
        alone = bare["by_size"].get(str(size))
        cells = ["-", "-"] if alone is None else [f"{1e3 * alone:.1f}", f"{seconds / alone:.2f}"]
        row.lines.append([str(size), str(runs), f"{1e3 * seconds:.1f}", *cells])
        if alone is not None:
            ours, theirs = ours + runs * seconds, theirs + runs * alone
    finish(row, found, {"bare loop": bare}, ours / theirs if theirs else float("nan"))
    return row


def minilm(bench: Bench) -> Row:
    model = bench.packaged("minilm", models.MINILM)
    work = workloads.sentences(model, "minilm")
    pads = [text for name in ("input_ids", "attention_mask") for text in ("--pad", f"minilm:{name}=0")]
    found = saturate(bench, model, work, *pads)
    rows = max(1, round(found.mean_batch))
    loops = {
        name: bare_loop(
            bench,
            model,
            found,
            {"kind": "sentences", "rows": size, "window": window, "output": workloads.SENTENCE_OUTPUT},
        )
        for name, size, window in (
            ("one by one", 1, 1),
            ("order of arrival, padded", rows, 1),
            (f"sorted by length within {CONNECTIONS}, padded", rows, CONNECTIONS),
        )
    }
    what = f"""paraphrase-MiniLM-L3, one sentence a request, {workloads.LEAST_TOKENS} to {workloads.MOST_TOKENS} tokens, \
log-normal around {workloads.MEDIAN_TOKENS}; headrace may pad (`--pad`). The bare loops take the same sentences in batches \
of {rows}."""
    row = Row("MiniLM, mixed lengths, saturated", how(what, found))
    row.columns = ["loop", "batch", "sentences/s", "compute ms a sentence", "headrace's beside it"]
    own = found.compute_s / max(1, found.rows)
    row.lines = [["headrace", f"{found.mean_batch:.1f}", f"{rate(found.seen):.0f}", f"{1e3 * own:.2f}", ""]]
    each_s = {name: bare["compute_s"] / max(1, bare["rows"]) for name, bare in loops.items()}
    for name, bare in loops.items():
        cells = [
            f"{bare['rows'] / bare['seconds']:.0f}",
            f"{1e3 * each_s[name]:.2f}",
            f"{own / each_s[name]:.2f}",
        ]
        row.lines.append([name, f"{bare['rows'] / max(1, bare['batches']):.1f}", *cells])
    finish(row, found, loops, own / min(each_s.values()))
    return row


def how(what: str, found: Saturated) -> str:
    return HOW.format(what=what, threads=found.threads, instances=found.instances)


def finish(row: Row, found: Saturated, loops: dict[str, Any], ratio: float) -> None:
    best = max(bare["rows"] / bare["seconds"] for bare in loops.values())
    seen = found.seen
    row.notes = [
        f"""headrace: {rate(seen):.1f} requests/s, {rate(seen) / best:.2f}x the fastest bare loop's {best:.1f}; mean batch \
{found.mean_batch:.1f}; p50 {seen.p50_ms:.0f} ms, p99 {seen.p99_ms:.0f} ms; gateway \
{100 * seen.cpu_s["gateway"] / seen.seconds:.0f} % of a core, load generator {100 * seen.own_cpu_s / seen.seconds:.0f} %."""
    ]
    row.targets = [
        Target(
            f"workers busy ≥ {100 * BUSY:.0f} % of the time", found.busy >= BUSY, f"{100 * found.busy:.1f} %"
        ),
        Target(
            f"batch times as in the fastest bare loop (≤ {NEAR:.2f}x)",
            ratio <= NEAR if ratio == ratio else None,  # noqa: PLR0124 - nan: nothing in common
            f"{ratio:.2f}x",
        ),
    ]
    row.raw = {"headrace": {**found.__dict__, "seen": found.seen.__dict__}, "bare": loops}


def saturate(bench: Bench, model: Path, work: workloads.Workload, *options: str) -> Saturated:
    """Serve a model from a finished profile and load it."""
    profiles = bench.folder / f"profiles-{model.stem}"
    launch = servers.headrace([model], profiles, *options)
    path = bench.workload(model.stem, work)
    measure(bench, launch, work.requests[0], profiles)
    stats = f"/v2/models/{model.stem}/stats"
    with servers.running(launch, work.requests[0], bench.logs) as server:
        seen = bench.load(server, path, CONNECTIONS, bench.seconds(WINDOW_S), ("/metrics", stats))
    profile = read_profiles(profiles)[
        0
    ]  # as this server ran: it may have measured again what was too noisy before
    before, after = seen.probes
    seen.probes = []
    runs = batches(after[stats])
    for size, (number, seconds) in batches(before[stats]).items():
        runs[size] = (runs[size][0] - number, runs[size][1] - seconds)
    sizes = {size: (number, total / number) for size, (number, total) in runs.items() if number}
    compute_s = compute_sum(after["/metrics"]) - compute_sum(before["/metrics"])
    return Saturated(seen, profile["instances"], profile["threads"], compute_s, sizes)


def measure(bench: Bench, launch: servers.Launch, request: bytes, profiles: Path) -> None:
    """Start once and wait until headrace has measured the model, as it does beside serving where that takes long."""
    bench.say(f"{launch.name} measures the model")
    with servers.running(launch, request, bench.logs):
        ends = time.perf_counter() + PROFILE_LIMIT_S
        while not (found := read_profiles(profiles)) and time.perf_counter() < ends:
            time.sleep(0.1)
    if not found:
        raise RuntimeError("headrace did not finish measuring the model")


def read_profiles(folder: Path) -> list[dict[str, Any]]:
    """Those that are complete."""
    profiles = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    return [each for each in profiles if each["spec"] is not None]


def batches(stats: str) -> dict[int, tuple[int, float]]:
    """Batch size → runs and their seconds, since the start."""
    entry = json.loads(stats)["model_stats"][0]
    return {
        each["batch_size"]: (each["compute_infer"]["count"], each["compute_infer"]["ns"] / 1e9)
        for each in entry["batch_stats"]
    }


def compute_sum(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("inference_compute_seconds_sum")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def bare_loop(bench: Bench, model: Path, found: Saturated, what: dict[str, Any]) -> dict[str, Any]:
    """The faster of the two ways threads can wait for each other; a single thread waits for nobody."""
    tried = [
        run_bare(bench, model, found, {**what, "spins": spins})
        for spins in ((True, False) if found.threads > 1 else (False,))
    ]
    return max(tried, key=lambda bare: bare["rows"])


def run_bare(bench: Bench, model: Path, found: Saturated, what: dict[str, Any]) -> dict[str, Any]:
    spec = {
        **what,
        "model": str(model),
        "threads": found.threads,
        "instances": found.instances,
        "warm_s": 0.5,
        "seconds": bench.seconds(BARE_S),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "bare.py")],
        input=json.dumps(spec),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the bare loop failed: {done.stderr[-500:]}")
    bare: dict[str, Any] = json.loads(done.stdout)
    bench.say(f"bare loop: {bare['rows'] / bare['seconds']:.1f} rows/s")
    return bare
