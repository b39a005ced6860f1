"""Whose the device time of a version was, under a bounded number of names: clients may call themselves anything."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

from headrace.messages import bucket_edge

MOST_TENANTS = 100
"""Of a version; all later ones are counted together."""
MOST_LENGTHS = 64
OTHER = "other"

Share = tuple[str, int, float]
"""As in BatchDone: tenant, elements of a row, seconds."""


class DeviceTime:
    """Seconds by tenant and length bucket. On the loop only."""

    __slots__ = ("_lengths", "_seconds", "_tenants")

    def __init__(self, known: Iterable[str] = ()) -> None:
        """`known` tenants keep their places, whoever comes first."""
        self._tenants = set(islice(known, MOST_TENANTS))
        self._lengths: set[str] = set()
        self._seconds: dict[tuple[str, str], float] = {}

    def add(self, shares: Iterable[Share]) -> None:
        """Count a batch's."""
        for tenant, elements, seconds in shares:
            key = (
                place(tenant, self._tenants, MOST_TENANTS),
                place(length_label(elements), self._lengths, MOST_LENGTHS),
            )
            self._seconds[key] = self._seconds.get(key, 0.0) + seconds

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """Tenant, length and seconds of all there was."""
        for (tenant, length), seconds in self._seconds.items():
            yield tenant, length, seconds


def place(name: str, taken: set[str], most: int) -> str:
    """The name itself while there is a place for it."""
    if name not in taken:
        if len(taken) >= most:
            return OTHER
        taken.add(name)
    return name


@lru_cache(maxsize=1024)
def length_label(elements: int) -> str:
    """The length bucket that so many elements are in, by its edge."""
    return str(bucket_edge(elements))
