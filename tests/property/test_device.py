"""The device token against whatever its users do: cores are not taken twice, and nobody waits beside idle ones."""

import asyncio

import looptime
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.admission.device import GRACE_S, OVERDUE, SHORT_RUN_S, Device

LENGTHS = st.sampled_from([SHORT_RUN_S, 0.01, 0.1])


class User:
    """Wants runs; has so many instances, each of which runs one at a time."""

    def __init__(self, device, clock, instances, cores, weight):
        self.token = device.join(self, weight)
        self.token.cores = cores
        self.clock = clock
        self.instances = instances
        self.wanted = []  # seconds of the runs to come
        self.running = []  # (when it is overdue, whether it is short)
        self.runs = 0

    def dispatch(self):
        while self.wanted and len(self.running) < self.instances:
            seconds = self.wanted[0]
            now = self.clock()
            if not self.token.take(seconds, now + 1.0, now):
                break
            self.wanted.pop(0)
            self.runs += 1
            self.running.append((now + OVERDUE * seconds + GRACE_S, seconds <= SHORT_RUN_S))
        self.token.pass_on()

    def holds_until(self):
        return [until for until, _ in self.running]


class DeviceMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = looptime.new_event_loop(start=0)
        self.users, self.faults = [], []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))

    def act(self, action):
        async def inside():
            return action()

        return self.loop.run_until_complete(inside())

    @initialize(cores=st.integers(1, 4))
    def begin(self, cores):
        self.cores = cores
        self.device = self.act(lambda: Device(cores, self.loop.time))

    @precondition(lambda self: len(self.users) < 4)
    @rule(instances=st.integers(1, 2), cores=st.integers(1, 3), weight=st.sampled_from([0.25, 1.0, 3.0]))
    def join(self, instances, cores, weight):
        # A model that is alone asks nobody; when a second one comes, what it runs was never taken.
        self.finish_all()
        self.users.append(User(self.device, self.loop.time, instances, cores, weight))

    @precondition(lambda self: self.users)
    @rule(data=st.data(), lengths=st.lists(LENGTHS, min_size=1, max_size=3))
    def want(self, data, lengths):
        user = data.draw(st.sampled_from(self.users))
        user.wanted += lengths
        self.act(user.dispatch)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def finish(self, data):
        user = data.draw(st.sampled_from(self.busy()))
        user.running.pop(0)
        self.act(user.dispatch)

    @precondition(lambda self: any(user.wanted for user in self.users))
    @rule(data=st.data())
    def give_up(self, data):
        """What it waited to run expires."""
        data.draw(st.sampled_from([user for user in self.users if user.wanted])).wanted.clear()

    @precondition(lambda self: self.users)
    @rule(data=st.data())
    def leave(self, data):
        user = data.draw(st.sampled_from(self.users))
        self.users.remove(user)
        self.act(user.token.leave)

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0]))
    def time_passes(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def busy(self):
        return [user for user in self.users if user.running]

    def holding(self):
        """Cores that are held by runs that count."""
        now = self.loop.time()
        return sum(
            user.token.cores
            for user in self.users
            for until, is_short in user.running
            if until > now and not is_short
        )

    @invariant()
    def cores_are_not_taken_twice(self):
        if len(self.users) > 1:
            # One alone may run all its instances, and one run may want more cores than there are.
            most = max(user.token.cores * user.instances for user in self.users)
            assert self.holding() <= max(self.cores, most)

    @invariant()
    def nobody_waits_beside_idle_cores(self):
        if any(user.running for user in self.users):
            return
        assert not any(user.wanted for user in self.users)

    @invariant()
    def who_waits_is_known_to_wait(self):
        if len(self.users) > 1:
            for user in self.users:
                if user.wanted and len(user.running) < user.instances:
                    assert user.token in self.device._waiting

    @invariant()
    def nothing_goes_wrong_on_the_loop(self):
        assert self.faults == []

    def finish_all(self):
        """However it went: when runs end, everybody has its turn."""
        turns = 0
        while self.busy():
            user = self.busy()[turns % len(self.busy())]
            user.running.pop(0)
            self.act(user.dispatch)
            turns += 1
            assert turns < 10_000
        assert not any(user.wanted for user in self.users)

    def teardown(self):
        try:
            if self.users:
                self.finish_all()
        finally:
            self.loop.close()


TestDevice = DeviceMachine.TestCase
TestDevice.settings = settings(max_examples=100, stateful_step_count=30)
