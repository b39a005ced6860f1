"""What a loaded small model takes beyond its session, in a worker of its own and in one that it shares.

The session is what the same backend's session takes in a process that has imported everything before: opened and run once.
PSS counts a page that several processes have mapped in parts, USS only what nobody else has.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Behind this folder's own modules, as in run.py: this one is run by itself too.
sys.path += [
    str(Path(__file__).parents[2] / each)
    for each in ("benchmarks", "benchmarks/faults", "benchmarks/pressure", "tests")
]

import models
import subjects
from measured import as_row
from report import Row

from headrace.execution.process_memory import proportional_bytes
from headrace.lifecycle.version import ModelVersion
from headrace.testing import RunningServer, run_server

MODELS = 10
WORKERS = {"own": (1, 40.0), "shared": (MODELS, 15.0)}
"""Kind of worker → models in it, and MB of PSS a model may take beyond its session."""
SETTLES_S, LIMIT_S, POLL_S = 2.0, 120.0, 0.05
BARE = """
import sys
from pathlib import Path
import numpy as np
from headrace.backends.onnx import OnnxBackend
from headrace.execution.linux import trim_heap
from headrace.execution.process_memory import proportional_bytes
from headrace.model_config import ModelConfig
from os import getpid

def look():
    trim_heap()
    return proportional_bytes(getpid())

before = look()
backend = OnnxBackend()
backend.load(Path(sys.argv[1]), 1, ModelConfig())
(given,) = backend.inputs
backend.run({given.name: np.zeros([1 if isinstance(each, str) else each for each in given.axes], "f4")}, [each.name for each in backend.outputs])
after = look()
print(*(b - a for a, b in zip(before, after)))
"""
MAKERS: dict[str, Callable[[Path], list[Path]]] = {
    "64-256-128-1": lambda folder: [models.make_mlp(folder / f"mlp{at}.onnx") for at in range(MODELS)],
    "convolutions, 24 MB": lambda folder: subjects.make_all(folder, MODELS),
}
"""Ten files each, of as many models."""
HOW = f"""{MODELS} models loaded, their profiles known, none asked anything; smaps_rollup of their workers, over {MODELS}, less what the \
session of one takes in a process with nothing else."""


def rows() -> list[dict[str, Any]]:
    """A line a model and kind of worker."""
    with tempfile.TemporaryDirectory(prefix="headrace-overhead-") as folder:
        return [
            line
            for at, (name, make) in enumerate(MAKERS.items())
            for line in lines_of(name, make, Path(folder) / str(at))
        ]


def lines_of(name: str, make: Callable[[Path], list[Path]], folder: Path) -> list[dict[str, Any]]:
    models_folder = folder / "models"
    models_folder.mkdir(parents=True)
    paths = make(models_folder)
    session_pss, session_uss = session_of(paths[0])
    loaded(models_folder, folder / "profiles", 1)  # so that those that count find profiles
    lines: list[dict[str, Any]] = []
    for worker, (sharers, most_mb) in WORKERS.items():
        processes, pss, uss = loaded(models_folder, folder / "profiles", sharers)
        beyond = (pss / MODELS - session_pss) / 1e6
        lines.append(
            {
                "model": name,
                "worker": worker,
                "processes": processes,
                "session, MB": session_pss / 1e6,
                "PSS a model, MB": pss / MODELS / 1e6,
                "beyond, MB": beyond,
                "USS beyond, MB": (uss / MODELS - session_uss) / 1e6,
                "target": f"a loaded small model, {worker} worker: at most {most_mb:g} MB of PSS beyond its session",
                "found": f"{name}: {beyond:.1f} MB",
                "reached": beyond <= most_mb,
            }
        )
    return lines


def session_of(path: Path) -> tuple[int, int]:
    """Bytes by which PSS and USS of a bare process grow with the session."""
    command = [sys.executable, "-c", BARE, str(path)]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT_S)
    pss, uss = map(int, found.stdout.split())
    return pss, uss


def loaded(folder: Path, profiles: Path, sharers: int) -> tuple[int, int, int]:
    """Processes, and their PSS and USS together, once all models are there."""
    # A process that measures one beside them would have its part of the pages of libraries.
    ModelVersion.needs_measuring = property(lambda _: False)  # type: ignore[assignment, method-assign]
    with run_server([folder], profile_dir=profiles, sessions_per_worker=sharers, log_level="error") as server:
        wait_loaded(server)
        time.sleep(SETTLES_S)
        pids = {pid for version in server.server.catalog for pid in version.snapshot().pids}
        found = [proportional_bytes(pid) for pid in pids]
    return len(pids), sum(pss for pss, _ in found), sum(uss for _, uss in found)


def wait_loaded(server: RunningServer) -> None:
    """Until every model is in memory.

    Raises:
        TimeoutError: that takes too long.
    """
    ends = time.monotonic() + LIMIT_S
    while not all(each.state == "READY" for each in server.server.catalog):
        if time.monotonic() > ends:
            raise TimeoutError(f"the models are not loaded in {LIMIT_S:g} s")
        time.sleep(POLL_S)


def row() -> Row:
    """For the report."""
    return as_row("A small model beyond its session", HOW, rows())


if __name__ == "__main__":
    print(row().markdown())
