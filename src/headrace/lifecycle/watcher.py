"""Looks at the paths every few seconds and when asked, and has the catalog follow.

All looks are one after the other, each acted on before the next begins, so that what was seen earlier never overrides
what was seen later. What to do is decided in changes.py.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from headrace.config import Settings
from headrace.errors import ConfigurationError, LoadFailed, ServerExiting
from headrace.execution.aside import aside
from headrace.lifecycle.catalog import POLL_S, Catalog
from headrace.lifecycle.changes import Keep, Put, Remove, decide
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion
from headrace.repository.override import Override, overridden
from headrace.repository.scan import Found, Key, Scan, scan

log = structlog.get_logger()


def first_scan(paths: Sequence[Path], settings: Settings) -> Scan:
    """What is there at the start.

    Raises:
        ConfigurationError: a path is not there and nothing says that it will be, or there are no models.
    """
    seen = scan(paths, settings.model_name)
    for path in seen.missing:
        if not settings.wait_for_models_s and not os.path.islink(path):  # noqa: PTH114 - as the next line's
            raise ConfigurationError(
                f"{path} is not there: give a model file or a folder of models, or wait for it with --wait-for-models-s"
            )
    if seen.problem:
        raise ConfigurationError(seen.problem)
    if not seen.found and not seen.missing and not settings.wait_for_models_s:
        looked = ", ".join(map(str, paths))
        raise ConfigurationError(
            f"no models in {looked}: there should be .onnx files, or folders like NAME/1/model.onnx"
        )
    return seen


class Watcher:
    """Lives on the loop; the looking itself is done aside."""

    def __init__(
        self,
        paths: Sequence[Path],
        settings: Settings,
        catalog: Catalog,
        seen: Scan,
        give_up: Callable[[ConfigurationError], None],
    ) -> None:
        """`seen` is the first look, which the catalog has started from; `give_up` is told if models do not come."""
        self._paths = list(paths)
        self._settings = settings
        self._catalog = catalog
        self._give_up = give_up
        # The mutable state: the last look, whose turn it is to look, who loads what, and what is to be looked at again.
        self._seen = seen
        self._turn = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stale: set[Key] = set()
        self._has_stale = asyncio.Event()
        catalog.waits_for = tuple(map(str, seen.missing or ([] if seen.found else self._paths)))

    async def run(self) -> None:
        """Follow what changes until cancelled."""
        if self._catalog.waits_for:
            log.warning("waiting_for_models", paths=list(self._catalog.waits_for))
        patience_s = self._settings.wait_for_models_s
        started = asyncio.get_running_loop().time()
        while True:
            if not self._settings.watch and not self._catalog.waits_for:
                await self._has_stale.wait()
            await asyncio.sleep(self._settings.watch_s)
            try:
                await self._follow()
            except Exception:  # what is served is not to go for a fault of the looking
                log.exception("look_failed")
            waited_s = asyncio.get_running_loop().time() - started
            if patience_s and self._catalog.waits_for and waited_s > patience_s:
                self._give_up(
                    ConfigurationError(
                        f"no models came to {', '.join(self._catalog.waits_for)} within {patience_s:g} s; "
                        "--wait-for-models-s waits longer"
                    )
                )
                return

    def look_again(self, key: Key) -> None:
        """A worker found other files than the version was found with."""
        self._stale.add(key)
        self._has_stale.set()

    async def load(self, name: str, override: Override | None = None) -> None:
        """Have the model served as it lies on disk now, or with something in place of that; until it is, or cannot be.

        What serves already and has not changed is left as it is.

        Raises:
            LoadFailed: there is no such model, or one of its versions cannot be loaded.
            InvalidRequest: the override is none.
            ServerExiting: it will not be served any more.
        """
        async with self._turn_of(name):
            async with self._turn:
                await self._look()
                on_disk = [each for each in self._seen.found.values() if each.key[0] == name]
                if override is None:
                    versions = self._load_from_disk(name, on_disk)
                else:
                    founds = await aside(partial(overridden, name, on_disk, override))
                    versions = [self._catalog.put(each, is_on_disk=False) for each in founds]
                    self._catalog.set_aside(on_disk)
            await self._settled(versions)
            failed = [each for each in versions if each.has_failed]
            if failed:
                reasons = "; ".join(f"version {each.source.version}: {each.reason}" for each in failed)
                raise LoadFailed(f"failed to load '{name}', {reasons}")
            wanted = {each.source.version for each in versions}
            for version in self._catalog.loaded(name):
                if version.source.version not in wanted:
                    self._catalog.drop((name, version.source.version), "the model is loaded without it")

    async def unload(self, name: str) -> None:
        """Send nobody to the model any more; it stays unloaded until its files change or somebody loads it.

        Raises:
            NotFound: there is no such model.
        """
        async with self._turn_of(name), self._turn:
            self._catalog.unload(name)

    async def _settled(self, versions: list[ModelVersion]) -> None:
        """Until each is ready or has failed, or is not wanted any more; those that were left out are brought in."""
        residency, asked = self._catalog.residency, set[ModelVersion]()
        while True:
            for version in versions:
                if version.state is VersionState.ABSENT and version not in asked:
                    asked.add(version)
                    residency.want(version)
            if not any(self._is_pending(each) for each in versions):
                return
            if self._catalog.is_exiting:
                raise ServerExiting
            await asyncio.sleep(POLL_S)

    def _is_pending(self, version: ModelVersion) -> bool:
        if version.state is VersionState.UNLOADING:
            return False
        return not version.is_settled or self._catalog.residency.is_coming(version)

    def _turn_of(self, name: str) -> asyncio.Lock:
        """One load or unload of a model at a time; the lock is there as long as somebody has it or waits for it."""
        return self._turns.setdefault(name, asyncio.Lock())

    def _load_from_disk(self, name: str, on_disk: list[Found]) -> list[ModelVersion]:
        if not on_disk:
            raise LoadFailed(f"failed to load '{name}', failed to poll from model repository")
        serving = self._catalog.serving()
        current = {each.source.version: each for each in self._catalog.loaded(name)}
        versions = []
        for found in on_disk:
            version = current.get(found.key[1])
            is_good = version is not None and version.state is not VersionState.UNAVAILABLE
            if serving.get(found.key) == found and version is not None and is_good:
                self._catalog.keep(found.key)
                versions.append(version)
            else:
                versions.append(self._catalog.put(found))
        return versions

    async def _follow(self) -> None:
        async with self._turn:
            before = self._seen
            await self._look()
            changes = decide(before, self._seen, self._catalog.tried(), self._catalog.serving())
            for change in changes:
                match change:
                    case Put(found) if self._may_follow(found.key):
                        self._catalog.put(found)
                        self._stale.discard(found.key)
                    case Keep(key) if self._may_follow(key):
                        self._catalog.keep(key)
                    case Remove(key) if self._may_follow(key):
                        self._catalog.remove(key)
                        self._stale.discard(key)
                    case _:
                        pass
            if not self._stale:
                self._has_stale.clear()
            self._catalog.waits_for = self._still_waited_for()

    def _may_follow(self, key: Key) -> bool:
        """Whoever wants nothing watched wants a version back all the same whose files a worker found changed."""
        return self._settings.watch or bool(self._catalog.waits_for) or key in self._stale

    async def _look(self) -> None:
        before = self._seen
        seen = self._seen = await aside(partial(scan, self._paths, self._settings.model_name, before))
        if seen.problem and seen.problem != before.problem:
            log.error("paths_not_read", reason=seen.problem)
        for path in set(seen.missing) - set(before.missing):
            log.error("path_gone", path=str(path))

    def _still_waited_for(self) -> tuple[str, ...]:
        """What models are to come from, until all that came is being loaded."""
        if not self._catalog.waits_for or not self._seen.missing:
            is_all_tried = self._seen.found.keys() <= self._catalog.tried().keys()
            return () if self._seen.found and is_all_tried else self._catalog.waits_for
        return tuple(map(str, self._seen.missing))
