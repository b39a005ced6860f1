"""Queues with levels: who is served first, who is refused, and who is served last after all."""

import asyncio
from collections.abc import Iterator

import pytest
from fakes import WIDTH, Path

from headrace.errors import QueueFull, RequestTimeout
from headrace.model_config import ModelConfig, QueuePolicy

OVERRUN_S = 0.55
"""The run takes longer than it should by then: nothing is staged behind it."""
SLOW = {WIDTH: {1: 0.5, 2: 0.5}}


async def tick():
    """Let everything happen that is due now."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
async def levels() -> Iterator[Path]:
    """Two levels: the first refuses what waits too long and holds two; the second serves it last."""
    loop = asyncio.get_running_loop()
    config = ModelConfig(
        levels={1: QueuePolicy(max_queue_size=2), 2: QueuePolicy(on_timeout="delay")}, default_level=2
    )
    path = Path(loop.time, config=config, max_rows=1)
    yield path
    path.close()


async def test_the_lower_level_is_served_first(levels):
    channel = levels.start_worker(known=SLOW)
    levels.submit(0, level=1)
    await tick()
    levels.submit(1, level=2)
    levels.submit(2, level=1)
    levels.submit(3, level=2)
    for _ in range(4):
        await tick()
        channel.finish()
    assert channel.given == [[0], [2], [1], [3]]


async def test_a_level_holds_as_many_as_it_may(levels):
    levels.start_worker(known=SLOW)
    levels.submit(0, level=1)
    await tick()
    held = [levels.submit(each, level=1) for each in (1, 2)]
    over, other = levels.submit(3, level=1), levels.submit(4, level=2)
    assert isinstance(over.client.error, QueueFull)
    assert str(over.client.error) == "Exceeds maximum queue size: 2 requests wait for model 'm' already"
    assert [each.client.error for each in (*held, other)] == [None] * 3


async def test_what_waited_too_long_is_refused_or_served_last_as_its_level_has_it(levels):
    channel = levels.start_worker(known=SLOW)
    levels.submit(0, level=1, within=60)
    await tick()
    await asyncio.sleep(OVERRUN_S)
    refused, delayed = levels.submit(1, level=1, within=0.6), levels.submit(2, level=2, within=0.4)
    await asyncio.sleep(2)
    later = levels.submit(3, level=2, within=60)
    assert isinstance(refused.client.error, RequestTimeout)
    assert delayed.client.error is None
    for _ in range(3):
        await tick()
        channel.finish()
    assert channel.given == [[0], [3], [2]]
    assert (later.client.rows, delayed.client.rows) == ([6], [4])


async def test_what_is_served_last_is_refused_when_the_servers_own_deadline_passes(levels):
    levels.start_worker(known=SLOW)
    levels.submit(0, level=1, within=60)
    await tick()
    await asyncio.sleep(OVERRUN_S)
    delayed = levels.submit(2, level=2, within=0.4)
    await asyncio.sleep(4)
    assert delayed.client.error is None
    await asyncio.sleep(2)
    assert isinstance(delayed.client.error, RequestTimeout)
    assert levels.pipeline.snapshot().waiting == 0


async def test_what_is_served_last_still_takes_its_place_of_those_that_may_wait():
    loop = asyncio.get_running_loop()
    policy = QueuePolicy(max_queue_size=2, on_timeout="delay")
    path = Path(loop.time, config=ModelConfig(queue=policy), max_rows=1)
    path.start_worker(known=SLOW)
    path.submit(0, within=60)
    await tick()
    await asyncio.sleep(OVERRUN_S)
    delayed = [path.submit(each, within=0.4) for each in (1, 2)]
    await asyncio.sleep(2)
    assert [each.client.error for each in delayed] == [None, None]
    assert isinstance(path.submit(3).client.error, QueueFull)
    path.close()


async def test_a_client_that_leaves_frees_its_place(levels):
    levels.start_worker(known=SLOW)
    levels.submit(0, level=1)
    await tick()
    first, _ = (levels.submit(each, level=1) for each in (1, 2))
    levels.pipeline.drop(first)
    assert levels.submit(3, level=1).client.error is None


async def test_what_cannot_be_in_time_any_more_is_served_last_where_its_level_has_it_so(levels):
    channel = levels.start_worker(known=SLOW)
    levels.submit(0, level=2)
    await tick()
    delayed = [levels.submit(each, level=2, within=0.7) for each in (1, 2)]
    await asyncio.sleep(0.4)
    for _ in range(3):
        await tick()
        channel.finish()
    assert [each.client.error for each in delayed] == [None, None]
    assert sorted(each.client.rows for each in delayed) == [[2], [4]]
