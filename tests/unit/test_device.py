"""Whose turn it is on cores that several share; users are puppets that run when they may, until they are told to end."""

import asyncio

import pytest

from headrace.admission.device import AHEAD_S, GRACE_S, OVERDUE, RECENT_S, SHORT_RUN_S, Device

pytestmark = pytest.mark.looptime(start=0)
MUCH_LATER = 1e6


class Puppet:
    """Wants runs of so many seconds; runs one at a time, as a pipeline with one instance does."""

    def __init__(self, device, *, seconds=0.01, cores=1.0, latest_start=MUCH_LATER, **more):
        self.token = device.join(self, **more)
        self.token.cores = cores
        self.seconds, self.latest_start = seconds, latest_start
        self.clock = asyncio.get_running_loop().time
        self.wants = 0
        self.ends = []  # of what runs: when it is overdue
        self.runs = 0
        self.asked = 0

    def want(self, runs=1):
        self.wants += runs
        self.dispatch()

    def dispatch(self):
        self.asked += 1
        if self.wants and not self.ends and self.token.take(self.seconds, self.latest_start, self.clock()):
            self.wants -= 1
            self.runs += 1
            self.ends.append(self.clock() + OVERDUE * self.seconds + GRACE_S)
        self.token.pass_on()

    def holds_until(self):
        return self.ends

    def finish(self):
        """Its run is done: it asks for the next one at once."""
        self.ends.pop()
        self.dispatch()

    @property
    def is_running(self):
        return bool(self.ends)


@pytest.fixture
async def device():
    return Device(1, asyncio.get_running_loop().time)


async def test_nobody_asks_who_is_alone(device):
    only = Puppet(device)
    only.want()
    assert only.is_running
    assert not only.token.is_contested


async def test_a_second_one_waits_until_the_first_is_done(device):
    first, second = Puppet(device), Puppet(device)
    first.want()
    second.want()
    assert (first.is_running, second.is_running) == (True, False)
    assert first.token.is_contested
    first.finish()
    assert (first.is_running, second.is_running) == (False, True)


async def test_as_many_run_at_once_as_have_cores():
    device = Device(4, asyncio.get_running_loop().time)
    users = [Puppet(device, cores=2.0) for _ in range(3)]
    for user in users:
        user.want()
    assert [user.is_running for user in users] == [True, True, False]
    users[0].finish()
    assert users[2].is_running


async def test_one_that_wants_more_cores_than_there_are_runs_alone():
    device = Device(2, asyncio.get_running_loop().time)
    large, small = Puppet(device, cores=8.0), Puppet(device)
    small.want()
    large.want()
    assert not large.is_running
    small.finish()
    assert large.is_running


async def saturate(device, users, runs):
    """All want more than there is; returns the seconds each has had."""
    for user in users:
        user.want(10 * runs)
    for _ in range(runs):
        (running,) = (user for user in users if user.is_running)
        await asyncio.sleep(running.seconds)
        running.finish()
    return [user.runs * user.seconds for user in users]


async def test_device_time_is_by_weight_whatever_the_length_of_the_runs(device):
    heavy = Puppet(device, weight=3.0, seconds=0.007)
    light = Puppet(device, seconds=0.04)
    of_heavy, of_light = await saturate(device, [heavy, light], 400)
    assert of_heavy / of_light == pytest.approx(3.0, rel=0.05)


async def test_who_comes_back_has_its_part_and_no_more(device):
    busy, back = Puppet(device), Puppet(device)
    await saturate(device, [busy], 100)
    before = busy.runs
    back.want(1000)
    for _ in range(40):
        (running,) = (user for user in (busy, back) if user.is_running)
        running.finish()
    assert back.runs == pytest.approx(busy.runs - before, abs=2)


async def test_a_short_run_does_not_wait(device):
    long, short = Puppet(device, seconds=0.5), Puppet(device, seconds=SHORT_RUN_S)
    long.want()
    short.want()
    assert short.is_running


