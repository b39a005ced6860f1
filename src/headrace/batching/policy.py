"""How many tickets travel now. Pure: a snapshot in, a decision out.

Work-conserving (a free instance takes what waits, up to the cap): simulation finds no fixed delay that is better, since
batches grow with the backlog by themselves.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from headrace.batching.fairness import Flow
from headrace.messages import Group

NARROWEST = 0.6
"""A shorter group may fill up a batch of a longer one if it is at least so much of its cost: the rest is padding."""
LEAST_RUN_S, SHORT_RUN_S = 5e-4, 2e-3
"""Runs between these are staged behind the running one, since the way to the gateway and back would show. Beside still
shorter ones the gateway's own work a batch is what limits, and fewer, bigger batches serve it better."""
MOST_HEADS = 256
"""Of those that cannot all be in time, how many first ones a window is looked for behind."""
SHORTEST_S = 1e-9
WORTH_MOVING = 1.0001
"""So much better a later window has to be."""
PERIOD_S = 10.0
"""How long what was seen counts as lately: so long at least, and twice that at most."""
OF_TIGHTEST = 0.5
"""A run lasts no longer than this part of the tightest objective it may be in the way of: who arrives just after it began
waits for it, and then for a run of its own."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tickets that could share the next batch: a group's, and those that may join it.

    Attributes:
        deadline: the earliest of them.
        flow: whose turn it is.
        is_alone: it is one that must not share it.
        is_suspect: it is one that a worker has failed with before; nothing else may run while it does.
    """

    group: Group
    deadline: float
    flow: Flow
    is_alone: bool = False
    is_suspect: bool = False


class Tightest:
    """The least of what was seen lately: of the last ten seconds, more or less. Knows no clock."""

    def __init__(self) -> None:
        # The mutable state: the least of this period and of the one before, and when this one began.
        self.least = inf
        self._before = inf
        self._began = -inf

    def observe(self, seconds: float, now: float) -> None:
        """So many seconds were allowed."""
        self.forget(now)
        self.least = min(self.least, seconds)

    def forget(self, now: float) -> None:
        """Let go of what was seen too long ago."""
        if now - self._began > PERIOD_S:
            self._before, self.least, self._began = self.least, inf, now

    def at(self, now: float) -> float | None:
        """The least, None if nothing was seen."""
        self.forget(now)
        least = min(self.least, self._before)
        return None if least == inf else least


def is_worth_staging(rows: int, cap: int, run_s: float | None, spare_s: float) -> bool:
    """Whether to send a batch to an instance that runs one already; an idle one gets whatever waits.

    Args:
        rows: how many wait that could travel.
        cap: rows worth a batch.
        run_s: predicted seconds of the batch to send, None if nothing is known.
        spare_s: seconds from the predicted end of the running batch to the earliest deadline.

    A second batch behind the running one hides the way between the processes, but what is staged can no longer be
    joined or overtaken, and would be run though it expired meanwhile. So it is staged when it is full anyway, or when
    runs are short, and nothing in it is about to expire.
    """
    if spare_s <= 0:
        return False
    return rows >= cap or (run_s is not None and LEAST_RUN_S < run_s < SHORT_RUN_S)


def may_join(group: Group, other: Group) -> bool:
    """Whether tickets of `other`, shorter ones, may fill up a batch of `group`."""
    if not group.edges or other.cost > group.cost or other.cost < NARROWEST * group.cost:
        return False
    if other.exact != group.exact or other.shared != group.shared:
        return False
    return all(ours >= theirs for ours, theirs in zip(group.edges, other.edges, strict=True))


def goodput_window(
    deadlines: Sequence[float],
    rows: Sequence[int],
    now: float,
    seconds: Callable[[int], float],
    cap: int,
    base: int = 0,
) -> tuple[int, int]:
    """Which tickets to run where not all can be in time: those from `first` to `last`, exclusive; equal if none can.

    The run with the most rows in time per second of the device. Running for the head's sake makes batches small just
    when big ones are needed: at twice the capacity that leaves 0.14 of it, and this rule 0.99 (simulated, one objective).

    Args:
        deadlines: of the tickets, earliest first.
        rows: of each.
        now: on the same clock.
        seconds: upper bound of a run of so many rows, growing.
        cap: rows of a run, unless one ticket alone has more.
        base: rows that are in the run already.
    """
    total = list(accumulate(rows, initial=0))
    table = [seconds(base + count) for count in range(1, min(cap - base, total[-1]) + 1)]
    best, most = (0, 0), 0.0
    for first in range(min(len(rows), MOST_HEADS)):
        allowed_s = deadlines[first] - now
        fit = bisect_right(table, allowed_s)
        last = bisect_right(total, total[first] + fit) - 1
        if last <= first:
            # One ticket of more rows than the cap travels alone.
            if base or rows[first] <= cap or seconds(rows[first]) > allowed_s:
                continue
            last = first + 1
        count = base + total[last] - total[first]
        rate = max(1, count) / max(seconds(count), SHORTEST_S)  # a request may bring no rows
        if rate > most * WORTH_MOVING:
            best, most = (first, last), rate
        if fit >= len(table):
            break  # a full run, or all there is: nothing later is better
    return best


def window_of_turn(
    deadlines: Sequence[float],
    rows: Sequence[int],
    is_first: Sequence[bool],
    now: float,
    seconds: Callable[[int], float],
    cap: int,
) -> set[int]:
    """Which tickets to run where not all can be in time: positions; none if none can.

    Those whose turn it is (of the level that is to go first, tenants that have not had more than their share) are not
    given up for others: theirs is the goodput window. What is left of its run is filled with others that are in time
    with it and do not make it too long.

    Args:
        deadlines: of the tickets, earliest first.
        rows: of each.
        is_first: whether it is each one's turn.
        now: on the same clock.
        seconds: upper bound of a run of so many rows, growing.
        cap: rows of a run, unless one ticket alone has more.
    """
    mine = [at for at, first in enumerate(is_first) if first]
    others = [at for at, first in enumerate(is_first) if not first]
    first, last = goodput_window([deadlines[at] for at in mine], [rows[at] for at in mine], now, seconds, cap)
    if first == last:
        first, last = goodput_window(deadlines, rows, now, seconds, cap)
        return set(range(first, last))
    chosen = set(mine[first:last])
    base = sum(rows[at] for at in chosen)
    longest = longest_rows(deadlines[mine[first]] - now, seconds, cap)
    if others and base < longest:
        first, last = goodput_window(
            [deadlines[at] for at in others], [rows[at] for at in others], now, seconds, longest, base
        )
        chosen.update(others[first:last])
    return chosen


def longest_rows(limit_s: float, seconds: Callable[[int], float], cap: int) -> int:
    """The most rows, up to the cap and at least 1, whose run stays within so many seconds."""
    low, high = 1, cap
    while low < high:
        middle = (low + high + 1) // 2
        if seconds(middle) <= limit_s:
            low = middle
        else:
            high = middle - 1
    return low
