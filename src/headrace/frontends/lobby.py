"""Requests for a model that was never in memory: nobody can decode them before it is, so they wait as they came.

Of a model that was in memory before, the spec is known, and requests wait decoded in its pipeline.
"""

import asyncio
from collections.abc import Callable

from headrace.errors import HeadraceError, ModelAbsent, NoRoom
from headrace.events import Event, VersionChanged
from headrace.lifecycle.catalog import Catalog
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion

Key = tuple[str, str]
COMING = frozenset({VersionState.LOADING, VersionState.RESTARTING})
STILL_TO_COME = COMING | {VersionState.ABSENT}


class Guest:
    """One request that waits. Lives on the loop."""

    def __init__(
        self,
        lobby: "Lobby",
        key: Key,
        go_on: Callable[[], None],
        fail: Callable[[HeadraceError], None],
    ) -> None:
        self.go_on = go_on
        self.fail = fail
        self.timer: asyncio.TimerHandle | None = None
        self._lobby = lobby
        self._key = key

    @property
    def is_there(self) -> bool:
        """It waits still."""
        return self._lobby.has(self._key, self)

    def leave(self) -> None:
        """It waits no longer."""
        if self.timer is not None:
            self.timer.cancel()
        self._lobby.forget(self._key, self)


class Lobby:
    """Of all models. Lives on the loop."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        # The mutable state: who waits for what, in the order of their coming.
        self._guests: dict[Key, dict[Guest, None]] = {}

    def takes(self, version: ModelVersion | None) -> bool:
        """Whether a request that nobody can decode yet may wait for the version."""
        return version is not None and version.is_on_demand and version.state in STILL_TO_COME

    def wait(
        self,
        version: ModelVersion,
        deadline: float,
        go_on: Callable[[], None],
        fail: Callable[[HeadraceError], None],
    ) -> Guest | None:
        """Have the version brought in; one of the two is called when it is there, or cannot be, or it is too late.

        Returns:
            Who waits; None if that is known to be in vain, and `fail` was called.
        """
        now, source = self._clock(), version.source
        self._catalog.residency.missed(version)
        key, allowed_s = (source.name, source.version), max(0.0, deadline - now)
        if version.no_room:
            fail(NoRoom(*key, version.no_room, None))
            return None
        expected_s = version.reload_s
        if not allowed_s or (expected_s is not None and expected_s > allowed_s):
            fail(ModelAbsent(*key, expected_s, allowed_s))
            return None
        guest = Guest(self, key, go_on, fail)
        self._guests.setdefault(key, {})[guest] = None

        def be_late() -> None:
            guest.leave()
            fail(ModelAbsent(*key, version.reload_s, allowed_s))

        guest.timer = asyncio.get_running_loop().call_later(allowed_s, be_late)
        return guest

    async def come(self, version: ModelVersion, deadline: float) -> None:
        """Have the version brought in, and wait until something has become of it.

        Raises:
            ModelAbsent: it takes too long.
            NoRoom: there is none for it.
        """
        here: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def go_on() -> None:
            if not here.done():
                here.set_result(None)

        def fail(error: HeadraceError) -> None:
            if not here.done():
                here.set_exception(error)

        guest = self.wait(version, deadline, go_on, fail)
        try:
            await here
        finally:
            if guest is not None:
                guest.leave()

    @property
    def is_waited_in(self) -> bool:
        """Somebody waits, for whatever."""
        return bool(self._guests)

    def has(self, key: Key, guest: Guest) -> bool:
        """Whether it waits."""
        return guest in self._guests.get(key, {})

    def forget(self, key: Key, guest: Guest) -> None:
        """For the guest itself."""
        guests = self._guests.get(key, {})
        guests.pop(guest, None)
        if not guests:
            self._guests.pop(key, None)

    def __call__(self, event: Event) -> None:
        """Hear what became of those who are waited for; as an observer."""
        if not isinstance(event, VersionChanged) or event.state in COMING:
            return
        key = (event.model, event.version)
        if guests := self._guests.get(key):
            # Not within the report: who reports is not done yet with what it reports.
            asyncio.get_running_loop().call_soon(call, list(guests))


def call(guests: list[Guest]) -> None:
    """Have them go on: whatever is there now answers them, or they wait for that."""
    for guest in guests:
        if guest.is_there:
            guest.leave()
            guest.go_on()
