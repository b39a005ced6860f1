"""How many tickets travel now. Pure: a snapshot in, a decision out.

Work-conserving (a free instance takes what waits, up to the cap): simulation finds no fixed delay that is better, since
batches grow with the backlog by themselves.
"""

from dataclasses import dataclass

from headrace.messages import Group

NARROWEST = 0.6
"""A shorter group may fill up a batch of a longer one if it is at least so much of its cost: the rest is padding."""
LEAST_RUN_S, SHORT_RUN_S = 5e-4, 2e-3
"""Runs between these are staged behind the running one, since the way to the gateway and back would show. Beside still
shorter ones the gateway's own work a batch is what limits, and fewer, bigger batches serve it better."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tickets that could share the next batch: a group's, and those that may join it.

    Attributes:
        deadline: the earliest of them.
        is_alone: it is one that must not share it.
        is_suspect: it is one that a worker has failed with before; nothing else may run while it does.
    """

    group: Group
    deadline: float
    is_alone: bool = False
    is_suspect: bool = False


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
