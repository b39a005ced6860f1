"""A gateway that can open no more files, or start no process, for a while: nobody is given up for it."""

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.execution import linux
from headrace.execution.arena import Region
from headrace.lifecycle.version import ModelVersion
from headrace.testing import RunningServer, run_server
from tests.integration.process import children, eventually, is_running
from tests.integration.wire import Wire, tensor

pytestmark = pytest.mark.integration


def lacking(*_: object, **__: object) -> object:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def cut_off(control: socket.socket, size: int, most: int) -> tuple[bytes, list[int], int, object]:
    """As the kernel does where there is no room for descriptors that are sent."""
    data, fds, flags, address = socket_recv_fds(control, size, most)
    for fd in fds[1:]:
        os.close(fd)
    return data, fds[:1], flags | socket.MSG_CTRUNC, address


socket_recv_fds = socket.recv_fds


@pytest.fixture
def server(tmp_path: Path, profiles: Path) -> Iterator[RunningServer]:
    (tmp_path / "a.fake").write_text("{}")
    with run_server([tmp_path / "a.fake"], profile_dir=profiles) as server:
        yield server


def version_of(server: RunningServer) -> ModelVersion:
    (version,) = server.server.catalog.versions("a")
    return version


def end_worker(server: RunningServer) -> None:
    pid = version_of(server).snapshot().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def is_answered(server: RunningServer) -> bool:
    with Wire(server.host, server.port) as wire:
        body = {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]}
        return wire.infer("a", body).status == 200


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("where", "name", "fault"),
    [
        (socket, "socketpair", lacking),
        (linux, "create_memory", lacking),
        (subprocess, "Popen", lacking),
        (os, "pidfd_open", lacking),
        (linux, "create_memory", "the second time"),
    ],
)
def test_a_worker_that_cannot_be_started_is_started_when_it_can_be(
    server: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
    fault: Callable[..., object] | str,
) -> None:
    if isinstance(fault, str):
        fault = every_second_lacks(getattr(where, name))
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(where, name, fault)
        others = set(children(os.getpid())).difference(version_of(server).snapshot().pids)
        end_worker(server)
        eventually(lambda: "cannot be started now" in version_of(server).reason, "it is said")
        assert version_of(server).reason.endswith("Too many open files")
        assert not any(map(is_running, set(children(os.getpid())) - others))
    eventually(lambda: is_answered(server), "it is served again")


def every_second_lacks(real: Callable[..., object]) -> Callable[..., object]:
    calls = []

    def fault(*given: object) -> object:
        calls.append(given)
        return real(*given) if len(calls) % 2 else lacking()

    return fault


def test_outputs_that_cannot_be_read_cost_their_request_an_error_and_nobody_the_blame(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as meanwhile, Wire(server.host, server.port) as wire:
        meanwhile.setattr(Region, "follow", lacking)
        answer = wire.infer("a", {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]})
    assert (answer.status, answer.json()["code"]) == (500, "inference_failed")
    assert answer.json()["error"] == "the outputs cannot be read: Too many open files"
    assert is_answered(server)


def test_trying_in_vain_leaves_no_file_open(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as meanwhile:
        tries = []

        def counted(_: int) -> None:
            tries.append(open_files())
            lacking()

        meanwhile.setattr(os, "pidfd_open", counted)
        end_worker(server)
        eventually(lambda: len(tries) > 2, "it is tried again and again")
        assert tries[-1] <= tries[1]
    eventually(lambda: is_answered(server), "it is served again")


def test_a_worker_whose_descriptors_do_not_come_is_ended_and_another_one_started(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(socket, "recv_fds", cut_off)
        end_worker(server)
        eventually(lambda: version_of(server).snapshot().deaths > 1, "it is noticed")
        crash = version_of(server).snapshot().crash
        assert crash is not None
        assert crash.reason == "was ended: its instances could not be reached: Too many open files"
    eventually(lambda: is_answered(server), "it is served again")
