"""Models that change while they are served: a new copy beside the old one, swapped in when it is ready, nothing lost."""

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from headrace.errors import ConfigurationError
from headrace.lifecycle import watcher
from headrace.lifecycle.catalog import REFUSED
from headrace.repository.scan import Scan, scan
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import PATIENCE_S, children, descriptors, eventually, is_running, serving
from tests.integration.wire import Answer, Wire, dumps, message, tensor

pytestmark = pytest.mark.integration

LOOK_S = 0.05
RELOADS = 12
BREATH_S = 0.002
"""Between a client's requests, so that what is loaded gets a core too."""
PAIR = {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}
FOUR = {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_times(folder / "times" / "1" / "model.onnx", 1)
    return folder


@pytest.fixture
def server(folder: Path, profiles: Path) -> Iterator[RunningServer]:
    with run_server([folder], profile_dir=profiles, watch_s=LOOK_S) as running:
        yield running


def write_times(path: Path, factor: float) -> None:
    """All at once, as whoever deploys with care does."""
    graphs.times(path.with_suffix(".new"), factor)
    path.with_suffix(".new").replace(path)


def ask(server: RunningServer, path: str = "times") -> Answer:
    with Wire(server.host, server.port) as wire:
        return wire.infer(path, PAIR)


def factor_of(server: RunningServer, path: str = "times") -> float:
    """What the model multiplies with; 0 if it does not answer."""
    answer = ask(server, path)
    return answer.json()["outputs"][0]["data"][0] if answer.status == 200 else 0


def entry_of(server: RunningServer, name: str = "times", version: str = "1") -> dict[str, Any]:
    with Wire(server.host, server.port) as wire:
        index = wire.post("/v2/repository/index").json()
    return next((each for each in index if (each["name"], each["version"]) == (name, version)), {})


def is_refused(server: RunningServer) -> bool:
    return REFUSED in entry_of(server)["reason"]


class Load:
    """Clients that ask all the time until told to stop, and keep every answer that is no result."""

    def __init__(self, host: str, port: int, model: str, body: dict[str, Any], clients: int = 3) -> None:
        self._address, self._model, self._body = (host, port), model, body
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.failures: list[Answer] = []
        self.answered = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with Wire(*self._address) as wire:
            while not self._is_over.wait(BREATH_S):
                answer = wire.infer(self._model, self._body)
                self.answered += 1
                if answer.status != 200:
                    self.failures.append(answer)


def test_a_changed_model_is_swapped_in_and_no_request_is_refused(server: RunningServer, folder: Path) -> None:
    with Load(server.host, server.port, "times", PAIR) as load:
        for factor in (2, 3, 4):
            write_times(folder / "times" / "1" / "model.onnx", factor)
            eventually(lambda factor=factor: factor_of(server) == factor, "the new copy answers")  # type: ignore[misc]
    assert load.answered
    assert load.failures == []
    eventually(lambda: len(list(server.server.catalog._everything())) == 1, "the old copies are gone")


def test_what_was_accepted_by_the_old_copy_is_answered_by_it(tmp_path: Path, profiles: Path) -> None:
    script = tmp_path / "slow.fake"
    script.write_text('{"seconds": 1.0}')
    with (
        run_server([tmp_path], profile_dir=profiles, watch_s=LOOK_S) as server,
        Wire(server.host, server.port) as wire,
    ):
        (old,) = server.server.catalog.versions("slow")
        body = json.dumps(FOUR).encode()
        wire.send(
            b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        eventually(lambda: old.pipeline.snapshot().running, "the old copy runs it")
        script.write_text("{}")
        eventually(lambda: server.server.catalog.versions("slow")[0] is not old, "the new copy is swapped in")
        assert wire.receive().status == 200
        eventually(lambda: not old.has_processes, "the old copy has ended")


@pytest.mark.parametrize("content", [b"", b"half", None], ids=["empty", "no model", "gone from its folder"])
def test_a_copy_that_cannot_be_loaded_never_replaces_a_good_one(
    server: RunningServer, folder: Path, content: bytes | None
) -> None:
    file = folder / "times" / "1" / "model.onnx"
    whole = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content or whole[: len(whole) // 2])
    eventually(lambda: is_refused(server), "it was tried")
    entry = entry_of(server)
    assert entry["state"] == "READY"
    assert factor_of(server) == 1
    with Wire(server.host, server.port) as wire:
        assert wire.get("/v2/health/ready").status == 200
    write_times(file, 5)
    eventually(lambda: factor_of(server) == 5, "a whole copy takes its place")
    assert entry_of(server)["reason"] == ""


def test_the_copy_that_serves_put_back_in_its_place_is_left_alone(
    server: RunningServer, folder: Path
) -> None:
    file = folder / "times" / "1" / "model.onnx"
    (before,) = server.server.catalog.versions("times")
    file.rename(folder / "kept")
    file.write_bytes(b"bad")
    eventually(lambda: is_refused(server), "the bad one was tried")
    (folder / "kept").replace(file)
    eventually(lambda: entry_of(server)["reason"] == "", "the bad one is forgotten")
    assert server.server.catalog.versions("times") == [before]


def test_a_mistake_in_a_configuration_takes_no_version_away(server: RunningServer, folder: Path) -> None:
    write_times(folder / "times" / "2" / "model.onnx", 2)
    config = folder / "times" / "config.pbtxt"
    config.write_text("version_policy { all { } }")
    eventually(lambda: factor_of(server) == 2, "both are served")
    config.write_text("version_policy { all { }")
    eventually(lambda: REFUSED in entry_of(server, version="2")["reason"], "it was tried")
    write_times(folder / "other" / "1" / "model.onnx", 3)
    eventually(lambda: factor_of(server, "other") == 3, "what came later is served")
    assert factor_of(server, "times/versions/1") == 1
    assert factor_of(server) == 2
    config.write_text("version_policy { specific { versions: 2 } }")
    eventually(lambda: not entry_of(server), "what is no more wanted goes")
    assert factor_of(server) == 2


def test_a_look_that_fails_unexpectedly_is_followed_by_others(
    server: RunningServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def fail_once(*arguments: Any) -> Scan:
        looks.append(arguments)
        if len(looks) == 1:
            raise RuntimeError("nobody thought of this")
        return scan(*arguments)

    monkeypatch.setattr(watcher, "scan", fail_once)
    write_times(folder / "times" / "1" / "model.onnx", 2)
    eventually(lambda: factor_of(server) == 2, "the change is followed")
    assert len(looks) > 1


def test_versions_come_and_go(server: RunningServer, folder: Path) -> None:
    write_times(folder / "times" / "2" / "model.onnx", 2)
    eventually(lambda: factor_of(server) == 2, "who names no version gets the highest")
    assert factor_of(server, "times/versions/1") == 1
    shutil.rmtree(folder / "times" / "2")
    eventually(lambda: factor_of(server) == 1, "and the next one when it is gone")
    assert ask(server, "times/versions/2").status == 404
    shutil.rmtree(folder / "times")
    eventually(lambda: ask(server).status == 404, "all models may go")
    write_times(folder / "times" / "7" / "model.onnx", 7)
    eventually(lambda: factor_of(server) == 7, "and come back")


def test_ten_versions_at_once(server: RunningServer, folder: Path) -> None:
    for version in range(2, 12):
        write_times(folder / "times" / str(version) / "model.onnx", version)
    eventually(lambda: factor_of(server) == 11, "the highest answers")
    for version in range(1, 12):
        eventually(lambda v=version: factor_of(server, f"times/versions/{v}") == v, "each answers")  # type: ignore[misc]


def test_a_folder_swapped_by_its_link_is_another_model(tmp_path: Path, profiles: Path) -> None:
    for factor in (1, 2):
        write_times(tmp_path / str(factor) / "times" / "1" / "model.onnx", factor)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "1")
    with run_server([link], profile_dir=profiles, watch_s=LOOK_S) as server:
        assert factor_of(server) == 1
        (tmp_path / "next").symlink_to(tmp_path / "2")
        (tmp_path / "next").replace(link)
        eventually(lambda: factor_of(server) == 2, "the other folder's model answers")


def test_a_path_that_goes_away_unloads_nothing(server: RunningServer, folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    eventually(lambda: server.server.watcher._seen.missing, "it was noticed")
    assert factor_of(server) == 1
    folder.with_name("away").rename(folder)
    write_times(folder / "times" / "1" / "model.onnx", 3)
    eventually(lambda: factor_of(server) == 3, "it is followed again")


def test_a_copy_that_hangs_or_dies_while_it_loads_leaves_the_old_one_be(
    tmp_path: Path, profiles: Path
) -> None:
    script = tmp_path / "fake.fake"
    script.write_text("{}")
    with (
        run_server([tmp_path], profile_dir=profiles, watch_s=LOOK_S) as server,
        Wire(server.host, server.port) as wire,
    ):
        catalog = server.server.catalog
        usual = catalog._settings
        for bad, timeout_s, reason in (
            ('{"load_seconds": 60}', 1.0, "did not load within"),
            ('{"load_dies": true}', PATIENCE_S, "SIGSEGV"),
        ):
            catalog._settings = usual.model_copy(update={"load_timeout_s": timeout_s})
            script.write_text(bad)
            eventually(lambda why=reason: why in entry_of(server, "fake")["reason"], reason)  # type: ignore[misc]
            assert entry_of(server, "fake")["state"] == "READY"
            assert wire.infer("fake", FOUR).status == 200


def test_files_that_change_or_go_during_the_load_are_not_served_as_what_was_found(
    server: RunningServer, folder: Path
) -> None:
    script = folder / "fake.fake"
    script.write_text('{"load_seconds": 0.5}')
    eventually(lambda: entry_of(server, "fake").get("state") == "LOADING", "it loads")
    script.unlink()
    eventually(lambda: entry_of(server, "fake") == {}, "it has gone")
    script.write_text('{"load_seconds": 0.5}')
    eventually(lambda: entry_of(server, "fake").get("state") == "LOADING", "it loads again")
    script.write_text("{}")
    eventually(lambda: entry_of(server, "fake")["state"] == "READY", "what lies there now was loaded")


@pytest.mark.parametrize("watch", [True, False], ids=["watched", "not watched"])
def test_a_worker_that_dies_does_not_come_back_as_another_model_under_the_old_name(
    folder: Path, profiles: Path, watch: bool
) -> None:
    with run_server(
        [folder], profile_dir=profiles, watch_s=LOOK_S if not watch else 0.5, watch=watch
    ) as server:
        (old,) = server.server.catalog.versions("times")
        write_times(folder / "times" / "1" / "model.onnx", 2)
        pid = old.snapshot().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: factor_of(server) == 2, "what lies there now was loaded as a change")
        assert server.server.catalog.versions("times") != [old]


def test_nothing_is_followed_where_nothing_is_to_be_watched(folder: Path, profiles: Path) -> None:
    with run_server([folder], profile_dir=profiles, watch_s=LOOK_S, watch=False) as server:
        write_times(folder / "times" / "1" / "model.onnx", 2)
        write_times(folder / "times" / "2" / "model.onnx", 2)
        with Wire(server.host, server.port) as wire:
            assert wire.post("/v2/repository/models/times/load").status == 200
            assert factor_of(server) == 2
        write_times(folder / "times" / "3" / "model.onnx", 3)
        assert entry_of(server, version="3") == {}


def test_the_server_stops_in_the_middle_of_a_swap(tmp_path: Path, profiles: Path) -> None:
    script = tmp_path / "fake.fake"
    script.write_text("{}")
    with serving([tmp_path], profiles, "--watch-s", str(LOOK_S)) as process:
        script.write_text('{"load_seconds": 60}')
        eventually(lambda: len(children(process.pid)) == 2, "the new copy loads beside the old one")
        workers = children(process.pid)
        process.signal(signal.SIGINT)
        assert process.wait_exit() == 0
        assert not any(map(is_running, workers))


def test_models_may_come_after_the_server_has_started(tmp_path: Path, profiles: Path) -> None:
    write_times(tmp_path / "there" / "times" / "1" / "model.onnx", 2)
    link, late = tmp_path / "link", tmp_path / "late"
    link.symlink_to(tmp_path / "nowhere")
    settings = {"profile_dir": profiles, "watch_s": LOOK_S, "wait_ready": False, "watch": False}
    for path, wait_s in ((link, 0), (late, 60)):
        with run_server([path], **settings, wait_for_models_s=wait_s) as server:
            with Wire(server.host, server.port) as wire:
                assert wire.get("/v2/health/ready").status == 503
                assert wire.get("/v2/health/live").status == 200
            if path == link:
                (tmp_path / "there").rename(tmp_path / "nowhere")
            else:
                (tmp_path / "nowhere").rename(late)
            eventually(lambda: server.server.catalog.is_ready, "ready")
            assert factor_of(server) == 2


def test_models_that_do_not_come_end_the_server_with_a_sentence(tmp_path: Path, profiles: Path) -> None:
    settings = {"profile_dir": profiles, "watch_s": LOOK_S, "wait_for_models_s": 0.1}
    with (
        pytest.raises(ConfigurationError, match="no models came to"),
        run_server([tmp_path / "late"], **settings),
    ):
        pass


def test_a_dozen_reloads_under_load_lose_nothing_and_leave_nothing(tmp_path: Path, profiles: Path) -> None:
    script = tmp_path / "fake.fake"
    script.write_text("{}")
    with serving([tmp_path], profiles, "--watch-s", str(LOOK_S)) as process, process.connect() as wire:

        def settled() -> bool:
            return len(children(process.pid)) == 1

        def series() -> set[str]:
            return set(re.findall(r"^(\w+{[^}]*})", wire.get("/metrics").body.decode(), re.MULTILINE))

        def answered() -> int:
            stats = wire.get("/v2/models/fake/stats").json()["model_stats"][0]
            return int(stats["inference_stats"]["success"]["count"])

        assert wire.infer("fake", FOUR).status == 200
        before, names, threads = descriptors(process.pid), series(), thread_count(process.pid)
        with Load(process.host, process.port, "fake", FOUR, clients=2) as load:
            for reload in range(1, RELOADS + 1):
                (old,) = children(process.pid)
                count = answered()
                os.utime(script, (reload, reload))
                eventually(lambda old=old: old not in children(process.pid) and settled(), "swapped")  # type: ignore[misc]
                assert answered() >= count
        assert load.failures == []
        eventually(lambda: descriptors(process.pid) <= before, "all descriptors are closed")
        eventually(lambda: thread_count(process.pid) <= threads + 1, "all threads have ended")
        assert {name for name in series() if "outcome" not in name} == {
            name for name in names if "outcome" not in name
        }


def thread_count(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_what_still_runs_when_its_time_is_up_is_answered(tmp_path, profiles):
    (tmp_path / "slow.fake").write_text('{"slow_value": 5, "slow_seconds": 3600}')
    with run_server([tmp_path], profile_dir=profiles, exit_timeout_s=0.2) as running:
        with Wire(running.host, running.port) as stuck, Wire(running.host, running.port) as other:
            stuck.send(
                message(
                    "POST",
                    "/v2/models/slow/infer",
                    dumps({"inputs": [tensor("x", "FP32", [1, 4], [5, 1, 2, 3])]}),
                )
            )
            version = running.server.catalog.find("slow", None)
            eventually(lambda: version.pipeline.snapshot().running, "it runs")
            assert other.post("/v2/repository/models/slow/unload").status == 200
            answer = stuck.receive()
        assert answer.status == 503
        assert "unloaded" in answer.error
