"""Whose turn it is among those who share a device: weighted fair queueing by virtual time.

Who has used least in relation to its weight goes next, so that each gets its weight's part while all want more than
there is, and whatever it wants while they do not. Time somebody did not want is not banked: who comes back starts where
the least of the others stands (the lift of VTC: Sheng et al., Fairness in Serving Large Language Models, OSDI 2024;
virtual time as in self-clocked fair queueing, Golestani 1994).
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

MOST_KNOWN = 256
"""Keys beyond which those that want nothing are forgotten."""
NEARLY_ALL = 0.95
"""Of what is left of a device's time: the share of a level that names none."""
LEAST_SHARE = 0.01
"""Of a level for which nothing is left, and of what waited too long and is served after everything else."""

Key = TypeVar("Key", bound=Hashable)


class Flow(NamedTuple):
    """Whose requests these are, where several compete for one model.

    Attributes:
        level: priority level; lower ones go first within their share.
        tenant: whose device time it is.
        bucket: length bucket, as latency.cost_bucket has it.
    """

    level: int
    tenant: str
    bucket: int


class FairOrder(Generic[Key]):
    """Device seconds used by each key, in relation to its weight. Knows no clock."""

    def __init__(self, weight: Callable[[Key], float]) -> None:
        """`weight` gives a key's, above 0."""
        self._weight = weight
        # The mutable state: virtual time of each key, who wanted a turn when it was last asked, and the least of those.
        self._used: dict[Key, float] = {}
        self._active: set[Key] = set()
        self._now = 0.0

    def want(self, keys: Iterable[Key]) -> None:
        """All that want a turn now; to be said before each turn is given."""
        wanting, used, now = set(keys), self._used, self._now
        for key in wanting - self._active:
            used[key] = max(used.get(key, now), now)
        self._active = wanting
        self._now = max(now, min(used[key] for key in wanting))
        if len(used) > MOST_KNOWN:
            self._used = {key: spent for key, spent in used.items() if key in wanting}

    def pick(self, costs: Mapping[Key, float]) -> Key:
        """The one whose turn would end first in virtual time; the first of equals.

        Args:
            costs: some of those that want a turn, and how many device seconds it would take; at least one.
        """
        if len(costs) == 1:
            return next(iter(costs))
        used, now = self._used, self._now
        return min(costs, key=lambda key: used.get(key, now) + costs[key] / self._weight(key))

    def charge(self, key: Key, seconds: float) -> None:
        """It has been given so many device seconds; fewer than 0 if it turned out to be less."""
        self._used[key] = self._used.get(key, self._now) + seconds / self._weight(key)

    def forget(self, key: Key) -> None:
        """It will want no turn any more."""
        self._used.pop(key, None)
        self._active.discard(key)

    def lead(self, key: Key) -> float:
        """Virtual seconds by which a key is ahead of the least of those that wanted a turn."""
        return self._used.get(key, self._now) - self._now


class FlowOrder:
    """The flows of one model: levels first, then tenants within a level, then length buckets within a tenant.

    A level goes before those after it until its turn would take it beyond its share (a finish time is compared, and
    theirs are far off); tenants and buckets take turns by what they have used.
    """

    def __init__(self, level_shares: Mapping[int, float], tenant_weights: Mapping[str, float]) -> None:
        """Shares of the device time by level, as `shares` gives them; weights of tenants, 1 for all others."""
        self._tenant_weights = tenant_weights
        self.level_shares = level_shares
        # The mutable state: the order at each place of the tree.
        self._levels: FairOrder[int] = FairOrder(self.level_weight)
        self._tenants: dict[int, FairOrder[str]] = {}
        self._buckets: dict[tuple[int, str], FairOrder[int]] = {}

    def level_weight(self, level: int) -> float:
        """A level's share of the device time."""
        return self.level_shares.get(level, LEAST_SHARE)

    def tenant_weight(self, tenant: str) -> float:
        """A tenant's weight beside the others'."""
        return self._tenant_weights.get(tenant, 1.0)

    def want(self, flows: Collection[Flow]) -> None:
        """All flows in which something waits; to be said before each turn is given."""
        self._levels.want(flow.level for flow in flows)
        at_levels: dict[int, set[str]] = {}
        at_tenants: dict[tuple[int, str], set[int]] = {}
        for level, tenant, bucket in flows:
            at_levels.setdefault(level, set()).add(tenant)
            at_tenants.setdefault((level, tenant), set()).add(bucket)
        for level, tenants in at_levels.items():
            self._tenants_at(level).want(tenants)
        for (level, tenant), buckets in at_tenants.items():
            self._buckets_at(level, tenant).want(buckets)

    def pick(self, costs: Mapping[Flow, float]) -> Flow:
        """Whose turn it is, of some that want one, each with the device seconds its turn would take."""
        if len(costs) == 1:
            return next(iter(costs))
        of_levels: dict[int, float] = {}
        for flow, seconds in costs.items():
            of_levels[flow.level] = max(seconds, of_levels.get(flow.level, 0.0))
        level = self._levels.pick(dict(sorted(of_levels.items())))
        tenant = self._tenants_at(level).pick({flow.tenant: 0.0 for flow in costs if flow.level == level})
        buckets = {flow.bucket: 0.0 for flow in costs if (flow.level, flow.tenant) == (level, tenant)}
        return Flow(level, tenant, self._buckets_at(level, tenant).pick(buckets))

    def charge(self, flow: Flow, seconds: float) -> None:
        """A flow has been given so many device seconds; fewer than 0 if it turned out to be less."""
        level, tenant, bucket = flow
        self._levels.charge(level, seconds)
        self._tenants_at(level).charge(tenant, seconds)
        self._buckets_at(level, tenant).charge(bucket, seconds)

    def modest(self, level: int, tenants: Collection[str], seconds: float) -> set[str]:
        """Those tenants of a level that are not ahead of the least of them by more than their part of so many seconds.

        Args:
            level: theirs.
            tenants: at least one.
            seconds: of the device, that all of them have between them.
        """
        order = self._tenants_at(level)
        leads = {tenant: order.lead(tenant) for tenant in tenants}
        most = min(leads.values()) + seconds / sum(map(self.tenant_weight, tenants))
        return {tenant for tenant, lead in leads.items() if lead <= most}

    def _tenants_at(self, level: int) -> FairOrder[str]:
        if (order := self._tenants.get(level)) is None:
            order = self._tenants[level] = FairOrder(self.tenant_weight)
        return order

    def _buckets_at(self, level: int, tenant: str) -> FairOrder[int]:
        if (order := self._buckets.get((level, tenant))) is None:
            if len(self._buckets) >= MOST_KNOWN:
                self._buckets.clear()
            order = self._buckets[level, tenant] = FairOrder(alike)
        return order


def alike(_: int) -> float:
    """The weight of every length bucket."""
    return 1.0


def shares(levels: Iterable[int], reserved: Mapping[int, float | None]) -> dict[int, float]:
    """The share of the device time of each level, first one first; they add up to 1 at most.

    Args:
        levels: all there are.
        reserved: what each was promised; None or missing for nearly all of what nobody was promised, for the last for
            all of it.
    """
    ordered = sorted(levels)
    promised = {level: share for level in ordered if (share := reserved.get(level)) is not None}
    found, left = {}, max(0.0, 1.0 - sum(promised.values()))
    for level in ordered:
        if (share := promised.get(level)) is None:
            share = left if level == ordered[-1] else NEARLY_ALL * left
            left -= share
        found[level] = max(share, LEAST_SHARE)
    return found
