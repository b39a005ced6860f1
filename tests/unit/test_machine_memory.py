"""What memory there is: files of both versions of control groups as the kernel writes them, and a real group."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from headrace.execution.machine_memory import GroupMemory, MachineMemory

MIB = 1 << 20
UNLIMITED_V1 = "9223372036854771712\n"
PID = 7


class Machine:
    """A /proc and control groups, as files."""

    def __init__(self, root):
        self.root, self.proc = root, root / "proc"
        self.process = self.proc / str(PID)
        self.process.mkdir(parents=True)
        self.write(self.proc / "meminfo", "MemTotal:  8192 kB\nMemFree:  1024 kB\nMemAvailable:  2048 kB\n")
        self.write(self.proc / "vmstat", "nr_free_pages 12\noom_kill 3\n")
        self.belongs("0::/")
        self.mounts()

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def belongs(self, *lines):
        self.write(self.process / "cgroup", "".join(f"{line}\n" for line in lines))

    def mounts(self, *mounts):
        """(kind, where its root is, what of the hierarchy that is, options)"""
        lines = ["22 27 0:21 / /proc rw,relatime - proc proc rw"]
        lines += [
            f"35 31 0:32 {seen} {point} rw,relatime shared:9 - {kind} cgroup rw,{options}"
            for kind, point, seen, options in mounts
        ]
        self.write(self.process / "mountinfo", "".join(f"{line}\n" for line in lines))

    def v1(self, path="", limit=UNLIMITED_V1, used=0, inactive=0, active=0, kills=0):
        folder = self.root / "memory" / path
        self.write(folder / "memory.limit_in_bytes", str(limit))
        self.write(folder / "memory.usage_in_bytes", f"{used}\n")
        self.write(
            folder / "memory.stat",
            f"inactive_file 5\ntotal_inactive_file {inactive}\ntotal_active_file {active}\n",
        )
        self.write(folder / "memory.oom_control", f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
        return str(folder)

    def v2(self, path="", most="max", high="max", used=0, inactive=0, active=0, kills=0):
        folder = self.root / "unified" / path
        self.write(folder / "memory.max", f"{most}\n")
        self.write(folder / "memory.high", f"{high}\n")
        self.write(folder / "memory.current", f"{used}\n")
        self.write(folder / "memory.stat", f"anon 9\ninactive_file {inactive}\nactive_file {active}\n")
        self.write(folder / "memory.events", f"low 0\nhigh 4\nmax 9\noom 2\noom_kill {kills}\n")
        return str(folder)

    def memory(self):
        return MachineMemory(self.proc, PID)

    def groups(self):
        return list(self.memory().read().groups)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def v1(machine):
    machine.mounts(("cgroup", machine.root / "memory", "/", "memory"), ("cgroup", "/nowhere", "/", "cpu"))
    machine.belongs("5:cpu,cpuacct:/elsewhere", "4:memory:/pod/box", "0::/")
    return machine


@pytest.fixture
def v2(machine):
    machine.mounts(("cgroup2", machine.root / "unified", "/", "nsdelegate"))
    machine.belongs("0::/pod/box")
    return machine


def test_a_machine_without_groups_is_what_meminfo_says(machine):
    reading = machine.memory().read()
    assert (reading.total, reading.available, reading.groups) == (8 * MIB, 2 * MIB, ())


def test_what_is_free_is_available_where_nothing_else_is_known(machine):
    machine.write(machine.proc / "meminfo", "MemTotal: 8192 kB\nMemFree: 1024 kB\n")
    assert machine.memory().read().available == MIB


def test_a_v1_group_has_its_limit_and_its_use_without_pages_of_files(v1):
    v1.v1()
    v1.v1("pod")
    where = v1.v1("pod/box", limit=4 * MIB, used=3 * MIB, inactive=MIB, active=MIB // 2)
    assert v1.groups() == [GroupMemory(where, 4 * MIB, 3 * MIB // 2)]


def test_limits_of_v1_groups_around_it_count_too(v1):
    v1.v1()
    outer = v1.v1("pod", limit=2 * MIB, used=MIB)
    inner = v1.v1("pod/box", limit=4 * MIB, used=10)
    assert v1.groups() == [GroupMemory(inner, 4 * MIB, 10), GroupMemory(outer, 2 * MIB, MIB)]


def test_no_limit_in_v1_is_none(v1):
    for path in ("", "pod", "pod/box"):
        v1.v1(path, used=MIB)
    assert v1.groups() == []


def test_a_v2_group_has_its_limit_and_its_use_without_pages_of_files(v2):
    v2.v2("pod", used=7 * MIB)
    where = v2.v2("pod/box", most=4 * MIB, used=3 * MIB, inactive=MIB, active=MIB // 2)
    assert v2.groups() == [GroupMemory(where, 4 * MIB, 3 * MIB // 2)]


@pytest.mark.parametrize(("most", "high", "limit"), [(4, 3, 3), (3, 4, 3), ("max", 2, 2), (5, "max", 5)])
def test_a_v2_group_that_would_be_slowed_down_first_is_limited_there(v2, most, high, limit):
    where = v2.v2("pod/box", most=most, high=high, used=1)
    assert v2.groups() == [GroupMemory(where, limit, 1)]


def test_limits_of_v2_groups_around_it_count_too(v2):
    outer = v2.v2("pod", most=2 * MIB, used=MIB)
    v2.v2("pod/box", used=MIB)
    assert v2.groups() == [GroupMemory(outer, 2 * MIB, MIB)]


def test_a_v2_hierarchy_beside_the_memory_controller_of_v1_says_nothing(v1):
    v1.mounts(
        ("cgroup2", v1.root / "unified", "/", "nsdelegate"), ("cgroup", v1.root / "memory", "/", "memory")
    )
    v1.v2("pod/box", most=MIB)
    where = v1.v1("pod/box", limit=4 * MIB)
    assert v1.groups() == [GroupMemory(where, 4 * MIB, 0)]


def test_a_container_sees_its_own_group_as_the_root(machine):
    machine.mounts(("cgroup", machine.root / "memory", "/docker/abc", "memory"))
    machine.belongs("4:memory:/docker/abc/inner", "0::/")
    outer = machine.v1(limit=4 * MIB)
    inner = machine.v1("inner", limit=3 * MIB)
    assert machine.groups() == [GroupMemory(inner, 3 * MIB, 0), GroupMemory(outer, 4 * MIB, 0)]


@pytest.mark.parametrize("path", ["/docker/abc", "/../../elsewhere"])
def test_a_group_that_cannot_be_seen_from_here_is_the_root_that_can(machine, path):
    machine.mounts(("cgroup2", machine.root / "unified", "/", "nsdelegate"))
    machine.belongs(f"0::{path}")
    where = machine.v2(most=4 * MIB)
    assert machine.groups() == [GroupMemory(where, 4 * MIB, 0)]


def test_a_group_that_goes_has_no_limit(v2):
    v2.v2("pod/box", most=MIB, used=1)
    memory = v2.memory()
    assert memory.read().groups
    for name in ("memory.max", "memory.current"):
        (v2.root / "unified" / "pod" / "box" / name).unlink()
    assert not memory.read().groups


def test_kills_are_those_of_its_own_group(v1, tmp_path):
    v1.v1("pod/box", kills=2)
    v1.v1("pod", kills=9)
    assert v1.memory().oom_kills() == 2
    other = Machine(tmp_path / "other")
    other.mounts(("cgroup2", other.root / "unified", "/", "nsdelegate"))
    other.belongs("0::/box")
    other.v2("box", kills=4)
    assert other.memory().oom_kills() == 4


def test_kills_are_the_machines_where_no_group_counts_them(machine):
    assert machine.memory().oom_kills() == 3
    (machine.proc / "vmstat").unlink()
    assert machine.memory().oom_kills() == 0


REAL = Path("/sys/fs/cgroup/memory")
"""Of the first version, as it is mounted nearly everywhere."""
TAKES = """
import sys
sys.stdin.readline()
held = bytearray(int(sys.argv[1]))
for place in range(0, len(held), 4096):
    held[place] = 1
