"""All models by name and version, which of them a request means, and how one copy of a version takes another's place.

A new copy of a version that serves is loaded beside it and takes its place when it is ready; the old one then answers
what it was given and ends. A copy that cannot be loaded changes nothing but the reason in the index.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.admission.device import Device
from headrace.config import Settings
from headrace.errors import NotFound, UnknownVersion
from headrace.events import Event, VersionChanged, VersionForgotten, WorkerDied
from headrace.execution.linux import usable_cores
from headrace.execution.nvml import open_nvml
from headrace.execution.worker_groups import WorkerGroups
from headrace.execution.workers import Workers
from headrace.lifecycle.budget import Budget
from headrace.lifecycle.leaving import Leaving
from headrace.lifecycle.machine_budget import budget_reader
from headrace.lifecycle.residency import Residency
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion
from headrace.repository.scan import Found, Key
from headrace.repository.source import Source

POLL_S = 0.02
MOST_GONE = 100
"""Versions that are gone and still counted on where they were, should they come back."""
REFUSED = "a newer copy cannot be loaded: "
UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version as the repository index shows it."""

    name: str
    version: str
    state: str
    reason: str


class Catalog:
    """Lives on the loop. Versions are kept lowest first."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        report: Callable[[Event], None],
        read_budget: Callable[[int], Budget] | None = None,
        groups: WorkerGroups | None = None,
    ) -> None:
        """`read_budget` is that of Residency; of this machine if not given. `groups` has workers' control groups, if any."""
        self._settings = settings
        self._clock = clock
        self._listener = report
        self._loop = asyncio.get_running_loop()
        # All models run on the same cores, in turn.
        self._device = Device(usable_cores(), clock)
        self.workers = Workers(settings.sessions_per_worker, groups)
        # The mutable state: all versions, and which of them requests were found to mean since the last change.
        self._found: dict[tuple[str, str | None], ModelVersion] = {}
        self._models: dict[str, dict[str, ModelVersion]] = {}
        # What each copy was made from, the copy of each version that was last tried, and what became of newer ones.
        self._copies: dict[ModelVersion, Found] = {}
        self._tried: dict[Key, Found] = {}
        self._coming: dict[Key, ModelVersion] = {}
        self._refused: dict[Key, str] = {}
        self._unloaded: set[Key] = set()
        self._leaving = Leaving(clock, settings.exit_timeout_s)
        # Deaths outlive the copies they befell; so do counts elsewhere, until a version is long gone.
        self._deaths: dict[Key, int] = {}
        self._gone: dict[Key, None] = {}
        self._was_ready = False
        self._nvml = open_nvml()
        self.residency = Residency(
            settings,
            clock,
            report,
            read_budget or budget_reader(settings, clock),
            lambda version: self.workers.private_bytes(version.pids),
            tuple if self._nvml is None else self._nvml.read,
        )
        self.waits_for: tuple[str, ...] = ()
        self.is_exiting = False

    def __iter__(self) -> Iterator[ModelVersion]:
        """The versions that requests may mean; not what is coming or leaving."""
        for versions in self._models.values():
            yield from versions.values()

    def start(self, sources: Iterable[Source | Found]) -> None:
        """Begin to load all of them."""
        started = []
        for each in sources:
            found = Found(each) if isinstance(each, Source) else each
            started.append(self._take_in(found))
            self._tried[found.key] = found
        self.residency.start(started)
        self._settle()

    def put(self, found: Found, *, is_on_disk: bool = True) -> ModelVersion:
        """Begin to load a copy, in place of what has its name and version.

        Args:
            found: the copy.
            is_on_disk: it is what lies under the paths, and not something to be served in its place.
        """
        key = found.key
        self._unload_coming(key)
        self._refused.pop(key, None)
        serving = self._models.get(key[0], {}).get(key[1])
        # Settings that cannot be read take no chain away: what cannot answer needs it now.
        if serving is not None and serving.state is VersionState.ABSENT:
            serving = None  # what answers for it now is not in memory, and its files are others
        is_answered_for = serving is not None and bool(serving.source.config.fallback.chain)
        is_worse = bool(found.source.problem) and is_answered_for
        has_served = (
            serving is not None and serving.was_ready and serving.state is not VersionState.UNAVAILABLE
        )
        if not (has_served or is_worse):
            version = self._take_in(found)
        else:
            version = self._coming[key] = self._make(found)
        if is_on_disk:
            self._tried[key] = found
        self.residency.add(version, is_beside=key in self._coming)
        return version

    def keep(self, key: Key) -> None:
        """The copy that serves is the one that lies there, again."""
        self._unload_coming(key)
        self._refused.pop(key, None)
        self._tried[key] = self._copies[self._models[key[0]][key[1]]]

    def remove(self, key: Key) -> None:
        """Its files are gone: answer what was accepted, and forget it."""
        self.drop(key, "its files are gone")
        self._tried.pop(key, None)
        self._gone[key] = None
        while len(self._gone) > MOST_GONE:
            forgotten = next(iter(self._gone))
            del self._gone[forgotten]
            self._deaths.pop(forgotten, None)
            self._listener(VersionForgotten(*forgotten))

    def drop(self, key: Key, reason: str) -> None:
        """Answer what was accepted and let go of it, whatever lies on disk."""
        self._unload_coming(key)
        self._take_out(key, reason)
        self._refused.pop(key, None)
        self._unloaded.discard(key)

    def unload(self, name: str) -> None:
        """Answer what was accepted and let go of all versions; they stay in the index.

        Raises:
            NotFound: there is no such model.
        """
        keys = [key for key in self._known() if key[0] == name]
        if not keys:
            raise NotFound(name)
        for key in keys:
            self._unload_coming(key)
            self._refused.pop(key, None)
            self._take_out(key, UNLOADED)
            self._unloaded.add(key)

    def set_aside(self, found: Iterable[Found]) -> None:
        """What lies on disk is not what is to be served: it is looked at again when it changes."""
        self._tried |= {each.key: each for each in found}

    def tried(self) -> Mapping[Key, Found]:
        """The copy of each version that was last acted on."""
        return self._tried

    def serving(self) -> dict[Key, Found]:
        """The copy each version serves."""
        return {
            (name, number): self._copies[version]
            for name, versions in self._models.items()
            for number, version in versions.items()
            if version in self._copies
        }

    def loaded(self, name: str) -> list[ModelVersion]:
        """The versions of a model that requests may mean, if there is any."""
        return list(self._models.get(name, {}).values())

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model; none if it is unloaded.

        Raises:
            NotFound: there is no such model.
        """
        versions = self._models.get(name)
        if versions is None:
            if any(key[0] == name for key in self._unloaded):
                return []
            raise NotFound(name)
        return list(versions.values())

    def find(self, name: str, version: str | None) -> ModelVersion:
        """The version a request means: the one it names, or the highest that is ready or comes when it is asked for.

        Raises:
            NotFound: there is no such model or version, or it is unloaded.
            NotReady: there is, and it cannot answer now.
        """
        known = self._found.get((name, version))
        if known is not None:
            return known
        versions = self._models.get(name)
        if versions is None:
            if any(key[0] == name for key in self._unloaded):
                raise UnknownVersion(name, version)
            raise NotFound(name)
        if version is not None:
            found = versions.get(version)
            if found is None:
                raise UnknownVersion(name, version)
        else:
            found = highest(list(versions.values()))
        if not found.accepts:
            raise found.not_ready(found.reason)
        self._found[name, version] = found
        return found

    def index(self) -> list[IndexEntry]:
        """Every version there is, models and versions in order."""
        return [self._entry(*key) for key in self._known()]

    @property
    def is_ready(self) -> bool:
        """Ready to be sent traffic; settings.strict_readiness says what that takes.

        Unless it is strict, what is loaded later does not take it back: what was there before still answers.
        """
        if self.is_exiting:
            return False
        if self._settings.strict_readiness:
            return not self.waits_for and all(version.is_within_reach for version in self)
        return self._was_ready or self._is_settled()

    def watch(self) -> None:
        """To be called every now and then."""
        for version in self._everything():
            version.watch()
        self.residency.watch()
        self._watch_leaving()
        self._settle()

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return all(version.is_idle for version in self._everything())

    async def stop(self, grace_s: float = 2.0) -> None:
        """End all workers: asked first, killed after the grace."""
        versions = list(self._everything())
        for version in versions:
            version.stop()
        ends = self._clock() + grace_s
        while any(version.has_processes for version in versions) and self._clock() < ends:
            await asyncio.sleep(POLL_S)
        for version in versions:
            version.kill()
        while any(version.has_processes for version in versions):
            await asyncio.sleep(POLL_S)
        self.workers.close()
        for version in versions:
            self._let_go(version)
        if self._nvml is not None:
            self._nvml.close()

    def _take_in(self, found: Found) -> ModelVersion:
        """Make a version that nothing serves yet, in the place of one that does not."""
        name, number = found.key
        self._take_out(found.key, "")
        version = self._make(found)
        versions = {**self._models.get(name, {}), number: version}
        self._models[name] = dict(sorted(versions.items(), key=lambda item: in_order(item[0])))
        self._models = dict(sorted(self._models.items()))
        self._unloaded.discard(found.key)
        self._gone.pop(found.key, None)
        self._found.clear()
        return version

    def _make(self, found: Found) -> ModelVersion:
        made: list[ModelVersion] = []  # who it is that reports is known only when it has been made

        def report(event: Event) -> None:
            self._report(made[0], event)

        version = ModelVersion(
            found.source,
            self._settings,
            self._clock,
            report,
            found.stamps,
            self._device,
            workers=self.workers,
        )
        made.append(version)
        self._copies[version] = found
        return version

    def _take_out(self, key: Key, reason: str) -> None:
        """Requests do not mean it any more; what it has accepted is still answered."""
        versions = self._models.get(key[0], {})
        version = versions.pop(key[1], None)
        if not versions:
            self._models.pop(key[0], None)
        self._found.clear()
        if version is None:
            return
        self._leave(version, reason)
        if reason:
            self._listener(VersionChanged(*key, VersionState.UNLOADING, reason))

    def _unload_coming(self, key: Key) -> None:
        version = self._coming.pop(key, None)
        if version is not None:
            self._leave(version, "another copy is loaded")

    def _leave(self, version: ModelVersion, reason: str) -> None:
        self._leaving.add(version, version.not_ready(reason))
        # At once, where there is nothing to answer; after whatever goes on now, since that may be its own report.
        self._loop.call_soon(self._watch_leaving)

    def _watch_leaving(self) -> None:
        for version in self._leaving.watch():
            self._let_go(version)

    def _let_go(self, version: ModelVersion) -> None:
        """It has ended: nothing of it is left, and files that were made for it alone go too."""
        self.residency.forget(version)
        found = self._copies.pop(version, None)
        if found is None or found.private is None:
            return
        if not any(each.private == found.private for each in self._copies.values()):
            shutil.rmtree(found.private, ignore_errors=True)

    def _report(self, version: ModelVersion, event: Event) -> None:
        """What a copy reports, made what its version is to be seen to do."""
        key = (version.source.name, version.source.version)
        match event:
            case VersionChanged():
                self._found.clear()
                self.residency.changed(version)
                if self._coming.get(key) is version:
                    self._on_coming(key, version, event)
                elif version not in self._leaving:
                    self._listener(event)
                self._settle()
            case WorkerDied():
                self._deaths[key] = self._deaths.get(key, 0) + 1
                self._listener(replace(event, deaths=self._deaths[key]))
            case _:
                self._listener(event)

    def _on_coming(self, key: Key, version: ModelVersion, event: VersionChanged) -> None:
        """Swap it in, or leave everything as it is."""
        if version.state is VersionState.READY:
            del self._coming[key]
            versions = self._models[key[0]]
            old, versions[key[1]] = versions[key[1]], version
            self._leave(old, "another copy is loaded")
            self._listener(event)
        elif version.state is VersionState.UNAVAILABLE:
            del self._coming[key]
            self._refused[key] = version.reason
            self._leave(version, version.reason)
            serving = self._models[key[0]][key[1]]
            self._listener(replace(event, state=serving.state, reason=REFUSED + version.reason))

    def _entry(self, name: str, number: str) -> IndexEntry:
        version = self._models.get(name, {}).get(number)
        if version is None:
            is_leaving = any(
                (each.source.name, each.source.version) == (name, number) for each in self._leaving
            )
            state = VersionState.UNLOADING if is_leaving else VersionState.UNAVAILABLE
            return IndexEntry(name, number, state, UNLOADED)
        state, reason = version.state, version.reason
        if (refused := self._refused.get((name, number))) is not None:
            reason = f"{reason}; {REFUSED}{refused}" if reason else REFUSED + refused
        hidden = {VersionState.RESTARTING, VersionState.ABSENT}
        return IndexEntry(name, number, "UNAVAILABLE" if state in hidden else state, reason)

    def _known(self) -> list[Key]:
        """Every version that is in the index."""
        loaded = {(name, number) for name, versions in self._models.items() for number in versions}
        return sorted(loaded | self._unloaded, key=lambda key: (key[0], in_order(key[1])))

    def _everything(self) -> list[ModelVersion]:
        """All copies there are, whatever requests may mean."""
        return [*self, *self._coming.values(), *self._leaving]

    def _is_settled(self) -> bool:
        return not self.waits_for and all(version.is_settled for version in self)

    def _settle(self) -> None:
        self._was_ready = self._was_ready or self._is_settled()


def highest(versions: Sequence[ModelVersion]) -> ModelVersion:
    """Of a model's versions, in order and at least one: the last that answers or comes when it is asked for, else the last."""
    return next((each for each in reversed(versions) if each.accepts or each.can_come), versions[-1])


def in_order(number: str) -> tuple[Any, ...]:
    """Versions as numbers; what is none comes last."""
    return (0, int(number), "") if number.isascii() and number.isdigit() else (1, 0, number)
