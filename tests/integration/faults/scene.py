"""A server, callers whose answers prove whose they are, and what is left behind when the fault is over."""

import contextlib
import gc
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from headrace.events import Event
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion
from headrace.testing import RunningServer
from tests.integration.process import children, eventually, is_running
from tests.integration.wire import Closed, Wire, tensor

DEADLINE = {"x-request-timeout-seconds": "3"}
PAUSE_S = 0.01
"""Between two requests of a caller: the machine is for what is tested."""
ANSWERED = {200, 404, 422, 500, 503, 504}


@dataclass
class Caller:
    """One connection that asks a model again and again, each time with another number, until it is told to stop."""

    server: RunningServer
    model: str
    first: int
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = float(self.first)
        try:
            with Wire(self.server.host, self.server.port) as wire:
                while not self.is_over.wait(PAUSE_S):
                    number += 1
                    self._ask(wire, number)
        except (Closed, TimeoutError) as exc:
            self.faults.append(f"{number}: no answer: {exc!r}")

    def _ask(self, wire: Wire, number: float) -> None:
        answer = wire.infer(
            self.model, {"inputs": [tensor("x", "FP32", [1, 4], [number, 1, 2, 3])]}, DEADLINE
        )
        self.statuses[answer.status] += 1
        if answer.status not in ANSWERED:
            self.faults.append(f"{number}: {answer.raw[:300]!r}")
        elif answer.status == 200 and answer.json()["outputs"][0]["data"][0] != 2 * number:
            self.faults.append(f"{number}: somebody else's answer: {answer.body!r}")


@contextlib.contextmanager
def callers(server: RunningServer, *models: str) -> Iterator[list[Caller]]:
    """One for each name, until the block ends; afterwards everybody has been answered, and rightly."""
    made = [Caller(server, model, (at + 1) * 100_000) for at, model in enumerate(models)]
    threads = [threading.Thread(target=each.run) for each in made]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: all(each.statuses for each in made), "everybody has been answered once")
        yield made
    finally:
        for each in made:
            each.is_over.set()
        for thread in threads:
            thread.join()
    assert not [fault for each in made for fault in each.faults]


@dataclass(frozen=True)
class Held:
    """What this process and its server hold."""

    processes: int
    descriptors: int
    memory_files: int
    tickets: int
    leases: int
    reservations: int


def held(server: RunningServer) -> Held:
    """Descriptors without sockets of connections, which are the callers' to close."""
    gc.collect()  # a mapping has a descriptor of its own, and may be part of a circle
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(link.readlink()))
    catalog = server.server.catalog
    snapshots = [version.pipeline.snapshot() for version in catalog]
    device = catalog._device
    return Held(
        sum(map(is_running, children(os.getpid()))),
        sum(not link.startswith("socket:") for link in links),
        sum(link.startswith("/memfd:") for link in links),
        sum(each.waiting + each.running for each in snapshots),
        len(device._waiting) + sum(bool(token.user.holds_until()) for token in device._running),
        len(list(catalog.residency._books.main)),
    )


def assert_nothing_left(server: RunningServer, before: Held) -> None:
    """Nobody asks any more: sooner or later no more is held than before."""

    def is_settled() -> bool:
        now = held(server)
        return all(getattr(now, name) <= getattr(before, name) for name in Held.__dataclass_fields__)

    try:
        eventually(is_settled, "all is given back")
    except AssertionError as exc:
        raise AssertionError(f"before {before}, now {held(server)}") from exc


def version_of(server: RunningServer, model: str) -> ModelVersion:
    """Of the only version that requests may mean."""
    (version,) = server.server.catalog.versions(model)
    return version


def serve_again(server: RunningServer, model: str) -> None:
    """Load it until it is served, as an operator would."""

    def is_served() -> bool:
        if not is_ready(server, model):
            change(server, model)
            load(server, model)
        return is_ready(server, model)

    eventually(is_served, f"{model} is served")


def change(server: RunningServer, model: str, **script: object) -> None:
    """Give a fake model other contents, so that it is loaded, probed and measured as one never seen."""
    path = next(each for each in server.server._paths if each.stem == model)
    file = path / "full.fake" if path.is_dir() else path
    known = json.loads(file.read_text())
    changed = {**known, **script, "changed": known.get("changed", 0) + 1}
    file.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))


def wait_whole(server: RunningServer) -> None:
    """Until every worker that there is to be is there, those of transforms too."""

    def is_whole() -> bool:
        stages = [
            stage for version in server.server.catalog for stage in (version, version.transforms) if stage
        ]
        return all(seat.is_serving for stage in stages for seat in stage._seats)

    eventually(is_whole, "all workers serve")


def is_ready(server: RunningServer, model: str) -> bool:
    return any(each.state is VersionState.READY for each in server.server.catalog.loaded(model))


def load(server: RunningServer, model: str, action: str = "load") -> int:
    """The repository's load or unload; its status."""
    with Wire(server.host, server.port) as wire:
        return wire.post(f"/v2/repository/models/{model}/{action}").status


def kill_workers(version: ModelVersion) -> int:
    """End those it has; how many there were."""
    pids = [pid for pid in version.snapshot().pids if is_running(pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


@contextlib.contextmanager
def listening(server: RunningServer, hear: "Listener") -> Iterator[None]:
    """Have it hear all that the core reports, on the loop."""
    server.server._observers.append(hear)
    try:
        yield
    finally:
        server.server._observers.remove(hear)


class Listener:
    """Kills a model's workers when the core first reports what it waits for, and once more a moment later."""

    def __init__(
        self, server: RunningServer, model: str, kind: type[Event], state: str | None = None
    ) -> None:
        self._server, self._model, self._kind, self._state = server, model, kind, state
        self.has_struck = False

    def __call__(self, event: Event) -> None:
        if self.has_struck or not isinstance(event, self._kind) or event.model != self._model:
            return
        if self._state is not None and getattr(event, "state", None) != self._state:
            return
        self.has_struck = True
        self._strike()

    def _strike(self) -> None:
        for version in self._server.server.catalog._everything():
            if version.source.name == self._model:
                kill_workers(version)
                if version.transforms is not None:
                    kill_workers(version.transforms)
