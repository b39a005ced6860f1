"""Workers that crash, hang, stop or keep dying: noticed, said with where they were, and left alone where nothing helps."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.cli.main import main
from headrace.execution import supervisor
from headrace.execution.steps import FaultKind, Step
from headrace.lifecycle import version
from headrace.lifecycle.crash import Crash
from headrace.lifecycle.version import ModelVersion
from headrace.testing import RunningServer, fault, run_server
from tests.integration.process import PATIENCE_S, eventually, is_running
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

FLOOR_S = 0.6


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    return tmp_path / "switch"


@contextmanager
def told(
    tmp_path: Path, switch: Path, profiles: Path, script: dict[str, object] | None = None, **settings: object
) -> Iterator[RunningServer]:
    """A server of one model, that misbehaves as the switch says."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "told.fake").write_text(json.dumps({"switch": str(switch), **(script or {})}))
    with run_server([folder], profile_dir=profiles, hang_floor_s=FLOOR_S, **settings) as server:
        yield server


def version_of(server: RunningServer) -> ModelVersion:
    return server.server.catalog.versions("told")[0]


def crash_of(server: RunningServer) -> Crash:
    crash = version_of(server).snapshot().crash
    assert crash is not None
    return crash


def deaths_of(server: RunningServer) -> int:
    return version_of(server).snapshot().deaths


def worker_of(server: RunningServer) -> int:
    pid = version_of(server).snapshot().pid
    assert pid is not None
    return pid


def state_of(server: RunningServer) -> str:
    return version_of(server).state


def ask(server: RunningServer, value: float = 1) -> Answer:
    with Wire(server.host, server.port) as wire:
        return wire.infer("told", {"inputs": [tensor("x", "FP32", [1, 4], [value, 2, 3, 4])]})


def assert_works(server: RunningServer) -> None:
    """With another request than before, which may be in quarantine."""
    eventually(lambda: ask(server, 9).status == 200, "it answers again")
    assert ask(server, 9).json()["outputs"][0]["data"] == [18, 4, 6, 8]


@pytest.mark.parametrize(
    ("said", "reason"), [("segfault", "was killed by SIGSEGV"), ("abort", "was killed by SIGABRT")]
)
def test_a_crash_in_native_code_is_kept_with_where_it_was(
    tmp_path: Path, switch: Path, profiles: Path, said: str, reason: str
) -> None:
    with told(tmp_path, switch, profiles) as server:
        switch.write_text(json.dumps({"fault": said, "golden_too": False}))
        assert ask(server).status >= 500
        switch.unlink()
        assert_works(server)
        crash = crash_of(server)
        assert crash.reason == reason
        assert "Fatal Python error" in crash.trace
        assert "testing.py" in crash.trace
        assert "in _switched" in crash.trace
        result = CliRunner().invoke(main, ["models", "--url", server.url, "told"])
        assert result.exit_code == 0, result.output
        assert reason in result.output
        assert "in _switched" in result.output


def test_a_run_that_hangs_is_ended_and_kept_with_where_it_hung(
    tmp_path: Path, switch: Path, profiles: Path
) -> None:
    with told(tmp_path, switch, profiles) as server:
        switch.write_text('{"fault": "hang", "golden_too": false}')
        asking = threading.Thread(target=ask, args=[server])
        asking.start()
        eventually(lambda: deaths_of(server) == 1, "it was ended")
        switch.unlink()
        asking.join()
        assert_works(server)
        crash = crash_of(server)
        assert crash.reason.startswith("was ended: a run that usually takes up to")
        assert "in _switched" in crash.trace


def test_a_load_that_hangs_is_ended_where_the_last_one_went_well(
    tmp_path: Path, switch: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "AGAIN_S", 1.0)
    with told(tmp_path, switch, profiles) as server:
        switch.write_text('{"fault": "hang"}')
        os.kill(worker_of(server), signal.SIGKILL)
        eventually(lambda: deaths_of(server) > 1, "the next one was ended, too")
        switch.unlink()
        assert "did not load within" in crash_of(server).reason
        eventually(lambda: state_of(server) == "READY", "it is there again")
        assert_works(server)


def test_a_worker_that_is_stopped_is_ended_like_one_that_hangs(
    tmp_path: Path, switch: Path, profiles: Path
) -> None:
    with told(tmp_path, switch, profiles, deadline_s=PATIENCE_S) as server:
        stopped = worker_of(server)
        os.kill(stopped, signal.SIGSTOP)
        assert ask(server).status == 200  # from the next one
        assert not is_running(stopped)
        assert "hung" in crash_of(server).reason


def test_a_server_whose_worker_is_stopped_ends_all_the_same(
    tmp_path: Path, switch: Path, profiles: Path
) -> None:
    with told(tmp_path, switch, profiles) as server:
        stopped = worker_of(server)
        os.kill(stopped, signal.SIGSTOP)
    assert not is_running(stopped)


