"""Who has reserved how much of a device's memory: nothing is loaded for which nothing is reserved. Pure.

A holding is what a version has while it is in memory (`resident`) and what a run of it takes on top and gives back
(`scratch`). Of runs, no more than `slots` go on at once, so that the largest scratches count, and not their sum:

    sum of resident + the `slots` largest scratches <= budget
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holding:
    """Bytes. What runs take and do not give back is resident."""

    resident: int
    scratch: int = 0

    @property
    def total(self) -> int:
        return self.resident + self.scratch


class Reservation:
    """Part of a ledger, for as long as it is not released. Whoever took it releases it, once."""

    def __init__(self, ledger: "Ledger", owner: str, holding: Holding) -> None:
        self.owner = owner
        self.holding = holding
        self._ledger: Ledger | None = ledger

    @property
    def is_released(self) -> bool:
        return self._ledger is None

    def change(self, holding: Holding) -> None:
        """More became known: what is there is there, so this may go over the budget."""
        assert self._ledger is not None, f"{self.owner} has released what it had"
        self.holding = holding

    def release(self) -> None:
        """Give it back.

        Raises:
            AssertionError: that was done before.
        """
        assert self._ledger is not None, f"{self.owner} has released what it had"
        self._ledger.forget(self)
        self._ledger = None


class Ledger:
    """Of one device. Not thread-safe."""

    def __init__(self, budget: int, slots: int) -> None:
        """`budget` in bytes; `slots` is how many runs may go on at once."""
        self.budget = budget
        self.slots = slots
        # The mutable state: whoever holds something.
        self._reservations: dict[Reservation, None] = {}

    def __iter__(self) -> Iterator[Reservation]:
        return iter(list(self._reservations))

    @property
    def reserved(self) -> int:
        """Bytes that what there is may take at once."""
        return needed([each.holding for each in self._reservations], self.slots)

    @property
    def free(self) -> int:
        """Bytes left; below 0 where more turned out to be there than was expected."""
        return self.budget - self.reserved

    def lacks(self, holding: Holding, without: Iterable[Reservation] = ()) -> int:
        """Bytes that are lacking for one more, were some others not there; 0 if it fits."""
        gone = set(without)
        kept = [each.holding for each in self._reservations if each not in gone]
        return max(0, needed([*kept, holding], self.slots) - self.budget)

    def reserve(self, owner: str, holding: Holding) -> Reservation | None:
        """Take it, or None where it does not fit beside what there is."""
        if self.lacks(holding):
            return None
        reservation = Reservation(self, owner, holding)
        self._reservations[reservation] = None
        return reservation

    def forget(self, reservation: Reservation) -> None:
        """For the reservation itself."""
        del self._reservations[reservation]


def needed(holdings: list[Holding], slots: int) -> int:
    """Bytes that all of them take, while as many as there are slots run at once."""
    scratches = sorted((each.scratch for each in holdings), reverse=True)
    return sum(each.resident for each in holdings) + sum(scratches[:slots])
