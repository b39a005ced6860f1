"""Clients that need environments of their own, against a server of this checkout: kserve's and perf_analyzer.

`make conformance` runs it. It prints what passed and ends with status 1 if anything did not. tritonclient needs no
environment of its own and is part of the tests.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from environments import FOLDER, KSERVE, PERF_ANALYZER, environment, libraries
from onnx import TensorProto, helper, numpy_helper

from headrace.telemetry import logs
from headrace.testing import RunningServer, run_server

FEATURES, HIDDEN, CLASSES, ROWS = 64, 128, 10, 3
CONCURRENCIES = range(1, 5)
PATIENCE_S = 300
PASSED = "passed"

Check = Callable[[RunningServer, Path], None]


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    logs.set_up("error", as_json=False)
    with tempfile.TemporaryDirectory() as name:
        model = make_model(Path(name) / "mlp.onnx")
        with run_server([model], profile_dir=Path(name) / "profiles") as server:
            results = {title: outcome(check, server, model) for title, check in CHECKS.items()}
    print()
    for title, result in results.items():
        print(f"{title:32}{result}")
    return 0 if all(result == PASSED for result in results.values()) else 1


def outcome(check: Check, server: RunningServer, model: Path) -> str:
    try:
        check(server, model)
    except (AssertionError, OSError, subprocess.SubprocessError) as exc:
        return f"FAILED: {exc}"
    return PASSED


def make_model(path: Path) -> Path:
    """x [rows, 64] → y [rows, 10]."""
    rng = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w2"], ["y"]),
        ],
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", CLASSES])],
        [
            numpy_helper.from_array(rng.standard_normal((FEATURES, HIDDEN)).astype("f4") / 8, "w1"),
            numpy_helper.from_array(rng.standard_normal((HIDDEN, CLASSES)).astype("f4") / 8, "w2"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def check_kserve(server: RunningServer, model: Path) -> None:
    """Its client in its own process: its protobuf names clash with tritonclient's."""
    x = np.random.default_rng(1).standard_normal((ROWS, FEATURES)).astype("f4")
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    expected = model.parent / "expected.json"
    expected.write_text(json.dumps({"x": x.tolist(), "y": session.run(["y"], {"x": x})[0].tolist()}))
    python = environment("kserve", KSERVE) / "bin" / "python"
    script = Path(__file__).parent / "kserve_client.py"
    subprocess.run([python, script, server.url, expected], check=True, timeout=PATIENCE_S)


def check_perf_analyzer(server: RunningServer, tensor_format: str) -> None:
    """Concurrency 1 to 4; it has to measure each, with the server's side of it from the statistics."""
    folder = environment("perf_analyzer", PERF_ANALYZER, "--no-deps")
    report, log = FOLDER / f"{tensor_format}.csv", FOLDER / f"{tensor_format}.log"
    report.unlink(missing_ok=True)
    command = [
        *(folder / "bin" / "perf_analyzer", "-m", "mlp", "-u", server.address, "-i", "http"),
        *("--service-kind", "triton", "--concurrency-range", f"{CONCURRENCIES[0]}:{CONCURRENCIES[-1]}"),
        *("--measurement-mode", "count_windows", "--measurement-request-count", "200"),
        *("-s", "500", "-r", "5", "--percentile", "99", "--input-data", "random"),
        *("--input-tensor-format", tensor_format, "--output-tensor-format", tensor_format),
        *("-f", report, "--verbose-csv"),
    ]
    path = ":".join(map(str, libraries(folder)))
    with log.open("wb") as output:
        done = subprocess.run(
            command,
            check=False,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            env={**os.environ, "LD_LIBRARY_PATH": path},
        )
    if done.returncode:
        raise AssertionError(f"perf_analyzer ended with status {done.returncode}: {log.read_text()[-2000:]}")
    with report.open() as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: int(row["Concurrency"]))
    assert [int(row["Concurrency"]) for row in rows] == list(CONCURRENCIES), "a row for each concurrency"
    for row in rows:
        rate, p99_us = float(row["Inferences/Second"]), float(row["p99 latency"])
        run_us = float(row["Server Compute Infer"])
        assert rate > 0
        assert run_us > 0, "the statistics gave the server's side"
        print(
            f"perf_analyzer, {tensor_format}, concurrency {row['Concurrency']}: {rate:.0f}/s, "
            f"p99 {p99_us / 1000:.1f} ms, of it {run_us / 1000:.2f} ms in the model"
        )


CHECKS: dict[str, Check] = {
    "kserve InferenceRESTClient": check_kserve,
    "perf_analyzer, JSON tensors": lambda server, _: check_perf_analyzer(server, "json"),
    "perf_analyzer, binary tensors": lambda server, _: check_perf_analyzer(server, "binary"),
}

if __name__ == "__main__":
    sys.exit(main())
