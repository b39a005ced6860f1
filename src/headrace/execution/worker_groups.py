"""A memory control group for each worker, where this process may make groups: for a limit, and to know whom the kernel ended.

A group is divided where it is this process's alone: nobody else is in it. In version 2, which has processes in the lowest groups
only, the gateway moves into one below first, and back when all is over; and that root may write there is not enough,
since a service manager may reckon with the group as it is: it has to be delegated, or the top of what can be seen.

A worker makes its group itself (linux.enter_group), first of all it does: to enter one takes milliseconds, for which the
gateway would stand still.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from headrace.execution.limits import KernelKills
from headrace.execution.machine_memory import Group, GroupV1, GroupV2, groups_of

NAME = re.compile(r"headrace-(\d+)(?:-\d+)?")
"""The numbers of a gateway's process, and of its worker's."""
MEMBERS, FOR_CHILDREN = "cgroup.procs", "cgroup.subtree_control"
DELEGATED = ("user.delegate", "trusted.delegate")
"""Attributes by which systemd says of a folder that others may make groups there."""
GRAIN = 64 << 20
"""Limits are multiples of it: nothing is written for less."""
HIGH = 63 / 64
"""Of the limit, where version 2 begins to take back pages of files. Not lower: from there on it slows the process down, by the
square of what it is beyond that, and one that was slowed down much would be taken for hanging."""
GONE_S = 1.0
"""For what is left in groups to end, when the gateway does."""

log = structlog.get_logger()


class WorkerGroups:
    """Where workers' groups are; by default they have none. Lives on the loop."""

    def __init__(
        self, parent: Group | None = None, leaf: Path | None = None, kills: KernelKills | None = None
    ) -> None:
        """`parent` is the group that is divided, `leaf` the folder below it that this process is in, if it is in one."""
        self._parent = parent
        self._leaf = leaf
        self._kills = kills or KernelKills()
        # The mutable state: folders of groups that may still be there, and whether their workers have ended.
        self._made: dict[Path, bool] = {}

    @property
    def arguments(self) -> tuple[str, ...]:
        """For a worker's command line: how its group's folder begins; nothing where it is to have none."""
        return () if self._parent is None else (str(name_of(self._parent.folder)),)

    def of(self, pid: int) -> "WorkerGroup":
        """The group of a process that was started with the arguments."""
        if self._parent is None:
            return WorkerGroup(None, self._kills, self._let_go)
        folder = Path(f"{name_of(self._parent.folder)}-{pid}")
        self._made[folder] = False
        return WorkerGroup(type(self._parent)(folder), self._kills, self._let_go)

    def close(self) -> None:
        """End what is left in groups, and leave all as it was found."""
        until = time.monotonic() + GONE_S
        while self._sweep(list(self._made)) and time.monotonic() < until:
            time.sleep(0.01)
        if self._parent is not None and self._leaf is not None:
            move_back(self._parent.folder, self._leaf, os.getpid())
        self._parent = self._leaf = None

    def _let_go(self, folder: Path) -> None:
        self._made[folder] = True
        self._sweep([each for each, has_ended in self._made.items() if has_ended])

    def _sweep(self, folders: list[Path]) -> bool:
        """Remove them; True if some are still there, as something in them has not ended yet."""
        for each in folders:
            if cleared(each):
                del self._made[each]
        return bool(self._made)


