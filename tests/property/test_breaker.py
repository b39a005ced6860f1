"""A breaker against whatever runs through it: a model of it that remembers everything says what it has to do."""

from dataclasses import dataclass, field
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.faults.breaker import FORCED, Breaker, BreakerPolicy, BreakerState, Outcome, Permit
from headrace.faults.window import SLOTS, Window

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
OK, SLOW, FAILED, EXCLUDED = Outcome.OK, Outcome.SLOW, Outcome.FAILED, Outcome.EXCLUDED
OUTCOMES = st.sampled_from([OK, OK, SLOW, FAILED, FAILED, EXCLUDED])
POLICIES = st.builds(
    BreakerPolicy,
    window_s=st.sampled_from([1.0, 10.0]),
    min_calls=st.integers(1, 6),
    failure_rate=st.none() | st.sampled_from([0.3, 0.5, 1.0]),
    slow_rate=st.none() | st.sampled_from([0.5, 0.8]),
    max_failures=st.none() | st.integers(1, 4),
    max_slow=st.none() | st.integers(1, 4),
    reset_s=st.sampled_from([0.5, 1.0, 90.0]),
    longest_reset_s=st.sampled_from([90.0, 400.0]),
    jitter=st.sampled_from([0.0, 0.2]),
    trials=st.integers(1, 3),
    trial_s=st.sampled_from([inf, 2.0]),
    max_slow_trips=st.none() | st.integers(1, 3),
)
BY_ITSELF = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
"""Moves that nobody tells it to make."""


@dataclass
class Call:
    """One that was let through."""

    permit: Permit
    life: int
    began: float


@dataclass
class Life:
    """What was counted since the last change of state, all of it."""

    counted: list[tuple[float, Outcome]] = field(default_factory=list)
    passed: int = 0

    def within(self, policy: BreakerPolicy, now: float) -> list[Outcome]:
        a_second = SLOTS / policy.window_s  # so many slots
        newest = int(now * a_second)
        return [outcome for at, outcome in self.counted if int(at * a_second) > newest - SLOTS]

    def is_bad(self, policy: BreakerPolicy, now: float, *, counts_slowness: bool) -> bool:
        """Whether the run that was counted last is to open it."""
        last = [outcome for _, outcome in self.counted]
        window = self.within(policy, now)
        if last[-1] is OK:
            return False
        if policy.max_failures is not None and last[-policy.max_failures :] == [FAILED] * policy.max_failures:
            return True
        is_slow = policy.max_slow is not None and last[-policy.max_slow :] == [SLOW] * policy.max_slow
        if is_slow and counts_slowness:
            return True
        if len(window) < policy.min_calls:
            return False
        rates = ((FAILED, policy.failure_rate, True), (SLOW, policy.slow_rate, counts_slowness))
        return any(
            is_on and rate is not None and window.count(kind) >= rate * len(window)
            for kind, rate, is_on in rates
        )


