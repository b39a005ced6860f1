"""A loop that is late, and who hears of it. Work on it is a callback that lets the time pass before the next may run."""

import asyncio

import pytest

from headrace.admission.lag import STANDING
from headrace.errors import GatewayBusy
from headrace.frontends.lag import PERIOD_S, LagWatch

MOST_S = 0.05


class BusyLoop:
    """A clock that goes on while callbacks work, as a real one does and the loop's virtual one does not."""

    def __init__(self):
        self._loop = asyncio.get_running_loop()
        self._worked_s = 0.0

    def __call__(self):
        return self._loop.time() + self._worked_s

    def work(self, seconds):
        self._worked_s += seconds


@pytest.fixture
def timers(monkeypatch):
    """Delays of the timers that were set."""
    found = []
    real = asyncio.BaseEventLoop.call_later

    def call_later(loop, delay, callback, *args, **more):
        if getattr(callback, "__name__", "") == "_sample":
            found.append(delay)
        return real(loop, delay, callback, *args, **more)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_later", call_later)
    return found


def arrive(watch):
    """As a request asks."""
    return None if watch.is_calm else watch.refusal()


@pytest.mark.asyncio
async def test_nobody_wakes_an_idle_server_up(timers):
    watch = LagWatch(MOST_S, asyncio.get_running_loop().time)
    await asyncio.sleep(3600)
    assert timers == []
    assert arrive(watch) is None
    await asyncio.sleep(3600)
    assert timers == [PERIOD_S], "one sample for the one request"


@pytest.mark.asyncio
async def test_many_requests_share_a_sample(timers):
    watch = LagWatch(MOST_S, asyncio.get_running_loop().time)
    for _ in range(1000):
        assert arrive(watch) is None
        await asyncio.sleep(PERIOD_S / 100)
    assert 9 <= len(timers) <= 11


@pytest.mark.asyncio
async def test_a_loop_that_is_late_once_takes_everything_in():
    clock = BusyLoop()
    watch = LagWatch(MOST_S, clock)
    for at in range(100):
        if at == 50:
            clock.work(10.0)
        assert arrive(watch) is None
        await asyncio.sleep(PERIOD_S)


@pytest.mark.asyncio
async def test_requests_are_refused_while_the_loop_stays_late_and_taken_in_again_once_it_is_not():
    clock = BusyLoop()
    watch = LagWatch(MOST_S, clock)
    refused = []
    for _ in range(2 * STANDING):
        refused.append(arrive(watch))
        clock.work(MOST_S + 0.01)
        await asyncio.sleep(PERIOD_S)
    # The first asks for a sample, and the sample after so many is the one that shows that the delay stands.
    assert refused[: STANDING - 1] == [None] * (STANDING - 1)
    assert all(isinstance(each, GatewayBusy) for each in refused[STANDING + 1 :])
    assert watch.lag_s == pytest.approx(MOST_S + 0.01)
    await asyncio.sleep(2 * PERIOD_S)
    assert arrive(watch) is None
    assert watch.lag_s == 0.0


@pytest.mark.asyncio
async def test_that_it_is_over_is_seen_though_nobody_asks():
    clock = BusyLoop()
    watch = LagWatch(MOST_S, clock)
    for _ in range(2 * STANDING):
        arrive(watch)
        clock.work(1.0)
        await asyncio.sleep(PERIOD_S)
    assert isinstance(arrive(watch), GatewayBusy)
    await asyncio.sleep(3600)
    assert arrive(watch) is None, "whoever comes an hour later is not refused for it"
