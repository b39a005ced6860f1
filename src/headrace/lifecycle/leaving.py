"""Versions nobody is sent to any more: each answers what it was given, and then its processes end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headrace.errors import HeadraceError
from headrace.lifecycle.version import ModelVersion

GRACE_S = 2.0
"""For processes to end when asked; then they are killed."""


@dataclass(slots=True)
class Departure:
    """How far one has come: until when it may answer, then until when it may end by itself."""

    error: HeadraceError
    answers_until: float
    ends_until: float | None = None


class Leaving:
    """Lives on the loop."""

    def __init__(self, clock: Callable[[], float], patience_s: float) -> None:
        """`patience_s`: for what was accepted to be answered."""
        self._clock = clock
        self._patience_s = patience_s
        self._departures: dict[ModelVersion, Departure] = {}

    def __iter__(self) -> Iterator[ModelVersion]:
        return iter(list(self._departures))

    def __contains__(self, version: object) -> bool:
        return version in self._departures

    def add(self, version: ModelVersion, error: HeadraceError) -> None:
        """Take leave of it; whoever cannot be answered in time gets the error."""
        self._departures[version] = Departure(error, self._clock() + self._patience_s)

    def watch(self) -> list[ModelVersion]:
        """To be called every now and then; gives those of which nothing is left."""
        now = self._clock()
        for version, departure in self._departures.items():
            if departure.ends_until is None:
                if version.is_idle or now > departure.answers_until:
                    departure.ends_until = now + GRACE_S
                    version.stop(departure.error)
            elif now > departure.ends_until:
                version.kill()
        ended = [
            version
            for version, departure in self._departures.items()
            if departure.ends_until is not None and not version.has_processes
        ]
        for version in ended:
            del self._departures[version]
        return ended