class WorkerGroup:
    """Of one worker process. Until the process has made it, and where none can be made, it is in the gateway's."""

    def __init__(self, group: Group | None, kills: KernelKills, let_go: Callable[[Path], None]) -> None:
        self._group = group
        self._kills = kills
        self._on_removed = let_go
        # The mutable state: its limit.
        self._limit = 0

    def was_killed(self) -> bool:
        """Asked once, of a process that was killed: whether the kernel did that, for want of memory."""
        own = None if self._group is None else self._group.oom_kills()
        return self._kills.take() if own is None else own > 0

    def bound(self, nbytes: int) -> None:
        """Have the kernel end it where it takes more. Can be moved, but never below what it has: that would end it at once."""
        wanted = -(-nbytes // GRAIN) * GRAIN
        if self._group is None or wanted == self._limit or (taken := self._group.taken()) is None:
            return
        self._limit = wanted
        limit = max(wanted, taken + GRAIN)
        match self._group:
            case GroupV1(folder):
                write(folder / "memory.limit_in_bytes", limit)
            case GroupV2(folder):
                write(folder / "memory.high", round(HIGH * limit))
                write(folder / "memory.max", limit)

    def remove(self) -> None:
        """The process has ended and was waited for. What else it started there is ended, too."""
        if self._group is not None:
            self._on_removed(self._group.folder)


def find_groups(proc: Path = Path("/proc"), pid: int | None = None) -> WorkerGroups:
    """Whether workers can have groups here; what gateways left there that were killed is removed.

    Args:
        proc: where the kernel's files are.
        pid: the process whose group is divided; this one if not given.
    """
    found = groups_of(proc / ("self" if pid is None else str(pid)))
    me = pid or os.getpid()
    if not found or members(found[0].folder) != [me] or not is_divisible(found[0], is_top=len(found) == 1):
        log.debug("workers_without_groups", where=str(found[0].folder) if found else None)
        return WorkerGroups()
    parent = found[0]
    remove_leftovers(parent.folder, proc)
    leaf = name_of(parent.folder)
    try:
        leaf.mkdir()
        if isinstance(parent, GroupV1):
            leaf.rmdir()
            return WorkerGroups(parent)
        move_below(parent.folder, leaf, me)
    except OSError as exc:
        log.debug("workers_without_groups", where=str(parent.folder), reason=exc.strerror)
        return WorkerGroups()
    return WorkerGroups(parent, leaf)


def is_divisible(group: Group, *, is_top: bool) -> bool:
    """Whether groups may be made below it, and what is taken there counts in it. `is_top`: none is to be seen around it."""
    folder = group.folder
    if isinstance(group, GroupV1):
        return text(folder / "memory.use_hierarchy").strip() == "1" and os.access(folder, os.W_OK)
    if "memory" not in text(folder / "cgroup.controllers").split() or not os.access(folder, os.W_OK):
        return False
    return is_top or folder.stat().st_uid != 0 or any(attribute(folder, name) == b"1" for name in DELEGATED)


def move_below(own: Path, leaf: Path, pid: int) -> None:
    """Move a process from a group of version 2 to one below, so that others below it can have memory controlled.

    Raises:
        OSError: it cannot be done; all is as it was.
    """
    try:
        (leaf / MEMBERS).write_text(str(pid))
        (own / FOR_CHILDREN).write_text("+memory")
    except OSError:
        move_back(own, leaf, pid)
        raise


def move_back(own: Path, leaf: Path, pid: int) -> None:
    write(own / FOR_CHILDREN, "-memory")
    write(own / MEMBERS, pid)
    with contextlib.suppress(OSError):
        leaf.rmdir()


def remove_leftovers(folder: Path, proc: Path) -> None:
    """Of gateways that have ended without removing their groups; one of this process's number may be another in it."""
    for each in list(folder.iterdir()):
        if (named := NAME.fullmatch(each.name)) is None:
            continue
        if int(named[1]) == os.getpid():
            with contextlib.suppress(OSError):  # the workers of the other
                each.rmdir()
        elif not (proc / named[1]).exists():
            cleared(each)


def cleared(folder: Path) -> bool:
    """End what is in a group, and remove it; False if it is still there, since something in it has not ended yet."""
    for pid in members(folder):
        if pid > 0:  # else it is one that cannot be seen from here
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def name_of(folder: Path) -> Path:
    """What this process's groups below it are called, to begin with."""
    return folder / f"headrace-{os.getpid()}"


def members(folder: Path) -> list[int]:
    return [int(each) for each in text(folder / MEMBERS).split()]


def text(file: Path) -> str:
    """What is in a kernel's file; nothing if it cannot be read."""
    try:
        return file.read_text()
    except OSError:
        return ""


def attribute(folder: Path, name: str) -> bytes:
    try:
        return os.getxattr(folder, name)
    except OSError:
        return b""


def write(file: Path, value: object) -> None:
    """Into a kernel's file; where it refuses, all is left as it is."""
    with contextlib.suppress(OSError):
        file.write_text(str(value))
