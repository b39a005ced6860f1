"""What the rows share: a server inside a real memory limit, and profiles of models that differ in a number only."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import servers
from asking import Asked
from faulty import Faults
from group import Group, limited
from servers import Launch, Server
from watch import Start

from headrace.batching.latency import LatencyModel
from headrace.config import Settings
from headrace.execution.linux import usable_cores
from headrace.execution.profiles import ProfileStore
from headrace.execution.wire import Load, Profile
from headrace.lifecycle.holdings import Known, allowed_run, holding
from headrace.lifecycle.ledger import needed
from headrace.repository.find import find_sources

ONE_SESSION = ("--instances", "1", "--threads", "1")
"""Of each model, so that all are of one size however the machine was measured."""
STORED = "profiles"
MEASURED_LIMIT_S = 180.0
RESERVE, MOST_RESERVE = 0.25, 512 << 20
"""Of a limit, what a server leaves to what is no model: a quarter, and 512 MB at most."""
GATEWAY = 160 << 20
"""Bytes of the limit for the gateway, which is no model either."""


@dataclass
class Memory(Faults):
    """One run of these benchmarks.

    Attributes:
        group: what servers are started in, while there is one.
        most_at_start: private bytes that all workers had at most while the last server started; 0 if nobody looked.
        stored: the folder's name of the profiles that servers find.
    """

    group: Group | None = None
    most_at_start: int = 0
    stored: str = STORED

    @property
    def profiles(self) -> Path:
        return self.folder / "memory" / f"{self.stored}-{self.where}"

    @contextmanager
    def unmeasured(self) -> Iterator[None]:
        """Servers that are started in the block find no profiles."""
        self.stored = f"no-{STORED}"
        shutil.rmtree(self.profiles, ignore_errors=True)
        yield
        self.stored = STORED

    def launch(self, paths: list[Path], name: str, *options: str) -> Launch:
        launch = super().launch(paths, name, *options)
        return self.group.inside(launch) if self.group is not None else launch

    @contextmanager
    def bounded(
        self, paths: list[Path], asked: tuple[Asked, ...], name: str, budget: int, *options: str
    ) -> Iterator[Server]:
        """A server of these models with this budget, in a group whose limit leaves no more, until the block ends."""
        with limited(limit_for(budget)) as self.group:
            if self.group is None:
                self.say("no control group can be made here: the budget is the only limit")
            start = Start(self.group)
            with start, self.served(paths, asked, name, "--memory-budget", str(budget), *options) as server:
                start.end()
                self.most_at_start = start.most
                yield server
        self.group = None

    def measured(self, paths: list[Path], asked: Asked) -> Profile:
        """What headrace finds out of the first of these models; it is stored for all of them, which are alike.

        Raises:
            RuntimeError: it does not finish, or keeps profiles in another way than is known here.
        """
        store = ProfileStore(self.profiles)
        with servers.pinned(self.server_cores):  # how many there are is part of what a profile is kept under
            keys = {path: store.key_of(load_of(path)) for path in paths}
        if (known := finished(store, keys[paths[0]])) is None:
            self.say("headrace measures one of the models")
            with self.served(paths[:1], (asked,), "headrace, measuring", *ONE_SESSION):
                known = self._awaited(store, keys[paths[0]])
        for path, key in keys.items():
            spec = msgspec.structs.replace(known.spec, name=path.stem) if known.spec else None
            store.write(key, msgspec.structs.replace(known, spec=spec))
        return known

    def _awaited(self, store: ProfileStore, key: str) -> Profile:
        """What a server is about to store."""
        ends = time.perf_counter() + MEASURED_LIMIT_S
        while (known := finished(store, key)) is None:
            if time.perf_counter() > ends:
                raise RuntimeError(f"headrace has not measured a model in {MEASURED_LIMIT_S:g} s")
            time.sleep(0.1)
        return known


def limit_for(budget: int) -> int:
    """The least limit in which a server has such a budget."""
    rest = budget + GATEWAY
    return min(round(rest / (1 - RESERVE)), rest + MOST_RESERVE)


def budget_for(room: int, profile: Profile) -> int:
    """A budget that so many of these models fit into and one more does not, by the ledger's arithmetic: half-way between the two.

    Raises:
        ValueError: the profile has no footprint.
    """
    return (least_budget(room, profile) + least_budget(room + 1, profile)) // 2


def least_budget(count: int, profile: Profile) -> int:
    """In which so many of them fit, where what runs took is given back, and one of them is being loaded."""
    footprint, slots = profile.footprint, usable_cores()
    if footprint is None:
        raise ValueError("a profile without a footprint: what the model takes is not known")
    cost, rows = most_rows(profile)
    known = Known(footprint, 0, workers=1, instances=1, cost=cost, rows=rows)
    low, high = count * footprint.resident, 4 * count * footprint.resident
    while high - low > 1:
        budget = (low + high) // 2
        allowed = allowed_run(budget, count * footprint.resident, footprint.resident, slots)
        there, coming = (
            holding(each, allowed, keeps=False) for each in (known, replace(known, is_there=False))
        )
        fits = needed([there] * (count - 1) + [coming], slots) <= budget
        low, high = (low, budget) if fits else (budget, high)
    return high


def most_rows(profile: Profile) -> tuple[int, int]:
    """Cost and rows of the largest batch that a server runs of it."""
    latency = LatencyModel(profile.latencies)
    cost = max(profile.latencies)
    return cost, min(Settings().max_rows, 2 * latency.best_rows(cost, Settings().max_rows))


def finished(store: ProfileStore, key: str) -> Profile | None:
    """A profile with everything in it."""
    found = store.read(key)
    return found if found and found.spec and found.latencies and found.footprint else None


def load_of(path: Path) -> Load:
    """As a server orders it."""
    settings = Settings()
    source = find_sources([path])[0]
    return Load(
        name=source.name,
        version=source.version,
        path=str(source.path),
        backend=source.backend,
        cores=usable_cores(),
        max_batch_size=settings.max_batch_size,
        max_rows=settings.max_rows,
        instances=1,
        threads=1,
        pads=source.config.pads,
        config=source.config,
    )
