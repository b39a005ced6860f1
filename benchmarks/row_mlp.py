"""A light MLP over JSON, beside mosec and Triton's core, in turn."""

import models
import servers
import workloads
from bench import Bench, cpu_us, generator_note, middle, rate, ratios, spread
from load import Seen
from report import Row, Target
from servers import Launch, TritonBatching
from turns import Runs, Turns

OURS, AGAIN = "headrace", "headrace again"
CONNECTIONS = (1, 32, 128)
AT_LEAST = {32: 2.0, 128: 1.6}
AIM = 3.0
WINDOW_S = 3.0
WIDTH = models.WIDTHS[0]

HOW = f"""A {"-".join(map(str, models.WIDTHS))} MLP, one row a request, JSON of varying length. Every server runs one \
onnxruntime session with one thread, batches of at most 64, is started anew for each turn and takes its turn in each \
round; headrace comes twice, so that its ratio to itself shows the noise. Closed loop: each connection asks again when it \
has its answer. Medians over rounds (lowest to highest)."""


def measure(bench: Bench) -> Row:
    model = bench.model("mlp", models.make_mlp)
    work = workloads.vectors(model, "mlp", WIDTH, binary=False)
    path = bench.workload("mlp", work)
    launches, missing = contenders(bench)
    turns = Turns(bench, launches, work.requests[0], path)
    runs = turns.take(bench.rounds, CONNECTIONS, bench.seconds(WINDOW_S))
    row = Row("Light MLP, JSON, beside other servers", HOW)
    row.columns = ["server", "connections", "requests/s", "p50 ms", "p99 ms", "gateway CPU us", "all CPU us"]
    row.lines = [
        line(name, count, seen) for count in CONNECTIONS for name, of in runs.items() for seen in [of[count]]
    ]
    row.notes = [f"Not measured: {each}" for each in missing + turns.missing]
    row.notes += generator_note([seen for of in runs.values() for each in of.values() for seen in each])
    row.targets = targets(runs)
    if missing + turns.missing:
        for target in row.targets:
            target.figure += "; not everybody took part"
    row.raw = turns.raw()
    return row


def contenders(bench: Bench) -> tuple[list[Launch], list[str]]:
    """Everybody in the order of a round, and what cannot take part."""
    model = bench.folder / "models" / "mlp.onnx"
    profiles = bench.folder / "profiles"
    peers = bench.peers
    launches = [servers.headrace([model], profiles, name=OURS)]
    if "mosec" not in peers.missing:
        launches.append(servers.mosec(peers, model, name="mosec, wait 10 ms (its default)"))
        launches.append(servers.mosec(peers, model, "--wait", "0", name="mosec, wait 0"))
    if "nvidia-pytriton" not in peers.missing:
        shapes = ([WIDTH], [models.WIDTHS[-1]])
        launches.extend(
            servers.triton(
                peers,
                model,
                shapes,
                TritonBatching(delay),
                f"Triton core, Python backend, delay {delay / 1000:g} ms",
            )
            for delay in (500, 0)
        )
    launches.append(servers.headrace([model], profiles, name=AGAIN))
    return launches, list(peers.missing.values())


def line(name: str, count: int, seen: list[Seen]) -> list[str]:
    return [
        name,
        str(count),
        spread([rate(each) for each in seen], 0),
        f"{middle([each.p50_ms for each in seen]):.2f}",
        f"{middle([each.p99_ms for each in seen]):.2f}",
        f"{middle([cpu_us(each, 'gateway') for each in seen]):.1f}",
        f"{middle([cpu_us(each, 'all') for each in seen]):.1f}",
    ]


def targets(runs: Runs) -> list[Target]:
    """At each number of connections against the peer that is best there."""
    peers = [name for name in runs if name not in {OURS, AGAIN}]
    found: list[Target] = []
    if OURS not in runs or not peers:
        return [Target("at least twice the best peer", None, "nobody to compare with")]
    for count, least in AT_LEAST.items():
        rates = {name: [rate(each) for each in of[count]] for name, of in runs.items()}
        best = max(peers, key=lambda name: middle(rates[name]))
        ratio = middle(rates[OURS]) / middle(rates[best])
        figure = f"{ratio:.2f}x {best}; by round {spread(ratios(rates[OURS], rates[best]))}"
        if AGAIN in rates:
            figure += f"; beside itself {spread(ratios(rates[OURS], rates[AGAIN]))}"
        text = f"≥ {least}x the best peer at {count} connections (aim {AIM:g}x)"
        found.append(Target(text, ratio >= least, figure))
    p50 = {name: middle([each.p50_ms for each in of[1]]) for name, of in runs.items()}
    best = min(peers, key=lambda name: p50[name])
    figure = f"{p50[OURS]:.2f} ms; {best}: {p50[best]:.2f} ms"
    found.append(Target("p50 at 1 connection no worse than the best", p50[OURS] <= p50[best], figure))
    return found
