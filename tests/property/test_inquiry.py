"""An inquiry against any culprits, any order of the parts' return, and requests that leave meanwhile."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.faults.inquiry import Inquiry

SIZES = st.integers(1, 64)


class Batch:
    """Requests by number, some of which make every run fail that they are in. The reason is who was in it."""

    def __init__(self, size, culprits):
        self.culprits = set(culprits)
        self.alive = set(range(size))
        self.passed, self.lost = [], []
        self.out = []  # (the part, who of it really runs)
        self.inquiry = Inquiry(list(range(size)), list(range(size)))

    def begin(self):
        """Run the next part; False if there is none."""
        expected = self.inquiry.next_part
        part = self.inquiry.take()
        assert part == expected
        if part is None:
            return False
        assert part, "nobody is run"
        self.out.append([each for each in part if each in self.alive])
        return True

    def end(self, at, *, is_lost=False):
        """One of those that run comes back."""
        ran = self.out.pop(at)
        alive = [each for each in ran if each in self.alive]
        if is_lost or not ran:
            self.inquiry.lost()
            self.lost += alive
        elif self.culprits & set(ran):
            self.inquiry.failed(alive, ran, ran=len(ran))
        else:
            self.inquiry.passed()
            self.passed += alive

    def finish(self):
        while not self.inquiry.is_over:
            assert self.begin() or self.out, "it waits for nothing"
            if self.out:
                self.end(0)

    def found(self, *, is_alone):
        return [each.request for each in self.inquiry.found if each.is_alone == is_alone]

    def check(self, size):
        assert self.inquiry.is_over
        assert self.begin() is False
        assert self.inquiry.runs < 2 * size or size == 1
        heard = [*self.passed, *self.lost, *self.found(is_alone=True), *self.found(is_alone=False)]
        assert len(heard) == len(set(heard)), "nobody hears twice"
        assert set(heard) >= self.alive, "nobody is forgotten"
        assert set(self.found(is_alone=True)) <= self.culprits, "nobody is accused of what another did"
        assert not self.culprits & set(self.passed)


def batches():
    return SIZES.flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), min_size=1)))


@given(
    batches(),
    st.lists(
        st.tuples(st.sampled_from(["begin", "end", "end", "lose", "leave"]), st.integers(0, 63)), max_size=80
    ),
)
def test_each_ends_once_whatever_comes_back_when_and_whoever_leaves(batch, steps):
    size, culprits = batch
    one = Batch(size, culprits)
    for step, which in steps:
        if step == "begin":
            one.begin()
        elif step == "leave":
            one.alive.discard(which)
        elif one.out:
            one.end(which % len(one.out), is_lost=step == "lose")
    one.finish()
    one.check(size)


@given(
    SIZES.flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))),
    st.lists(st.none() | st.integers(0, 63), max_size=30),
)
def test_one_culprit_is_found_in_two_runs_a_halving_and_everybody_else_passes(batch, order):
    size, culprit = batch
    one = Batch(size, {culprit})
    for which in order:
        if which is None:
            one.begin()
        elif one.out:
            one.end(which % len(one.out))
    one.finish()
    assert one.found(is_alone=True) == [culprit]
    assert sorted(one.passed) == [each for each in range(size) if each != culprit]
    assert one.inquiry.runs <= 2 * ceil(log2(size))


@pytest.mark.parametrize("size", [16, 32])
def test_of_culprits_side_by_side_up_to_half_of_the_batch_all_are_found_and_the_others_pass(size):
    for many in range(1, size // 2 + 1):
        for first in range(size - many + 1):
            one = Batch(size, range(first, first + many))
            one.finish()
            assert set(one.found(is_alone=True)) == one.culprits
            assert len(one.passed) == size - many


def test_while_a_part_is_out_that_may_earn_runs_nobody_is_given_up():
    one = Batch(4, {0, 2})
    one.begin(), one.begin()
    one.end(one.out.index([0, 1]))
    one.begin(), one.begin()
    for failing in ([0], [2, 3]):  # what will pass takes long
        one.end(one.out.index(failing))
    assert one.out == [[1]]
    assert one.begin() is False, "no run is left"
    assert one.inquiry.found == [(0, [0], True)]
    one.finish()
    assert sorted(one.found(is_alone=True)) == [0, 2]
    assert sorted(one.passed) == [1, 3]


@given(st.sampled_from([16, 32, 64]).flatmap(lambda b: st.tuples(st.just(b), *[st.integers(0, b - 1)] * 2)))
def test_two_culprits_anywhere_are_found_one_after_the_other(batch):
    size, one_culprit, other = batch
    one = Batch(size, {one_culprit, other})
    one.finish()
    assert set(one.found(is_alone=True)) == {one_culprit, other}
    assert one.found(is_alone=False) == []
    assert one.inquiry.runs <= 4 * ceil(log2(size))


@given(SIZES)
def test_where_everybody_fails_no_more_is_run_than_one_by_one(size):
    one = Batch(size, range(size))
    one.finish()
    one.check(size)
    assert not one.inquiry.has_passed
    assert one.inquiry.runs <= max(size, 2 * ceil(log2(size)))
    assert {each.request for each in one.inquiry.found} == one.alive


@given(batches())
def test_whoever_was_not_looked_at_alone_hears_why_the_last_run_failed_that_it_was_in(batch):
    size, culprits = batch
    one = Batch(size, culprits)
    one.finish()
    one.check(size)
    for each in one.inquiry.found:
        assert each.request in each.reason
        assert each.is_alone == (each.reason == [each.request])


def test_who_is_left_of_a_batch_is_not_accused_of_what_those_who_left_may_have_done():
    inquiry = Inquiry(["left over"], "it failed", ran=2)
    assert inquiry.found == []
    assert inquiry.take() == ["left over"]
    inquiry.passed()
    assert inquiry.is_over
    assert inquiry.found == []


def test_a_request_that_ran_alone_is_found_at_once():
    inquiry = Inquiry(["alone"], "it failed")
    assert inquiry.is_over
    assert inquiry.found == [("alone", "it failed", True)]


def test_of_a_batch_that_nobody_waits_for_nothing_is_looked_into():
    assert Inquiry([], "it failed", ran=3).is_over


@pytest.mark.parametrize("size", [2, 3, 32])
def test_nothing_is_over_while_a_part_is_out(size):
    one = Batch(size, {0})
    while one.begin():
        assert not one.inquiry.is_over
    one.finish()
    one.check(size)
