import asyncio

import numpy as np
import pytest
from fakes import WIDTH, Path, model, tensor
from msgspec.structs import replace

from headrace.batching.ticket import State
from headrace.errors import (
    InferenceFailed,
    InvalidItem,
    InvalidRequest,
    NotReady,
    QueueFull,
    RequestTimeout,
    ServerExiting,
    TookTooLong,
    WorkerLost,
)
from headrace.events import BatchDone, RequestsDropped, RequestsFailed

SLOW, QUICK = {WIDTH: {1: 0.5, 2: 0.5}}, {WIDTH: {1: 0.0001}}
"""Profiles of models: runs of half a second, or too short to wait for."""


async def tick():
    """Let everything happen that is due now."""
    for _ in range(3):
        await asyncio.sleep(0)


def rows_of(*tickets):
    return [each.client.rows for each in tickets]


def errors_of(*tickets):
    return [type(each.client.error) for each in tickets]


async def test_a_request_comes_back_doubled(path):
    channel = path.start_worker()
    only = path.submit(21, rows=2)
    await tick()
    channel.finish()
    assert (only.client.rows, only.client.ends) == ([42, 42], 1)


async def test_what_one_tick_brings_travels_together(path):
    channel = path.start_worker()
    first, second = path.submit(1), path.submit(2)
    await tick()
    channel.finish()
    assert channel.given == [[1, 2]]
    assert rows_of(first, second) == [[2], [4]]


async def test_batches_form_from_what_waits_while_one_runs(path):
    channel = path.start_worker(known=SLOW)
    path.submit(1)
    await tick()
    for value in (2, 3):
        path.submit(value)
        await asyncio.sleep(0.1)
    channel.finish()
    assert channel.given == [[1], [2, 3]]


async def test_a_batch_takes_no_more_than_the_cap(path):
    channel = path.start_worker()
    for value in range(6):
        path.submit(value)
    await tick()
    channel.finish()
    assert channel.given == [[0, 1, 2, 3], [4, 5]]


async def test_behind_a_long_run_only_a_full_batch_is_staged(path):
    channel = path.start_worker(known={WIDTH: {1: 0.5, 4: 0.5}})
    path.submit(0)
    await tick()
    for value in range(1, 5):
        assert len(channel.given) == 1
        path.submit(value)
        await tick()
    assert channel.given == [[0], [1, 2, 3, 4]]


async def test_behind_a_short_run_whatever_waits_is_staged(path):
    channel = path.start_worker(known={WIDTH: {1: 0.001, 4: 0.001}})
    for value in (1, 2, 3):
        path.submit(value)
        await tick()
    assert channel.given == [[1], [2]]  # the third waits for a credit
    channel.finish()
    assert channel.given == [[1], [2], [3]]


async def test_behind_a_very_short_run_a_bigger_batch_is_waited_for(path):
    channel = path.start_worker(known={WIDTH: {1: 0.0001, 4: 0.0001}})
    for value in (1, 2, 3):
        path.submit(value)
        await tick()
    assert channel.given == [[1]]
    channel.finish()
    assert channel.given == [[1], [2, 3]]


async def test_idle_instances_are_served_before_a_second_batch_is_staged(path):
    first = path.start_worker(instances=2, known=QUICK)
    for value in (1, 2):
        path.submit(value)
        await tick()
    assert [first.given, path.channels[1].given] == [[[1]], [[2]]]


async def test_the_earliest_deadline_runs_first(path):
    channel = path.start_worker(known=SLOW)
    path.submit(0)
    await tick()
    for value, within in ((1, 9), (2, 3), (3, 6)):
        path.submit(value, rows=4, within=within)
    while channel.in_flight():
        channel.finish()
    assert [each[0] for each in channel.given] == [0, 2, 3, 1]


async def test_expired_tickets_are_answered_on_time_and_never_run(path):
    late = path.submit(1, within=2)
    await asyncio.sleep(1.99)
    assert late.client.error is None
    await asyncio.sleep(0.02)
    assert errors_of(late) == [RequestTimeout]
    channel = path.start_worker()
    await tick()
    assert channel.given == []
    assert path.pipeline.snapshot().waiting == 0


async def test_each_ticket_expires_by_its_own_deadline(path):
    tickets = [path.submit(within=within) for within in (3, 1, 2)]
    expired = []
    for _ in range(3):
        await asyncio.sleep(1.001)
        expired.append([each.client.error is not None for each in tickets])
    assert expired == [[False, True, False], [False, True, True], [True, True, True]]


