"""Small models that share a process: they answer as if alone, and nobody pays for what another one does, but by a restart."""

import asyncio
import errno
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from headrace.execution import supervisor, workers
from headrace.execution.death import Death
from headrace.execution.process_memory import private_bytes
from headrace.execution.steps import FaultKind, Step
from headrace.execution.supervisor import WorkerEvents
from headrace.execution.wire import Done, Load, Ready
from headrace.execution.workers import Workers
from headrace.lifecycle.version import ModelVersion
from headrace.testing import RunningServer, fault, run_server
from tests.integration import graphs
from tests.integration.faults.scene import callers, load, version_of
from tests.integration.process import PATIENCE_S, children, descriptors, eventually, is_running
from tests.integration.test_golden import golden_run
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

MODELS = 10
CYCLES, WARM = 40, 10
MOST_GROWTH = 3 << 20
"""Of a process in so many loads: a session that stayed would be half of that alone."""


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("ten")
    for at in range(MODELS):
        graphs.times(folder / f"m{at}.onnx", at + 1.0)
    with run_server([folder], profile_dir=profiles, sessions_per_worker=MODELS, watch=False) as server:
        yield server


@contextmanager
def sharing(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch, **scripts: dict[str, object]
) -> Iterator[RunningServer]:
    """Fake models that share a process, since they do as they are told."""
    monkeypatch.setattr(workers, "MAY_SHARE", frozenset({"fake"}))
    folder = tmp_path / "models"
    folder.mkdir()
    for name, script in scripts.items():
        (folder / f"{name}.fake").write_text(json.dumps(script))
    settings = {"sessions_per_worker": 4, "hang_floor_s": 0.6, "deadline_s": PATIENCE_S}
    with run_server([folder], profile_dir=profiles, **settings) as server:
        yield server


def pid_of(version: ModelVersion) -> int:
    pid = version.snapshot().pid
    assert pid is not None, f"{version.source.name} has a worker"
    return pid


def pids_of(server: RunningServer) -> dict[str, int]:
    return {version.source.name: pid_of(version) for version in server.server.catalog}


def is_whole(server: RunningServer) -> bool:
    return all(version.state == "READY" for version in server.server.catalog)


def ask(server: RunningServer, name: str, value: float = 1) -> Answer:
    with Wire(server.host, server.port) as wire:
        return wire.infer(name, {"inputs": [tensor("x", "FP32", [1, 4], [value, 2, 3, 4])]})


def assert_works(server: RunningServer, name: str) -> None:
    assert ask(server, name, 9).json()["outputs"][0]["data"] == [18, 4, 6, 8]


