"""Workers in control groups of their own: made, bounded, looked at when one is killed, and removed."""

import asyncio
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.execution.footprint import Footprint
from headrace.execution.machine_memory import Group
from headrace.execution.supervisor import WorkerEvents
from headrace.execution.wire import Load
from headrace.execution.worker_groups import GRAIN, WorkerGroup, WorkerGroups
from headrace.execution.workers import Workers
from tests.integration.groups import below, greedy, made_group, members, set_limit
from tests.integration.process import PATIENCE_S, ServerProcess, children, eventually, is_running
from tests.integration.wire import Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

MIB = 1 << 20
A_ROW = 40 * MIB
TAKES = """
import mmap, subprocess, sys
from headrace.execution.linux import enter_group
enter_group(sys.argv[1])
print("entered", flush=True)
held = []
for line in sys.stdin:
    if line == "start another\\n":
        print(subprocess.Popen(["sleep", "600"], stdin=-3, stdout=-3, start_new_session=True).pid, flush=True)
        continue
    held.append(mmap.mmap(-1, int(line)))  # shared: no address space for data
    for place in range(0, len(held[-1]), 4096):
        held[-1][place] = 1
    print("taken", flush=True)
"""
ENTER = 'echo $$ > "$0" && exec "$@"'


@pytest.fixture
def parent() -> Iterator[Group]:
    with made_group(limit=1024 * MIB) as group:
        yield group


