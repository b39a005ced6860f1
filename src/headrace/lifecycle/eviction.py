"""Who leaves memory for another: GreedyDual-Size-Frequency, with measured seconds of reloading. Pure.

A version is worth where it is what its being there spares: requests a second times seconds of its load, for each byte it
takes. Whoever is worth least goes first (Cherkasova 1998, with two changes that docs/decisions/0015 has the figures of):
frequency is a rate that fades, of absent versions as of resident ones, so that no clock has to age it; and who came last
goes first of those that are worth about the same, so that the tail takes turns in one place and leaves the others theirs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt

Key = tuple[str, str]
"""Name and version."""

HALF_LIVES_S = (300.0, 60.0, 12.0)
"""Seconds after which a request counts half, the slowest first: that one is exact, the others see what changes."""
SURPRISE = 2.0
"""A faster rate is believed where it is so many standard deviations from what a slower one leads to expect."""
ALIKE = 1.2
"""Who is worth up to so many times as much as the least is worth about the same."""
HYSTERESIS = 1.2
"""Who is not asked for must be worth so many times what leaves for it."""
STAY, LONGEST_STAY_S = 10.0, 30.0
"""Nobody leaves for one who is not asked for within so many times its own load, or that many seconds if it is less."""
MIB = 1 << 20


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
        not_before: when to ask again if nobody leaves: now, where nothing lacks; later, where somebody is only protected for
            now; None: there is nobody to evict.
    """

    victims: tuple[Candidate, ...]
    not_before: float | None


@dataclass(slots=True)
class Asked:
    """How often one version was asked for: a count that fades, for each of HALF_LIVES_S, as of some moment."""

    then: float
    counts: list[float] = field(default_factory=lambda: [0.0] * len(HALF_LIVES_S))

    def add(self, requests: int, now: float) -> None:
        self.counts = [count + requests for count in self.faded(now)]
        self.then = now

    def faded(self, now: float) -> list[float]:
        return [
            count * exp(-log(2) / half_life * (now - self.then))
            for count, half_life in zip(self.counts, HALF_LIVES_S, strict=True)
        ]


class Eviction:
    """What everybody was asked, and the choice. `now` is in seconds and never goes back. Not thread-safe."""

    def __init__(self) -> None:
        # The mutable state: requests by version, and since when they are counted.
        self._asked: dict[Key, Asked] = {}
        self._began: float | None = None

    def asked(self, key: Key, requests: int, now: float) -> None:
        """So many requests since the last call, in memory or not. Once a second a version, not once a request."""
        if self._began is None:
            self._began = now
        if requests:
            self._asked.setdefault(key, Asked(now)).add(requests, now)

    def rate(self, key: Key, now: float) -> float:
        """Requests a second lately: over the longest time for which they are no surprise."""
        asked = self._asked.get(key)
        if asked is None or self._began is None:
            return 0.0
        seen_s = max(1.0, now - self._began)
        rate: float | None = None
        for count, half_life in zip(asked.faded(now), HALF_LIVES_S, strict=True):
            seconds = (1 - exp(-log(2) / half_life * seen_s)) * half_life / log(2)
            expected = 0.0 if rate is None else rate * seconds
            if rate is None or abs(count - expected) > SURPRISE * sqrt(expected + 0.5):
                rate = count / seconds
        return rate or 0.0

    def forget(self, key: Key) -> None:
        """There is no such version any more."""
        self._asked.pop(key, None)

    def priority(self, candidate: Candidate, now: float) -> float:
        """Seconds of loading that its being there spares, a second and MiB; the least leaves first."""
        return self.rate(candidate.key, now) * candidate.reload_s / max(1, candidate.nbytes) * MIB

    def victims(
        self,
        incoming: Candidate,
        residents: Sequence[Candidate],
        is_enough: Callable[[Sequence[Candidate]], bool],
        now: float,
        *,
        is_asked: bool,
    ) -> Choice:
        """Whose going makes room for another.

        Args:
            incoming: the one that is to come in; not among the residents.
            residents: who can leave.
            is_enough: whether there is room once these have gone; if so, then also once more have.
            now: seconds.
            is_asked: requests wait for it, so that it comes in whatever it is worth. Else it does only if it is worth clearly
                more than each that leaves for it, and if none of those has just come.
        """
        if is_enough(()):
            return Choice((), now)
        worth = [(self.priority(each, now), each) for each in residents]
        if is_asked:
            return Choice(_fewest(_least_first(worth), is_enough), None)
        bound = self.priority(incoming, now) / HYSTERESIS
        lesser = [(each_worth, each) for each_worth, each in worth if each_worth < bound]
        settled = [pair for pair in lesser if _protected_until(pair[1]) <= now]
        if victims := _fewest(_least_first(settled), is_enough):
            return Choice(victims, None)
        if not _fewest(_least_first(lesser), is_enough):
            return Choice((), None)
        return Choice((), min(end for _, each in lesser if (end := _protected_until(each)) > now))


def _protected_until(candidate: Candidate) -> float:
    return candidate.since + min(LONGEST_STAY_S, STAY * candidate.reload_s)


def _least_first(worth: list[tuple[float, Candidate]]) -> Iterator[Candidate]:
    """The least worth first; of those that are worth about the same, who came last."""
    left = sorted(worth, key=lambda pair: pair[0])
    while left:
        bound = left[0][0] * ALIKE
        place, (_, chosen) = max(
            ((place, pair) for place, pair in enumerate(left) if pair[0] <= bound),
            key=lambda placed: placed[1][1].since,
        )
        del left[place]
        yield chosen


def _fewest(
    ranked: Iterator[Candidate], is_enough: Callable[[Sequence[Candidate]], bool]
) -> tuple[Candidate, ...]:
    """The first of them that are enough, without those that are not needed after all; nobody if all are too few."""
    taken: list[Candidate] = []
    for each in ranked:
        taken.append(each)
        if is_enough(taken):
            break
    else:
        return ()
    for each in taken[-2::-1]:
        others = [other for other in taken if other is not each]
        if is_enough(others):
            taken = others
    return tuple(taken)