print("taken", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def group():
    """A real control group, empty and without a limit, gone afterwards."""
    folder = REAL / f"headrace-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"no control group of the first version can be made here: {exc}")
    yield folder
    folder.rmdir()


def child_in(group, nbytes):
    """A process in the group that takes so many bytes once it is told to."""
    child = subprocess.Popen(
        [sys.executable, "-c", TAKES, str(nbytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    (group / "cgroup.procs").write_text(str(child.pid))
    return child


def end(child):
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()


def test_a_real_group_says_what_a_process_in_it_has_taken(group):
    (group / "memory.limit_in_bytes").write_text(str(200 * MIB))
    child = child_in(group, 64 * MIB)
    try:
        memory = MachineMemory(pid=child.pid)
        before = memory.read().groups[0]
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "taken\n"
        after = memory.read().groups[0]
        assert (after.where, after.limit) == (str(group), 200 * MIB)
        assert 64 * MIB <= after.used - before.used < 80 * MIB
        assert memory.oom_kills() == 0
    finally:
        end(child)


def test_a_real_group_counts_whom_the_kernel_ends(group):
    (group / "memory.limit_in_bytes").write_text(str(32 * MIB))
    child = child_in(group, 128 * MIB)
    try:
        memory = MachineMemory(pid=child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.wait(40) == -9
        assert memory.oom_kills() == 1
        assert MachineMemory(pid=os.getpid()).oom_kills() >= 0
    finally:
        end(child)


def test_this_machine_has_more_than_it_has_taken():
    reading = MachineMemory().read()
    assert 0 < reading.available < reading.total
