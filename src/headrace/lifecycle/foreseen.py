"""What a server's start would make of memory, before anything is loaded: by what was measured before, else by the size of files.

It is worked out as residency.py does it, in the same order and of the same figures, for whoever asks beforehand.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from headrace.byte_sizes import in_words
from headrace.config import Settings
from headrace.errors import ConfigurationError
from headrace.lifecycle.budget import Budget, mistakes
from headrace.lifecycle.holdings import allowed_run, holding
from headrace.lifecycle.ledger import Holding, Ledger, Reservation, needed
from headrace.lifecycle.memory_view import DeviceMemory, MemoryView, ModelMemory
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.stay import Stay
from headrace.lifecycle.version import ModelVersion
from headrace.repository.source import Source

WHEN_ASKED = "loaded when it is asked for, as preload is false"
GUESSED = " (guessed from its files)"
NO_ROOM = "{} are lacking at start: loaded when it is asked for, and others leave for it"
NEVER = "takes at least {} of a budget of {}"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A view in which READY is what would be loaded at start, and ABSENT what waits until it is asked for.

    `mistakes` are sentences about what can never work.
    """

    view: MemoryView
    mistakes: tuple[str, ...]


def foresee(settings: Settings, sources: Iterable[Source], budget: Budget, slots: int) -> Foreseen:
    """Of these models on this machine; `slots` is how many runs may go on at once. Needs a running loop, and reads files.

    Sources with a problem are left out: they are refused for that.
    """
    stays = stays_of(settings, sources)
    for stay in stays:
        know(stay, settings)
    ledger = Ledger(budget.budget, slots)
    wanted = [each for each in stays if each.is_preloaded is not False]
    resident = sum(each.base for each in wanted)
    wide = [would_hold(each, resident, ledger, keeps=True) for each in wanted]
    keeps = needed(wide, slots) <= budget.budget
    taken: dict[Stay, Reservation] = {}
    models = []
    for stay in sorted(stays, key=lambda each: each.rank):
        resident = sum(each.base for each in (*taken, stay))
        mine = would_hold(stay, resident, ledger, keeps=keeps)
        state, reason = fate(stay, mine, ledger)
        if state is VersionState.READY and (held := ledger.reserve("/".join(stay.key), mine)) is not None:
            taken[stay] = held
        models.append(model_of(stay, mine, state, reason, gives_back=not keeps))
    device = DeviceMemory(
        "cpu",
        budget.total,
        budget.reserve,
        budget.external,
        budget.budget,
        budget.limit,
        resident=sum(each.holding.resident for each in taken.values()),
        scratch=ledger.reserved - sum(each.holding.resident for each in taken.values()),
        used=0,
        slots=slots,
    )
    view = MemoryView((device,), tuple(sorted(models, key=lambda each: (each.name, each.version))))
    return Foreseen(view, tuple(mistakes(budget, least_parts(stays, slots))))


def foreseen_mistakes(settings: Settings, sources: Iterable[Source], budget: Budget, slots: int) -> list[str]:
    """The mistakes of `foresee` alone. Only files of models are read that are pinned, or too large by their size."""
    stays = stays_of(settings, sources)
    for stay in stays:
        if stay.is_pinned or least(stay).total > budget.budget:
            know(stay, settings)
    return mistakes(budget, least_parts(stays, slots))


def refuse_impossible(settings: Settings, sources: Iterable[Source], budget: Budget, slots: int) -> None:
    """A budget, and pinned models, that no memory would be enough for even if nobody else held any.

    What others hold now they may give back, so that it keeps no server from its start.

    Raises:
        ConfigurationError: there are, with the sums.
    """
    room = max(0, budget.total - budget.reserve)
    most = room if settings.memory_budget is None else min(room, settings.memory_budget)
    alone = replace(budget, external=0, budget=most)
    pinned = [each for each in sources if each.config.residence.is_pinned or each.name in settings.pin]
    if found := foreseen_mistakes(settings, pinned, alone, slots):
        raise ConfigurationError("\n".join(found))


def stays_of(settings: Settings, sources: Iterable[Source]) -> list[Stay]:
    """Of all that can be loaded, as yet without what was measured of them."""
    return [
        Stay(ModelVersion(source, settings, float, lambda _: None), settings, 0.0, lambda _: 0)
        for source in sources
        if not source.problem
    ]


def know(stay: Stay, settings: Settings) -> None:
    """What was measured of it before, if anything was."""
    if (known := stay.look_up(settings)) is not None:
        stay.version.know(*known)


def would_hold(stay: Stay, resident: int, ledger: Ledger, *, keeps: bool) -> Holding:
    """Where all in memory, itself among them, hold so many bytes without their runs."""
    allowed = allowed_run(ledger.budget, resident, stay.base, ledger.slots)
    return holding(stay.known(), allowed, keeps=keeps)


def least(stay: Stay) -> Holding:
    """What it takes where it gives back what runs took, and runs one row at a time."""
    return holding(stay.known(), 0, keeps=False)


def fate(stay: Stay, mine: Holding, ledger: Ledger) -> tuple[VersionState, str]:
    """READY if it is loaded at start, ABSENT if it waits until it is asked for, UNAVAILABLE if it never fits; and why."""
    if (lowest := least(stay).total) > ledger.budget:
        return VersionState.UNAVAILABLE, NEVER.format(in_words(lowest), in_words(ledger.budget))
    if stay.is_preloaded is False:
        return VersionState.ABSENT, WHEN_ASKED
    if lacking := ledger.lacks(mine):
        return VersionState.ABSENT, NO_ROOM.format(in_words(lacking))
    return VersionState.READY, ""


def least_parts(stays: list[Stay], slots: int) -> list[tuple[str, int, bool]]:
    """Name, bytes at least, and whether it is pinned, of each.

    Of the runs of pinned models those count that can go on at once, as in the ledger.
    """
    pinned = sorted((each for each in stays if each.is_pinned), key=lambda each: -least(each).scratch)
    without_runs = set(pinned[slots:])
    parts = []
    for stay in stays:
        name = "/".join(stay.key) + ("" if stay.version.footprint is not None else GUESSED)
        nbytes = least(stay).resident if stay in without_runs else least(stay).total
        parts.append((name, nbytes, stay.is_pinned))
    return parts


def model_of(stay: Stay, mine: Holding, state: VersionState, reason: str, *, gives_back: bool) -> ModelMemory:
    return ModelMemory(
        *stay.key,
        "cpu",
        state.value,
        stay.is_pinned,
        is_measured=stay.version.footprint is not None,
        gives_back=gives_back and state is VersionState.READY,
        resident=mine.resident,
        scratch=mine.scratch,
        used=0,
        cap=0,
        reload_s=stay.version.reload_s,
        idle_s=None,
        rate=0.0,
        priority=None,
        evictions=0,
        reason=reason,
    )
