"""A batch is never larger than the memory that a version may take, whatever waits and whenever that changes."""

import asyncio

import pytest
from fakes import WIDTH, Path
from traffic import Source, linear, run

from headrace.batching.golden_point import Bound
from headrace.errors import TooLargeForMemory
from headrace.execution.footprint import Footprint

FOOTPRINT = Footprint(10_000, 20_000, peaks={WIDTH: {rows: 1000 * rows for rows in (1, 2, 4, 8)}})
"""A thousand bytes a row."""
SLOW = {WIDTH: {1: 0.5, 8: 0.5}}


async def tick():
    """Let everything happen that is due now."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
async def roomy():
    """A pipeline whose batches are bounded by nothing but memory."""
    path = Path(asyncio.get_running_loop().time, max_rows=8)
    yield path
    path.close()


async def test_a_batch_has_as_many_rows_as_memory_allows(roomy):
    roomy.pipeline.bound_memory(FOOTPRINT, 3_500)
    channel = roomy.start_worker()
    for value in range(5):
        roomy.submit(value)
    await tick()
    channel.finish()
    assert channel.given == [[0, 1, 2], [3, 4]]


async def test_the_cap_follows_the_bytes_it_may_take(roomy):
    channel = roomy.start_worker(known=SLOW)
    for nbytes, rows in ((2_000, 2), (5_000, 5), (1_000, 1), (None, 8)):
        roomy.pipeline.bound_memory(FOOTPRINT, nbytes)
        for value in range(8):
            roomy.submit(value)
        await tick()
        assert len(channel.given[-1]) == rows
        while channel.in_flight():
            channel.finish(0.5)
            await tick()
        assert max(map(len, channel.given)) <= rows
        channel.given.clear()


async def test_it_is_said_how_many_rows_memory_allows_and_what_binds(roomy):
    roomy.start_worker(known=SLOW)
    assert (roomy.pipeline.memory_cap, roomy.pipeline.golden_point.bound) == (0, Bound.ROWS)
    roomy.pipeline.bound_memory(FOOTPRINT, 3_500)
    assert (roomy.pipeline.memory_cap, roomy.pipeline.golden_point.bound) == (3, Bound.MEMORY)
    roomy.pipeline.bound_memory(FOOTPRINT, 1 << 30)
    assert roomy.pipeline.memory_cap == 0


async def test_a_footprint_that_nobody_measured_bounds_nothing(roomy):
    roomy.pipeline.bound_memory(Footprint(10_000, 20_000), 10)
    roomy.pipeline.bound_memory(None, 10)
    channel = roomy.start_worker()
    for value in range(8):
        roomy.submit(value)
    await tick()
    assert len(channel.given[0]) == 8


async def test_a_request_that_can_never_fit_hears_the_arithmetic_and_the_next_one_is_run(roomy):
    roomy.pipeline.bound_memory(FOOTPRINT, 3_000)
    channel = roomy.start_worker()
    large, small = roomy.submit(1, rows=4), roomy.submit(2)
    await tick()
    channel.finish()
    assert isinstance(large.client.error, TooLargeForMemory)
    assert large.client.error.numbers == {
        "rows": 4,
        "needed_bytes": 4_000,
        "allowed_bytes": 3_000,
        "rows_that_fit": 3,
    }
    assert "send at most 3 of them" in str(large.client.error)
    assert (channel.given, small.client.rows) == ([[2]], [4])
    assert roomy.pipeline.snapshot().waiting == 0


async def test_a_request_that_fits_into_all_there_is_runs_alone(roomy):
    roomy.pipeline.bound_memory(FOOTPRINT, 2_000, alone=4_000)
    channel = roomy.start_worker()
    for value, rows in ((1, 4), (2, 1), (3, 1), (4, 1)):
        roomy.submit(value, rows=rows)
    await tick()
    while channel.in_flight():
        channel.finish()
        await tick()
    assert channel.given == [[1] * 4, [2, 3], [4]]


async def test_one_row_of_what_it_was_loaded_with_is_always_run(roomy):
    roomy.pipeline.bound_memory(FOOTPRINT, 0)
    channel = roomy.start_worker()
    only = roomy.submit(1)
    await tick()
    channel.finish()
    assert only.client.rows == [2]


async def test_what_waits_when_the_bytes_become_fewer_is_held_against_what_there_is_then(roomy):
    channel = roomy.start_worker(known=SLOW)
    roomy.submit(0)
    await tick()
    waiting = roomy.submit(1, rows=4)
    roomy.pipeline.bound_memory(FOOTPRINT, 2_000)
    channel.finish()
    await tick()
    assert isinstance(waiting.client.error, TooLargeForMemory)
    assert channel.given == [[0]]


@pytest.mark.looptime(noop_cycles=0)
async def test_under_any_load_no_run_takes_more_than_it_may(serve):
    served = serve(linear(5, 0.5))
    most = {0.0: 20, 0.5: 3, 1.0: 40}
    for at, rows in most.items():
        asyncio.get_running_loop().call_later(
            at, served.pipeline.bound_memory, FOOTPRINT, FOOTPRINT.activations(WIDTH, rows)
        )
    await run(served, [Source("any", 3000, within_s=0.2)], 1.5)
    begun = {at: [each.rows for each in served.runs if at + 0.05 <= each.began < at + 0.5] for at in most}
    assert {at: max(rows) for at, rows in begun.items()} == most
