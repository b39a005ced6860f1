"""What is left behind, and whose process is whose: read from /proc, whatever the server says of itself."""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from servers import Server, family

POLL_S = 0.002


@dataclass(frozen=True)
class Holding:
    """What a server holds: processes in all, and descriptors of the one that speaks HTTP, of them memory files."""

    processes: int
    descriptors: int
    memory_files: int

    def over(self, before: "Holding") -> str:
        """What is held now that was not before, in words; empty if it is no more."""
        names = ("processes", "descriptors", "memory_files")
        more = {name: getattr(self, name) - getattr(before, name) for name in names}
        return ", ".join(
            f"{count} more {name.replace('_', ' ')}" for name, count in more.items() if count > 0
        )


def holding(server: Server) -> Holding:
    gateway = server.process.pid
    links = []
    for link in Path(f"/proc/{gateway}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(link.readlink()))
    # Connections of callers are theirs to close.
    kinds = Counter(each.partition(":")[0] for each in links)
    memory = sum(each.startswith("/memfd:") for each in links)
    running = [pid for pid in family(gateway) if is_running(pid)]
    return Holding(len(running), len(links) - kinds["socket"], memory)


def settled(server: Server, before: Holding, limit_s: float = 5.0) -> Holding:
    """What it holds once it holds no more than before, or after so long."""
    wait_for(lambda: not holding(server).over(before), limit_s)
    return holding(server)


def worker_of(server: Server, model: str) -> int | None:
    """The process of a model's worker; if none says that it is, one that has not been told yet what it is."""
    untold = None
    for pid in family(server.process.pid)[1:]:
        said = command_line(pid)
        if said.startswith(f"headrace: worker {model}/"):
            return pid
        if "headrace.execution.worker" in said:
            untold = pid
    return untold


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def kill(server: Server, model: str) -> float | None:
    """End a model's worker at once; the time of time.perf_counter just before, None if it has none now."""
    pid = worker_of(server, model)
    if pid is None or not is_running(pid):
        return None
    now = time.perf_counter()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return now
    return None


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(holds: Callable[[], object], limit_s: float) -> float | None:
    """Seconds until it held; None if it did not within the limit."""
    began = time.perf_counter()
    while not holds():
        if time.perf_counter() - began > limit_s:
            return None
        time.sleep(POLL_S)
    return time.perf_counter() - began
