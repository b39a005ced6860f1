"""Who is kept out, for how long, and who is never taken for another."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headrace.faults import quarantine
from headrace.faults.quarantine import MOST, QUARANTINE_S, Quarantine, fingerprint
from headrace.messages import Group, InferRequest, Wanted

SHAPES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=3).map(tuple)
BYTES = st.lists(st.binary(max_size=4), max_size=3).map(tuple)
ASKED = st.tuples(SHAPES, BYTES, st.sampled_from([(), (0,), (1,), (0, 1)]))
"""What makes a request the one it is: shapes, tensors, and which inputs are left out."""


def request(asked, *, as_views=False, **more) -> InferRequest:
    shapes, tensors, absent = asked
    if as_views:
        tensors = tuple(memoryview(b"before" + each + b"after")[6 : 6 + len(each)] for each in tensors)
    fields = {"id": "", "wanted": Wanted((0,), (False,)), "group": Group(1), **more}
    return InferRequest(
        shapes=shapes, tensors=tensors, absent=absent, rows=1, nbytes=sum(map(len, tensors)), **fields
    )


@given(ASKED, ASKED)
def test_two_requests_are_the_same_if_and_only_if_they_ask_the_same(one, other):
    assert (fingerprint(request(one)) == fingerprint(request(other))) == (one == other)


def test_bytes_that_only_lie_in_another_tensor_are_another_request():
    shapes = ((1, 1), (1, 1))
    assert fingerprint(request((shapes, (b"ab", b"c"), ()))) != fingerprint(
        request((shapes, (b"a", b"bc"), ()))
    )


@given(ASKED, st.text(), st.text(), st.integers(0, 3))
def test_the_same_request_under_another_name_is_the_same(asked, name, tenant, priority):
    renamed = request(
        asked,
        as_views=True,
        id=name,
        tenant=tenant,
        priority=priority,
        timeout_s=1.0,
        wanted=Wanted((1,), (True,)),
        group=Group(7),
    )
    assert fingerprint(renamed) == fingerprint(request(asked))


@dataclass
class Kept:
    """One that was put in."""

    since: float
    reason: str


def numbered(number: int) -> InferRequest:
    """Of few sizes, so that most have one that others have too."""
    return request((((1, number),), (bytes([number]) * (number % 3),), ()))


class QuarantineMachine(RuleBasedStateMachine):
    """Against a dictionary that is looked through each time."""

    numbers = st.integers(0, 12)

    def __init__(self):
        super().__init__()
        self.most, quarantine.MOST = quarantine.MOST, 5
        self.quarantine = Quarantine()
        self.kept: dict[int, Kept] = {}
        self.now = 0.0

    @rule(seconds=st.sampled_from([0.0, 1.0, QUARANTINE_S / 2, QUARANTINE_S]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(number=numbers, reason=st.sampled_from(["it fails", "it crashes"]))
    def add(self, number, reason):
        self.quarantine.add(numbered(number), reason, self.now)
        self.kept.pop(number, None)
        if len(self.kept) == quarantine.MOST:
            del self.kept[next(iter(self.kept))]
        self.kept[number] = Kept(self.now, reason)

    @rule(number=numbers)
    def ask(self, number):
        kept = self.kept.get(number)
        is_in = kept is not None and self.now < kept.since + QUARANTINE_S
        assert self.quarantine.reason(numbered(number), self.now) == (kept.reason if is_in else None)
        assert len(self.quarantine) <= sum(
            self.now < each.since + QUARANTINE_S for each in self.kept.values()
        )

    @invariant()
    def it_is_bounded(self):
        assert len(self.quarantine) <= quarantine.MOST
        assert sum(self.quarantine._sizes.values()) == len(self.quarantine)

    def teardown(self):
        quarantine.MOST = self.most


TestQuarantine = QuarantineMachine.TestCase


def test_it_keeps_so_many_and_the_youngest():
    one = Quarantine()
    requests = [request((((1, at),), (), ())) for at in range(MOST + 10)]
    for at, each in enumerate(requests):
        one.add(each, "it fails", now=at * 1e-3)
    assert len(one) == MOST
    assert [one.reason(each, 2.0) is not None for each in requests] == [False] * 10 + [True] * MOST


def test_it_forgets_all_after_a_minute():
    one = Quarantine()
    one.add(numbered(1), "it fails", now=0)
    assert one.reason(numbered(1), QUARANTINE_S - 0.1) == "it fails"
    assert one.reason(numbered(2), QUARANTINE_S) is None
    assert len(one) == 0