def test_ten_models_in_one_process_answer_at_once_each_as_itself(ten: RunningServer) -> None:
    assert len(set(pids_of(ten).values())) == 1
    wrong: list[str] = []

    def ask_again_and_again(at: int) -> None:
        with Wire(ten.host, ten.port) as wire:
            for number in range(20):
                answer = wire.infer(f"m{at}", {"inputs": [tensor("x", "FP32", [1, 2], [number, 1])]})
                if answer.status != 200 or answer.json()["outputs"][0]["data"] != [
                    number * (at + 1),
                    at + 1,
                ]:
                    wrong.append(f"m{at} {number}: {answer.raw[:200]!r}")

    threads = [threading.Thread(target=ask_again_and_again, args=[at]) for at in range(MODELS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_process_says_what_it_serves(ten: RunningServer) -> None:
    (pid,) = set(pids_of(ten).values())
    title = Path(f"/proc/{pid}/cmdline").read_text()
    assert title.startswith("headrace: worker ")
    assert all(f"m{at}/1" in title for at in range(MODELS))
    (shared,) = ten.server.catalog.workers.shared()
    assert shared.pid == pid
    assert sorted(shared.labels) == [f"m{at}/1" for at in range(MODELS)]


def test_no_runtime_keeps_a_book_of_its_use(ten: RunningServer) -> None:
    for pid in set(pids_of(ten).values()):
        opened = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [each for each in opened if ".onnxruntime" in each]


def test_models_that_come_and_go_leave_nothing_in_a_process_that_stays(ten: RunningServer) -> None:
    pid = pids_of(ten)["m0"]
    held: list[tuple[int, int, int]] = []
    for _ in range(WARM + CYCLES):
        load(ten, "m3", "unload")
        eventually(lambda: "m3/1" not in ten.server.catalog.workers.shared()[0].labels, "it has left")
        assert load(ten, "m3") == 200
        held.append((private_bytes(pid), descriptors(pid), len(list(Path(f"/proc/{pid}/task").iterdir()))))
    assert pids_of(ten)["m3"] == pid
    before, after = held[WARM], held[-1]
    assert after[1:] == before[1:], "descriptors and threads"
    assert after[0] - before[0] < MOST_GROWTH


def test_models_that_leave_at_once_leave_nothing_behind(ten: RunningServer) -> None:
    pid = pids_of(ten)["m0"]
    names = [f"m{at}" for at in range(1, MODELS)]
    left: list[int] = []
    for _ in range(4):
        with ThreadPoolExecutor(len(names)) as pool:
            assert set(pool.map(lambda name: load(ten, name, "unload"), names)) == {200}
        eventually(lambda: ten.server.catalog.workers.shared()[0].labels == ("m0/1",), "they have left")
        left.append(descriptors(pid))
        with ThreadPoolExecutor(len(names)) as pool:
            assert set(pool.map(lambda name: load(ten, name), names)) == {200}
    assert len(set(left)) == 1, left


def test_a_process_that_is_killed_under_load_costs_nobody_an_answer(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: dict[str, dict[str, object]] = {name: {"seconds": 0.005} for name in "abc"}
    with (
        sharing(tmp_path, profiles, monkeypatch, **scripts) as server,
        callers(server, "a", "b", "c") as asking,
    ):
        killed = pids_of(server)["a"]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: not is_running(killed) and is_whole(server), "all are there again")
        answered = [each.statuses[200] for each in asking]
        eventually(
            lambda: all(each.statuses[200] > before for each, before in zip(asking, answered, strict=True)),
            "all answer",
        )
        assert len(set(pids_of(server).values())) == 1, "a kill from outside is no reason to part them"
    assert all(set(each.statuses) == {200} for each in asking), [each.statuses for each in asking]


@pytest.mark.parametrize("said", ["segfault", "hang"])
def test_a_model_that_ends_its_process_gets_one_of_its_own_and_its_neighbours_are_excused(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    switch = tmp_path / "switch"
    scripts: dict[str, dict[str, object]] = {"bad": {"switch": str(switch)}, "good": {}, "fine": {}}
    with sharing(tmp_path, profiles, monkeypatch, **scripts) as server:
        assert len(set(pids_of(server).values())) == 1
        switch.write_text(json.dumps({"fault": said, "golden_too": False}))
        assert ask(server, "bad").status >= 500
        switch.unlink()
        eventually(lambda: is_whole(server), "all are there again")
        pids = pids_of(server)
        assert pids["good"] == pids["fine"] != pids["bad"]
        bad, good = version_of(server, "bad").snapshot().crash, version_of(server, "good").snapshot().crash
        assert bad is not None
        assert good is not None
        assert "in _switched" in bad.trace
        assert good.reason.startswith("shared a process with bad/1, and that was ")
        assert not good.trace
        for name in ("good", "fine"):
            assert_works(server, name)
        eventually(lambda: ask(server, "bad", 9).status == 200, "it answers again")


def test_what_cannot_be_loaded_is_refused_and_the_others_serve_on(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: dict[str, dict[str, object]] = {"bad": {"load_fails": "told to"}, "good": {}}
    with sharing(tmp_path, profiles, monkeypatch, **scripts) as server:
        assert (version_of(server, "bad").state, version_of(server, "bad").reason) == (
            "UNAVAILABLE",
            "told to",
        )
        assert_works(server, "good")
        eventually(lambda: server.server.catalog.workers.shared()[0].labels == ("good/1",), "it has left")
        assert version_of(server, "good").snapshot().deaths == 0


def test_what_raises_while_it_is_loaded_is_refused_and_ends_nobody_else(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        fault(Step.OPENED, FaultKind.RAISE, model="bad"),
        sharing(tmp_path, profiles, monkeypatch, bad={}, good={}) as server,
    ):
        assert version_of(server, "bad").state == "UNAVAILABLE"
        assert version_of(server, "bad").reason.startswith("RuntimeError: told to fail")
        assert_works(server, "good")
        assert version_of(server, "good").snapshot().deaths == 0


def test_what_crashes_while_it_is_loaded_does_so_alone_from_then_on(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: dict[str, dict[str, object]] = {"bad": {"load_dies": True}, "good": {}, "fine": {}}
    with sharing(tmp_path, profiles, monkeypatch, **scripts) as server:
        assert version_of(server, "bad").state == "UNAVAILABLE"
        assert "crashed while loading (SIGSEGV)" in version_of(server, "bad").reason
        for name in ("good", "fine"):
            assert_works(server, name)
            assert version_of(server, name).snapshot().deaths <= 1


def test_a_fault_that_is_asked_for_befalls_its_model_only(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        fault(Step.RAN, FaultKind.RAISE, model="bad") as befell,
        sharing(tmp_path, profiles, monkeypatch, bad={}, good={}) as server,
    ):
        for at in range(3):
            assert ask(server, "good", at).status == 200
        assert not befell.has_happened
        ask(server, "bad")
        assert befell.has_happened


def test_a_process_that_has_become_empty_takes_the_next_model_or_ends(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sharing(tmp_path, profiles, monkeypatch, only={}) as server:
        pid = pids_of(server)["only"]
        load(server, "only", "unload")
        eventually(lambda: server.server.catalog.workers.shared() == [workers.Shared(pid, ())], "it is empty")
        assert load(server, "only") == 200
        assert pids_of(server)["only"] == pid
        monkeypatch.setattr(workers, "WARM_S", 0.05)
        load(server, "only", "unload")
        eventually(lambda: not is_running(pid), "it has ended")
        eventually(lambda: server.server.catalog.workers.shared() == [], "that was noticed")
        assert load(server, "only") == 200
        assert_works(server, "only")


def test_no_process_outlives_the_server_not_even_an_empty_one(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(children(os.getpid()))
    with sharing(tmp_path, profiles, monkeypatch, a={}, b={}) as server:
        started = set(children(os.getpid())) - before
        assert pids_of(server)["a"] in started
        for name in "ab":
            load(server, name, "unload")
        eventually(lambda: server.server.catalog.workers.shared()[0].labels == (), "it is empty")
    assert not any(map(is_running, started))


class Hired:
    """A worker, and what it tells."""

    def __init__(self, pool: Workers, load: Load) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self.death: asyncio.Future[Death] = loop.create_future()
        events = WorkerEvents(
            lambda _, ready: self.ready.set_result(ready),
            lambda _, reason: self.ready.set_exception(AssertionError(reason)),
            lambda _, death: self.death.set_result(death),
            lambda: None,
        )
        self.worker = pool.hire(load, events)


def of_fake(tmp_path: Path, name: str, **script: object) -> Load:
    path = tmp_path / f"{name}.fake"
    path.write_text(json.dumps(script))
    return Load(name, "1", str(path), "fake", 2, 8, 8, profile_dir=str(tmp_path))


@asynccontextmanager
async def pool_of(monkeypatch: pytest.MonkeyPatch, per_process: int) -> AsyncIterator[Workers]:
    monkeypatch.setattr(workers, "MAY_SHARE", frozenset({"fake"}))
    pool = Workers(per_process)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield pool
    finally:
        pool.close()


async def test_the_parts_of_those_that_share_make_whole_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_of(monkeypatch, 2) as pool:
        assert pool.sharers(is_in=False) == 1
        hired = [Hired(pool, of_fake(tmp_path, "a"))]
        assert (pool.sharers(is_in=True), pool.sharers(is_in=False)) == (1, 2)
        hired.append(Hired(pool, of_fake(tmp_path, "b")))
        assert (pool.sharers(is_in=True), pool.sharers(is_in=False)) == (2, 1), (
            "one more needs another process"
        )
        hired.append(Hired(pool, of_fake(tmp_path, "c")))
        assert len(hired) / pool.sharers(is_in=True) == len(pool.shared()) == 2
        for each in hired:
            await each.ready


async def test_one_that_runs_nothing_is_ended_without_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_of(monkeypatch, 2) as pool:
        first, second = (Hired(pool, of_fake(tmp_path, name)) for name in "ab")
        await first.ready
        await second.ready
        first.worker.kill()
        assert (await first.death).reason == "was unloaded"
        assert pool.shared() == [workers.Shared(second.worker.pid, ("b/1",))]
        assert isinstance(await golden_run(second.worker.channels[0]), Done)


async def test_one_that_is_not_wanted_any_more_while_it_is_loaded_leaves_when_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_of(monkeypatch, 2) as pool:
        first, second = (
            Hired(pool, of_fake(tmp_path, name, load_seconds=seconds))
            for name, seconds in (("a", 0.2), ("b", 0))
        )
        first.worker.stop()
        assert (await first.death).reason == "was unloaded"
        assert not first.ready.done()
        await second.ready
        assert not second.death.done()


async def test_one_whose_instances_cannot_be_reached_leaves_and_is_excused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    async with pool_of(monkeypatch, 2) as pool:
        first = Hired(pool, of_fake(tmp_path, "a"))
        await first.ready
        monkeypatch.setattr(supervisor, "Channel", no_room)
        second = Hired(pool, of_fake(tmp_path, "b"))
        assert (await second.death).reason == "was ended: its instances could not be reached: no memory"
        assert second.worker.is_excused
        assert second.worker.lacks_means
        assert isinstance(await golden_run(first.worker.channels[0]), Done)


async def test_a_full_process_takes_nobody_and_the_fullest_of_the_others_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_of(monkeypatch, 2) as pool:
        hired = [Hired(pool, of_fake(tmp_path, name)) for name in "abcd"]
        for each in hired:
            await each.ready
        pids = [each.worker.pid for each in hired]
        assert pids[0] == pids[1] != pids[2] == pids[3]
        hired[0].worker.stop()
        await hired[0].death
        hired[2].worker.stop()
        hired[3].worker.stop()
        await hired[2].death
        await hired[3].death
        last = Hired(pool, of_fake(tmp_path, "e"))
        await last.ready
        assert last.worker.pid == pids[1]
