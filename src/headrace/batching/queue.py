"""Tickets that wait, by deadline, and apart by group: only a group's tickets can share a batch."""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import chain, count

from headrace.batching.policy import Candidates, may_join
from headrace.batching.ticket import State, Ticket
from headrace.messages import Group

MOST_EMPTY = 32
"""Groups beyond which those that ran empty are forgotten; most come again at once."""

Entry = tuple[float, int, Ticket]


class RequestQueue:
    """Earliest deadline first. Lives on the loop; not thread-safe.

    Dropped tickets stay in their heap until they come to its top; what they weigh leaves the totals at once.
    """

    def __init__(self) -> None:
        # The mutable state: the heaps, and what waits in them in tickets and bytes.
        self._heaps: dict[Group, list[Entry]] = {}
        self._alone: list[Entry] = []
        self._order = count()
        self.waiting = 0
        self.nbytes = 0

    def __len__(self) -> int:
        return self.waiting

    def add(self, ticket: Ticket) -> None:
        """Take a ticket in; a retry, or a request that may not share, will travel alone."""
        entry = (ticket.deadline, next(self._order), ticket)
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
        head = self._head()
        return head[0][0] if head else None

    def expire(self, now: float) -> list[Ticket]:
        """Take out all whose deadline has passed."""
        expired = []
        while (head := self._head()) and head[0][0] <= now:
            ticket = heappop(head)[2]
            self._discount(ticket)
            expired.append(ticket)
        return expired

    def candidates(self) -> Candidates | None:
        """What a batch could be made of now: the group of the earliest deadline; None if nothing waits."""
        if not (head := self._head()):
            return None
        if head is self._alone:
            only = head[0][2]
            return Candidates(only.request.group, only.deadline, is_alone=True, is_suspect=only.is_retry)
        return Candidates(head[0][2].request.group, head[0][0])

    def waiting_rows(self, candidates: Candidates, limit: int) -> int:
        """How many rows could travel, as far as the limit; a ticket that travels alone fills its batch."""
        if candidates.is_alone:
            return limit
        rows = 0
        for _, _, ticket in chain.from_iterable(self._joinable(candidates)):
            if rows >= limit:
                return limit
            if ticket.state is State.WAITING:
                rows += ticket.request.rows
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
        return [ticket for _, _, ticket in entries if ticket.state is State.WAITING]

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
        while heap:
            ticket = heap[0][2]
            if ticket.state is State.WAITING:
                request = ticket.request
                if request.rows > room and taken:
                    room = 0
                    break
                taken.append(ticket)
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
        ticket = heappop(heap)[2]
        self._discount(ticket)
        return ticket

    def _discount(self, ticket: Ticket) -> None:
        self.waiting -= 1
        self.nbytes -= ticket.request.nbytes

    def _head(self) -> list[Entry] | None:
        """The heap with the earliest deadline, its top a waiting ticket."""
        best: list[Entry] | None = None
        for heap in (*self._heaps.values(), self._alone):
            while heap and heap[0][2].state is not State.WAITING:
                heappop(heap)
            if heap and (best is None or heap[0] < best[0]):
                best = heap
        return best