async def test_short_runs_beyond_their_share_wait_like_others(device):
    long, short = Puppet(device, seconds=0.5), Puppet(device, seconds=SHORT_RUN_S)
    long.want()
    short.want(10_000)
    while short.is_running:
        short.finish()
    # It may be as far ahead as the long one is by its run, and a little.
    assert short.runs * SHORT_RUN_S == pytest.approx(0.5 + AHEAD_S, abs=0.01)


async def test_who_would_be_late_behind_the_next_one_goes_first(device):
    running, patient, urgent = (Puppet(device, seconds=0.01) for _ in range(3))
    running.want()
    patient.want()
    urgent.latest_start = 0.005
    urgent.want()
    running.finish()
    assert (patient.is_running, urgent.is_running) == (False, True)


async def test_who_is_far_ahead_of_its_share_is_not_urgent(device):
    running, patient, urgent = (Puppet(device, seconds=0.01) for _ in range(3))
    running.want()
    patient.want()
    urgent.latest_start = 0.005
    urgent.want()
    urgent.token.charge(10 * AHEAD_S)
    running.finish()
    assert (patient.is_running, urgent.is_running) == (True, False)


async def test_a_run_that_hangs_no_longer_holds_the_cores(device):
    hangs, waits = Puppet(device, seconds=0.1), Puppet(device, seconds=0.1)
    hangs.want()
    waits.want()
    await asyncio.sleep(OVERDUE * 0.1 + GRACE_S - 0.001)
    assert not waits.is_running
    await asyncio.sleep(0.002)
    assert waits.is_running


async def test_a_run_that_hangs_is_noticed_though_a_longer_one_was_waited_for_before(device):
    long, hangs, waits = Puppet(device, seconds=100.0), Puppet(device, seconds=0.1), Puppet(device)
    long.want()
    hangs.want()
    long.finish()
    waits.want()
    await asyncio.sleep(OVERDUE * 0.1 + GRACE_S + 0.001)
    assert waits.is_running


async def test_who_has_nothing_to_send_after_all_leaves_its_turn_to_the_next(device):
    running, gave_up, waits = Puppet(device), Puppet(device), Puppet(device)
    running.want()
    gave_up.want()
    waits.want()
    gave_up.wants = 0
    running.finish()
    assert (gave_up.is_running, waits.is_running) == (False, True)
    assert not gave_up.token.is_granted


async def test_who_leaves_makes_room(device):
    leaves, waits = Puppet(device), Puppet(device)
    leaves.want()
    waits.want()
    leaves.token.leave()
    assert waits.is_running


async def test_who_leaves_while_it_waits_is_not_asked_again(device):
    running, leaves = Puppet(device), Puppet(device)
    running.want()
    leaves.want()
    leaves.token.leave()
    asked = leaves.asked
    running.finish()
    assert leaves.asked == asked
    assert not running.token.is_contested


async def test_a_user_that_fails_does_not_stop_the_others(device):
    running, fails, waits = Puppet(device), Puppet(device), Puppet(device)
    running.want()
    fails.want()
    waits.want()

    def dispatch():
        raise RuntimeError("told to fail")

    fails.dispatch = dispatch
    with pytest.raises(RuntimeError):
        running.finish()
    waits.dispatch()
    assert waits.is_running


async def test_the_tightest_objective_beside_is_of_those_that_ran_lately(device):
    tight, loose, other = (
        Puppet(device, objective_s=seconds, seconds=SHORT_RUN_S) for seconds in (0.03, 0.1, None)
    )
    now = asyncio.get_running_loop().time
    assert other.token.tightest_beside(now()) is None
    for user in (tight, loose):
        user.want()
        user.finish()
    assert other.token.tightest_beside(now()) == 0.03
    assert tight.token.tightest_beside(now()) == 0.1
    await asyncio.sleep(RECENT_S)
    assert other.token.tightest_beside(now()) is None
