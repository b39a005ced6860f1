"""All models by name and version, and which of them a request means."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from headrace.config import Settings
from headrace.errors import NotFound, UnknownVersion
from headrace.events import Event, VersionChanged
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion
from headrace.repository.source import Source

POLL_S = 0.02


class Catalog:
    """Lives on the loop. Versions are kept lowest first."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], report: Callable[[Event], None]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._listener = report
        # The mutable state: all versions, and which of them requests were found to mean since the last change.
        self._found: dict[tuple[str, str | None], ModelVersion] = {}
        self._models: dict[str, dict[str, ModelVersion]] = {}
        self.is_exiting = False

    def __iter__(self) -> Iterator[ModelVersion]:
        for versions in self._models.values():
            yield from versions.values()

    def start(self, sources: Iterable[Source]) -> None:
        """Begin to load all of them."""
        for source in sources:
            version = ModelVersion(source, self._settings, self._clock, self._report)
            self._models.setdefault(source.name, {})[source.version] = version
            version.start()

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model.

        Raises:
            NotFound: there is no such model.
        """
        versions = self._models.get(name)
        if versions is None:
            raise NotFound(name)
        return list(versions.values())

    def find(self, name: str, version: str | None) -> ModelVersion:
        """The version a request means: the one it names, or the highest that is ready.

        Raises:
            NotFound: there is no such model or version.
            NotReady: there is, and it cannot answer now.
        """
        known = self._found.get((name, version))
        if known is not None:
            return known
        versions = self._models.get(name)
        if versions is None:
            raise NotFound(name)
        if version is not None:
            found = versions.get(version)
            if found is None:
                raise UnknownVersion(name, version)
        else:
            found = next((each for each in reversed(versions.values()) if each.accepts), None)
            if found is None:
                found = next(reversed(versions.values()))
        if not found.accepts:
            raise found.not_ready(found.reason)
        self._found[name, version] = found
        return found

    def _report(self, event: Event) -> None:
        if isinstance(event, VersionChanged):
            self._found.clear()
        self._listener(event)

    @property
    def is_ready(self) -> bool:
        """Ready to be sent traffic; settings.strict_readiness says what that takes."""
        if self.is_exiting:
            return False
        if self._settings.strict_readiness:
            return all(version.state is VersionState.READY for version in self)
        return all(version.is_settled for version in self)

    def watch(self) -> None:
        """To be called every now and then."""
        for version in self:
            version.watch()

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return all(
            not (snapshot := version.pipeline.snapshot()).waiting and not snapshot.running for version in self
        )

    async def stop(self, grace_s: float = 2.0) -> None:
        """End all workers: asked first, killed after the grace."""
        for version in self:
            version.stop()
        ends = self._clock() + grace_s
        while any(version.has_processes for version in self) and self._clock() < ends:
            await asyncio.sleep(POLL_S)
        for version in self:
            version.kill()
        while any(version.has_processes for version in self):
            await asyncio.sleep(POLL_S)
