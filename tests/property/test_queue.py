"""The queue against a plain list of what waits: totals right, nobody lost, nobody twice, by deadline."""

import operator

from fakes import ticket
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.batching.fairness import FlowOrder, shares
from headrace.batching.latency import cost_bucket
from headrace.batching.policy import may_join
from headrace.batching.queue import RequestQueue
from headrace.batching.ticket import State
from headrace.messages import Group

LIKE_ROWS = operator.attrgetter("rows")
GROUPS = [Group(2), Group(3), *(Group(size, (size,), ((-1,),)) for size in (10, 14, 18, 40))]


class QueueMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.queue = RequestQueue(FlowOrder(shares({1, 2}, {}), {"a": 2.0}))
        self.waiting = []  # in order of arrival
        self.left = []
        self.now = 0.0

    @rule(
        group=st.sampled_from(GROUPS),
        rows=st.integers(1, 5),
        within=st.integers(1, 20),
        is_alone=st.booleans(),
        is_retry=st.booleans(),
        level=st.sampled_from([1, 2]),
        tenant=st.sampled_from(["", "a", "b"]),
    )
    def add(self, group, rows, within, is_alone, is_retry, level, tenant):
        one = ticket(rows=rows, deadline=self.now + within, group=group, is_alone=is_alone)
        one.level, one.tenant = level, tenant
        if is_retry:
            one.try_again()
        self.queue.add(one)
        self.waiting.append(one)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def drop(self, data):
        gone = data.draw(st.sampled_from(self.waiting))
        assert gone.drop()
        self.queue.forget(gone)
        self.waiting.remove(gone)

    @rule(max_rows=st.integers(1, 12))
    def take(self, max_rows):
        candidates = self.queue.candidates(LIKE_ROWS)
        if candidates is None:
            assert not self.waiting
            return
        taken = self.queue.take(candidates, max_rows, 0.01)
        assert flow_of(taken[0]) == candidates.flow
        assert taken[0].deadline == min(
            each.deadline for each in self.waiting if flow_of(each) == candidates.flow
        )
        assert len(taken) == 1 or sum(each.request.rows for each in taken) <= max_rows
        self.check_company(taken)
        for each in taken:
            each.state = State.RUNNING
        self.leave(taken)

    def check_company(self, taken):
        """Who must be alone is; the others are of one group first, by deadline, then of groups that may join it."""
        if any(each.is_alone for each in taken):
            assert len(taken) == 1
            return
        group = taken[0].request.group
        own = [each for each in taken if each.request.group == group]
        assert taken[: len(own)] == own
        for flow in set(map(flow_of, own)):
            deadlines = [each.deadline for each in own if flow_of(each) == flow]
            assert deadlines == sorted(deadlines)
        assert all(may_join(group, each.request.group) for each in taken[len(own) :])

    @rule(seconds=st.integers(0, 15))
    def expire(self, seconds):
        self.now += seconds
        expired = self.queue.expire(self.now)
        assert [each.deadline for each in expired] == sorted(each.deadline for each in expired)
        assert set(expired) == {each for each in self.waiting if each.deadline <= self.now}
        self.leave(expired)

    @rule()
    def isolate(self):
        self.queue.isolate()
        for each in self.waiting:
            each.is_alone = True  # as good as: each travels alone now

    @rule()
    def take_all(self):
        everything = self.queue.take_all()
        assert set(everything) == set(self.waiting)
        self.leave(everything)

    def leave(self, tickets):
        for each in tickets:
            self.waiting.remove(each)  # raises for one that was taken before
        self.left += tickets

    @invariant()
    def totals_are_those_of_what_waits(self):
        assert self.queue.waiting == len(self.queue) == len(self.waiting)
        assert self.queue.rows == sum(each.request.rows for each in self.waiting)
        assert self.queue.nbytes == sum(each.request.nbytes for each in self.waiting)

    @invariant()
    def the_next_deadline_is_the_earliest(self):
        assert self.queue.next_deadline() == min((each.deadline for each in self.waiting), default=None)


def flow_of(each):
    return (each.level, each.tenant, cost_bucket(each.request.group.cost))


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40)
