"""When a request that arrives now would be answered. Pure."""

from typing import NamedTuple


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
