"""Tickets that wait, in lanes: what shares a lane can share a batch, and is one flow's. Each lane is by deadline."""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from headrace.batching.fairness import Flow, FlowOrder
from headrace.batching.latency import cost_bucket
from headrace.batching.policy import Candidates, may_join
from headrace.batching.ticket import State, Ticket
from headrace.messages import Group

MOST_EMPTY = 32
"""Lanes beyond which those that ran empty are forgotten; most come again at once."""
MOST_COUNTED = 512
"""Of a lane longer than this only every n-th ticket is looked at to tell how many go before another."""

LEAST = 1 << 30
"""Added to the level of what waited too long and is served all the same, after everything else."""

Entry = tuple[float, int, Ticket]
"""Deadline, order of arrival, ticket. Out of date where the ticket waits no more, or in another lane."""
LaneKey = tuple[Group, bool, int, str]
"""Group, whether each travels alone, level, tenant."""


class Lane:
    """Tickets of one group and one flow, earliest deadline first. `tickets`, `rows` and `nbytes` are of those that wait."""

    __slots__ = ("entries", "flow", "group", "is_alone", "key", "latest", "rows", "tickets")

    def __init__(self, key: LaneKey) -> None:
        self.key = key
        self.group, self.is_alone, level, tenant = key
        self.flow = Flow(level, tenant, cost_bucket(self.group.cost))
        self.entries: list[Entry] = []
        self.tickets = 0
        self.rows = 0
        self.latest = 0.0

    def first(self) -> Entry:
        """The waiting ticket of the earliest deadline; only where one waits."""
        entries = self.entries
        while not is_current(entries[0], self):
            heappop(entries)
        return entries[0]

    def rows_before(self, deadline: float) -> int:
        """Rows with deadlines no later, about: of a long lane only a part is looked at."""
        if deadline >= self.latest:
            return self.rows
        entries = self.entries
        step = 1 + len(entries) // MOST_COUNTED
        found = sum(
            ticket.request.rows
            for due, _, ticket in entries[::step]
            if due <= deadline and ticket.state is State.WAITING
        )
        return min(self.rows, found * step)

    def prune(self) -> None:
        """What waits no more, deep in the heap, would keep its data there."""
        if len(self.entries) > MOST_EMPTY and self.tickets * 2 < len(self.entries):
            self.entries = [entry for entry in self.entries if is_current(entry, self)]
            heapify(self.entries)


