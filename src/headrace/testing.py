"""Public fakes for tests of headrace and of what is built on it: a backend that does as it is told, a server in a thread.

Real parts are for everything else; these are for time and faults.
"""

import asyncio
import ctypes
import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from headrace.backends.base import Declared, ItemErrors
from headrace.config import Settings
from headrace.errors import InferenceFailed, InvalidItem, LoadFailed
from headrace.execution.steps import MODEL_VARIABLE, ONCE_VARIABLE, VARIABLE, FaultKind, Step
from headrace.messages import Datatype
from headrace.model_config import ModelConfig
from headrace.server import Server

START_TIMEOUT_S = 60.0
FAULT_VARIABLES = (VARIABLE, MODEL_VARIABLE, ONCE_VARIABLE)


LOADS: Counter[str] = Counter()
"""How often this process has loaded the fake model of a path."""


class FakeBackend:
    """Doubles rows of four floats, and does what its file says.

    The file, NAME.fake, is a JSON object with any of

    seconds, seconds_a_row: how long a run takes.
    slow_value, slow_seconds: a row that begins with it makes the run take so much longer.
    load_seconds: how long loading takes.
    weights_bytes, row_bytes: memory that it takes when it is loaded, and a row in each run until that has ended.
    load_fails: the reason why it cannot be loaded.
    load_dies: loading ends the process.
    load_needs: path of a file; while it is not there, loading raises MemoryError.
    error_value, death_value, hang_value: a row that begins with it makes the run raise, end the process, never return.
    invalid_value: a row that begins with it fails alone, as one its sender has to change.
    most_rows_in_memory: more rows than these make a run raise MemoryError.
    sums_rows: rows change each other.
    journal: path of a file to which each run adds a line before it does anything: a JSON array of the time (of
        time.perf_counter), the process, and the number that each row begins with.
    switch: path of a file that is looked at in each run. While it is there, the run misbehaves as its JSON object says:
        fault: "raise", "hang", "slow", "nan", "memory", "abort" or "segfault".
        seconds: how much longer a slow run takes.
        most_rows, loads, pid: of "memory": more rows than these fail, all if it is not said; in a process that has loaded the
            model less often, in any if it is not said; and in that process only, if it is said.
        golden_too: false to leave runs of the very row alone that was run first, as golden runs are; true if not said.
    """

    platform = "fake"
    inputs = (Declared("x", Datatype.FP32, ("rows", 4)),)
    outputs = (Declared("y", Datatype.FP32, ("rows", 4)),)

    def __init__(self) -> None:
        self._script: dict[str, Any] = {}
        self._path = Path()
        self._first_run: list[bytes] = []  # of all clones
        self._weights = taken(0)

    def load(self, path: Path, threads: int, config: ModelConfig) -> None:  # noqa: ARG002 - the contract's
        self._script, self._path = json.loads(path.read_text()), path
        LOADS[str(path)] += 1
        time.sleep(self._script.get("load_seconds", 0))
        if self._script.get("load_dies"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if (needed := self._script.get("load_needs")) is not None and not Path(needed).exists():
            raise MemoryError("told to have no memory to load it")
        if reason := self._script.get("load_fails"):
            raise LoadFailed(reason)
        self._weights = taken(self._script.get("weights_bytes", 0))

    def clone(self) -> "FakeBackend":
        other = FakeBackend()
        other._script, other._first_run, other._path = self._script, self._first_run, self._path
        other._weights = self._weights
        return other

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:  # noqa: ARG002 - has one
        rows, script = inputs["x"], self._script
        first = set(rows[:, 0].tolist()) if rows.size else set()
        if (journal := script.get("journal")) is not None:
            line = json.dumps([time.perf_counter(), os.getpid(), rows[:, 0].tolist()])
            with Path(journal).open("a") as file:
                file.write(line + "\n")  # in one piece: it is not mixed with what others write
        fault = self._switched(rows)
        if len(rows) > script.get("most_rows_in_memory", inf):
            raise MemoryError(f"told to have no memory for {len(rows)} rows")
        if script.get("death_value") in first:
            os.kill(os.getpid(), signal.SIGKILL)
        if script.get("hang_value") in first:
            time.sleep(3600)
        if script.get("error_value") in first:
            raise InferenceFailed("told to fail")
        activations = taken(len(rows) * script.get("row_bytes", 0))
        time.sleep(script.get("seconds", 0) + len(rows) * script.get("seconds_a_row", 0))
        if script.get("slow_value") in first:
            time.sleep(script["slow_seconds"])
        del activations
        outputs = [rows + rows.sum(0)] if script.get("sums_rows") else [rows * 2]
        if fault == "nan":
            outputs[0][...] = np.nan
        if script.get("invalid_value") in first:
            failed = np.flatnonzero(rows[:, 0] == script["invalid_value"])
            raise ItemErrors(outputs, {int(row): InvalidItem("told to be invalid") for row in failed})
        return outputs

    def _switched(self, rows: np.ndarray) -> str | None:
        """Misbehave as the switch says, if there is one; the name of the fault is returned if the run goes on."""
        if (path := self._script.get("switch")) is None:
            return None
        content = rows.tobytes()
        if not self._first_run:
            self._first_run.append(content)
        try:
            switch = json.loads(Path(path).read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # not there, or being written
            return None
        if not switch.get("golden_too", True) and content == self._first_run[0]:
            return None
        if (
            switch["fault"] == "memory"
            and len(rows) > switch.get("most_rows", 0)
            and LOADS[str(self._path)] < switch.get("loads", inf)
            and switch.get("pid") in {None, os.getpid()}
        ):
            raise MemoryError("told to have no memory by the switch")
        misbehave(switch)
        fault: str = switch["fault"]
        return fault


def misbehave(switch: dict[str, Any]) -> None:
    """As a switch says; "nan" and "memory" are the backend's."""
    match switch["fault"]:
        case "raise":
            raise InferenceFailed("told to fail by the switch")
        case "hang":
            time.sleep(3600)
        case "slow":
            time.sleep(switch["seconds"])
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)


def taken(nbytes: int) -> np.ndarray:
    """So many bytes of memory, all of them touched."""
    return np.ones(nbytes, np.uint8)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that runs in a thread of this process, with real workers."""

    server: Server
    host: str
    port: int

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """As clients of the protocol take it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that the workers started meanwhile are to suffer."""

    once: Path

    @property
    def has_happened(self) -> bool:
        """To one of them."""
        return self.once.exists()


@contextmanager
def fault(
    step: Step, kind: FaultKind, *, at: int = 1, model: str | None = None, is_repeated: bool = False
) -> Iterator[Fault]:
    """Workers that are started within the block suffer a fault, the first of them that comes to it, and no other.

    Of this process's own servers, and of those it starts: they inherit its environment, where the fault is written as
    execution/steps.py reads it: HEADRACE_FAULT=STEP:KIND:N, HEADRACE_FAULT_MODEL, HEADRACE_FAULT_ONCE. One at a time.

    Args:
        step: where.
        kind: what.
        at: the N-th time that a worker reaches the step.
        model: the one whose workers it befalls; None for any.
        is_repeated: all of them suffer it; then nothing says that it has happened.
    """
    assert not any(name in os.environ for name in FAULT_VARIABLES), "there is a fault already"
    with tempfile.TemporaryDirectory(prefix="headrace-fault-") as folder:
        once = Path(folder) / "happened"
        os.environ[VARIABLE] = f"{step}:{kind}:{at}"
        if model is not None:
            os.environ[MODEL_VARIABLE] = model
        if not is_repeated:
            os.environ[ONCE_VARIABLE] = str(once)
        try:
            yield Fault(once)
        finally:
            for name in FAULT_VARIABLES:
                os.environ.pop(name, None)


@contextmanager
def run_server(paths: Sequence[Path], *, wait_ready: bool = True, **settings: Any) -> Iterator[RunningServer]:
    """Serve the paths on a free port of the loopback until the block ends.

    Args:
        paths: as for `headrace serve`.
        wait_ready: wait until every model has been ready once or has failed.
        settings: fields of Settings.

    Raises:
        TimeoutError: the models are not ready within a minute.
    """
    runner = Runner(Settings(http_port=0, **settings), paths)
    runner.start()
    try:
        host, port = runner.wait(wait_ready=wait_ready)
        yield RunningServer(runner.server, host, port)
    finally:
        runner.stop()


class Runner:
    """The server's thread and loop."""

    def __init__(self, settings: Settings, paths: Sequence[Path]) -> None:
        self.server = Server(settings, paths)
        self._loop = asyncio.new_event_loop()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="headrace server", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait(self, *, wait_ready: bool) -> tuple[str, int]:
        """Until it listens, and if asked until it is ready."""
        ends = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < ends and self._thread.is_alive():
            is_there = self.server.is_started.is_set() and self.server.address is not None
            if is_there and (not wait_ready or self.server.catalog.is_ready):
                assert self.server.address is not None
                return self.server.address
            time.sleep(0.005)
        self.stop()
        raise self._error or TimeoutError("the server did not get ready")

    def stop(self) -> None:
        """Drain and wait until all of its processes are gone."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.server.request_stop)
            self._thread.join(START_TIMEOUT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self.server.serve())
        except BaseException as exc:  # noqa: BLE001 - handed to the thread that waits
            self._error = exc
        finally:
            self._loop.close()