async def test_a_waiting_ticket_whose_client_has_gone_is_dropped(path):
    gone, stays = path.submit(1), path.submit(2)
    path.pipeline.drop(gone)
    channel = path.start_worker()
    channel.finish()
    assert channel.given == [[2]]
    assert (gone.client.ends, stays.client.rows) == (0, [4])
    assert path.events[0] == RequestsDropped("m", "1", 1)


async def test_a_running_ticket_whose_client_has_gone_gets_no_answer_and_its_neighbour_does(path):
    channel = path.start_worker()
    gone, stays = path.submit(1), path.submit(2)
    await tick()
    path.pipeline.drop(gone)
    channel.finish()
    assert (gone.client.ends, stays.client.rows) == (0, [4])


async def test_a_full_queue_refuses_at_once():
    path = Path(asyncio.get_running_loop().time, max_queue_bytes=16)
    first, second, third = path.submit(), path.submit(), path.submit()
    assert (first.state, second.state) == (State.WAITING, State.WAITING)
    assert errors_of(third) == [QueueFull]
    assert isinstance(path.events[0], RequestsFailed)
    path.close()


async def test_a_failing_batch_is_retried_one_by_one_so_that_only_the_culprit_gets_the_error(path):
    channel = path.start_worker()
    before, culprit, after = (path.submit(value) for value in (1, 13, 3))
    await tick()
    channel.fail()
    await tick()
    while channel.in_flight():
        if channel.given[-len(channel.in_flight())] == [13]:
            channel.fail("thirteen")
        else:
            channel.finish()
        await tick()
    assert sorted(channel.given[1:]) == [[1], [3], [13]]
    assert rows_of(before, culprit, after) == [[2], None, [6]]
    assert errors_of(culprit) == [InferenceFailed]
    assert str(culprit.client.error) == "thirteen"


async def test_a_row_that_fails_costs_its_own_request_and_nobody_is_run_again(path):
    channel = path.start_worker()
    before, culprit, after = path.submit(1), path.submit(13, rows=2), path.submit(3)
    await tick()
    channel.finish(errors=[(2, "thirteen", True)])
    await tick()
    assert rows_of(before, culprit, after) == [[2], None, [6]]
    assert (errors_of(culprit), str(culprit.client.error)) == ([InvalidItem], "row 1: thirteen")
    assert len(channel.given) == 1
    (failed,) = (each for each in path.events if isinstance(each, RequestsFailed))
    (done,) = (each for each in path.events if isinstance(each, BatchDone))
    assert (done.rows, len(done.latencies), len(done.queue_waits)) == (4, 2, 2)
    assert (failed.reason, len(failed.waits)) == ("invalid_item", 1)


async def test_rows_that_fail_teach_how_long_a_run_takes(path):
    channel = path.start_worker()
    path.submit(13)
    await tick()
    channel.finish(seconds=0.5, errors=[(0, "thirteen", False)])
    assert path.pipeline.latency.predict(WIDTH, 1) == pytest.approx(0.5)


async def test_a_row_that_nobody_sent_fails_the_batch_and_each_is_tried_alone(path):
    channel = path.start_worker()
    both = [path.submit(1), path.submit(2)]
    await tick()
    channel.finish(errors=[(2, "whose?", True)])
    await tick()
    while channel.in_flight():
        channel.finish()
        await tick()
    assert rows_of(*both) == [[2], [4]]


async def test_a_request_that_failed_alone_is_not_run_again(path):
    channel = path.start_worker()
    only = path.submit(13, rows=3)
    await tick()
    channel.fail()
    await tick()
    assert (errors_of(only), len(channel.given)) == ([InferenceFailed], 1)


async def test_a_batch_that_cannot_be_laid_out_is_tried_one_by_one():
    spec = model(tensor("x", shape=(-1, -1, -1), batch_axis=1))
    path = Path(asyncio.get_running_loop().time, spec=spec)
    channel = path.start_worker()
    huge = {
        "shapes": ((0, 1, 2**60),),
        "tensors": (b"",),
        "nbytes": 0,
    }  # two of them are more than numpy can think of
    both = [path.submit(**huge), path.submit(**huge)]
    await tick()
    while channel.in_flight():
        channel.finish()
        await tick()
    assert [each.client.ends for each in both] == [1, 1]
    path.close()


async def test_outputs_that_are_not_as_declared_are_an_error_and_not_silence(path):
    channel = path.start_worker()
    both = [path.submit(1), path.submit(2)]
    await tick()
    while channel.in_flight():
        channel.finish(dtype=np.dtype("<f8"))
        await tick()
    assert errors_of(*both) == [InferenceFailed] * 2
    assert "declare" in str(both[0].client.error)