def test_a_worker_that_is_stopped_when_it_has_answered_costs_nobody_an_answer(
    tmp_path: Path, switch: Path, profiles: Path
) -> None:
    with (
        fault(Step.REPLIED, FaultKind.STOP, model="told") as befell,
        told(tmp_path, switch, profiles, deadline_s=PATIENCE_S) as server,
    ):
        assert ask(server).status == 200
        eventually(lambda: befell.has_happened, "it happened")
        assert_works(server)


def test_an_instance_whose_thread_ends_takes_its_process_along_and_says_why(
    tmp_path: Path, switch: Path, profiles: Path
) -> None:
    with (
        fault(Step.REPLIED, FaultKind.RAISE, at=2),
        told(tmp_path, switch, profiles, instances=2) as server,
    ):
        for _ in range(4):
            assert ask(server).status == 200
        eventually(lambda: deaths_of(server) == 1, "it ended")
        assert crash_of(server).reason == "ended with status 1"
        assert "told to fail at step 'replied'" in crash_of(server).trace


def test_a_model_that_never_loads_is_parked_until_its_files_change(
    tmp_path: Path, switch: Path, profiles: Path
) -> None:
    with told(tmp_path, switch, profiles, {"load_dies": True}, watch_s=0.1) as server:
        reason = version_of(server).reason
        assert reason.startswith("crashed while loading (SIGSEGV) 4 times in a row: ")
        assert "when its files change or it is loaded again" in reason
        assert "in load" in crash_of(server).trace
        (tmp_path / "models" / "told.fake").write_text("{}")
        assert_works(server)


def test_a_model_whose_workers_keep_dying_is_parked_until_it_is_loaded_again(
    tmp_path: Path, switch: Path, profiles: Path
) -> None:
    with told(tmp_path, switch, profiles) as server:
        with fault(Step.LOAD_RECEIVED, FaultKind.KILL, is_repeated=True):
            os.kill(worker_of(server), signal.SIGKILL)
            eventually(lambda: state_of(server) == "UNAVAILABLE", "it is parked")
        assert "was killed by SIGKILL 8 times in a row before it had answered" in version_of(server).reason
        assert ask(server).status == 503
        with Wire(server.host, server.port) as wire:
            assert wire.post("/v2/repository/models/told/load").status == 200
        assert_works(server)


def test_own_code_that_ends_its_process_is_not_called_again_where_nothing_must_be_run_twice(
    tmp_path: Path, profiles: Path
) -> None:
    skill, calls = tmp_path / "models" / "greet", tmp_path / "calls"
    skill.mkdir(parents=True)
    (skill / "model.fake").write_text("{}")
    (skill / "skill.yaml").write_text(
        "format: 1\nidempotent: false\ninputs: {number: {value: number}}\ntransform: {}\n"
    )
    (skill / "transform.py").write_text(
        "import os, signal\n"
        "class Transform:\n"
        "    def before(self, item):\n"
        f"        with open({str(calls)!r}, 'a') as file:\n"
        "            file.write('called ')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with run_server([skill.parent], profile_dir=profiles) as server, Wire(server.host, server.port) as wire:
        answer = wire.post("/v1/skills/greet", {"number": 1})
    assert (answer.status, answer.json()["code"]) == (500, "worker_lost")
    assert calls.read_text() == "called "


def test_a_transform_that_crashes_is_shown_with_where_it_was(tmp_path: Path, profiles: Path) -> None:
    skill = tmp_path / "models" / "told"
    skill.mkdir(parents=True)
    (skill / "model.fake").write_text("{}")
    (skill / "skill.yaml").write_text("format: 1\ninputs: {number: {value: number}}\ntransform: {}\n")
    (skill / "transform.py").write_text(
        "import ctypes\nclass Transform:\n    def before(self, item):\n        ctypes.string_at(0)\n"
    )
    with run_server([skill.parent], profile_dir=profiles) as server, Wire(server.host, server.port) as wire:
        assert wire.post("/v1/skills/told", {"number": 1}).status == 500
        (version,) = wire.get("/v1/versions/told").json()["versions"]
    assert version["deaths"] == 2
    assert version["crash"]["reason"] == "was killed by SIGSEGV"
    assert "transform.py" in version["crash"]["trace"]


def test_a_model_that_is_loaded_when_it_was_given_up_already_does_not_serve(
    tmp_path: Path,
    switch: Path,
    profiles: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervisor, "TRACE_GRACE_S", 60.0)  # before it is ended, it is loaded
    with told(tmp_path, switch, profiles, {"load_seconds": 1.5}, load_timeout_s=0.3) as server:
        version = version_of(server)
        assert version.state == "UNAVAILABLE"
        eventually(lambda: not version.has_processes, "it was ended")
        assert not version.was_ready
        assert version.reason.startswith("it did not load within 0.3 s")
        assert ask(server).status == 503
    assert "AssertionError" not in caplog.text
