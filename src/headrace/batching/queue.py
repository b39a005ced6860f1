"""Tickets that wait, by level and deadline, and apart by group: only a group's tickets can share a batch."""

from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import chain, count
from math import inf

from headrace.batching.policy import Candidates, may_join
from headrace.batching.ticket import State, Ticket
from headrace.messages import Group

MOST_EMPTY = 32
"""Groups beyond which those that ran empty are forgotten; most come again at once."""

LEAST = 1 << 30
"""Added to the level of what waited too long and is served all the same, after everything else."""

Entry = tuple[int, float, int, Ticket]
"""Level, deadline, order of arrival, ticket. Out of date where the ticket waits no more, or under another level."""


class RequestQueue:
    """Lowest level first, then earliest deadline. Lives on the loop; not thread-safe.

    Dropped tickets stay in their heap until they come to its top; what they weigh leaves the totals at once.
    """

    def __init__(self, *, has_levels: bool = False) -> None:
        """Make an empty queue; with levels, more is kept, since the first to run is not the first to expire."""
        # The mutable state: the heaps, and what waits in them in tickets and bytes.
        self._by_deadline: list[tuple[float, int, Ticket]] | None = [] if has_levels else None
        self._at_level: Counter[int] = Counter()
        self._heaps: dict[Group, list[Entry]] = {}
        self._alone: list[Entry] = []
        self._order = count()
        self.waiting = 0
        self.nbytes = 0

    def __len__(self) -> int:
        return self.waiting

    def add(self, ticket: Ticket) -> None:
        """Take a ticket in; a retry, or a request that may not share, will travel alone."""
        order = next(self._order)
        entry = (ticket.level, ticket.deadline, order, ticket)
        if self._by_deadline is not None:
            heappush(self._by_deadline, (ticket.deadline, order, ticket))
            self._at_level[ticket.level] += 1
        if ticket.is_retry or ticket.request.is_alone:
            heappush(self._alone, entry)
        else:
            heap = self._heaps.get(ticket.request.group)
            if heap is None:
                heap = self._heaps[ticket.request.group] = []
            heappush(heap, entry)
        self.waiting += 1
        self.nbytes += ticket.request.nbytes

    def forget(self, ticket: Ticket) -> None:
        """A waiting ticket was dropped: it no longer counts."""
        self._discount(ticket)

    def next_deadline(self) -> float | None:
        """The earliest deadline of all that wait."""
        if (heap := self._by_deadline) is not None:
            while heap and not is_due(heap[0]):
                heappop(heap)
            return heap[0][0] if heap else None
        head = self._head()
        return head[0][1] if head else None

    def expire(self, now: float) -> list[Ticket]:
        """Take out all whose deadline has passed."""
        expired = []
        if (heap := self._by_deadline) is not None:
            while heap and heap[0][0] <= now:
                entry = heappop(heap)
                if is_due(entry):
                    self._discount(entry[2])
                    expired.append(entry[2])
                    entry[2].deadline = inf  # not twice, should a retry have left it here twice
            self._prune()
            return expired
        while (head := self._head()) and head[0][1] <= now:
            ticket = heappop(head)[3]
            self._discount(ticket)
            expired.append(ticket)
        return expired

    def waiting_at(self, level: int) -> int:
        """Tickets that wait at a level, those that are served last too; all of them where there are no levels."""
        if self._by_deadline is None:
            return self.waiting
        return self._at_level[level] + self._at_level[LEAST + level]

    def put_last(self, ticket: Ticket, deadline: float) -> None:
        """An expired ticket is served after everything else, until another deadline."""
        ticket.level, ticket.deadline = LEAST + ticket.level, deadline
        self.add(ticket)

    def candidates(self) -> Candidates | None:
        """What a batch could be made of now: the group of the earliest deadline; None if nothing waits."""
        if not (head := self._head()):
            return None
        if head is self._alone:
            only = head[0][3]
            return Candidates(only.request.group, only.deadline, is_alone=True, is_suspect=only.is_retry)
        return Candidates(head[0][3].request.group, head[0][1])

    def waiting_rows(self, candidates: Candidates, limit: int) -> int:
        """How many rows could travel, as far as the limit; a ticket that travels alone fills its batch."""
        if candidates.is_alone:
            return limit
        rows = 0
        for entry in chain.from_iterable(self._joinable(candidates)):
            if rows >= limit:
                return limit
            if is_current(entry):
                rows += entry[3].request.rows
        return min(rows, limit)

    def take(self, candidates: Candidates, max_rows: int) -> list[Ticket]:
        """Take tickets out by deadline while their rows fit; the first always does."""
        if len(self._heaps) > MOST_EMPTY:
            self._heaps = {key: heap for key, heap in self._heaps.items() if heap}
        if candidates.is_alone:
            return [self._pop(self._alone)]
        taken: list[Ticket] = []
        room = max_rows
        for heap in self._joinable(candidates):
            taken, room = self._take_from(heap, room, taken)
            if room <= 0:
                break
        return taken

    def isolate(self) -> None:
        """All that waits will travel alone: what it was grouped by no longer holds."""
        self._alone = sorted([*self._alone, *(entry for heap in self._heaps.values() for entry in heap)])
        self._heaps = {}

    def take_all(self) -> list[Ticket]:
        """Take everything out, in no particular order."""
        entries = [entry for heap in (*self._heaps.values(), self._alone) for entry in heap]
        self._heaps, self._alone, self.waiting, self.nbytes = {}, [], 0, 0
        if self._by_deadline is not None:
            self._by_deadline = []
            self._at_level.clear()
        return [entry[3] for entry in entries if is_current(entry)]

    def _joinable(self, candidates: Candidates) -> Iterator[list[Entry]]:
        """The heaps the candidates are in, their group's own first."""
        group = candidates.group
        yield self._heaps[group]
        if group.edges:
            for other, heap in self._heaps.items():
                if other != group and may_join(group, other):
                    yield heap

    def _take_from(self, heap: list[Entry], room: int, taken: list[Ticket]) -> tuple[list[Ticket], int]:
        count = nbytes = 0
        has_levels = self._by_deadline is not None
        while heap:
            entry = heap[0]
            ticket = entry[3]
            if ticket.state is State.WAITING and ticket.level == entry[0]:
                request = ticket.request
                if request.rows > room and taken:
                    room = 0
                    break
                taken.append(ticket)
                if has_levels:
                    self._at_level[ticket.level] -= 1
                count += 1
                nbytes += request.nbytes
                room -= request.rows
            heappop(heap)
            if room <= 0:
                break
        self.waiting -= count
        self.nbytes -= nbytes
        return taken, room

    def _pop(self, heap: list[Entry]) -> Ticket:
        ticket = heappop(heap)[3]
        self._discount(ticket)
        return ticket

    def _prune(self) -> None:
        """Expired tickets deep in a heap would keep their data there."""
        for heap in (*self._heaps.values(), self._alone):
            if len(heap) > MOST_EMPTY and sum(map(is_current, heap)) * 2 < len(heap):
                heap[:] = filter(is_current, heap)
                heapify(heap)

    def _discount(self, ticket: Ticket) -> None:
        self._at_level[ticket.level] -= 1
        self.waiting -= 1
        self.nbytes -= ticket.request.nbytes

    def _head(self) -> list[Entry] | None:
        """The heap with the earliest deadline, its top a waiting ticket."""
        best: list[Entry] | None = None
        for heap in (*self._heaps.values(), self._alone):
            while heap and not is_current(heap[0]):
                heappop(heap)
            if heap and (best is None or heap[0] < best[0]):
                best = heap
        return best


def is_current(entry: Entry) -> bool:
    """Whether the ticket still waits there."""
    ticket = entry[3]
    return ticket.state is State.WAITING and ticket.level == entry[0]


def is_due(entry: tuple[float, int, Ticket]) -> bool:
    """Whether the ticket still waits for that deadline."""
    return entry[2].state is State.WAITING and entry[2].deadline == entry[0]