class Child:
    """A process that enters a group as a worker does, and takes memory as it is told."""

    def __init__(self, groups: WorkerGroups) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKES, *groups.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.group: WorkerGroup = groups.of(self.process.pid)
        assert self.hear() == "entered"

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, what: object) -> str:
        """What it answers; nothing if that has ended it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self) -> int:
        self.process.kill()
        self.process.communicate()
        self.group.remove()
        return self.process.returncode


@pytest.fixture
def groups(parent: Group) -> Iterator[WorkerGroups]:
    groups = WorkerGroups(parent)
    yield groups
    groups.close()
    assert not below(parent.folder)


@pytest.fixture
def child(groups: WorkerGroups) -> Iterator[Child]:
    child = Child(groups)
    yield child
    child.end()


def test_who_takes_more_than_the_own_limit_is_ended_and_that_is_known(child, groups):
    beside = Child(groups)
    child.group.bound(192 * MIB)
    assert child.tell(100 * MIB) == "taken"
    assert child.tell(200 * MIB) == ""
    assert child.process.wait() == -signal.SIGKILL
    assert child.group.was_killed()
    assert beside.end() == -signal.SIGKILL
    assert not beside.group.was_killed()


def test_whom_the_limit_around_it_ends_is_known_too(child, parent):
    set_limit(parent, 128 * MIB)
    assert child.tell(300 * MIB) == ""
    assert child.group.was_killed()


def test_what_a_worker_takes_counts_in_the_group_around_it(child, parent):
    before = parent.read()
    assert child.tell(300 * MIB) == "taken"
    after = parent.read()
    assert before is not None
    assert after is not None
    assert 300 * MIB <= after.used - before.used < 330 * MIB


def test_whom_somebody_else_killed_the_kernel_did_not(child):
    child.process.kill()
    child.process.wait()
    assert not child.group.was_killed()


def test_a_limit_can_be_moved_up_and_down_but_not_below_what_is_there(child):
    child.group.bound(64 * MIB)
    child.group.bound(512 * MIB)
    assert child.tell(300 * MIB) == "taken"
    child.group.bound(GRAIN)
    assert child.tell(MIB) == "taken"
    assert child.tell(200 * MIB) == ""


def test_what_a_worker_has_started_ends_with_it(child, parent):
    started = int(child.tell("start another"))
    assert sorted(members(below(parent.folder)[0])) == sorted([child.process.pid, started])
    child.end()
    eventually(lambda: not is_running(started), "it has ended")


async def test_a_workers_group_is_bounded_with_its_address_space_and_well_above_that(
    groups, parent, tmp_path
):
    path = tmp_path / "m.fake"
    path.write_text("{}")
    ready, ended = asyncio.Event(), asyncio.Event()
    events = WorkerEvents(
        lambda *_: ready.set(), lambda *_: ready.set(), lambda *_: ended.set(), lambda: None
    )
    async with asyncio.timeout(PATIENCE_S):
        worker = Workers(groups=groups).hire(Load("m", "1", str(path), "fake", 2, 8, 8), events)
        await ready.wait()
        limits = []
        for runs in (MIB, 512 * MIB, MIB):
            worker.bound(Footprint(0, 0, {4: {1: MIB}}), runs)
            data, _ = resource.prlimit(worker.pid, resource.RLIMIT_DATA)
            (group,) = (type(parent)(each).read() for each in below(parent.folder))
            assert group is not None
            assert group.limit > 1.25 * data
            limits.append(group.limit)
        assert limits[0] == limits[2] < limits[1]
        worker.stop()
        await ended.wait()
    assert not below(parent.folder)


def test_a_server_alone_in_its_group_gives_each_worker_one_and_leaves_none(parent, tmp_path):
    (tmp_path / "greedy").mkdir()
    (tmp_path / "greedy" / "model.py").write_text(greedy(A_ROW, 8))
    dead = subprocess.Popen(["true"])
    dead.wait()
    (parent.folder / f"headrace-{dead.pid}-1").mkdir()
    inside = ("sh", "-c", ENTER, str(parent.folder / "cgroup.procs"))
    server = ServerProcess(
        [tmp_path], tmp_path / "profiles", "--deadline-s", "60", "--no-measure-memory", before=inside
    )
    try:
        server.wait_ready()
        workers = children(server.pid)
        assert {name(server, pid) for pid in workers} == {each.name for each in below(parent.folder)}
        assert all(members(parent.folder / name(server, pid)) == [pid] for pid in workers)
        heard, before = ask_too_much(server, parent)
        assert heard == [2.0 * at for at in range(6)]
        assert parent.oom_kills() == before, "who was killed was not in the server's own group"
        with server.connect() as wire:
            metrics = wire.get("/metrics").body.decode()
        assert re.search(r'inference_out_of_memory_total\{skill="greedy",.*\} [1-9]', metrics), metrics
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert not below(parent.folder)
    finally:
        server.process.kill()
        server.process.communicate()


def name(server: ServerProcess, pid: int) -> str:
    return f"headrace-{server.pid}-{pid}"


def ask_too_much(server: ServerProcess, parent: Group) -> tuple[list[float], int | None]:
    """All at once, of a worker that has no memory for two; and kills before, in the server's own group."""
    greedy = next(pid for pid in children(server.pid) if "greedy" in title(pid))
    group = type(parent)(parent.folder / name(server, greedy))
    set_limit(group, (group.taken() or 0) + A_ROW + A_ROW // 2)
    before = parent.oom_kills()
    with ThreadPoolExecutor(6) as pool:
        heard = list(pool.map(lambda at: ask(server, at), range(6)))
    assert not is_running(greedy), "it was ended"
    return heard, before


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def ask(server: ServerProcess, value: int) -> float:
    request = message(
        "POST", "/v2/models/greedy/infer", dumps({"inputs": [tensor("x", "FP32", [1, 1], [float(value)])]})
    )
    with Wire(server.host, server.port) as wire:
        wire.send(request)
        answer = wire.receive()
    assert answer.status == 200, answer.body
    first: float = answer.json()["outputs"][0]["data"][0]
    return first


def test_a_server_that_is_not_alone_in_its_group_divides_it_not(parent, tmp_path):
    (tmp_path / "m.fake").write_text("{}")
    inside = ("sh", "-c", ENTER, str(parent.folder / "cgroup.procs"))
    other = subprocess.Popen([*inside, "sleep", "600"])
    server = ServerProcess([tmp_path], tmp_path / "profiles", before=inside)
    try:
        eventually(lambda: other.pid in members(parent.folder), "it is there first")
        server.wait_ready()
        assert sorted(members(parent.folder)) == sorted([other.pid, server.pid, *children(server.pid)])
    finally:
        for process in (other, server.process):
            process.kill()
            process.communicate()
    assert not below(parent.folder)