async def test_what_the_runtime_calls_bad_input_is_the_senders_to_change(path):
    channel = path.start_worker()
    only = path.submit()
    await tick()
    channel.fail("index out of range", is_input=True)
    assert errors_of(only) == [InvalidRequest]


async def test_a_lost_workers_tickets_are_retried_by_the_next_one(path):
    path.start_worker()
    running, other = path.submit(1), path.submit(2)
    await tick()
    path.lose_worker()
    waiting = path.submit(3)
    channel = path.start_worker()
    await tick()
    while channel.in_flight():
        channel.finish()
        await tick()
    assert rows_of(running, other, waiting) == [[2], [4], [6]]
    assert [1] in channel.given
    assert [2] in channel.given  # each alone


async def test_what_a_lost_worker_had_not_begun_just_waits_again(path):
    path.start_worker(known=QUICK)
    path.submit(1)
    await tick()
    staged = path.submit(2)
    await tick()
    path.lose_worker()
    assert (staged.state, staged.is_retry) == (State.WAITING, False)


async def test_one_worker_of_several_takes_only_its_own_batch_along(path):
    first = path.start_worker(known=SLOW)
    second = path.add_worker()
    lost = path.submit(1)
    await tick()
    other = path.submit(2)
    await tick()
    path.lose_one(first)
    assert (lost.is_retry, second.given) == (True, [[2]])
    second.finish()
    await tick()
    second.finish()
    assert rows_of(lost, other) == [[2], [4]]


async def test_a_suspect_goes_on_when_another_worker_is_lost(path):
    path.start_worker()
    suspect = path.submit(1)
    await tick()
    path.lose_worker()
    first = path.start_worker(known=SLOW)
    second = path.add_worker()
    await tick()
    path.submit(2)
    path.lose_one(second)
    await tick()
    assert path.pipeline.is_trying_suspect
    assert first.given == [[1]]
    first.finish()
    assert suspect.client.rows == [2]
    assert not path.pipeline.is_trying_suspect


async def test_a_worker_that_joins_serves_what_waits(path):
    path.start_worker(known=SLOW)
    path.submit(1)
    await tick()
    path.submit(2)
    await tick()
    assert path.add_worker().given == [[2]]


async def test_a_suspect_runs_with_nobody_beside_it(path):
    path.start_worker()
    suspect = path.submit(1, within=1)
    await tick()
    path.lose_worker()
    first = path.start_worker(instances=2)
    path.submit(2)
    await tick()
    assert [each.given for each in path.channels] == [[[1]], []]
    first.finish()
    await tick()
    assert suspect.client.rows == [2]
    assert sum(len(each.given) for each in path.channels) == 2


async def test_tickets_that_lose_two_workers_are_answered(path):
    path.start_worker()
    culprit = path.submit(13)
    await tick()
    path.lose_worker()
    path.start_worker()
    await tick()
    path.lose_worker()
    assert errors_of(culprit) == [WorkerLost]
    assert path.pipeline.snapshot().waiting == 0


async def test_a_retry_keeps_its_deadline(path):
    path.start_worker()
    running = path.submit(1, within=2)
    await tick()
    path.lose_worker()
    await asyncio.sleep(2.01)
    assert errors_of(running) == [RequestTimeout]


async def test_everything_that_waits_can_be_refused(path):
    waiting = [path.submit() for _ in range(3)]
    path.pipeline.refuse_all(NotReady("m", "1", "told so"))
    assert errors_of(*waiting) == [NotReady] * 3
    path.pipeline.refuse_all(ServerExiting())
    assert [each.client.ends for each in waiting] == [1] * 3


async def test_after_a_change_of_spec_what_waits_travels_alone(path):
    first, second = path.submit(1), path.submit(2)
    path.pipeline.respec(path.spec)
    channel = path.start_worker(known=SLOW)
    while channel.in_flight():
        channel.finish()
    assert channel.given == [[1], [2]]
    assert rows_of(first, second) == [[2], [4]]


async def test_a_model_whose_rows_are_not_independent_runs_one_request_at_a_time():
    path = Path(asyncio.get_running_loop().time, spec=model(joins_requests=False))
    channel = path.start_worker()
    path.submit(1)
    path.submit(2, rows=2)
    await tick()
    assert channel.given == [[1], [2, 2]]
    path.close()