class RequestQueue:
    """All lanes of a model. Lives on the loop; not thread-safe.

    Whose lane is next is the order's to say; within a lane the earliest deadline is. Dropped tickets stay in their heap
    until they come to its top; what they weigh leaves the totals at once.
    """

    def __init__(self, order: FlowOrder | None = None) -> None:
        # The mutable state: the lanes, the one that was last put into, whether flows have ever competed, and what waits: tickets, those of
        # them that travel alone, rows and bytes.
        self._order = order or FlowOrder({}, {})
        self._lanes: dict[LaneKey, Lane] = {}
        self._last: Lane | None = None
        self.is_shared = False
        self._arrivals = count()
        self.waiting = 0
        self.alone = 0
        self.rows = 0
        self.nbytes = 0

    def __len__(self) -> int:
        return self.waiting

    def add(self, ticket: Ticket) -> None:
        """Take a ticket in; a retry, or a request that may not share, will travel alone."""
        request = ticket.request
        key = (request.group, ticket.is_alone, ticket.level, ticket.tenant)
        lane = self._last
        # Mostly it is the one before's: comparing costs half of what hashing does.
        if lane is None or lane.key != key:
            lane = self._lanes.get(key) or self._new_lane(key)
            self._last = lane
        ticket.lane = lane
        deadline, rows = ticket.deadline, request.rows
        heappush(lane.entries, (deadline, next(self._arrivals), ticket))
        if deadline > lane.latest:  # noqa: PLR1730 - max() takes twice as long, and this is for every request
            lane.latest = deadline
        lane.tickets += 1
        lane.rows += rows
        if lane.is_alone:
            self.alone += 1
        self.waiting += 1
        self.rows += rows
        self.nbytes += request.nbytes

    def forget(self, ticket: Ticket) -> None:
        """A waiting ticket was dropped: it no longer counts."""
        self._discount(ticket)
        lane_of(ticket).prune()

    def next_deadline(self) -> float | None:
        """The earliest deadline of all that wait."""
        return min((lane.first()[0] for lane in self._lanes.values() if lane.tickets), default=None)

    def expire(self, now: float) -> list[Ticket]:
        """Take out all whose deadline has passed."""
        expired: list[Entry] = []
        for lane in self._lanes.values():
            while lane.tickets and lane.first()[0] <= now:
                expired.append(heappop(lane.entries))
                self._discount(expired[-1][2])
        return [entry[2] for entry in sorted(expired)]

    def waiting_at(self, level: int) -> int:
        """Tickets that wait at a level, those that are served last too."""
        return sum(lane.tickets for lane in self._lanes.values() if lane.flow.level in {level, LEAST + level})

    def put_last(self, ticket: Ticket, deadline: float) -> None:
        """An expired ticket is served after everything else, until another deadline."""
        ticket.level, ticket.deadline = LEAST + ticket.level, deadline
        self.add(ticket)

    def backlog(self) -> dict[Flow, list[Lane]]:
        """The lanes in which something waits, by flow."""
        found: dict[Flow, list[Lane]] = {}
        for lane in self._lanes.values():
            if lane.tickets:
                found.setdefault(lane.flow, []).append(lane)
        return found

    def candidates(self, seconds: Callable[[Lane], float]) -> Candidates | None:
        """What a batch could be made of now; None if nothing waits.

        Args:
            seconds: what the next batch of a lane would take of the device; asked only where flows compete.
        """
        if not self.waiting:
            return None
        if len(self._lanes) == 1 and not self.is_shared:
            (lane,) = self._lanes.values()
            deadline, _, ticket = lane.first()
            return Candidates(
                lane.group, deadline, lane.flow, lane.is_alone, lane.is_alone and ticket.is_retry
            )
        flows = self.backlog()
        lanes = next(iter(flows.values()))
        if self.is_shared:
            self._order.want(flows)
            if len(flows) > 1:
                # Of equals the first in the list goes first: the one with the earliest deadline.
                by_deadline = sorted((min(map(Lane.first, of)), flow) for flow, of in flows.items())
                costs = {flow: max(map(seconds, flows[flow])) for _, flow in by_deadline}
                lanes = flows[self._order.pick(costs)]
        lane = min(lanes, key=Lane.first)
        deadline, _, ticket = lane.first()
        if not lane.is_alone and (self.is_shared or lane.group.edges):
            deadline = min(each.first()[0] for lanes in self._joinable(lane.group) for each in lanes)
        return Candidates(lane.group, deadline, lane.flow, lane.is_alone, lane.is_alone and ticket.is_retry)

    def waiting_rows(self, candidates: Candidates, limit: int) -> int:
        """How many rows could travel, as far as the limit; a ticket that travels alone fills its batch."""
        if candidates.is_alone:
            return limit
        if len(self._lanes) == 1:
            return min(limit, self.rows)
        return min(limit, sum(lane.rows for lanes in self._joinable(candidates.group) for lane in lanes))

    def take(self, candidates: Candidates, max_rows: int, row_s: float = 0.0) -> list[Ticket]:
        """Take tickets out while their rows fit; the first always does.

        Where tickets of several flows can share the batch they take turns, after the first; each is charged `row_s` a
        row. A ticket that does not fit is not overtaken.
        """
        if len(self._lanes) > MOST_EMPTY:
            self._lanes = {key: lane for key, lane in self._lanes.items() if lane.tickets}
            self._last = None
        if candidates.is_alone:
            lane = self._lane(candidates)
            self._charge(lane, row_s)
            return [self._pop(lane)]
        taken: list[Ticket] = []
        if len(self._lanes) == 1:
            self._take_from(self._lane(candidates), max_rows, row_s, taken)
            return taken
        room = max_rows
        for lanes in self._joinable(candidates.group):
            room = self._take_in_turn(lanes, candidates.flow, room, row_s, taken)
            if room <= 0:
                break
        return taken

    def charge(self, flow: Flow, seconds: float) -> None:
        """A flow's batch took so many seconds more of the device than it was charged when it was taken; or fewer."""
        if self.is_shared:
            self._order.charge(flow, seconds)

    def isolate(self) -> None:
        """All that waits will travel alone: what it was grouped by no longer holds."""
        tickets = self._take_out()
        self._lanes.clear()
        self._last = None
        for ticket in tickets:
            ticket.is_alone = True
            self.add(ticket)

    def take_all(self) -> list[Ticket]:
        """Take everything out, in no particular order."""
        tickets = self._take_out()
        self._lanes.clear()
        self._last = None
        return tickets

    def rows_ahead(self, flow: Flow, deadline: float) -> tuple[int, int]:
        """Of a flow, what goes before a ticket of that deadline: rows that share batches, and tickets that travel alone."""
        rows = alone = 0
        for lane in self._lanes.values():
            if lane.flow == flow and lane.tickets:
                before = lane.rows_before(deadline)
                if lane.is_alone:
                    alone += lane.tickets if before >= lane.rows else min(before, lane.tickets)
                else:
                    rows += before
        return rows, alone

    def _take_out(self) -> list[Ticket]:
        entries = sorted(
            entry for lane in self._lanes.values() for entry in lane.entries if is_current(entry, lane)
        )
        self.waiting = self.alone = self.rows = self.nbytes = 0
        return [entry[2] for entry in entries]

    def _new_lane(self, key: LaneKey) -> Lane:
        lane = self._lanes[key] = Lane(key)
        # Before anybody competes nobody is charged: what nobody else wanted is nobody's debt.
        self.is_shared = self.is_shared or any(each.flow != lane.flow for each in self._lanes.values())
        return lane

    def _lane(self, candidates: Candidates) -> Lane:
        flow = candidates.flow
        return self._lanes[candidates.group, candidates.is_alone, flow.level, flow.tenant]

    def _joinable(self, group: Group) -> Iterator[list[Lane]]:
        """The lanes of which a batch can be made: those of the group, then those of groups that may join it."""
        mine = [
            lane for lane in self._lanes.values() if lane.group == group and not lane.is_alone and lane.rows
        ]
        yield mine
        if group.edges:
            for lane in list(self._lanes.values()):
                if lane.rows and not lane.is_alone and lane.group != group and may_join(group, lane.group):
                    yield [lane]

    def _take_in_turn(
        self, lanes: list[Lane], first: Flow, room: int, row_s: float, taken: list[Ticket]
    ) -> int:
        """Take from lanes of one group, ticket by ticket where they are several; returns the room that is left."""
        by_flow = {lane.flow: lane for lane in lanes}
        while by_flow and room > 0:
            if len(by_flow) == 1:
                (lane,) = by_flow.values()
                return self._take_from(lane, room, row_s, taken)
            flow = (
                first if not taken and first in by_flow else self._order.pick(dict.fromkeys(by_flow, row_s))
            )
            lane = by_flow[flow]
            room = self._take_from(lane, room, row_s, taken, at_most=1)
            if not lane.tickets:
                del by_flow[flow]
        return room

    def _take_from(self, lane: Lane, room: int, row_s: float, taken: list[Ticket], at_most: int = -1) -> int:
        """Take the first tickets of a lane while they fit; returns the room that is left, 0 if one did not fit."""
        entries, tickets, rows, nbytes = lane.entries, 0, 0, 0
        while entries and tickets != at_most:
            ticket = entries[0][2]
            if ticket.state is State.WAITING and ticket.lane is lane:
                request = ticket.request
                if request.rows > room and taken:
                    room = 0
                    break
                taken.append(ticket)
                tickets += 1
                rows += request.rows
                nbytes += request.nbytes
                room -= request.rows
            heappop(entries)
            if room <= 0:
                break
        lane.tickets -= tickets
        lane.rows -= rows
        self.waiting -= tickets
        self.rows -= rows
        self.nbytes -= nbytes
        if self.is_shared:
            self._order.charge(lane.flow, rows * row_s)
        return room

    def _charge(self, lane: Lane, row_s: float) -> None:
        if self.is_shared:
            self._order.charge(lane.flow, lane.first()[2].request.rows * row_s)

    def _pop(self, lane: Lane) -> Ticket:
        ticket = heappop(lane.entries)[2]
        self._discount(ticket)
        return ticket

    def _discount(self, ticket: Ticket) -> None:
        lane, request = lane_of(ticket), ticket.request
        lane.tickets -= 1
        lane.rows -= request.rows
        if lane.is_alone:
            self.alone -= 1
        self.waiting -= 1
        self.rows -= request.rows
        self.nbytes -= request.nbytes


def lane_of(ticket: Ticket) -> Lane:
    """The lane a ticket was put in."""
    assert isinstance(ticket.lane, Lane), "a waiting ticket is in a lane"
    return ticket.lane


def is_current(entry: Entry, lane: Lane) -> bool:
    """Whether the ticket still waits there."""
    ticket = entry[2]
    return ticket.state is State.WAITING and ticket.lane is lane
