"""Answers that take no run: those given before, and those in files."""

from pathlib import Path
from weakref import WeakKeyDictionary

from headrace.lifecycle.version import ModelVersion
from headrace.routing.stale import StaleAnswers
from headrace.routing.static import StaticAnswers


class KeptAnswers:
    """Those of all skills. Lives on the loop."""

    def __init__(self, max_stale_bytes: int) -> None:
        self.stale = StaleAnswers(max_stale_bytes)
        # The mutable state: each version's file, as it was last read.
        self._static: WeakKeyDictionary[ModelVersion, StaticAnswers] = WeakKeyDictionary()

    def static(self, version: ModelVersion, file: str) -> StaticAnswers:
        """A version's file; a chain has one at most, at its end."""
        found = self._static.get(version)
        if found is None:
            found = self._static[version] = StaticAnswers(Path(file), version.source.config.steps)
        return found
