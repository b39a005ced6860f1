"""A pipeline whose runs fail for want of memory, in virtual time: who is answered, in what order, and what it costs."""

import asyncio

from fakes import WIDTH, Path, PuppetChannel, model

from headrace.errors import CircuitOpen, OutOfMemory, RequestTimeout
from headrace.events import BreakerChanged
from headrace.events import OutOfMemory as RanOut
from headrace.faults.breaker import BreakerPolicy
from headrace.faults.guard import Trust
from headrace.faults.memory import HOLD_S
from headrace.messages import Group

KNOWN = {WIDTH: {1: 0.01, 32: 0.01}}


def make(*, is_idempotent: bool = True, golden: bool = False) -> Path:
    clock = asyncio.get_running_loop().time
    trust = Trust(BreakerPolicy(jitter=0.0), is_idempotent)
    spec = model(max_batch_size=32)
    made = Path(clock, spec=spec, max_rows=32, trust=trust, golden_cost=WIDTH if golden else None)
    made.restarts = []
    made.pipeline.on_exhausted = lambda channel, reason: made.restarts.append((channel, reason))
    return made


async def tick():
    for _ in range(5):
        await asyncio.sleep(0)


async def work(channel: PuppetChannel, *, fits: int, golden_fits=True, rebuilds_well=True) -> None:
    """Run what the instance is given until it is idle; more rows than fit make the run fail."""
    await tick()
    while channel.in_flight():
        if channel.is_rebuild_next:
            if rebuilds_well:
                channel.finish_golden(0.1)
            else:
                channel.fail("no memory to load it", is_memory=True)
        elif channel.is_golden_next:
            if golden_fits:
                channel.finish_golden(0.001)
            else:
                channel.fail("bad allocation", is_memory=True)
        elif len(channel.next_rows) > fits:
            channel.fail("bad allocation", is_memory=True)
        else:
            channel.finish(0.001)
        await tick()


def steps(path: Path) -> list[str]:
    return [each.step for each in path.events if isinstance(each, RanOut)]


def sizes(channel: PuppetChannel) -> list[int]:
    return [len(each) for each in channel.given]


async def test_a_batch_that_does_not_fit_is_run_in_halves_and_everybody_is_answered():
    path = make()
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(at) for at in range(32)]
    await work(channel, fits=8)
    assert [each.client.rows for each in tickets] == [[2 * at] for at in range(32)]
    # The next part is sent before it is known how the one before it went.
    assert sizes(channel) == [32, 16, 16, 8, 8, 8, 8]
    assert steps(path) == ["split"] * 3
    assert not [each for each in path.events if isinstance(each, BreakerChanged)]
    path.close()


async def test_what_another_part_has_shown_is_not_tried_again():
    path = make()
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(at) for at in range(32)]
    await work(channel, fits=2)
    assert all(each.client.rows for each in tickets)
    assert [size for size in sizes(channel) if size > 2] == [32, 16, 16, 8, 8, 4, 4]
    assert channel.rebuilds == 1
    assert path.restarts == []
    path.close()


async def test_its_requests_keep_their_order_and_go_before_what_came_later():
    path = make()
    channel = path.start_worker(known=KNOWN)
    for at in range(8):
        path.submit(at)
    await tick()
    for at in range(8, 24):
        path.submit(at)
    await work(channel, fits=2)
    done = [value for batch in channel.begun if len(batch) <= 2 for value in batch]
    assert done == list(range(24))
    path.close()


async def test_the_next_batches_are_no_larger_than_what_may_fit():
    path = make()
    channel = path.start_worker(known=KNOWN)
    for at in range(32):
        path.submit(at)
    await work(channel, fits=8)
    before = len(channel.given)
    for at in range(32):
        path.submit(at)
    await work(channel, fits=8)
    assert sizes(channel)[before:] == [8] * 4
    path.close()


async def test_the_run_after_the_failure_gives_back_and_later_ones_do_not():
    path = make()
    channel = path.start_worker(known=KNOWN)
    for at in range(4):
        path.submit(at)
    await work(channel, fits=2)
    path.submit(9)
    await work(channel, fits=2)
    assert channel.gave_back == [False, True, False, False]
    path.close()


async def test_the_cap_recovers():
    path = make()
    channel = path.start_worker(known=KNOWN)
    for at in range(4):
        path.submit(at)
    await work(channel, fits=2)
    await asyncio.sleep(HOLD_S)
    for at in range(100):
        path.submit(at)
        await work(channel, fits=32)
    before = len(channel.given)
    for at in range(32):
        path.submit(at)
    await work(channel, fits=32)
    assert sizes(channel)[before] == 4
    path.close()


async def test_one_row_that_does_not_fit_gets_a_new_session_then_a_new_worker_then_the_error():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(1)
    await work(channel, fits=0)
    assert (steps(path), channel.rebuilds) == (["again", "rebuild", "restart"], 1)
    assert [each for each, _ in path.restarts] == [channel]
    assert only.client.ends == 0
    path.lose_worker()
    channel = path.start_worker(known=KNOWN)
    await work(channel, fits=0)
    assert type(only.client.error) is OutOfMemory
    assert steps(path)[-1] == "refuse"
    path.close()


