"""Which request of a failed batch is at fault: split it, run the halves, go on with those that fail.

One culprit among b takes at most 2·ceil(log2(b)) runs, and each that is found, once others have passed, earns as many
again. So one is followed to its end before the next: what failed last is split first. Who is not found out by the
time no run is left (b, while nobody has passed) hears that the run failed. Pure: how parts went in, parts to run out.
"""

from collections import deque
from collections.abc import Sequence
from math import ceil, log2
from typing import Generic, NamedTuple, TypeVar

Request = TypeVar("Request")
Reason = TypeVar("Reason")


class Found(NamedTuple, Generic[Request, Reason]):
    """A request that failed alone, or was not looked at alone any more (`is_alone` false), and why."""

    request: Request
    reason: Reason
    is_alone: bool


class Part(NamedTuple, Generic[Request, Reason]):
    """Requests to be run together, and why the run before failed that they were in."""

    requests: list[Request]
    reason: Reason


class Inquiry(Generic[Request, Reason]):
    """Into one failed batch. Parts are handed out by `take` and come back by `passed`, `failed` or `lost`."""

    def __init__(self, requests: Sequence[Request], reason: Reason, *, ran: int | None = None) -> None:
        """They ran together, and the run failed for that reason; `ran`, if some that were in it are not among them."""
        self._cost = 2 * ceil(log2(max(2, len(requests))))
        # The mutable state: runs left, parts to run (the next one last), how many run, and what came of others.
        self._left = max(self._cost, len(requests))
        self._parts: deque[Part[Request, Reason]] = deque()
        self._out = 0
        self.runs = 0
        self.has_passed = False
        self.found: list[Found[Request, Reason]] = []
        self._culprits = 0
        self._look_at(requests, reason, ran)

    @property
    def is_over(self) -> bool:
        """No part runs or waits."""
        return not self._parts and not self._out

    @property
    def waiting(self) -> list[Request]:
        """Whoever is in a part that waits to be run."""
        return [each for part in self._parts for each in part.requests]

    @property
    def next_part(self) -> list[Request] | None:
        """What `take` would give."""
        return self._parts[-1].requests if self._parts and self._left else None

    def take(self) -> list[Request] | None:
        """The next part to be run, or None: there is none, or no run is left unless one that is out earns some."""
        if not self._parts or not self._left:
            return None
        self._out += 1
        self._left -= 1
        self.runs += 1
        return self._parts.pop().requests

    def passed(self) -> None:
        """A part went well."""
        if not self.has_passed:
            self.has_passed = True
            self._left += self._cost * self._culprits
        self._come_back()

    def failed(self, part: Sequence[Request], reason: Reason, *, ran: int | None = None) -> None:
        """A part failed; `part` without those that nobody waits for any more, `ran` with them."""
        self._look_at(part, reason, ran)
        self._come_back()

    def lost(self) -> None:
        """A part will not come back: what becomes of it is somebody else's matter."""
        self._come_back()

    def _look_at(self, part: Sequence[Request], reason: Reason, ran: int | None) -> None:
        """Who failed alone is found; of others, go on with the halves."""
        if len(part) == 1 and ran in {1, None}:
            self.found.append(Found(part[0], reason, is_alone=True))
            self._culprits += 1
            if self.has_passed:
                self._left += self._cost
            return
        middle = len(part) // 2
        halves = [Part(list(half), reason) for half in (part[middle:], part[:middle]) if half]
        if self._left >= len(self._parts) + len(halves):
            self._parts += halves
        else:  # others, of whom nothing is known yet, go first: they may pass, and earn runs for these
            self._parts.extendleft(halves)

    def _come_back(self) -> None:
        """A part is not out any more. When no run is left and none can be earned, whoever waits is not looked at."""
        self._out -= 1
        if not self._left and not self._out:
            self.found += [
                Found(each, part.reason, is_alone=False) for part in self._parts for each in part.requests
            ]
            self._parts.clear()
