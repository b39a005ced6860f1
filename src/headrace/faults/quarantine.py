"""Requests that made a run fail, alone among others that went well: sent again, they are refused for a while.

They are known by their fingerprint, which is only worked out while there is anything to compare it with.
"""

from collections import Counter
from hashlib import blake2b
from typing import NamedTuple

from headrace.messages import InferRequest

QUARANTINE_S = 60.0
MOST = 1024
"""Kept at once; the oldest goes first."""


def fingerprint(request: InferRequest) -> bytes:
    """What two requests have alike that ask a model the same, whatever they call themselves and want back of it."""
    sizes = [memoryview(tensor).nbytes for tensor in request.tensors]
    digest = blake2b(repr((request.shapes, request.absent, sizes)).encode(), digest_size=16)
    for tensor in request.tensors:
        digest.update(tensor)
    return digest.digest()


class Entry(NamedTuple):
    """A request that is kept out: until when, why, and how many bytes it has."""

    until: float
    reason: str
    nbytes: int


class Quarantine:
    """Of one variant. Pure: `now` is in seconds and never goes back. Not thread-safe."""

    def __init__(self) -> None:
        # The mutable state: who is kept out, by fingerprint, the oldest first; and how many have so many bytes.
        self._entries: dict[bytes, Entry] = {}
        self._sizes: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, request: InferRequest, reason: str, now: float) -> None:
        """It is not to be run again for a while."""
        key = fingerprint(request)
        if key in self._entries:
            self._forget(key)  # it is the youngest now
        elif len(self._entries) >= MOST:
            self._forget(next(iter(self._entries)))
        self._entries[key] = Entry(now + QUARANTINE_S, reason, request.nbytes)
        self._sizes[request.nbytes] += 1

    def reason(self, request: InferRequest, now: float) -> str | None:
        """Why not to run it, or None."""
        while self._entries and self._entries[oldest := next(iter(self._entries))].until <= now:
            self._forget(oldest)
        if request.nbytes not in self._sizes:
            return None
        entry = self._entries.get(fingerprint(request))
        return None if entry is None else entry.reason

    def _forget(self, key: bytes) -> None:
        nbytes = self._entries.pop(key).nbytes
        self._sizes[nbytes] -= 1
        if not self._sizes[nbytes]:
            del self._sizes[nbytes]
