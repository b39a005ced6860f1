"""The server as its users run it: a process of its own, with its workers below it."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.wire import Wire

PATIENCE_S = 40.0


class ServerProcess:
    """`python -m headrace serve`. `wait_ready` before use; `before` is a command that becomes it."""

    def __init__(
        self, paths: list[Path], profiles: Path, *options: str, before: tuple[str, ...] = ()
    ) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        self.process = subprocess.Popen(
            [
                *(*before, sys.executable, "-m", "headrace", "serve", *map(str, paths)),
                *("--http-port", str(self.port), "--profile-dir", str(profiles), *options),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def connect(self) -> Wire:
        return Wire(self.host, self.port)

    def wait_ready(self) -> None:
        eventually(self._is_ready, "the server is ready")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_exit(self) -> int:
        return self.process.wait(PATIENCE_S)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, (
            f"the server ended: {self.process.stderr and self.process.stderr.read()!r}"
        )
        try:
            with self.connect() as wire:
                return wire.get("/v2/health/ready").status == 200
        except ConnectionError:
            return False


@contextlib.contextmanager
def serving(paths: list[Path], profiles: Path, *options: str) -> Iterator[ServerProcess]:
    """A server process that is ready, and that is gone afterwards."""
    server = ServerProcess(paths, profiles, "--log-level", "error", *options)
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
        assert server.process.stderr is not None
        server.process.stderr.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def eventually(holds: Callable[[], object], what: str) -> None:
    """Wait until it holds; how long it takes is nobody's business."""
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Processes that a process started, by the kernel's list."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text().split())
    return found


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_bytes(pid: int) -> int:
    """VmRSS of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")
