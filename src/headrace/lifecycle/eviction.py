"""Who leaves memory for another: GreedyDual-Size-Frequency, with measured seconds of reloading. Pure.

What a version is worth where it is: the seconds of loading it spares in a second, for each byte it takes. Whoever is worth
least goes first. Frequency is a rate that fades (half-life HALF_LIFE_S), of absent versions as of resident ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log

Key = tuple[str, str]
"""Name and version."""

HALF_LIFE_S = 300.0
"""Seconds in which what was asked counts half."""
HYSTERESIS = 1.2
"""Who is not asked for must be worth so many times what leaves for it."""
GUARD = 1.0
"""Part of its load time that a version stays at least where another is asked for: half its time is spent on loading at most."""
LONGEST_GUARD_S = 30.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that is in memory and that nobody leases, or the one that comes in.

    Attributes:
        key: name and version.
        nbytes: what its going frees, about.
        reload_s: seconds its load takes.
        since: when it came into memory.
    """

    key: Key
    nbytes: int
    reload_s: float
    since: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Who leaves.

    Attributes:
        victims: the least worth first; empty: nobody leaves now.
        not_before: when to ask again, if nobody leaves: now, where nothing lacks; later, where somebody is only protected
            for now; None, where there is nobody to evict.
    """

    victims: tuple[Candidate, ...]
    not_before: float | None


class Eviction:
    """What was asked of everybody, and the choice. `now` is in seconds and never goes back. Not thread-safe."""

    def __init__(self) -> None:
        # The mutable state: requests that count, and as of when.
        self._counts: dict[Key, tuple[float, float]] = {}
        self._began: float | None = None

    def asked(self, key: Key, requests: int, now: float) -> None:
        """So many requests since the last call. Once a second a version, not once a request."""
        if self._began is None:
            self._began = now
        if requests:
            self._counts[key] = (self._count(key, now) + requests, now)

    def rate(self, key: Key, now: float) -> float:
        """Requests a second lately."""
        fading = log(2) / HALF_LIFE_S
        seen = now - (self._began if self._began is not None else now)
        whole = (1 - exp(-fading * max(seen, 1.0))) / fading
        return self._count(key, now) / whole

    def came(self, candidate: Candidate, now: float) -> None:
        """It is in memory."""

    def left(self, key: Key, now: float) -> None:
        """It is no longer."""

    def forget(self, key: Key) -> None:
        """There is no such version any more."""
        self._counts.pop(key, None)

    def priority(self, candidate: Candidate, now: float) -> float:
        """Seconds of loading that its being there spares, a second and MiB; the least leaves first."""
        return self.rate(candidate.key, now) * candidate.reload_s / max(1, candidate.nbytes) * (1 << 20)

    def victims(
        self,
        incoming: Candidate,
        residents: Sequence[Candidate],
        is_enough: Callable[[Sequence[Candidate]], bool],
        now: float,
        *,
        is_asked: bool,
    ) -> Choice:
        """Whose going makes room for one that is to come in.

        Args:
            residents: who can leave.
            is_enough: whether there is room once these have gone.
            is_asked: requests wait for it, so it has to come in; else only if it is worth clearly more than each that leaves.
        """
        if is_enough(()):
            return Choice((), now)
        ranked = sorted(residents, key=lambda each: (self.priority(each, now), each.since))
        if not is_asked:
            bound = self.priority(incoming, now) / HYSTERESIS
            ranked = [each for each in ranked if self.priority(each, now) < bound]
        victims = _fewest(ranked, is_enough)
        if not victims:
            return Choice((), None)
        until = max(_protected_until(each) for each in victims)
        return Choice((), until) if until > now else Choice(victims, None)

    def _count(self, key: Key, now: float) -> float:
        count, then = self._counts.get(key, (0.0, now))
        return count * exp(-log(2) / HALF_LIFE_S * (now - then))


def _protected_until(candidate: Candidate) -> float:
    return candidate.since + min(LONGEST_GUARD_S, GUARD * candidate.reload_s)


def _fewest(
    ranked: Sequence[Candidate], is_enough: Callable[[Sequence[Candidate]], bool]
) -> tuple[Candidate, ...]:
    """The first of them that are enough, without those that are not needed after all; nobody if all are too few."""
    count = next((n for n in range(1, len(ranked) + 1) if is_enough(ranked[:n])), None)
    if count is None:
        return ()
    taken = list(ranked[:count])
    for each in ranked[count - 1 :: -1]:
        others = [other for other in taken if other is not each]
        if is_enough(others):
            taken = others
    return tuple(taken)
