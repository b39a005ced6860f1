"""From what the residency knows to what people are shown of it."""

from headrace.lifecycle.books import MAIN, Books
from headrace.lifecycle.budget import Budget
from headrace.lifecycle.eviction import Eviction
from headrace.lifecycle.ledger import Holding, Ledger
from headrace.lifecycle.memory_view import DeviceMemory, ModelMemory
from headrace.lifecycle.stay import Stay


def devices(books: Books, used: int) -> tuple[DeviceMemory, ...]:
    """The machine's memory, of which workers have `used` bytes, and that of each card."""
    found = [device(MAIN, books.budget, books.main, used)]
    for name, (budget, gpu) in books.card_budgets.items():
        own = gpu.used - budget.external if books.cards[name].reserved else 0
        found.append(device(name, budget, books.cards[name], max(0, own)))
    return tuple(found)


def device(name: str, budget: Budget, ledger: Ledger, used: int) -> DeviceMemory:
    resident = sum(each.holding.resident for each in ledger)
    return DeviceMemory(
        name,
        budget.total,
        budget.reserve,
        budget.external,
        budget.budget,
        budget.limit,
        resident,
        ledger.reserved - resident,
        used,
        ledger.slots,
    )


def model(stay: Stay, held: Holding, eviction: Eviction, now: float, *, gives_back: bool) -> ModelMemory:
    """One version, which holds so much or would."""
    version = stay.version
    return ModelMemory(
        *stay.key,
        MAIN,
        version.state.value,
        stay.is_pinned,
        version.footprint is not None,
        stay.has_begun and gives_back,
        held.resident,
        held.scratch,
        stay.used,
        stay.cap,
        version.reload_s,
        stay.idle_s(now) if stay.was_asked else None,
        eviction.rate(stay.key, now),
        eviction.priority(stay.candidate(), now) if stay.can_leave else None,
        stay.evictions,
        version.reason,
    )
