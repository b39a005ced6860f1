"""Where workers have control groups, and where they have none: files as the kernel writes them."""

import os
import shutil
from pathlib import Path

import pytest

from headrace.execution.limits import SLACK_BYTES, group_limit
from headrace.execution.worker_groups import GRAIN, HIGH, WorkerGroups, find_groups

ME, DEAD = os.getpid(), 2**22 + 1  # above the highest number the kernel gives
MIB = 1 << 20
LEAF = f"headrace-{ME}"


class Machine:
    """A /proc, and this process's own group; folders that are made there have files in them, as the kernel's have."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc, self.top = root / "proc", root / "groups"
        (self.proc / str(ME)).mkdir(parents=True)
        self.top.mkdir()
        self.own = self.top
        self.refuses: set[Path] = set()
        mkdir, write_text = Path.mkdir, Path.write_text

        def made(folder: Path) -> None:
            mkdir(folder)
            for name in ("cgroup.procs", "memory.max", "memory.high", "memory.limit_in_bytes"):
                write_text(folder / name, "")
            write_text(folder / "memory.current", f"{MIB}\n")
            write_text(folder / "memory.events", "oom 1\noom_kill 0\n")

        def written(file: Path, text: str) -> int:
            if file in self.refuses:
                raise PermissionError(1, "Operation not permitted")
            return write_text(file, text)

        monkeypatch.setattr(Path, "mkdir", made)
        monkeypatch.setattr(Path, "rmdir", shutil.rmtree)
        monkeypatch.setattr(Path, "write_text", written)

    def is_in(self, kind: str, path: str, members: tuple[int, ...] = (ME,)) -> Path:
        """The process's group is at that path of a hierarchy of that kind."""
        options = "memory" if kind == "cgroup" else "nsdelegate"
        mounted = f"35 31 0:32 / {self.top} rw shared:9 - {kind} cgroup rw,{options}\n"
        (self.proc / str(ME) / "mountinfo").write_text(mounted)
        (self.proc / str(ME) / "cgroup").write_text(f"{'4:memory' if kind == 'cgroup' else '0:'}:/{path}\n")
        self.own = self.top / path
        if path:
            self.own.mkdir()
        (self.own / "cgroup.procs").write_text("".join(f"{each}\n" for each in members))
        (self.own / "cgroup.subtree_control").write_text("")
        (self.own / "cgroup.controllers").write_text("cpu memory pids\n")
        (self.own / "memory.use_hierarchy").write_text("1\n")
        return self.own

    def find(self) -> WorkerGroups:
        return find_groups(self.proc, ME)

    def below(self) -> set[str]:
        return {each.name for each in self.own.iterdir() if each.is_dir()}

    def says(self, name: str) -> str:
        return (self.own / name).read_text()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def delegate(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"user.delegate": b"1"}
    monkeypatch.setattr(os, "getxattr", lambda _, name: said.get(name, b""))


def test_in_v2_the_gateway_moves_below_its_own_group_and_back_when_all_is_over(machine):
    own = machine.is_in("cgroup2", "")
    groups = machine.find()
    assert groups.arguments == (str(own / LEAF),)
    assert machine.says(f"{LEAF}/cgroup.procs") == str(ME)
    assert machine.says("cgroup.subtree_control") == "+memory"
    groups.close()
    assert machine.says("cgroup.subtree_control") == "-memory"
    assert machine.says("cgroup.procs") == str(ME)
    assert (machine.below(), groups.arguments) == (set(), ())


def test_in_v2_a_limit_slows_down_a_little_before_it_ends(machine):
    own = machine.is_in("cgroup2", "")
    groups = machine.find()
    worker = groups.of(DEAD)
    worker.bound(5 * GRAIN)  # it has not made its group yet
    folder = own / f"{LEAF}-{DEAD}"
    folder.mkdir()
    worker.bound(5 * GRAIN - 1)
    assert (folder / "memory.max").read_text() == str(5 * GRAIN)
    assert (folder / "memory.high").read_text() == str(round(HIGH * 5 * GRAIN))
    (folder / "memory.current").write_text(str(3 * GRAIN))
    worker.bound(GRAIN)
    assert (folder / "memory.max").read_text() == str(4 * GRAIN)
    assert not worker.was_killed()
    (folder / "memory.events").write_text("oom 1\noom_kill 1\n")
    assert worker.was_killed()
    worker.remove()
    assert machine.below() == {LEAF}


def test_in_v2_where_memory_cannot_be_controlled_below_all_is_as_it_was(machine):
    own = machine.is_in("cgroup2", "")
    machine.refuses.add(own / "cgroup.subtree_control")
    assert not machine.find().arguments
    assert (machine.below(), machine.says("cgroup.procs")) == (set(), str(ME))


def test_in_v2_that_root_may_write_there_is_not_enough(machine, monkeypatch):
    own = machine.is_in("cgroup2", "service")
    os.chown(own, 0, -1) if os.geteuid() == 0 else pytest.skip("only root can make a folder root's")
    assert not machine.find().arguments
    delegate(monkeypatch)
    assert machine.find().arguments


def test_in_v1_nothing_is_moved(machine):
    own = machine.is_in("cgroup", "box")
    groups = machine.find()
    assert groups.arguments == (str(own / LEAF),)
    assert machine.below() == set()
    groups.close()
    assert machine.says("cgroup.procs") == f"{ME}\n"


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
@pytest.mark.parametrize("others", [(1, ME), (ME, DEAD), (ME, 0), (DEAD,), ()])
def test_a_group_that_others_are_in_is_not_divided(machine, kind, others):
    machine.is_in(kind, "", others)
    assert not machine.find().arguments
    assert machine.below() == set()


@pytest.mark.parametrize(
    ("kind", "file", "said"),
    [("cgroup", "memory.use_hierarchy", "0\n"), ("cgroup2", "cgroup.controllers", "cpu pids\n")],
)
def test_a_group_that_would_not_count_what_is_taken_below_is_not_divided(machine, kind, file, said):
    own = machine.is_in(kind, "")
    (own / file).write_text(said)
    assert not machine.find().arguments


def test_without_groups_there_is_nothing_to_do(machine):
    for name in ("mountinfo", "cgroup"):
        (machine.proc / str(ME) / name).write_text("")
    groups = machine.find()
    worker = groups.of(DEAD)
    worker.bound(GRAIN)
    worker.remove()
    groups.close()
    assert not groups.arguments


def test_what_a_dead_gateway_has_left_is_removed_and_nothing_else(machine):
    own = machine.is_in("cgroup", "")
    (machine.proc / "77").mkdir()
    for name in (
        f"headrace-{DEAD}",
        f"headrace-{DEAD}-5",
        f"{LEAF}-5",
        "headrace-77-5",
        "other",
        "headrace-x",
    ):
        (own / name).mkdir()
    machine.find()
    assert machine.below() == {"headrace-77-5", "other", "headrace-x"}


@pytest.mark.parametrize("data", [300 * MIB, 8192 * MIB])
def test_who_is_refused_memory_is_far_from_being_ended_for_it(data):
    assert group_limit(data, 0) - data > max(SLACK_BYTES, data // 5)
    assert group_limit(data, 100 * MIB) - group_limit(data, 0) >= 100 * MIB
