"""What models may have of a machine, its groups and its cards, and the sums that cannot come out."""

import pytest

from headrace.execution.machine_memory import GroupMemory, Reading
from headrace.execution.nvml import Gpu
from headrace.lifecycle.budget import Allowance, Budget, Place, gpu_place, mistakes, places, reserve

MIB, GIB = 1 << 20, 1 << 30


def look(*found, allowed=None):
    return Allowance(allowed).look(found, 0.0)


@pytest.mark.parametrize(
    ("total", "kept"),
    [
        (100 * GIB, 5 * GIB),  # a twentieth
        (4 * GIB, 512 * MIB),  # at least so much
        (1 * GIB, 256 * MIB),  # but no more than a quarter
    ],
)
def test_the_reserve(total, kept):
    assert reserve(total) == kept


def test_models_may_have_what_is_there_less_the_reserve_and_what_others_hold():
    budget = look(Place("the machine", 100 * GIB, 25 * GIB))
    assert (budget.total, budget.reserve, budget.external) == (100 * GIB, 5 * GIB, 25 * GIB)
    assert budget.budget == 70 * GIB
    assert budget.limit == "the machine"


def test_what_our_own_workers_have_is_nobody_elses():
    reading = Reading(16 * GIB, 10 * GIB, (GroupMemory("/group", 8 * GIB, 5 * GIB),))
    machine, group = places(reading, own=4 * GIB)
    assert (machine.total, machine.external) == (16 * GIB, 2 * GIB)
    assert (group.total, group.external) == (8 * GIB, 1 * GIB)
    assert "16 GiB" in machine.words
    assert "/group" in group.words
    assert [each.external for each in places(reading, own=9 * GIB)] == [0, 0], "never less than nothing"


def test_the_place_with_the_least_room_counts():
    machine, group = Place("the machine", 64 * GIB, 60 * GIB), Place("the group", 8 * GIB, 0)
    assert look(machine, group).limit == "the machine"
    assert look(Place("the machine", 64 * GIB, 0), group).limit == "the group"


def test_the_operator_can_make_it_less_and_never_more():
    machine = Place("the machine", 8 * GIB, 0)
    assert look(machine, allowed=GIB).budget == GIB
    assert look(machine, allowed=GIB).limit == "--memory-budget"
    assert look(machine, allowed=100 * GIB).budget == look(machine).budget
    assert look(machine, allowed=100 * GIB).limit == "the machine"


def test_others_can_hold_more_than_there_is():
    assert look(Place("the machine", 8 * GIB, 9 * GIB)).budget == 0


class Watched:
    """A budget looked at each second."""

    def __init__(self):
        self.allowance, self.now = Allowance(None), 0.0

    def hold(self, external, seconds):
        """Others hold so much for so long; the budgets meanwhile."""
        budgets = []
        for _ in range(seconds):
            budgets.append(self.allowance.look([Place("the machine", 100 * GIB, external)], self.now).budget)
            self.now += 1.0
        return budgets


def test_what_others_hold_for_a_moment_makes_nobody_leave():
    watched = Watched()
    (before,) = watched.hold(10 * GIB, 1)
    watched.hold(10 * GIB, 5)
    assert watched.hold(50 * GIB, 2) == [before, before]
    assert watched.hold(10 * GIB, 30) == [before] * 30


def test_what_others_hold_for_longer_comes_off_within_seconds():
    watched = Watched()
    watched.hold(10 * GIB, 20)
    assert watched.hold(50 * GIB, 4)[-1] == pytest.approx(45 * GIB, abs=GIB)


def test_what_others_give_up_can_be_had_after_a_while():
    watched = Watched()
    watched.hold(50 * GIB, 20)
    budgets = watched.hold(10 * GIB, 20)
    assert budgets[5] == pytest.approx(45 * GIB, abs=GIB)
    assert budgets[-1] == pytest.approx(85 * GIB, abs=GIB)
    assert len(set(budgets)) == 2, "in one step"


def test_a_budget_does_not_flutter_with_what_others_hold():
    watched = Watched()
    watched.hold(10 * GIB, 20)
    budgets = [watched.hold(external, 3)[-1] for external in (10 * GIB, 12 * GIB) * 20]
    assert len(set(budgets[2:])) == 1


def test_small_changes_are_no_changes():
    watched = Watched()
    budgets = [watched.hold(10 * GIB + step * MIB, 1)[0] for step in range(1, 60)]
    assert len(set(budgets)) == 1


CARD = Gpu("gpu:0", "card", 80 * GIB, 30 * GIB, {11: 8 * GIB, 12: 2 * GIB, 99: 20 * GIB})


def test_of_a_card_nine_tenths_can_be_used_and_other_processes_come_off():
    place = gpu_place(CARD, [11, 12], expected=0)
    assert (place.total, place.external) == (72 * GIB, 20 * GIB)
    assert look(place).budget == pytest.approx(72 * GIB - 3.6 * GIB - 20 * GIB, abs=GIB)


def test_of_a_card_that_knows_our_workers_by_other_numbers_they_are_taken_to_hold_what_is_expected():
    assert gpu_place(CARD, [1, 2], expected=10 * GIB).external == 20 * GIB
    assert gpu_place(CARD, [], expected=0).external == 30 * GIB
    assert gpu_place(CARD, [1], expected=99 * GIB).external == 0


BUDGET = Budget(16 * GIB, GIB, 5 * GIB, 10 * GIB, "the machine has 16 GiB")


def test_what_fits_is_no_mistake():
    assert mistakes(BUDGET, [("a", 6 * GIB, True), ("b", 4 * GIB, True), ("c", 9 * GIB, False)]) == []


def test_a_budget_over_the_machine_is_told_with_the_sum():
    budget = Budget(16 * GIB, GIB, 5 * GIB, 10 * GIB, "the machine has 16 GiB", allowed=12 * GIB)
    (sentence,) = mistakes(budget, [])
    assert sentence == (
        "--memory-budget is 12 GiB, and there are 10 GiB: the machine has 16 GiB, less 1 GiB of reserve and 5 GiB that others "
        "hold; lower it, or leave it out"
    )


def test_pinned_models_over_the_budget_are_told_with_each_ones_part():
    (sentence,) = mistakes(BUDGET, [("a", 6 * GIB, True), ("b", 5 * GIB, True), ("c", 5 * GIB, False)])
    assert sentence == (
        "pinned models take a 6 GiB + b 5 GiB = 11 GiB, and the budget is 10 GiB (the machine has 16 GiB): pin fewer, or give "
        "it more memory"
    )


def test_a_model_that_never_fits_is_told_once():
    (sentence,) = mistakes(BUDGET, [("a", 11 * GIB, True), ("b", GIB, False)])
    assert sentence == (
        "a takes 11 GiB, and the budget is 10 GiB (the machine has 16 GiB): it can never be loaded; give it more memory, or use a "
        "smaller one"
    )


def test_where_the_operator_has_set_the_budget_that_is_what_to_raise():
    budget = look(Place("the machine", 16 * GIB, 0), allowed=2 * GIB)
    (sentence,) = mistakes(budget, [("a", 3 * GIB, False)])
    assert "raise --memory-budget" in sentence
