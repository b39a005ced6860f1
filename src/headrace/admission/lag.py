"""Whether the gateway itself is behind. Pure.

A loop that is late once had a large body or a collection of garbage; one that is late again and again has more to do than
it can. Telling a standing delay from a passing one by the least of an interval is CoDel's idea (Nichols and Jacobson,
"Controlling Queue Delay", ACM Queue 2012; RFC 8289, section 3): while the least exceeds the bound, all do.
"""

STANDING = 5
"""Samples in a row that have to be late: one that is not, and the delay has passed."""


class LagGuard:
    """Behind while each of the last samples was late, until the first that is not. Holds no clock."""

    __slots__ = ("_late", "_most_s", "lag_s")

    def __init__(self, most_s: float) -> None:
        """`most_s`: a sample with more lag is late."""
        self._most_s = most_s
        # The mutable state: the last sample, and how many in a row were late.
        self.lag_s = 0.0
        self._late = 0

    @property
    def is_late(self) -> bool:
        """The last sample was: the next one is wanted soon, whether or not anybody asks for anything."""
        return self._late > 0

    @property
    def is_behind(self) -> bool:
        return self._late >= STANDING

    def observe(self, lag_s: float) -> None:
        """Something that was due ran so many seconds later."""
        self.lag_s = lag_s
        self._late = self._late + 1 if lag_s > self._most_s else 0
