"""The worker is killed just when the core reports something: whatever that is, nobody's request is lost by it.

The list is generated from what the core can report and from the states of a version.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from headrace import events
from headrace.events import Event
from headrace.lifecycle.state import VersionState
from headrace.testing import RunningServer, run_server
from tests.integration.faults.scene import (
    Listener,
    assert_nothing_left,
    callers,
    change,
    held,
    kill_workers,
    listening,
    load,
    serve_again,
    version_of,
    wait_whole,
)
from tests.integration.process import eventually
from tests.integration.wire import Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

VICTIM, OTHER, CODED = "victim", "other", "coded"
ERROR, SLOW = 66.0, 77.0
MOST_ROWS = 40
FULL = {"error_value": ERROR, "slow_value": SLOW, "slow_seconds": 0.3, "most_rows_in_memory": MOST_ROWS}
SKILL = """format: 1
variants: {full: {model: full.fake}, small: {model: small.fake}}
fallback: {on: [breaker], chain: [{variant: small}]}
"""
CODED_SKILL = """format: 1
inputs: {number: {value: number}}
transform: {timeout_ms: 2000}
"""
TRANSFORM = """class Transform:
    def before(self, item):
        return {"x": [item["number"], 1, 2, 3]}
"""
LONG_GONE = {events.VersionForgotten}
"""Reported of versions whose last process ended long ago."""
OF_NO_MODEL = {events.BudgetChanged}


def fail(server: RunningServer) -> None:
    assert ask(server, ERROR) in {422, 500}


def leave(server: RunningServer) -> None:
    with Wire(server.host, server.port) as busy:
        busy.send(request(SLOW))
        eventually(lambda: version_of(server, VICTIM).pipeline.snapshot().running, "it runs")
        with Wire(server.host, server.port) as leaving:
            leaving.send(request(1.0))
            eventually(lambda: version_of(server, VICTIM).pipeline.snapshot().waiting, "somebody waits")
        busy.receive()


def kill(server: RunningServer) -> None:
    eventually(lambda: kill_workers(version_of(server, VICTIM)), "there was one to kill")


def load_changed(server: RunningServer) -> None:
    change(server, VICTIM)
    load(server, VICTIM)


def unload(server: RunningServer) -> None:
    load(server, VICTIM, "unload")


def load_alone(server: RunningServer) -> None:
    unload(server)
    load_changed(server)


def load_in_vain(server: RunningServer) -> None:
    unload(server)
    change(server, VICTIM, load_fails="told to")
    load(server, VICTIM)
    change(server, VICTIM, load_fails=None)


def change_while_it_loads(server: RunningServer) -> None:
    before = held(server).processes
    change(server, VICTIM, load_seconds=0.5)
    loading = threading.Thread(target=load, args=(server, VICTIM))
    loading.start()
    eventually(lambda: held(server).processes > before, "its worker was started")
    change(server, VICTIM, load_seconds=None)
    loading.join()


def force_open(server: RunningServer) -> None:
    with Wire(server.host, server.port) as wire:
        assert wire.post(f"/v1/breakers/{VICTIM}", {"state": "open"}).status == 200
        assert wire.send(request(5.0)) is None
        assert wire.receive().status == 200, "the other variant answers"
        assert wire.post(f"/v1/breakers/{VICTIM}", {"state": "auto"}).status == 200


def transform(server: RunningServer) -> None:
    with Wire(server.host, server.port) as wire:
        assert wire.post(f"/v1/skills/{CODED}", {"number": 4}).status in {200, 500, 503}


def leave_memory(server: RunningServer) -> None:
    """And come back, since it is asked for all the time."""
    version = version_of(server, VICTIM)
    stay = server.server.catalog.residency._stays[version]
    before = stay.evictions
    stay.idle_limit_s = -1.0  # whoever has nothing to do when it is looked at is idle
    eventually(lambda: stay.evictions > before, "it leaves memory")
    stay.idle_limit_s = None
    eventually(lambda: version.state is VersionState.READY, "it is asked for")


def ask_too_much(server: RunningServer) -> None:
    inputs = [tensor("x", "FP32", [MOST_ROWS + 1, 4], [1.0] * 4 * (MOST_ROWS + 1))]
    with Wire(server.host, server.port) as wire:
        wire.send(message("POST", f"/v2/models/{VICTIM}/infer", dumps({"inputs": inputs})))
        assert wire.receive().status in {413, 503}


CAUSES: dict[tuple[type, str | None], Callable[[RunningServer], None]] = {
    (events.RequestsFailed, None): fail,
    (events.RequestsDropped, None): leave,
    (events.WorkerDied, None): kill,
    (events.BreakerChanged, None): force_open,
    (events.Degraded, None): force_open,
    (events.FilesChanged, None): change_while_it_loads,
    (events.TransformsDone, None): transform,
    (events.BatchDone, None): lambda _: None,
    (events.OutOfMemory, None): ask_too_much,
    (events.VersionEvicted, None): leave_memory,
    (events.VersionLoaded, None): leave_memory,
    (events.RequestsAbsent, None): leave_memory,
    (events.VersionChanged, VersionState.ABSENT): leave_memory,
    (events.VersionChanged, VersionState.LOADING): load_alone,
    (events.VersionChanged, VersionState.READY): load_changed,
    (events.VersionChanged, VersionState.RESTARTING): kill,
    (events.VersionChanged, VersionState.UNLOADING): unload,
    (events.VersionChanged, VersionState.UNAVAILABLE): load_in_vain,
}
"""What the core reports → how to have it report it."""
FIRST = [each for at, each in enumerate(CAUSES) if at % 3 == 0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("reported")
    write(folder / VICTIM, {"skill.yaml": SKILL, "full.fake": dumps(FULL).decode(), "small.fake": "{}"})
    write(folder / CODED, {"skill.yaml": CODED_SKILL, "transform.py": TRANSFORM, "model.fake": "{}"})
    (folder / f"{OTHER}.fake").write_text("{}")
    paths = [folder / VICTIM, folder / f"{OTHER}.fake", folder / CODED]
    with run_server(paths, profile_dir=folder / "profiles", instances=1, watch=False) as running:
        yield running


def test_whatever_the_core_reports_is_in_the_list() -> None:
    assert {kind for kind, _ in CAUSES} | LONG_GONE | OF_NO_MODEL == set(get_args(Event)), (
        "say how the core comes to report it"
    )
    assert {state for _, state in CAUSES if state} == set(VersionState)


@pytest.mark.parametrize("reported", FIRST, ids=lambda each: f"{each[0].__name__} {each[1] or ''}")
def test_a_kill_at_any_moment_that_is_reported_costs_nobody_an_answer(
    server: RunningServer, reported: tuple[type, str | None]
) -> None:
    suffer(server, reported)


@pytest.mark.load
@pytest.mark.parametrize(
    "reported",
    [each for each in CAUSES if each not in FIRST],
    ids=lambda each: f"{each[0].__name__} {each[1] or ''}",
)
def test_a_kill_at_every_moment_that_is_reported(
    server: RunningServer, reported: tuple[type, str | None]
) -> None:
    suffer(server, reported)


def suffer(server: RunningServer, reported: tuple[type, str | None]) -> None:
    kind, state = reported
    model = CODED if kind is events.TransformsDone else VICTIM
    serve_again(server, VICTIM)
    transform(server)
    wait_whole(server)
    before = held(server)
    killer = Listener(server, model, kind, state)
    with callers(server, VICTIM, VICTIM, OTHER) as asking:
        with listening(server, killer):
            CAUSES[reported](server)
            eventually(lambda: killer.has_struck, "it was reported")
        serve_again(server, VICTIM)
        answered = asking[0].statuses[200]
        eventually(lambda: asking[0].statuses[200] > answered, "it answers again")
    assert set(asking[-1].statuses) == {200}, "the neighbour's callers notice nothing"
    assert_nothing_left(server, before)


def ask(server: RunningServer, number: float) -> int:
    with Wire(server.host, server.port) as wire:
        wire.send(request(number))
        return wire.receive().status


def request(number: float) -> bytes:
    inputs = [tensor("x", "FP32", [1, 4], [number, 1, 2, 3])]
    return message("POST", f"/v2/models/{VICTIM}/infer", dumps({"inputs": inputs}))


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
