"""Requests that made a run fail, alone among others that went well: sent again, they are refused for a while.

They are known by their fingerprint, which is only worked out while there is anything to compare it with.
"""

from hashlib import blake2b

from headrace.messages import InferRequest

QUARANTINE_S = 60.0
MOST = 1024
"""Kept at once; the oldest goes first."""


def fingerprint(request: InferRequest) -> bytes:
    """What two requests have alike that ask a model the same, whatever they call themselves and want back of it."""
    digest = blake2b(repr((request.shapes, request.absent)).encode(), digest_size=16)
    for tensor in request.tensors:
        digest.update(tensor)
    return digest.digest()


class Quarantine:
    """Of one variant. Pure; not thread-safe."""

    def __init__(self) -> None:
        # The mutable state: fingerprint → until when, and why; and how many bytes such requests have.
        self._until: dict[bytes, tuple[float, str]] = {}
        self._sizes: dict[int, int] = {}
        self._of: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, request: InferRequest, reason: str, now: float) -> None:
        """It is not to be run again for a while."""
        print_ = fingerprint(request)
        self._forget(print_)
        while len(self._until) >= MOST:
            self._forget(next(iter(self._until)))
        self._until[print_] = (now + QUARANTINE_S, reason)
        self._of[print_] = request.nbytes
        self._sizes[request.nbytes] = self._sizes.get(request.nbytes, 0) + 1

    def reason(self, request: InferRequest, now: float) -> str | None:
        """Why not to run it, or None."""
        if not self._until:
            return None
        oldest = next(iter(self._until))
        while self._until[oldest][0] <= now:
            self._forget(oldest)
            if not self._until:
                return None
            oldest = next(iter(self._until))
        if request.nbytes not in self._sizes:
            return None
        found = self._until.get(fingerprint(request))
        return None if found is None else found[1]

    def _forget(self, print_: bytes) -> None:
        if self._until.pop(print_, None) is None:
            return
        size = self._of.pop(print_)
        self._sizes[size] -= 1
        if not self._sizes[size]:
            del self._sizes[size]
