"""Whatever fails, and whenever: everybody is answered once, the innocent get their rows, and only culprits are blamed."""

import asyncio
from dataclasses import dataclass

import looptime
from fakes import WIDTH, Path, model
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import CircuitOpen, InferenceFailed, PoisonedRequest, RequestTimeout, WorkerLost
from headrace.faults.breaker import BreakerPolicy
from headrace.faults.guard import Trust

POLICY = BreakerPolicy(jitter=0.0)
EXPECTED = (InferenceFailed, CircuitOpen, RequestTimeout, WorkerLost, PoisonedRequest)
CULPRIT = 1000.0
KNOWN = {WIDTH: {1: 0.01, 8: 0.01}}


def is_bad(rows):
    return any(value >= CULPRIT for value in rows)


async def tick():
    for _ in range(5):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Scene:
    """How many requests, which of them are culprits, and what else goes wrong."""

    count: int
    culprits: frozenset[int]
    instances: int
    deaths: int
    has_golden: bool
    golden_fails: bool
    is_flaky: bool

    def requests(self):
        return [CULPRIT + at if at in self.culprits else float(at) for at in range(self.count)]


async def play(scene, draw):
    """Everything is submitted at random moments and run in random order, until nothing is left to do."""
    path = Path(
        asyncio.get_running_loop().time,
        spec=model(max_batch_size=8),
        max_rows=8,
        trust=Trust(POLICY),
        golden_cost=WIDTH if scene.has_golden else None,
    )
    path.start_worker(scene.instances, KNOWN)
    tickets, left, deaths = [], scene.requests(), scene.deaths
    for _ in range(3000):
        busy = [channel for channel in path.channels if channel.in_flight()]
        if left and (not busy or draw(st.booleans())):
            tickets += [path.submit(value, within=60.0) for value in left[:8]]
            del left[:8]
        elif deaths and busy and draw(st.integers(0, 4)) == 0:
            deaths -= 1
            path.lose_worker()
            await asyncio.sleep(0.1)
            path.start_worker(scene.instances, KNOWN)
        elif busy:
            channel = draw(st.sampled_from(busy))
            if channel.is_golden_next:
                channel.fail("golden") if scene.golden_fails else channel.finish_golden(0.001)
            elif is_bad(channel.next_rows) or (scene.is_flaky and draw(st.integers(0, 9)) == 0):
                channel.fail()
            else:
                channel.finish(0.001)
        elif all(each.client.ends for each in tickets) and not left:
            break
        else:
            await asyncio.sleep(0.3)  # a breaker is open
        await tick()
    held = path.pipeline.snapshot()
    path.close()
    return tickets, held


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    scene=st.builds(
        Scene,
        count=st.integers(1, 40),
        culprits=st.frozensets(st.integers(0, 39), max_size=6),
        instances=st.integers(1, 3),
        deaths=st.integers(0, 2),
        has_golden=st.booleans(),
        golden_fails=st.booleans(),
        is_flaky=st.booleans(),
    ),
)
def test_each_is_answered_once_and_only_culprits_are_blamed(data, scene):
    loop = looptime.new_event_loop(start=0)
    try:
        tickets, held = loop.run_until_complete(play(scene, data.draw))
    finally:
        loop.close()
    assert [each.client.ends for each in tickets] == [1] * scene.count
    assert (held.waiting, held.running) == (0, 0)
    for value, each in zip(scene.requests(), tickets, strict=True):
        error = each.client.error
        assert error is None or isinstance(error, EXPECTED)
        if value >= CULPRIT:
            assert each.client.rows is None
        elif error is None:
            assert each.client.rows == [2 * value]
        elif not scene.is_flaky:
            assert not isinstance(error, PoisonedRequest)
