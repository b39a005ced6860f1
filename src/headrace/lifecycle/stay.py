"""One version's stay in memory: what it holds and has held, how often it is asked for, and whether it may leave."""

from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path

from headrace.config import Settings
from headrace.errors import LoadFailed
from headrace.execution.profiles import ProfileStore, external_data
from headrace.execution.wire import Profile
from headrace.lifecycle.books import NO_CARDS, Cards, Held
from headrace.lifecycle.eviction import Candidate
from headrace.lifecycle.holdings import Known, run_bytes
from headrace.lifecycle.ledger import Holding
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion

UNKNOWN_LOAD_S = 1.0
"""In place of reload seconds where they were never measured."""
LEAST_STAY_S, OF_LOAD = 1.0, 2.0
"""Who always has something to do stays for so long, and so many times its load, before it makes way for one that is waited for."""
NOTHING = Holding(0)


class Stay:
    """Of one version, for as long as there is that version. Lives on the loop."""

    def __init__(
        self, version: ModelVersion, settings: Settings, now: float, read_used: Callable[[ModelVersion], int]
    ) -> None:
        """Look at its files. `read_used` gives the private bytes of its workers."""
        self._read_used = read_used
        source, residence = version.source, version.source.config.residence
        self.version = version
        self.key = (source.name, source.version)
        self.is_pinned = residence.is_pinned or source.name in settings.pin
        self.is_preloaded = residence.is_preloaded
        if self.is_pinned or source.name in settings.preload:
            self.is_preloaded = True
        self.idle_limit_s = settings.idle_timeout_s if residence.idle_s is None else residence.idle_s
        self._max_rows = settings.max_rows
        self._file_bytes = size_of([source.path, *external_data(source.path)])
        # The mutable state: what it holds, and its probe; since when it is there and why it came; what its workers have, and had
        # at most; and how often it was asked for, as far as that was taken account of.
        self.reservation: Held | None = None
        self._measuring: Held | None = None
        self.cause = ""
        self.is_paused = False
        self.since = inf
        self.used = self._most_used = 0
        self.evictions = 0
        self.parked_requests = 0
        self._asked = self._absent = 0
        self._last_asked: float | None = None
        self._began = now

    @property
    def rank(self) -> tuple[int, tuple[str, str]]:
        """Who is loaded first."""
        return (0 if self.is_pinned else 1 if self.is_preloaded else 2, self.key)

    @property
    def holding(self) -> Holding:
        return NOTHING if self.reservation is None else self.reservation.holding

    @property
    def held(self) -> list[Held]:
        """All that it has reserved, what a probe of it may take included."""
        return [each for each in (self.reservation, self._measuring) if each is not None]

    @property
    def cards(self) -> Cards:
        """What it takes of graphics cards."""
        footprint = self.version.footprint
        return NO_CARDS if footprint is None else footprint.device

    @property
    def has_begun(self) -> bool:
        return self.reservation is not None

    @property
    def is_loading(self) -> bool:
        """On its way in."""
        is_coming = self.version.state in {VersionState.LOADING, VersionState.RESTARTING}
        return self.reservation is not None and self.cause != "" and is_coming

    @property
    def is_leaving(self) -> bool:
        """Its processes are about to end."""
        return self.reservation is not None and self.version.state is VersionState.ABSENT

    @property
    def may_leave_soon(self) -> bool:
        """It is there, or on its way, and may go once it has nothing to do."""
        if self.reservation is None or self.is_pinned or self.is_leaving:
            return False
        # Whatever its breaker says: once that lets requests in again they bring it back, and it is tried then.
        return self.is_loading or self.version.state is VersionState.READY

    @property
    def can_leave(self) -> bool:
        """It is there, nobody leases it, and it may go."""
        if self.version.state is not VersionState.READY or not self.may_leave_soon:
            return False
        return self.version.is_quiet if self.is_paused else self.version.is_idle

    def may_be_paused(self, now: float) -> bool:
        """It has been there for long enough to make way though somebody always asks for it."""
        least_s = max(LEAST_STAY_S, OF_LOAD * (self.version.reload_s or 0.0))
        return self.version.state is VersionState.READY and now - self.since >= least_s

    def pause(self, *, is_paused: bool) -> None:
        """Have it begin nothing more, since it is to leave; or go on."""
        self.is_paused = is_paused
        self.version.pause(is_paused=is_paused)

    def loading_s(self, now: float) -> float:
        """Seconds since it was begun to load it."""
        return now - self._began

    @property
    def needs_measuring(self) -> bool:
        """It is there, and nobody knows what it takes."""
        return self.version.state is VersionState.READY and self.version.needs_measuring

    @property
    def base(self) -> int:
        """Bytes it holds without its runs."""
        return self.known().resident

    @property
    def cap(self) -> int:
        """Rows of a batch at most, for the memory's sake; 0 where memory sets no bound."""
        return self.version.pipeline.memory_cap or 0

    @property
    def was_asked(self) -> bool:
        return self._last_asked is not None

    def idle_s(self, now: float) -> float:
        """Seconds since it was last asked for, or came."""
        last = max(self._began if self._last_asked is None else self._last_asked, self._arrived_at)
        return now - last

    @property
    def _arrived_at(self) -> float:
        return self.since if self.since < inf else self._began

    def candidate(self, nbytes: int | None = None) -> Candidate:
        """As eviction sees it. `nbytes` is what it will hold, where it is not there yet."""
        holding = self.holding.total if nbytes is None else nbytes
        return Candidate(self.key, holding, self.version.reload_s or UNKNOWN_LOAD_S, self.since)

    def known(self) -> Known:
        """What is known of its memory."""
        version, pipeline = self.version, self.version.pipeline
        spec, latency = pipeline.spec, pipeline.latency
        limit = max(1, min(self._max_rows, spec.max_batch_size)) if spec.joins_requests else 1
        cost = latency.longest_cost or 0
        rows = min(limit, 2 * latency.best_rows(cost, limit)) if cost else limit
        return Known(
            version.footprint,
            self._file_bytes,
            version.worker_count,
            version.instance_count,
            cost,
            rows,
            self._most_used,
            version.sharers,
            self.since < inf,
        )

    def begin(self, reservation: Held, cause: str, now: float) -> None:
        """It is about to be loaded."""
        self.release_if_ended()
        assert self.reservation is None, "what it held before is released"
        self.reservation, self.cause = reservation, cause
        self._most_used = 0
        self.since, self._began = inf, now

    def arrived(self, now: float) -> float:
        """It is there; seconds that took."""
        seconds = now - self._began
        self.since = now
        self.look(now)
        return seconds

    def give_back_now(self) -> None:
        """Have what runs took given back, though it runs nothing just now."""
        self.version.pipeline.give_back()
        if self.version.footprint is not None:  # else what was seen of it is all that is known
            self._most_used = 0

    def leave(self) -> None:
        """It is to go."""
        self.is_paused = False
        self.evictions += 1
        self.since = inf
        self._most_used = 0

    def measure(self, reservation: Held, limit: int) -> None:
        """Have a process find out what it takes, within so many bytes."""
        self.release_if_ended()
        assert self._measuring is None, "what the process before was to take is released"
        self._measuring = reservation
        self.version.measure(limit)

    def bound(self, allowed: int, free: int, *, gives_back: bool) -> None:
        """A run may take what is reserved for it; a request that alone has more rows, what is free besides, up to the allowed."""
        reserved, pipeline = run_bytes(self.known(), allowed), self.version.pipeline
        alone = max(reserved, min(allowed, reserved + max(0, free)))
        pipeline.gives_back = gives_back
        pipeline.bound_memory(self.version.footprint, reserved, alone)
        self.version.bound_workers(alone)

    def release_if_ended(self) -> None:
        """Give back what it holds if none of its processes is there any more, nor to be started."""
        version = self.version
        if self._measuring is not None and not version.is_measuring:
            self._measuring.release()
            self._measuring = None
        if self.reservation is not None and version.is_out:
            self.reservation.release()
            self.reservation = None
            self.used = 0

    def release(self) -> None:
        """Give all back: nothing is left of the version."""
        for each in self.held:
            each.release()
        self.reservation = self._measuring = None

    def look(self, now: float) -> None:
        """See what its workers have."""
        self.used = self._read_used(self.version)
        if self.since <= now:
            self._most_used = max(self._most_used, self.used)

    def take_asked(self, now: float) -> int:
        """Requests since the last call."""
        pipeline = self.version.pipeline
        asked = pipeline.requests_done + pipeline.absent_refusals
        more, self._asked = asked - self._asked, asked
        if more or not self.version.is_idle:
            self._last_asked = now
        return more

    def take_absent(self) -> int:
        """Requests that found it not in memory, since the last call."""
        absent = self.version.pipeline.absent_requests + self.parked_requests
        more, self._absent = absent - self._absent, absent
        return more

    def look_up(self, settings: Settings) -> tuple[Profile, str] | None:
        """What was measured of it before, and under which key. Reads its files; may be called from a thread."""
        store = ProfileStore(settings.profile_dir)
        try:
            key = store.key_of(self.version.order())
        except LoadFailed:
            return None
        profile = store.read(key)
        return None if profile is None else (profile, key)


def size_of(files: Iterable[Path]) -> int:
    """Bytes of files; what is not there has none."""
    total = 0
    for file in files:
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total
