"""Binary tensors beside JSON, on headrace alone."""

import models
import servers
import workloads
from bench import Bench, cpu_us, generator_note, middle, rate, ratios, spread
from load import Seen
from report import Row, Target

CONNECTIONS = 32
AT_LEAST = {models.WIDTHS[0]: 0.95, models.WIDE: 3.0}
WINDOW_S = 2.4
HOW = f"""One server with both models, {CONNECTIONS} connections, JSON and binary in turn. JSON floats have 2 to 7 digits \
({models.WIDE} of them are 24 to 45 kB; 16 kB in binary), answers come as the request did."""


def measure(bench: Bench) -> Row:
    widths = {"mlp": models.WIDTHS[0], "wide": models.WIDE}
    files = [bench.model("mlp", models.make_mlp), bench.model("wide", models.make_wide)]
    paths, first = {}, b""
    for file in files:
        for binary in (False, True):
            work = workloads.vectors(file, file.stem, widths[file.stem], binary=binary)
            kind = "binary" if binary else "JSON"
            paths[widths[file.stem], kind] = bench.workload(f"{file.stem}-{kind}", work)
            first = work.requests[0]
    runs: dict[tuple[int, str], list[Seen]] = {key: [] for key in paths}
    launch = servers.headrace(files, bench.folder / "profiles")
    # The last request is for the second model; both have to be there.
    with servers.running(launch, first, bench.logs) as server:
        servers.wait_for_answer(server, mlp_request(files[0]), bench.logs / "headrace.log")
        for _ in range(bench.rounds):
            for key, path in paths.items():
                runs[key].append(bench.load(server, path, CONNECTIONS, bench.seconds(WINDOW_S)))
    row = Row("Binary tensors beside JSON", HOW)
    row.columns = ["floats", "form", "requests/s", "p50 ms", "gateway CPU us"]
    for (width, kind), seen in runs.items():
        p50, cpu = middle([s.p50_ms for s in seen]), middle([cpu_us(s, "gateway") for s in seen])
        row.lines.append([str(width), kind, spread([rate(s) for s in seen], 0), f"{p50:.2f}", f"{cpu:.1f}"])
    for width, least in AT_LEAST.items():
        pairs = ratios([rate(s) for s in runs[width, "binary"]], [rate(s) for s in runs[width, "JSON"]])
        text = f"binary ≥ {least}x JSON at {width} floats"
        row.targets.append(Target(text, middle(pairs) >= least, f"{spread(pairs)}x"))
    row.notes = generator_note([s for seen in runs.values() for s in seen])
    row.raw = {f"{width} {kind}": [s.__dict__ for s in seen] for (width, kind), seen in runs.items()}
    return row


def mlp_request(model: object) -> bytes:
    return workloads.json_request(getattr(model, "stem", "mlp"), workloads.np.zeros((1, models.WIDTHS[0])))
