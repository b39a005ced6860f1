"""Whatever runs out of memory, and whenever: everybody is answered once, with the own rows, and nobody is blamed."""

import asyncio
from dataclasses import dataclass

import looptime
from fakes import WIDTH, Path, model
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import CircuitOpen, OutOfMemory, RequestTimeout, WorkerLost
from headrace.faults.breaker import BreakerPolicy
from headrace.faults.guard import Trust

EXPECTED = (OutOfMemory, CircuitOpen, RequestTimeout, WorkerLost)
KNOWN = {WIDTH: {1: 0.01, 8: 0.01}}


@dataclass(frozen=True)
class Scene:
    """How many requests of how many rows, how many rows fit in all the sessions to come, and what else goes wrong."""

    rows: list[int]
    fits: list[int]
    instances: int
    deaths: int
    rebuild_fails: bool
    is_idempotent: bool


class Play:
    """Everything is submitted at random moments and run in random order, until nothing is left to do."""

    def __init__(self, scene, draw):
        self.scene, self.draw = scene, draw
        trust = Trust(BreakerPolicy(jitter=0.0), scene.is_idempotent)
        clock = asyncio.get_running_loop().time
        self.path = Path(clock, spec=model(max_batch_size=8), max_rows=8, trust=trust)
        self.exhausted = []
        self.path.pipeline.on_exhausted = lambda channel, _: self.exhausted.append(channel)
        self.path.start_worker(scene.instances, KNOWN)
        self.left, self.fits, self.deaths = list(enumerate(scene.rows)), list(scene.fits), scene.deaths
        self.tickets = []

    async def run(self):
        for _ in range(3000):
            busy = [channel for channel in self.path.channels if channel.in_flight()]
            if self.exhausted:
                await self.another_worker(is_memory=False)
            elif self.left and (not busy or self.draw(st.booleans())):
                self.submit()
            elif self.deaths and busy and self.draw(st.integers(0, 4)) == 0:
                self.deaths -= 1
                await self.another_worker(is_memory=self.draw(st.booleans()))
            elif busy:
                self.end_a_run(self.draw(st.sampled_from(busy)))
            elif all(each.client.ends for each in self.tickets) and not self.left:
                break
            else:
                await asyncio.sleep(0.3)  # a breaker is open
            for _ in range(5):
                await asyncio.sleep(0)
        held = self.path.pipeline.snapshot()
        self.path.close()
        return self.tickets, held

    def submit(self):
        self.tickets += [self.path.submit(float(at), rows, within=300.0) for at, rows in self.left[:8]]
        del self.left[:8]

    def end_a_run(self, channel):
        if channel.is_rebuild_next:
            self.next_session()
            if self.scene.rebuild_fails:
                channel.fail("no memory", is_memory=True)
            else:
                channel.finish_golden(0.01)
        elif len(channel.next_rows) > self.fits[0]:
            channel.fail("bad allocation", is_memory=True)
        else:
            channel.finish(0.001)

    async def another_worker(self, *, is_memory):
        self.path.lose_worker(is_memory=is_memory)
        self.exhausted.clear()
        self.next_session()
        await asyncio.sleep(0.1)
        self.path.start_worker(self.scene.instances, KNOWN)

    def next_session(self):
        if len(self.fits) > 1:
            self.fits.pop(0)


async def play(scene, draw):
    return await Play(scene, draw).run()


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    scene=st.builds(
        Scene,
        rows=st.lists(st.integers(1, 4), min_size=1, max_size=30),
        fits=st.lists(st.integers(0, 8), min_size=1, max_size=6),
        instances=st.integers(1, 3),
        deaths=st.integers(0, 2),
        rebuild_fails=st.booleans(),
        is_idempotent=st.booleans(),
    ),
)
def test_each_is_answered_once_with_the_own_rows_or_hears_that_memory_ran_out(data, scene):
    loop = looptime.new_event_loop(start=0)
    try:
        tickets, held = loop.run_until_complete(play(scene, data.draw))
    finally:
        loop.close()
    assert [each.client.ends for each in tickets] == [1] * len(scene.rows)
    assert (held.waiting, held.running) == (0, 0)
    must_be_answered = scene.is_idempotent and not scene.deaths and min(scene.fits) >= max(scene.rows)
    for at, (rows, each) in enumerate(zip(scene.rows, tickets, strict=True)):
        error = each.client.error
        if error is None:
            assert each.client.rows == [2.0 * at] * rows
        else:
            assert isinstance(error, EXPECTED)
            assert not must_be_answered
