"""Starts a server, waits until it answers, knows its processes, and ends it."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from load import OK
from peers import Peers

HERE = Path(__file__).parent
READY_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0
ASK_EVERY_S = 0.003
HEADRACE = Path(sys.executable).with_name("headrace")
TRITON_CONFIG = """name: "{name}"
backend: "python"
max_batch_size: {rows}
input [{{ name: "input" data_type: TYPE_FP32 dims: {inputs} }}]
output [{{ name: "output" data_type: TYPE_FP32 dims: {outputs} }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
dynamic_batching {{ max_queue_delay_microseconds: {delay_us} {policy} }}
"""


class NotServing(RuntimeError):
    """A server did not come up; the message has the end of its log."""


@dataclass
class Server:
    """A running server. `gateway`: the name of the process that speaks HTTP, if it is not the one started."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    started: float
    first_answer_s: float = 0.0
    gateway: str = ""

    def pids(self) -> dict[str, list[int]]:
        """The process that speaks HTTP, and all of them."""
        everybody = family(self.process.pid)
        speakers = [pid for pid in everybody if self.gateway and command_name(pid) == self.gateway]
        return {"gateway": speakers or [self.process.pid], "all": everybody}

    def resident_mb(self) -> float:
        """Of the process that speaks HTTP."""
        status = Path(f"/proc/{self.pids()['gateway'][0]}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@dataclass(frozen=True)
class Launch:
    """How to start a server: everything but its port, which `command` is given: this one, or a free one if it is 0."""

    name: str
    command: Callable[[int], list[str]]
    environment: dict[str, str] | None = None
    gateway: str = ""
    port: int = 0


@contextmanager
def running(
    launch: Launch, first_request: bytes, logs: Path, cores: set[int] | None = None
) -> Iterator[Server]:
    """Run a server in a group of its own until the block ends; all its processes on these cores, or wherever.

    Raises:
        NotServing: it does not answer the request with 200 in time.
    """
    port = launch.port or free_port()
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f"{launch.name.replace(' ', '-')}.log"
    with path.open("wb") as log:
        started = time.perf_counter()
        with pinned(cores):
            process = subprocess.Popen(
                launch.command(port),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=launch.environment,
                start_new_session=True,
            )
        server = Server(launch.name, port, process, started, gateway=launch.gateway)
        try:
            wait_for_answer(server, first_request, path)
            yield server
        finally:
            stop(process)


@contextmanager
def pinned(cores: set[int] | None) -> Iterator[None]:
    """What is started in the block inherits these cores."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or own)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def wait_for_answer(server: Server, request: bytes, log: Path) -> None:
    while (now := time.perf_counter()) < server.started + READY_LIMIT_S and server.process.poll() is None:
        if is_answered(server.port, request):
            server.first_answer_s = time.perf_counter() - server.started
            return
        time.sleep(max(0.0, ASK_EVERY_S - (time.perf_counter() - now)))
    tail = " / ".join(log.read_text(errors="replace").splitlines()[-5:])
    raise NotServing(f"{server.name} does not answer: {tail[-600:]}")


def is_answered(port: int, request: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request)
            return connection.recv(1 << 12).startswith(OK)
    except OSError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and end what is left of its group."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in children.read_text().split()]
    return found


def command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def headrace(paths: Sequence[Path], profiles: Path, *options: str, name: str = "headrace") -> Launch:
    """As a user starts it; profiles are kept apart from the user's own."""
    fixed = [
        str(HEADRACE),
        "serve",
        *map(str, paths),
        "--profile-dir",
        str(profiles),
        "--log-level",
        "warning",
    ]
    return Launch(name, lambda port: [*fixed, "--http-port", str(port), *options])


def mosec(
    peers: Peers, model: Path, *options: str, name: str, script: Path = HERE / "peer_mosec.py", rows: int = 64
) -> Launch:
    """One worker with one onnxruntime session. Its front is a process of its own, named mosec."""
    fixed = [str(peers.python), str(script), "--address", "127.0.0.1", *options]
    environment = {**peers.environment(), "MODEL": str(model), "ROWS": str(rows)}
    return Launch(name, lambda port: [*fixed, "--port", str(port)], environment, gateway="mosec")


@dataclass(frozen=True)
class TritonBatching:
    """How Triton waits for a batch to fill and what may wait; `policy` goes into dynamic_batching as it is."""

    delay_us: int = 0
    rows: int = 64
    policy: str = ""


def triton(
    peers: Peers, model: Path, shapes: tuple[list[int], list[int]], batching: TritonBatching, name: str
) -> Launch:
    """One instance of a Python-backend model with one onnxruntime session.

    Args:
        peers: where it is installed.
        model: the ONNX file; its folder keeps the repository as well.
        shapes: of a row of the input and of the output.
        batching: what its config.pbtxt says of it.
        name: for the report.
    """
    config = TRITON_CONFIG.format(
        name=model.stem, inputs=json.dumps(shapes[0]), outputs=json.dumps(shapes[1]), **asdict(batching)
    )
    repository = model.parent / f"triton-{model.stem}-{hashlib.sha256(config.encode()).hexdigest()[:8]}"
    version = repository / model.stem / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copy2(model, version / "model.onnx")
    shutil.copy2(HERE / "peer_triton.py", version / "model.py")
    (version.parent / "config.pbtxt").write_text(config)
    fixed = [
        str(peers.triton / "bin" / "tritonserver"),
        *("--model-repository", str(repository)),
        *("--backend-directory", str(peers.triton / "backends")),
        *("--http-address", "127.0.0.1", "--allow-grpc=false", "--allow-metrics=false", "--log-info=false"),
    ]
    return Launch(name, lambda port: [*fixed, "--http-port", str(port)], peers.environment())
