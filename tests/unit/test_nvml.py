"""Cards by the driver's library: a fake of it, the ledger of a card beside others that use it, and a real one where there is one."""

import contextlib
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from headrace.execution.nvml import Nvml, open_nvml
from headrace.lifecycle.budget import Allowance, gpu_place
from headrace.lifecycle.ledger import Holding, Ledger

GIB = 1 << 30


class NVMLError(Exception):
    """As the library's own."""


@dataclass
class Card:
    """Of a machine; `processes` hold so many bytes, None where the driver does not say."""

    total: int = 80 * GIB
    processes: dict = field(default_factory=dict)
    hidden: int = 0
    is_away: bool = False
    is_silent: bool = False


class FakeNvml:
    """Answers as `pynvml` does."""

    NVMLError = NVMLError

    def __init__(self, *cards, has_driver=True):
        self.cards, self.has_driver, self.opened = cards, has_driver, 0

    def nvmlInit(self):  # noqa: N802 - the library's name
        if not self.has_driver:
            raise NVMLError("no driver")
        self.opened += 1

    def nvmlShutdown(self):  # noqa: N802 - the library's name
        self.opened -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802 - the library's name
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802 - the library's name
        if self.cards[index].is_away:
            raise NVMLError("the card is lost")
        return self.cards[index]

    def nvmlDeviceGetName(self, _):  # noqa: N802 - the library's name
        return "fake card"

    def nvmlDeviceGetMemoryInfo(self, card):  # noqa: N802 - the library's name
        used = card.hidden + sum(each or 0 for each in card.processes.values())
        return SimpleNamespace(total=card.total, used=used, free=card.total - used)

    def nvmlDeviceGetComputeRunningProcesses(self, card):  # noqa: N802 - the library's name
        if card.is_silent:
            raise NVMLError("not supported")
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card.processes.items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, _):  # noqa: N802 - the library's name
        return []


def read(*cards):
    return Nvml(FakeNvml(*cards)).read()


def test_each_card_is_told_with_what_its_processes_hold():
    first, second = read(Card(processes={7: 3 * GIB, 8: GIB}, hidden=GIB), Card(total=24 * GIB))
    assert (first.device, first.total, first.used) == ("gpu:0", 80 * GIB, 5 * GIB)
    assert first.by_pid == {7: 3 * GIB, 8: GIB}
    assert (second.device, second.total, second.used, second.by_pid) == ("gpu:1", 24 * GIB, 0, {})


def test_a_card_that_does_not_say_who_holds_what_is_told_without():
    (silent,) = read(Card(processes={7: GIB}, is_silent=True))
    assert (silent.used, silent.by_pid) == (GIB, {})
    (unsaid,) = read(Card(processes={7: None}, hidden=GIB))
    assert (unsaid.used, unsaid.by_pid) == (GIB, {})


def test_a_card_that_cannot_be_read_is_left_out_and_the_others_keep_their_names():
    assert [each.device for each in read(Card(is_away=True), Card())] == ["gpu:1"]


def test_without_the_package_or_a_driver_there_is_no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_nvml() is None
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(has_driver=False))
    assert open_nvml() is None


def test_the_library_is_closed_as_often_as_it_is_opened(monkeypatch):
    library = FakeNvml(Card())
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with contextlib.closing(open_nvml()) as nvml:
        assert (library.opened, len(nvml.read())) == (1, 1)
    assert library.opened == 0


class CardLedger:
    """A card's ledger, its budget read anew each second, as for the machine."""

    def __init__(self, card, own=()):
        self.card, self.own, self.now = card, own, 0.0
        self.allowance, self.ledger = Allowance(None), Ledger(0, 1)
        self.look()

    def look(self, seconds=1):
        for _ in range(seconds):
            (gpu,) = read(self.card)
            found = gpu_place(gpu, self.own, self.ledger.reserved)
            self.ledger.budget = self.allowance.look([found], self.now).budget
            self.now += 1.0


def test_a_cards_budget_follows_what_other_processes_hold():
    card = Card()
    on_card = CardLedger(card)
    alone = on_card.ledger.budget
    assert alone == pytest.approx(72 * GIB - 3.6 * GIB, abs=1)
    card.processes[99] = 20 * GIB
    on_card.look(5)
    assert alone - on_card.ledger.budget == pytest.approx(20 * GIB, abs=GIB)
    del card.processes[99]
    on_card.look(15)
    assert on_card.ledger.budget == alone


@pytest.mark.parametrize("own", [(7,), (1,)], ids=["known by its number", "known by another number"])
def test_what_our_own_worker_takes_of_a_card_is_not_taken_off_its_budget(own):
    card = Card()
    on_card = CardLedger(card, own)
    before = on_card.ledger.budget
    assert on_card.ledger.reserve("ours", Holding(30 * GIB)) is not None
    card.processes[7] = 30 * GIB
    on_card.look(5)
    assert on_card.ledger.budget == before


def test_what_does_not_fit_a_card_is_not_reserved_and_what_lacks_is_known():
    card = Card(processes={99: 40 * GIB})
    on_card = CardLedger(card)
    ledger = on_card.ledger
    assert ledger.reserve("first", Holding(20 * GIB, 4 * GIB)) is not None
    wanted = Holding(10 * GIB, 2 * GIB)
    assert ledger.reserve("second", wanted) is None
    assert ledger.lacks(wanted) == 20 * GIB + 10 * GIB + 4 * GIB - ledger.budget, (
        "one run at a time: the larger"
    )
    del card.processes[99]
    on_card.look(15)
    assert ledger.reserve("second", wanted) is not None


@pytest.mark.gpu
def test_a_real_card_has_memory_and_says_so():
    nvml = open_nvml()
    assert nvml is not None, "install nvidia-ml-py where there is a driver: pip install 'headrace[gpu]'"
    with contextlib.closing(nvml):
        cards = nvml.read()
    assert cards
    for place, card in enumerate(cards):
        assert card.device == f"gpu:{place}"
        assert card.name
        assert 0 < card.used < card.total
        assert sum(card.by_pid.values()) <= card.used
        assert Allowance(None).look([gpu_place(card, [], 0)], 0.0).budget < card.total
