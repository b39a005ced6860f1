"""Reservations in any order: the sum is right, nobody gets what is not there, and each gives back what it had, once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from headrace.lifecycle.ledger import Holding, Ledger, needed

HOLDINGS = st.builds(Holding, st.integers(0, 60), st.integers(0, 40))


def most_at_once(holdings, slots):
    """All that stays, and the worst choice of runs that can go on at once: brute force."""
    worst = 0
    for chosen in range(1 << len(holdings)):
        running = [each.scratch for place, each in enumerate(holdings) if chosen >> place & 1]
        if len(running) <= slots:
            worst = max(worst, sum(running))
    return sum(each.resident for each in holdings) + worst


@given(st.lists(HOLDINGS, max_size=8), st.integers(0, 4))
def test_what_is_needed_is_the_worst_that_can_run_at_once(holdings, slots):
    assert needed(holdings, slots) == most_at_once(holdings, slots)


class AnyOrder(RuleBasedStateMachine):
    """Reserve, make smaller, release; beside a list of who has what."""

    held = Bundle("held")

    @initialize(budget=st.integers(0, 200), slots=st.integers(1, 3))
    def begin(self, budget, slots):
        self.ledger = Ledger(budget, slots)
        self.there = {}

    def sum_with(self, *more):
        return most_at_once([*self.there.values(), *more], self.ledger.slots)

    @rule(target=held, holding=HOLDINGS)
    def reserve(self, holding):
        fits = self.sum_with(holding) <= self.ledger.budget
        assert self.ledger.lacks(holding) == max(0, self.sum_with(holding) - self.ledger.budget)
        reservation = self.ledger.reserve("somebody", holding)
        assert (reservation is not None) == fits, "what fits is given, and nothing else"
        if reservation is None:
            return multiple()
        self.there[reservation] = holding
        return reservation

    @rule(reservation=held, parts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
    def shrink(self, reservation, parts):
        before = reservation.holding
        self.there[reservation] = Holding(int(before.resident * parts[0]), int(before.scratch * parts[1]))
        reservation.change(self.there[reservation])

    @rule(reservation=consumes(held))
    def release(self, reservation):
        before = self.ledger.reserved
        reservation.release()
        del self.there[reservation]
        assert reservation.is_released
        assert self.ledger.reserved <= before
        with pytest.raises(AssertionError, match="has released"):
            reservation.release()
        with pytest.raises(AssertionError, match="has released"):
            reservation.change(Holding(0))

    @rule(holding=HOLDINGS, leaving=st.sets(held))
    def ask_without(self, holding, leaving):
        kept = [each for reservation, each in self.there.items() if reservation not in leaving]
        lacking = most_at_once([*kept, holding], self.ledger.slots) - self.ledger.budget
        assert self.ledger.lacks(holding, leaving) == max(0, lacking)

    @invariant()
    def never_over_the_budget(self):
        assert self.ledger.reserved == self.sum_with()
        assert self.ledger.reserved <= self.ledger.budget
        assert self.ledger.free == self.ledger.budget - self.ledger.reserved
        assert set(self.ledger) == set(self.there)


TestAnyOrder = AnyOrder.TestCase


@given(HOLDINGS, HOLDINGS, st.integers(1, 3))
def test_what_turns_out_larger_may_go_over_and_then_nobody_gets_more(first, more, slots):
    ledger = Ledger(first.total, slots)
    reservation = ledger.reserve("first", first)
    assert reservation is not None
    reservation.change(Holding(first.resident + more.total + 1, first.scratch))
    assert ledger.free < 0
    assert ledger.reserve("second", Holding(0)) is None
    reservation.release()
    assert ledger.reserved == 0
