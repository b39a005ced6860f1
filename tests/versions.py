"""Versions that load when they are told to, in a memory of any size: for tests of who is in memory."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.batching.latency import LatencyModel
from headrace.config import Settings
from headrace.execution.footprint import Footprint
from headrace.execution.nvml import Gpu
from headrace.lifecycle.budget import Budget
from headrace.lifecycle.residency import Residency
from headrace.lifecycle.state import VersionState
from headrace.messages import ModelSpec
from headrace.model_config import NOTHING_SAID, ModelConfig, Residence
from headrace.repository.source import Source

MIB = 1 << 20
EACH = Footprint(context=30 * MIB, weights=60 * MIB, peaks={4: {1: 10 * MIB}})
"""Keeps 100 MiB, and 90 where it gives back what its runs took."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakePipeline:
    spec: ModelSpec = field(default_factory=lambda: ModelSpec("m", "1", "", (), ()))
    latency: LatencyModel = field(default_factory=lambda: LatencyModel({4: {1: 0.01}}))
    requests_done: int = 0
    absent_refusals: int = 0
    absent_requests: int = 0
    memory_cap: int = 0
    gives_back: bool = False
    breaker: Any = None
    allowed: int | None = None

    def give_back(self) -> None:
        pass

    def come_after(self, seconds: float) -> None:
        pass

    def bound_memory(self, footprint: Footprint | None, nbytes: int | None, alone: int | None = None) -> None:
        self.allowed = nbytes


class FakeVersion:
    """Loads when told that it has loaded, and ends when told that it has ended."""

    def __init__(self, world: "World", name: str, residence: Residence, footprint: Footprint | None) -> None:
        self.world = world
        self.source = Source(
            name, "1", Path("/nowhere"), "onnxruntime", config=ModelConfig(residence=residence)
        )
        self.state, self.reason = VersionState.LOADING, ""
        self.pipeline = FakePipeline()
        self.transforms = None
        self.footprint = footprint
        self.reload_s: float | None = 1.0
        self.is_idle = self.is_quiet = True
        self.is_on_demand = self.is_paused = False
        self.processes = 0
        self.is_hurried = False
        self.bytes = 0
        self.pids: list[int] = []
        self.worker_count = self.instance_count = self.sharers = 1
        self.lacks_spec = self.needs_measuring = self.is_measuring = False

    def hurry(self) -> None:
        self.is_hurried = True

    def measure(self, limit: int) -> None:
        pass

    def bound_workers(self, *_: object) -> None:
        pass

    def pause(self, *, is_paused: bool) -> None:
        self.is_paused = is_paused

    def heed(self, on_wanted: Any, on_gone: Any) -> None:
        self.on_wanted, self.on_gone = on_wanted, on_gone

    def start(self) -> None:
        self.processes = 1
        assert self.world.free >= 0, "nothing is loaded for which nothing is reserved"
        self._move(VersionState.LOADING)

    def bring_in(self) -> None:
        assert self.state is VersionState.ABSENT
        self.start()

    def stay_out(self, reason: str) -> None:
        self.is_on_demand, self.reason = True, reason
        self._move(VersionState.ABSENT)

    def send_away(self, reason: str) -> None:
        assert self.is_idle or (self.is_paused and self.is_quiet), "nobody leaves who has something to do"
        self.is_paused = False
        self.stay_out(reason)

    def stop(self) -> None:
        self._move(VersionState.UNLOADING)

    def refuse_room(self, reason: str) -> None:
        self.reason = reason
        if not self.is_on_demand:
            self._move(VersionState.UNAVAILABLE)

    @property
    def is_settled(self) -> bool:
        return self.state is not VersionState.LOADING

    @property
    def is_out(self) -> bool:
        return self.state in {VersionState.ABSENT, VersionState.UNAVAILABLE} and not self.processes

    def ready(self) -> None:
        """Its worker has loaded."""
        assert self.processes
        self.bytes = 90 * MIB
        self._move(VersionState.READY)

    def ended(self) -> None:
        """Its worker has ended."""
        self.processes = self.bytes = 0
        self.on_gone()

    def _move(self, state: VersionState) -> None:
        self.state = state
        self.world.residency.changed(self)  # type: ignore[arg-type]


class World:
    def __init__(self, budget_mib: int, **settings: Any) -> None:
        self.clock = Clock()
        self.events: list[Any] = []
        self.budget = budget_mib * MIB
        self.cards: list[Gpu] = []
        self.versions: dict[str, FakeVersion] = {}
        self.residency = Residency(
            Settings(**settings),
            self.clock,
            self.events.append,
            lambda _: Budget(self.budget, 0, 0, self.budget, "a test"),
            lambda version: version.bytes,  # type: ignore[attr-defined]
            lambda: self.cards,
        )
        self.residency._slots = self.residency._books.main.slots = 1  # whatever machine this is

    def version(
        self, name: str, residence: Residence = NOTHING_SAID.residence, footprint: Footprint | None = EACH
    ) -> FakeVersion:
        made = self.versions[name] = FakeVersion(self, name, residence, footprint)
        return made

    def start(self) -> None:
        self.residency.start(self.versions.values())  # type: ignore[arg-type]

    def there(self) -> set[str]:
        return {name for name, each in self.versions.items() if each.state is VersionState.READY}

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.events if isinstance(each, kind)]

    async def settle(self) -> None:
        """Everybody who loads is ready, and who leaves has ended."""
        for _ in range(20):
            await asyncio.sleep(0)
            for each in list(self.versions.values()):
                if each.state is VersionState.LOADING and each.processes:
                    each.ready()
                elif each.state is VersionState.ABSENT and each.processes:
                    each.ended()

    async def ask(self, name: str) -> None:
        self.versions[name].on_wanted()
        await self.settle()
        self.clock.now += 100
        self.versions[name].pipeline.requests_done += 1
        self.residency.watch()
        await self.settle()

    @property
    def reserved(self) -> int:
        return self.residency._books.main.reserved // MIB

    @property
    def free(self) -> int:
        return self.residency._books.main.free


def on_card(nbytes: int) -> Footprint:
    """As EACH, and so many bytes of a graphics card."""
    return Footprint(EACH.context, EACH.weights, EACH.peaks, device={"gpu:0": nbytes})