async def test_a_batch_is_reported_once_with_the_times_of_its_requests(path):
    channel = path.start_worker(known=SLOW)
    path.submit(1)
    await asyncio.sleep(0.3)
    path.submit(2)
    await asyncio.sleep(0.2)
    channel.finish(seconds=0.5)
    await asyncio.sleep(0.5)
    channel.finish(seconds=0.5)
    first, second = (event for event in path.events if isinstance(event, BatchDone))
    assert (first.rows, first.compute, second.compute) == (1, pytest.approx(0.5), pytest.approx(0.5))
    assert first.latencies == [pytest.approx(0.5)]
    assert second.latencies == [pytest.approx(0.7)]
    assert second.queue_waits == [pytest.approx(0.2)]


async def test_the_watchdog_sees_how_old_the_oldest_run_is(path):
    channel = path.start_worker(known=SLOW)
    assert path.pipeline.oldest_run_s([channel]) is None
    path.submit()
    await asyncio.sleep(3)
    age_s, expected_s = path.pipeline.oldest_run_s([channel])
    assert age_s == pytest.approx(3)
    assert 0.5 <= expected_s < 1


async def test_a_snapshot_counts_what_waits_and_what_runs(path):
    path.start_worker(known=SLOW)
    path.submit()
    await tick()
    path.submit(rows=2)
    snapshot = path.pipeline.snapshot()
    assert (snapshot.waiting, snapshot.waiting_bytes, snapshot.running) == (1, 16, 1)


async def test_a_day_of_traffic_answers_everybody_in_time(path):
    """A request every ten seconds, runs of twenty: batches form, nobody waits longer than two runs."""
    channel = path.start_worker(known={WIDTH: {1: 20.0, 4: 20.0}})
    loop = asyncio.get_running_loop()

    def run() -> None:
        if channel.in_flight():
            channel.finish(seconds=20)
        loop.call_later(20, run)

    loop.call_later(20, run)
    tickets = []
    for _ in range(8640):
        tickets.append(path.submit(within=60))
        await asyncio.sleep(10)
    await asyncio.sleep(60)
    assert {each.state for each in tickets} == {State.ANSWERED}
    assert not any(each.client.error for each in tickets)


async def test_what_was_decoded_for_another_model_is_not_run_by_the_one_that_replaced_it(path):
    path.start_worker()
    running = path.submit(1)
    await tick()
    path.lose_worker()
    waiting = path.submit(2)
    path.spec = replace(path.spec, inputs=(replace(path.spec.inputs[0], name="renamed"),))
    path.start_worker()
    await tick()
    assert errors_of(running, waiting) == [NotReady, NotReady]


async def test_a_run_that_was_overdue_alone_is_not_tried_again(path):
    channel = path.start_worker()
    slow = path.submit(1)
    await tick()
    path.pipeline.detach([channel], is_overdue=True)
    again = path.start_worker()
    await tick()
    assert errors_of(slow) == [TookTooLong]
    assert again.given == []


async def test_those_that_were_overdue_together_are_each_tried_alone(path):
    channel = path.start_worker()
    first, second = path.submit(1), path.submit(2)
    await tick()
    path.pipeline.detach([channel], is_overdue=True)
    again = path.start_worker()
    await tick()
    again.finish()
    await tick()
    path.pipeline.detach([again], is_overdue=True)
    assert (rows_of(first), errors_of(second)) == ([[2]], [TookTooLong])


async def test_a_client_that_left_before_its_run_was_overdue_is_not_counted_as_failed(path):
    channel = path.start_worker()
    gone = path.submit(1)
    await tick()
    path.pipeline.drop(gone)
    path.pipeline.detach([channel], is_overdue=True)
    assert not [each for each in path.events if isinstance(each, RequestsFailed)]


async def test_what_waits_behind_a_run_for_upkeep_has_not_begun_when_the_worker_dies():
    path = Path(asyncio.get_running_loop().time, golden_cost=WIDTH)
    channel = path.start_worker(known={2: {1: 1e-4, 4: 1e-4}})
    path.pipeline.give_back()
    assert channel.golden_runs == 1
    waiting = [path.submit(value) for value in (1, 2, 3, 4)]
    await tick()
    assert channel.given == [[1, 2, 3, 4]]
    path.lose_worker(is_own_doing=True)
    again = path.start_worker(known={2: {1: 1e-4, 4: 1e-4}})
    await tick()
    assert again.given == [[1, 2, 3, 4]], "together, as who was never run"
    again.finish()
    await tick()
    assert rows_of(*waiting) == [[2], [4], [6], [8]]
    path.close()
