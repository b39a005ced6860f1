"""The ledgers of all devices of a server: the machine's memory, and that of each graphics card. Pure but for who reads cards.

A version holds the machine's memory always, and a card's where its footprint says so; it comes in where all of it fits.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from headrace.byte_sizes import in_words
from headrace.execution.nvml import Gpu
from headrace.lifecycle.budget import Allowance, Budget, gpu_place
from headrace.lifecycle.ledger import Holding, Ledger, Reservation

Cards = Mapping[str, int]
"""Device → bytes held there."""
NO_CARDS: Cards = {}
MAIN = "cpu"
"""The machine's memory, as it is named where devices are."""


class Held:
    """What one holds, of all devices; for as long as it is not released."""

    def __init__(self, reservations: dict[str, Reservation], main: Reservation) -> None:
        """`reservations` of cards by device, `main` of the machine's memory."""
        self.cards = reservations
        self.main = main

    @property
    def holding(self) -> Holding:
        """Of the machine's memory."""
        return self.main.holding

    def on(self, device: str) -> int:
        """Bytes it holds of a device, with its runs."""
        if device == MAIN:
            return self.main.holding.total
        return self.cards[device].holding.total if device in self.cards else 0

    def change(self, holding: Holding, cards: Cards) -> None:
        """More became known. A card that nothing was reserved on is left as it is: nothing was loaded there."""
        self.main.change(holding)
        for device, reservation in self.cards.items():
            reservation.change(Holding(cards.get(device, reservation.holding.resident)))

    def release(self) -> None:
        """Give all of it back.

        Raises:
            AssertionError: that was done before.
        """
        for each in (self.main, *self.cards.values()):
            each.release()


class Books:
    """Not thread-safe."""

    def __init__(self, budget: Budget, slots: int, read_cards: Callable[[], Iterable[Gpu]]) -> None:
        """`budget` is the machine's; `read_cards` gives the cards as they are now."""
        self.main = Ledger(budget.budget, slots)
        self.budget = budget
        self._read_cards = read_cards
        # The mutable state: each card's ledger, its allowance from one look to the next, and the budget that came of it.
        self.cards: dict[str, Ledger] = {}
        self._allowances: dict[str, Allowance] = {}
        self.card_budgets: dict[str, tuple[Budget, Gpu]] = {}

    def look(self, budget: Budget, pids: Collection[int], now: float) -> None:
        """Follow what there is: the machine's budget, and what others hold of each card beside the processes `pids`."""
        self.budget = budget
        self.main.budget = budget.budget
        for gpu in self._read_cards():
            ledger = self.cards.setdefault(gpu.device, Ledger(0, 1))
            allowance = self._allowances.setdefault(gpu.device, Allowance(None))
            found = allowance.look([gpu_place(gpu, pids, ledger.reserved)], now)
            ledger.budget = found.budget
            self.card_budgets[gpu.device] = (found, gpu)

    def reserve(self, owner: str, holding: Holding, cards: Cards = NO_CARDS) -> Held | None:
        """Take all of it, or None where any of it does not fit."""
        taken: dict[str, Reservation] = {}
        main = self.main.reserve(owner, holding)
        for device, nbytes in cards.items():
            ledger = self.cards.get(device)
            reservation = None if ledger is None else ledger.reserve(owner, Holding(nbytes))
            if reservation is not None:
                taken[device] = reservation
        if main is not None and len(taken) == len(cards):
            return Held(taken, main)
        for each in (*taken.values(), *([] if main is None else [main])):
            each.release()
        return None

    def lacks(
        self, holding: Holding, cards: Cards = NO_CARDS, without: Iterable[Held] = ()
    ) -> tuple[int, str]:
        """Bytes that are lacking for one more, were some others not there, and of which device; 0 if it fits."""
        gone = list(without)
        lacking = [(self.main.lacks(holding, [each.main for each in gone]), MAIN)]
        for device, nbytes in cards.items():
            ledger = self.cards.get(device)
            there = [each.cards[device] for each in gone if device in each.cards]
            lacking.append((nbytes if ledger is None else ledger.lacks(Holding(nbytes), there), device))
        return max(lacking)

    def sum_of(self, device: str) -> str:
        """Where its budget comes from, for people."""
        if device == MAIN:
            return f"the budget of {in_words(self.main.budget)} ({self.budget.limit})"
        if device not in self.card_budgets:
            return f"{device}, which is not there,"
        found, _ = self.card_budgets[device]
        return f"{device}'s budget of {in_words(found.budget)} ({found.limit})"

    def __iter__(self) -> Iterator[Reservation]:
        """Who holds the machine's memory."""
        return iter(self.main)
