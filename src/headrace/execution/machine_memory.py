"""What memory there is: the machine's, and that of the control groups this process is in (v1 and v2).

Pages of files are not counted as taken, mapped ones neither: the kernel gives them up before it ends anybody. So usage is
the group's less its file pages, as MemAvailable is without them.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

KIB = 1024
V1_UNLIMITED = 1 << 62
"""No limit is the largest number of pages that the kernel can count, in bytes; nobody has a quarter of that."""


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """A control group with a limit. `where` is its folder; `used` is what all in it and below it have taken; bytes."""

    where: str
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes.

    Attributes:
        total: of the machine.
        available: of it, that could be taken now without anybody having to leave.
        groups: those with a limit that this process is in, the innermost first; each of their limits counts.
    """

    total: int
    available: int
    groups: tuple[GroupMemory, ...]


class MachineMemory:
    """Reads a few small files each time; which they are is looked up once."""

    def __init__(self, proc: Path = Path("/proc"), pid: int | None = None) -> None:
        """`proc` is where the kernel's files are; `pid` whose groups count, this process's if not given."""
        self._meminfo = proc / "meminfo"
        self._vmstat = proc / "vmstat"
        self._groups = groups_of(proc / ("self" if pid is None else str(pid)))

    def read(self) -> Reading:
        """As it is now."""
        machine = {name: number * KIB for name, number in _numbers(self._meminfo).items()}
        total = machine["MemTotal"]
        available = machine.get("MemAvailable", machine["MemFree"])
        return Reading(total, available, tuple(group for each in self._groups if (group := each.read())))

    def oom_kills(self) -> int:
        """Processes so far that the kernel ended for want of memory, in this process's own group.

        Of a v1 group those in groups below it are not in that number. Where no controller counts, it is the whole machine's.
        """
        for group in self._groups:
            if (kills := group.oom_kills()) is not None:
                return kills
        return _numbers(self._vmstat).get("oom_kill", 0)


@dataclass(frozen=True, slots=True)
class GroupV1:
    """A folder of the memory controller of the first version."""

    folder: Path

    def read(self) -> GroupMemory | None:
        """None if it has no limit, or is gone."""
        limit = _number(self.folder / "memory.limit_in_bytes")
        taken = self.taken()
        if limit is None or taken is None or limit >= V1_UNLIMITED:
            return None
        stat = _numbers(self.folder / "memory.stat")
        files = stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0)
        return GroupMemory(str(self.folder), limit, max(0, taken - files))

    def taken(self) -> int | None:
        """Bytes that count towards its limit, pages of files too; None if it is gone."""
        return _number(self.folder / "memory.usage_in_bytes")

    def oom_kills(self) -> int | None:
        """None where it is not counted."""
        return _numbers(self.folder / "memory.oom_control").get("oom_kill")


@dataclass(frozen=True, slots=True)
class GroupV2:
    """A folder of the one hierarchy of the second version."""

    folder: Path

    def read(self) -> GroupMemory | None:
        """None if it has no limit, or is gone. Beyond `memory.high` it would be slowed down: that is a limit, too."""
        bounds = (_number(self.folder / name) for name in ("memory.max", "memory.high"))
        limits = [bound for bound in bounds if bound is not None]
        taken = self.taken()
        if not limits or taken is None:
            return None
        stat = _numbers(self.folder / "memory.stat")
        files = stat.get("inactive_file", 0) + stat.get("active_file", 0)
        return GroupMemory(str(self.folder), min(limits), max(0, taken - files))

    def taken(self) -> int | None:
        """Bytes that count towards its limit, pages of files too; None if it is gone, or the root."""
        return _number(self.folder / "memory.current")

    def oom_kills(self) -> int | None:
        """None where it is not counted, as in the root."""
        return _numbers(self.folder / "memory.events").get("oom_kill")


Group = GroupV1 | GroupV2


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a hierarchy can be seen, and from which of its folders on."""

    point: Path
    root: PurePosixPath
    kind: str
    options: frozenset[str]


def groups_of(process: Path) -> tuple[Group, ...]:
    """A process's own memory group and those around it, the innermost first; none where there are no control groups.

    `process` is its folder in /proc. Where both versions are mounted, the memory controller is in one of them only.
    """
    mounts = _mounts(process / "mountinfo")
    for controllers, path in _memberships(process / "cgroup"):
        if "memory" in controllers:
            around = _around(
                path, (each for each in mounts if each.kind == "cgroup" and "memory" in each.options)
            )
            if around:
                return tuple(map(GroupV1, around))
    for controllers, path in _memberships(process / "cgroup"):
        if not controllers:
            return tuple(map(GroupV2, _around(path, (each for each in mounts if each.kind == "cgroup2"))))
    return ()


def _around(path: PurePosixPath, mounts: Iterable[Mount]) -> list[Path]:
    """Folders from the group's own to the top of what can be seen.

    In a container its group may be mounted as the root, or be told by a path that cannot be seen from there.
    """
    mount = next(iter(mounts), None)
    if mount is None:
        return []
    below = path.relative_to(mount.root) if path.is_relative_to(mount.root) else PurePosixPath()
    own = mount.point / below
    if ".." in below.parts or not own.is_dir():
        own = mount.point
    return [own, *(each for each in own.parents if each.is_relative_to(mount.point))]


def _memberships(file: Path) -> list[tuple[set[str], PurePosixPath]]:
    """Of /proc/PID/cgroup: controllers of each hierarchy, and the process's path there. The second version's has none."""
    found = []
    for line in _text(file).splitlines():
        _, controllers, path = line.split(":", 2)
        found.append(({each for each in controllers.split(",") if each}, PurePosixPath(path)))
    return found


def _mounts(file: Path) -> list[Mount]:
    """Of /proc/PID/mountinfo: control groups only."""
    found = []
    for line in _text(file).splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            root, point = before.split(" ")[3:5]
            found.append(Mount(Path(point), PurePosixPath(root), kind, frozenset(options.split(","))))
    return found


def _numbers(file: Path) -> dict[str, int]:
    """Lines of a name and a number; whatever else is in there is left out."""
    found = {}
    for line in _text(file).splitlines():
        name, _, value = line.replace(":", " ").partition(" ")
        with contextlib.suppress(ValueError, IndexError):
            found[name] = int(value.split()[0])
    return found


def _number(file: Path) -> int | None:
    """The number that is all of the file; None if there is no such file, or if it says `max`."""
    try:
        return int(_text(file))
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
