"""A memory limit that the kernel keeps: a control group, of either version, with a server and all that it starts in it.

It is made below the group this process is in, or as near to it as groups can be made, and goes when the block ends.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from servers import Launch

LIMITS = {"v1": "memory.limit_in_bytes", "v2": "memory.max"}
KILLS = {"v1": "memory.oom_control", "v2": "memory.events"}
OWN = {"v1": ("total_rss", "total_shmem"), "v2": ("anon", "shmem")}
"""What of memory.stat is no page of a file: those the kernel takes back where it needs them."""
MEMBERS = "cgroup.procs"
ENTER = 'echo $$ > "$0" && exec "$@"'
GONE_LIMIT_S = 10.0


@dataclass(frozen=True)
class Group:
    """One that this process has made. `version` is "v1" or "v2"."""

    folder: Path
    version: str

    def inside(self, launch: Launch) -> Launch:
        """The same server, started in the group."""
        enter = ["sh", "-c", ENTER, str(self.folder / MEMBERS)]
        return replace(launch, command=lambda port: [*enter, *launch.command(port)])

    def pids(self) -> list[int]:
        """Of all in it, and in the groups that a server makes below it for its workers."""
        return [int(each) for content in self._read(MEMBERS) for each in content.split()]

    def _read(self, name: str) -> list[str]:
        found = []
        for file in self.folder.rglob(name):
            with contextlib.suppress(OSError):  # its worker has ended
                found.append(file.read_text())
        return found

    @property
    def own_bytes(self) -> int:
        """What its processes have in memory that is no page of a file."""
        found = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        return sum(int(found[name]) for name in OWN[self.version])

    @property
    def kills(self) -> int:
        """Processes that the kernel has ended for want of memory, of groups that are still there."""
        lines = [line.split() for content in self._read(KILLS[self.version]) for line in content.splitlines()]
        return sum(int(words[1]) for words in lines if words[0] == "oom_kill")


@contextmanager
def limited(nbytes: int) -> Iterator[Group | None]:
    """A group with this limit until the block ends; None where none can be made."""
    group = made(nbytes)
    try:
        yield group
    finally:
        if group is not None:
            remove(group)


def made(nbytes: int) -> Group | None:
    """As far down as it goes: in version 2 a group that has processes of its own mostly cannot have others below it."""
    for version, mount, own in memberships():
        for parent in (own, *own.parents):
            if not parent.is_relative_to(mount):
                break
            folder = parent / f"headrace-benchmark-{os.getpid()}"
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                (folder / LIMITS[version]).write_text(str(nbytes))
            except OSError:
                folder.rmdir()
                continue
            return Group(folder, version)
    return None


def memberships() -> Iterator[tuple[str, Path, Path]]:
    """Version, where it is mounted, and the group of this process in it: of those that could bound memory."""
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        is_v1 = kind == "cgroup" and "memory" in options.split(",")
        if not is_v1 and kind != "cgroup2":
            continue
        for number, controllers, path in groups:
            if "memory" in controllers.split(",") if is_v1 else number == "0":
                yield "v1" if is_v1 else "v2", Path(mount), Path(mount) / path.lstrip("/")


def remove(group: Group) -> None:
    """End what is left in it, and it.

    Raises:
        OSError: something in it does not end.
    """
    ends = time.perf_counter() + GONE_LIMIT_S
    while True:
        for pid in group.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            for folder in group.folder.glob("*/"):
                folder.rmdir()
            group.folder.rmdir()
        except OSError:
            if time.perf_counter() > ends:
                raise
            time.sleep(0.05)
        else:
            return
