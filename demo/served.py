"""`headrace serve` in a process of its own, which ends with this one whatever happens."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from parcels import Failure
from rich.console import Console

from headrace.execution.linux import die_with_parent

USUAL_PORT = 8000
READY_S, STOP_S = 180.0, 30.0
POLL_S = 0.1


class Served:
    """The server's process and its workers."""

    def __init__(self, models: Path, folder: Path) -> None:
        self.port = free_port()
        self.log = folder / "server.log"
        parent = os.getpid()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "headrace", "serve", str(models)),
                    *("--http-port", str(self.port), "--profile-dir", str(folder / "profiles")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo, which then stops the server; if the demo is killed, so is the server.
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - no thread has been started yet
            )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def wait_ready(self, console: Console) -> None:
        """Show what is loaded until all of it is.

        Raises:
            Failure: the server ended, a model cannot be loaded, or it takes too long.
        """
        ends = time.monotonic() + READY_S
        with console.status("starting the server") as status:
            while (waiting := self._waiting_for(index(self.address))) and time.monotonic() < ends:
                status.update(waiting)
                time.sleep(POLL_S)
        if waiting:
            raise Failure(f"not ready within {READY_S:g} s: {waiting}; see {self.log}")

    def _waiting_for(self, models: list[dict[str, str]]) -> str:
        """What is not ready, in words; nothing if all is."""
        if self._process.poll() is not None:
            raise Failure(f"the server ended:\n{self._last_words()}")
        for each in models:
            if each["state"] == "UNAVAILABLE" and each.get("reason"):
                raise Failure(f"{each['name']} cannot be loaded: {each['reason']}")
        if models:
            return ", ".join(f"loading {each['name']}" for each in models if each["state"] != "READY")
        return "starting the server"

    def _last_words(self) -> str:
        return self.log.read_text()[-2000:]

    def wait(self) -> None:
        """Until the server ends, which it does not by itself."""
        code = self._process.wait()
        raise Failure(f"the server ended with status {code}:\n{self._last_words()}")

    def stop(self) -> list[int]:
        """End the server as Ctrl-C would, and it its workers; gives the processes that had to be killed."""
        workers = children(self._process.pid)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            workers.add(self._process.pid)
        finally:
            self._process.kill()
            self._process.wait()
        left = [pid for pid in workers if is_ours(pid)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left


@contextlib.contextmanager
def serving(models: Path, folder: Path, console: Console) -> Iterator[Served]:
    """A server that is ready, and gone afterwards.

    Raises:
        Failure: it did not get ready, or did not end by itself.
    """
    served = Served(models, folder)
    try:
        served.wait_ready(console)
        yield served
    finally:
        with uninterrupted():
            left = served.stop()
    if left:
        raise Failure(f"processes did not end by themselves and were killed: {left}")
    console.print("the server and its workers have ended", style="dim")


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Stopping takes a moment, and a second Ctrl-C must not leave it half done."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def index(address: str) -> list[dict[str, str]]:
    """The repository index; nothing while the server does not listen yet."""
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request("POST", "/v2/repository/index", b"{}")
        found: list[dict[str, str]] = json.loads(connection.getresponse().read())
    except OSError:
        return []
    finally:
        connection.close()
    return found


def free_port() -> int:
    """The usual port, or any if somebody else has it."""
    for port in (USUAL_PORT, 0):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            found: int = listener.getsockname()[1]
            return found
    raise Failure("no port is free")


def children(pid: int) -> set[int]:
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return set()


def is_ours(pid: int) -> bool:
    """Still runs, and is not another's process that was given the same number since."""
    try:
        return b"headrace" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