class BreakerMachine(RuleBasedStateMachine):
    """`life` counts changes of state; what began in an earlier one must not matter."""

    @initialize(policy=POLICIES, draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1))
    def begin(self, policy, draws):
        self.policy, self.draws, self.drawn = policy, draws, 0
        self.breaker = Breaker(policy, self.draw)
        self.now = 0.0
        self.calls: list[Call] = []
        self.old: list[Call] = []
        self.life, self.lives = Life(), 0
        self.seen = CLOSED
        self.place_free_at = 0.0
        self.holder: Permit | None = None

    def draw(self):
        self.drawn += 1
        return self.draws[self.drawn % len(self.draws)]

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.5, 1.0, 3.0, 60.0, 100.0, 1000.0]))
    def time_passes(self, seconds):
        self.now += seconds
        before = self.seen
        if self.look() is not before:
            assert (before, self.seen) == (OPEN, HALF_OPEN), "time alone does nothing else"

    @rule(times=st.integers(1, 4))
    def ask(self, times):
        for _ in range(times):
            state, permit = self.look(), self.breaker.permit(self.now)
            if state in (CLOSED, BreakerState.FORCED_CLOSED):
                assert permit is not None
                assert not permit.is_trial
            elif state is HALF_OPEN:
                is_free = self.holder is None or self.now >= self.place_free_at
                assert (permit is not None) == is_free, "one trial at a time, and its place is never lost"
                if permit is not None:
                    assert permit.is_trial
                    self.holder, self.place_free_at = permit, self.now + self.policy.trial_s
            else:
                assert permit is None, "no leave while it is open"
            if permit is not None:
                self.calls.append(Call(permit, self.lives, self.now))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=OUTCOMES)
    def end(self, data, outcome):
        self.record(self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1))), outcome)

    @rule(outcomes=st.lists(OUTCOMES, min_size=2, max_size=8), pause=st.sampled_from([0.0, 0.3, 1.1]))
    def run(self, outcomes, pause):
        """One after the other, while there is leave."""
        for outcome in outcomes:
            self.now += pause
            running = len(self.calls)
            self.ask(1)
            if len(self.calls) > running:
                self.record(self.calls.pop(), outcome)

    def record(self, call, outcome):
        self.old.append(call)
        before, snapshot = self.look(), self.breaker.snapshot(self.now)
        expected = self.expected(call, outcome, before) if call.life == self.lives else before
        if call.permit is self.holder:
            self.holder = None
        self.breaker.record(call.permit, outcome, self.now)
        if call.life != self.lives:
            assert self.breaker.snapshot(self.now) == snapshot, (
                "what began before the last change says nothing"
            )
        assert self.look(snapshot) is expected

    def expected(self, call, outcome, before):
        """Where it is to stand after a call of this life."""
        counts_slowness = self.breaker.counts_slowness(self.now)
        if outcome is EXCLUDED:
            return before
        if call.permit.is_trial:
            if outcome is FAILED or (outcome is SLOW and counts_slowness):
                return OPEN
            self.life.passed += 1
            return CLOSED if self.life.passed == self.policy.trials else HALF_OPEN
        self.life.counted.append((self.now, outcome))
        is_bad = before is CLOSED and self.life.is_bad(self.policy, self.now, counts_slowness=counts_slowness)
        return OPEN if is_bad else before

    @precondition(lambda self: self.old)
    @rule(data=st.data(), outcome=OUTCOMES)
    def end_once_more(self, data, outcome):
        """A mistake; after a change of state it is none that matters."""
        call = data.draw(st.sampled_from(self.old))
        if call.life != self.lives:
            snapshot = self.breaker.snapshot(self.now)
            self.breaker.record(call.permit, outcome, self.now)
            assert self.breaker.snapshot(self.now) == snapshot

    @rule(until=st.sampled_from([None, 0.5, 5.0, inf]))
    def trip(self, until):
        before, snapshot = self.look(), self.breaker.snapshot(self.now)
        self.breaker.trip("told to", self.now, until=None if until is None else self.now + until)
        if before in FORCED or (before is OPEN and until is None):
            assert self.breaker.snapshot(self.now) == snapshot
        else:
            if before is OPEN:
                self.lives += 1
            assert self.look(snapshot, is_timed=until is None) is OPEN
            assert self.breaker.reason == "told to"

    @rule()
    def renew(self):
        before = self.look()
        self.breaker.renew()
        assert self.look(is_told=True) is (CLOSED if before in (OPEN, HALF_OPEN) else before)
        if before in (OPEN, HALF_OPEN):
            assert not self.breaker.is_plain, "gently"

    @rule(state=st.sampled_from([None, *FORCED]))
    def force(self, state):
        self.breaker.force(state)
        self.change()
        self.seen = self.breaker.state(self.now)
        assert self.seen is (state or CLOSED)
        assert self.breaker.snapshot(self.now).trips == 0

    def look(self, snapshot=None, *, is_told=False, is_timed=True):
        """Where it stands, by legal moves only."""
        state = self.breaker.state(self.now)
        if state is not self.seen:
            assert is_told or (self.seen, state) in BY_ITSELF or not is_timed
            if (self.seen, state) != (OPEN, HALF_OPEN):
                self.change()
            if state is OPEN and is_timed:
                self.check_length(snapshot)
            self.seen = state
        return state

    def check_length(self, before):
        policy, length = self.policy, self.breaker.retry_after_s(self.now)
        usual = min(policy.longest_reset_s, policy.reset_s * 2**before.trips)
        assert abs(length - usual) <= policy.jitter * usual + 1e-6
        assert self.breaker.snapshot(self.now).trips == before.trips + 1

    def change(self):
        self.lives += 1
        self.life, self.holder = Life(), None

    @invariant()
    def what_is_shown_is_what_was_counted(self):
        snapshot = self.breaker.snapshot(self.now)
        counted = self.life.within(self.policy, self.now)
        assert (snapshot.ok, snapshot.slow, snapshot.failed) == tuple(map(counted.count, (OK, SLOW, FAILED)))
        assert snapshot.retry_after_s >= 0
        assert (snapshot.reason == "") == (snapshot.state is CLOSED)
        assert self.breaker.is_refusing(self.now) == (snapshot.state in (OPEN, BreakerState.FORCED_OPEN))

    @invariant()
    def a_batch_has_at_least_a_row_and_no_more_than_usual(self):
        for rows in (1, 3, 32):
            assert 1 <= self.breaker.most(rows) <= rows

    def teardown(self):
        """However it went, it closes again by itself once runs go well."""
        if not hasattr(self, "breaker") or self.look() in FORCED or self.breaker._until == inf:
            return
        self.now += 1000.0
        for call in self.calls:
            self.breaker.record(call.permit, EXCLUDED, self.now)
        for _ in range(self.policy.trials + 4):
            permit = self.breaker.permit(self.now)
            assert permit is not None
            self.breaker.record(permit, OK, self.now)
        assert self.breaker.is_plain
        assert self.breaker.snapshot(self.now + 1e6).trips == 0, "all is forgiven in time"


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=150, stateful_step_count=40)


@given(
    events=st.lists(st.tuples(st.floats(0, 3), st.sampled_from(["ok", "slow", "failed"]))),
    seconds=st.sampled_from([0.5, 10.0]),
)
def test_a_window_counts_what_is_young_enough_and_keeps_no_more(events, seconds):
    window, now, kept = Window(seconds), 0.0, []
    for passes, kind in events:
        now += passes
        counts = window.at(now)
        setattr(counts, kind, getattr(counts, kind) + 1)
        kept.append((now, kind))
        total = window.total(now)
        surely = [each for at, each in kept if at > now - seconds * (SLOTS - 1) / SLOTS + 1e-9]
        perhaps = [each for at, each in kept if at > now - seconds - 1e-9]
        for each in ("ok", "slow", "failed"):
            assert surely.count(each) <= getattr(total, each) <= perhaps.count(each)
        assert len(window._counts) <= SLOTS
