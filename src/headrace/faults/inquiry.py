"""Which request of a failed batch is at fault: split it, run the halves, go on with those that fail.

For one culprit among b that takes at most 2·log2(b) runs, and each culprit that is found, while others pass, earns as
many again. Who is not found out by then hears that the run failed. Pure: how parts went in, parts to run out.
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


class Inquiry(Generic[Request, Reason]):
    """Into one failed batch. Parts are handed out by `take` and come back by `passed`, `failed` or `lost`."""

    def __init__(self, requests: Sequence[Request], reason: Reason) -> None:
        """They ran together, and the run failed for that reason."""
        self._cost = 2 * ceil(log2(max(2, len(requests))))
        # The mutable state: runs left, parts to run, parts that run, and what came of others.
        self._left = self._cost
        self._parts: deque[list[Request]] = deque()
        self._out = 0
        self.runs = 0
        self.has_passed = False
        self.found: list[Found[Request, Reason]] = []
        self.is_lone = len(requests) == 1
        self._fail(list(requests), reason)

    @property
    def is_over(self) -> bool:
        """No part runs or waits."""
        return not self._parts and not self._out

    @property
    def waiting(self) -> list[Request]:
        """Whoever is in a part that waits to be run."""
        return [each for part in self._parts for each in part]

    def take(self) -> list[Request] | None:
        """The next part to be run, or None."""
        if not self._parts:
            return None
        self._out += 1
        self._left -= 1
        self.runs += 1
        return self._parts.popleft()

    def passed(self) -> None:
        """A part went well."""
        self._out -= 1
        if not self.has_passed:
            self.has_passed = True
            self._left += self._cost * len(self.found)

    def failed(self, part: Sequence[Request], reason: Reason) -> None:
        """A part failed; `part` without those that nobody waits for any more."""
        self._out -= 1
        self._fail(list(part), reason)

    def lost(self) -> None:
        """A part will not come back: what becomes of it is somebody else's matter."""
        self._out -= 1

    def _fail(self, part: list[Request], reason: Reason) -> None:
        if len(part) == 1:
            self.found.append(Found(part[0], reason, is_alone=True))
            if self.has_passed:
                self._left += self._cost
        elif part:
            middle = len(part) // 2
            self._parts += [part[:middle], part[middle:]]
        while self._parts and self._left < len(self._parts):
            self.found += [Found(each, reason, is_alone=False) for each in self._parts.pop()]
