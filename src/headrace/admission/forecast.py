"""When a request that arrives now would be answered: what goes before it, how long that takes, what comes after. Pure.

The prediction is l(b) at its upper quantile, a run at a time, in relation to how the runs have really followed each other:
with several instances they overlap, beside other models they wait for their turn. It errs on the late side: to believe
a run takes 30 % less than it does costs as much of the goodput, to believe it takes 40 % more costs next to nothing.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from headrace.batching.fairness import Flow
from headrace.batching.ticket import Ticket

FOLLOWS = 0.1
"""How fast the pace follows the last run."""
FASTEST, SLOWEST = 0.1, 20.0
FADES, LEAST_AFTER_S = 0.99, 1e-3
"""How fast a slow way back is forgotten, by run; one is believed to be twice as slow as the last, and this much more."""


class Arrival(NamedTuple):
    """What admission needs to know of a request: all of it is in the envelope.

    Attributes:
        rows, cost: as in InferRequest and its Group.
        level, tenant, arrived, deadline, target, is_asked: as in Ticket.
    """

    rows: int
    cost: int
    nbytes: int
    level: int
    tenant: str
    arrived: float
    deadline: float
    target: float
    is_asked: bool


class Pace:
    """How runs follow each other while something waits, in relation to l(b). Knows no clock.

    Attributes:
        stretch: seconds from the end of a run to the end of the next, over l(b) of that.
        after_s: seconds from the end of a run to its answers, as they were lately when it took long.
    """

    def __init__(self, instances: int = 1) -> None:
        self.stretch = 1.0 / instances
        self.after_s = 0.0
        self._last_end = float("-inf")

    def observe(self, waited_since: float, ended: float, seconds: float, now: float) -> None:
        """A run has ended.

        Args:
            waited_since: arrival of the first of its tickets.
            ended: when it did, by the worker's stamp.
            seconds: its l(b) as it was predicted.
            now: when it was heard of.
        """
        if waited_since < self._last_end < ended and seconds > 0:
            cycle = min(SLOWEST, max(FASTEST, (ended - self._last_end) / seconds))
            self.stretch += FOLLOWS * (cycle - self.stretch)
        self._last_end = max(self._last_end, ended)
        # One answer that was late once, since the gateway stood still, is not what all will be: that takes several.
        after_s = min(now - ended, 2 * self.after_s + LEAST_AFTER_S)
        self.after_s = max(FADES * self.after_s, after_s)


def expected_s(
    ahead: int,
    rows: int,
    cap: int,
    seconds: Callable[[int], float],
    others_s: float,
    pace: Pace,
    *,
    is_filled: bool = False,
) -> float:
    """Seconds until a request is answered, from when an instance can begin another run.

    Args:
        ahead: rows that go before it and can share its batches.
        rows: its own.
        cap: rows of a batch.
        seconds: upper bound of a run of so many rows.
        others_s: seconds of runs of other length buckets, tenants and levels that go before it.
        pace: how runs follow each other.
        is_filled: its batch will be full.
    """
    full, rest = divmod(ahead, cap)
    if rest and rest + rows > cap:
        full, rest = full + 1, 0
    # Where so much waits those who come later fill its batch up, unless they are others' and keep their own turns.
    last = cap if is_filled else rest + rows
    return pace.stretch * (full * seconds(cap) + others_s) + seconds(last) + 2 * pace.after_s


def fair_ahead_s(
    own_s: float,
    flow: Flow,
    backlog: Mapping[Flow, float],
    weight: Callable[[str], float],
    share: Callable[[int], float],
) -> float:
    """Device seconds of other flows that go before a request of this one.

    While a flow gets so much, another gets as much in relation to its weight, if it has as much to do: beside somebody
    with a long queue one waits for as much as one brings, not for the queue.

    Args:
        own_s: what goes before it in its own flow, and it.
        flow: its own.
        backlog: device seconds that wait in each flow.
        weight: of a tenant.
        share: of a level.
    """
    level, tenant, bucket = flow
    mine = own_s
    mine += sum(
        min(seconds, own_s)
        for other, seconds in backlog.items()
        if other[:2] == (level, tenant) and other.bucket != bucket
    )
    of_tenants: dict[str, float] = {}
    of_levels: dict[int, float] = {}
    for other, seconds in backlog.items():
        if other.level != level:
            of_levels[other.level] = of_levels.get(other.level, 0.0) + seconds
        elif other.tenant != tenant:
            of_tenants[other.tenant] = of_tenants.get(other.tenant, 0.0) + seconds
    of_tenant = mine
    mine += sum(
        min(seconds, of_tenant * weight(other) / weight(tenant)) for other, seconds in of_tenants.items()
    )
    # Those after it go first only once its level has had its share.
    mine += sum(
        min(seconds, mine * share(other) / share(level))
        for other, seconds in of_levels.items()
        if other < level
    )
    return mine - own_s


def arrival_of(ticket: Ticket) -> Arrival:
    """What admission needs to know of a ticket."""
    request = ticket.request
    return Arrival(
        request.rows,
        request.group.cost,
        request.nbytes,
        ticket.level,
        ticket.tenant,
        ticket.arrived,
        ticket.deadline,
        ticket.target,
        ticket.is_asked,
    )