async def test_a_new_session_that_helps_ends_the_matter():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(1)
    for _ in range(2):
        await tick()
        channel.fail("bad allocation", is_memory=True)
    await work(channel, fits=32)
    assert (only.client.rows, channel.rebuilds, path.restarts) == ([2], 1, [])
    path.close()


async def test_a_session_that_cannot_be_opened_anew_costs_its_worker_and_no_request():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(1)
    await work(channel, fits=0, rebuilds_well=False)
    assert len(path.restarts) == 1
    path.lose_worker()
    await work(path.start_worker(known=KNOWN), fits=32)
    assert only.client.rows == [2]
    path.close()


async def test_what_may_not_be_run_again_hears_of_it_and_the_next_batches_are_smaller_all_the_same():
    path = make(is_idempotent=False)
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(at) for at in range(8)]
    await work(channel, fits=4)
    assert [type(each.client.error) for each in tickets] == [OutOfMemory] * 8
    tickets = [path.submit(at) for at in range(8)]
    await work(channel, fits=4)
    assert [each.client.ends for each in tickets] == [1] * 8
    assert all(each.client.rows for each in tickets)
    path.close()


async def test_deadlines_hold_while_a_session_is_rebuilt():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(1, within=1.0)
    for _ in range(2):
        await tick()
        channel.fail("bad allocation", is_memory=True)
    await tick()
    assert channel.is_rebuild_next
    await asyncio.sleep(1.1)
    assert type(only.client.error) is RequestTimeout
    assert path.pipeline.snapshot().waiting == 0
    path.close()


async def test_who_leaves_meanwhile_is_not_run_again():
    path = make()
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(at) for at in range(4)]
    await tick()
    path.pipeline.drop(tickets[0])
    await work(channel, fits=2)
    assert channel.given == [[0, 1, 2, 3], [1, 2], [3]]
    path.close()


async def test_nobody_is_taken_for_a_culprit_and_no_breaker_counts_what_was_helped():
    path = make(golden=True)
    channel = path.start_worker(known=KNOWN)
    for _ in range(8):
        only = path.submit(7)
        await tick()
        channel.fail("bad allocation", is_memory=True)
        await work(channel, fits=32)
        assert only.client.rows == [14]
        await asyncio.sleep(HOLD_S + 1)
    assert channel.golden_runs == 0
    assert not [each for each in path.events if isinstance(each, BreakerChanged)]
    path.close()


async def test_the_breaker_opens_where_nothing_helps():
    path = make()
    channel = path.start_worker(known=KNOWN)
    heard = []
    for _ in range(20):
        only = path.submit(1)
        await work(channel, fits=0)
        if path.restarts:
            path.restarts.clear()
            path.lose_worker()
            channel = path.start_worker(known=KNOWN)
            await work(channel, fits=0)
        heard.append(type(only.client.error))
    assert heard[0] is OutOfMemory
    assert heard[-1] is CircuitOpen
    path.close()


async def test_golden_inputs_that_do_not_fit_end_a_trial_once_nothing_has_helped():
    path = make(golden=True)
    channel = path.start_worker(known=KNOWN)
    only = path.submit(1)
    await tick()
    channel.fail("told to fail")
    await tick()
    channel.fail("told to fail")
    await work(channel, fits=0, golden_fits=False)
    path.lose_worker()
    await work(path.start_worker(known=KNOWN), fits=0, golden_fits=False)
    assert only.client.ends == 1
    path.close()


async def test_a_worker_that_the_kernel_ended_for_its_memory_was_given_too_large_a_batch():
    path = make()
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(at) for at in range(8)]
    await tick()
    path.lose_worker(is_memory=True)
    channel = path.start_worker(known=KNOWN)
    await work(channel, fits=4)
    assert [each.client.rows for each in tickets] == [[2 * at] for at in range(8)]
    assert sizes(channel) == [4, 4]
    path.close()


async def test_longer_rows_are_capped_as_well_and_shorter_ones_are_not():
    path = make()
    channel = path.start_worker(known={WIDTH: {1: 0.01, 32: 0.01}, 16 * WIDTH: {1: 0.01, 32: 0.01}})
    for at in range(4):
        path.submit(at)
    await work(channel, fits=2)
    assert path.pipeline._relief.most(16 * WIDTH, 32) == 2
    assert path.pipeline._relief.most(WIDTH // 2, 32) == 32
    path.close()


async def test_what_waits_is_refused_with_everything_else_when_the_version_goes():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(1, group=Group(WIDTH))
    for _ in range(2):
        await tick()
        channel.fail("bad allocation", is_memory=True)
    await tick()
    path.close()
    assert only.client.ends == 1
