"""A pipeline and its guard in virtual time: who is at fault when a run fails, and when nothing is run at all."""

import asyncio

import pytest
from fakes import WIDTH, ClientTicket, Path, PuppetChannel, model

from headrace.admission.device import Device
from headrace.batching.latency import LatencyModel
from headrace.errors import (
    CircuitOpen,
    DeadlineInfeasible,
    InferenceFailed,
    InvalidOutput,
    InvalidRequest,
    NotReady,
    PoisonedRequest,
    RequestTimeout,
    WorkerLost,
)
from headrace.events import BreakerChanged
from headrace.faults.breaker import BreakerPolicy, BreakerState
from headrace.faults.guard import Trust
from headrace.faults.quarantine import QUARANTINE_S
from headrace.model_config import Fallback, FallbackStep, ModelConfig

POLICY = BreakerPolicy(jitter=0.0)
BAD = 13.0
KNOWN = {WIDTH: {1: 0.01, 4: 0.01}}


def make(*, is_idempotent: bool = True, golden: bool = True, max_rows: int = 4) -> Path:
    clock = asyncio.get_running_loop().time
    trust = Trust(POLICY, is_idempotent)
    spec = model(max_batch_size=32)
    return Path(clock, spec=spec, max_rows=max_rows, trust=trust, golden_cost=WIDTH if golden else None)


async def tick():
    """Let everything happen that is due now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def work(channel: PuppetChannel, *, fails=lambda rows: BAD in rows, golden_fails=False) -> None:
    """Run what the instance is given until it is idle; a batch fails where `fails` says so."""
    await tick()
    while channel.in_flight():
        if channel.is_golden_next:
            if golden_fails:
                channel.fail("golden inputs: told to fail")
            else:
                channel.finish_golden(0.001)
        elif fails(channel.next_rows):
            channel.fail("told to fail")
        else:
            channel.finish(0.001)
        await tick()


async def fail_alone(path: Path, channel: PuppetChannel, times: int) -> list[type]:
    """So many requests, one after the other, that fail together with the golden inputs; what they heard."""
    heard = []
    for _ in range(times):
        only = path.submit(1)
        await work(channel, fails=lambda _: True, golden_fails=True)
        heard.append(type(only.client.error))
    return heard


def states(path: Path) -> list[str]:
    return [each.state for each in path.events if isinstance(each, BreakerChanged)]


def state(path: Path) -> BreakerState:
    return path.pipeline.breaker.state(path.clock())


@pytest.mark.parametrize("size", [2, 3, 8, 32])
async def test_one_culprit_in_a_batch_is_found_in_few_runs_and_costs_nobody_an_answer(size):
    path = make(max_rows=size)
    channel = path.start_worker(known={WIDTH: {1: 0.01, size: 0.01}})
    tickets = [path.submit(BAD if at == size // 2 else 100 + at) for at in range(size)]
    await work(channel)
    culprit = tickets.pop(size // 2)
    assert type(culprit.client.error) is PoisonedRequest
    assert all(each.client.rows is not None for each in tickets)
    assert len(channel.given[0]) == size
    assert len(channel.given) - 1 <= 2 * (size - 1).bit_length()
    assert states(path) == []
    path.close()


async def test_a_culprit_is_not_run_again_for_a_minute():
    path = make()
    channel = path.start_worker(known=KNOWN)
    path.submit(BAD), path.submit(1)
    await work(channel)
    runs = len(channel.given)
    again, other = path.submit(BAD), path.submit(2)
    assert type(again.client.error) is PoisonedRequest
    await work(channel)
    assert (other.client.rows, len(channel.given)) == ([4], runs + 1)
    await asyncio.sleep(QUARANTINE_S)
    later = path.submit(BAD)
    await work(channel, fails=lambda _: False)
    assert later.client.rows == [2 * BAD]
    path.close()


async def test_who_fails_alone_twice_while_golden_inputs_go_well_is_the_culprit():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(BAD)
    await work(channel)
    assert type(only.client.error) is PoisonedRequest
    assert channel.given == [[BAD], [BAD]]
    assert channel.golden_runs == 1
    path.close()


async def test_who_gets_numbers_that_are_a_failure_is_not_kept_from_asking_again():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(BAD)
    await tick()
    for _ in range(2):
        channel.fail("output 'y' has NaN or an infinite number", is_output=True)
        await tick()
    channel.finish_golden()
    assert type(only.client.error) is InvalidOutput
    assert path.pipeline.breaker.snapshot(path.clock()).failed == 0
    again = path.submit(BAD)
    await work(channel, fails=lambda _: False)
    assert again.client.rows == [2 * BAD]
    path.close()


async def test_who_fails_once_and_not_again_gets_an_answer():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(1)
    await work(channel, fails=lambda _: len(channel.given) == 1)
    assert only.client.rows == [2]
    path.close()


async def test_where_golden_inputs_fail_too_it_is_the_variants_fault():
    path = make()
    channel = path.start_worker(known=KNOWN)
    assert await fail_alone(path, channel, 4) == [InferenceFailed] * 4
    assert path.pipeline.breaker.snapshot(path.clock()).failed == 4
    path.close()


async def test_a_model_that_does_nobody_any_good_is_at_fault_whatever_its_golden_inputs_say():
    path = make()
    channel = path.start_worker(known=KNOWN)
    heard = []
    for value in range(12):
        only = path.submit(value)
        await work(channel, fails=lambda _: True)
        heard.append(type(only.client.error))
    assert heard == [PoisonedRequest] * 5 + [InferenceFailed] * 5 + [CircuitOpen] * 2
    path.close()


async def test_what_the_runtime_calls_bad_input_is_no_fault_of_the_variant():
    path = make()
    channel = path.start_worker(known=KNOWN)
    for _ in range(8):
        only = path.submit(1)
        await tick()
        channel.fail("index out of range", is_input=True)
        assert type(only.client.error) is InvalidRequest
    assert (states(path), len(channel.given)) == ([], 8)
    path.close()


async def test_two_bad_requests_of_one_sender_open_no_breaker_while_golden_inputs_go_well():
    path = make()
    channel = path.start_worker(known=KNOWN)
    for value in range(5):
        both = [path.submit(BAD + value), path.submit(BAD + value)]
        await work(channel, fails=lambda _: True)
        assert [type(each.client.error) for each in both] == [InferenceFailed] * 2
    assert path.pipeline.breaker.snapshot(path.clock()).failed == 0
    path.submit(BAD), path.submit(BAD)
    await work(channel, fails=lambda _: True)
    assert path.pipeline.breaker.snapshot(path.clock()).failed == 1
    path.close()


async def test_rows_that_fail_by_themselves_open_no_breaker_while_golden_inputs_go_well():
    path = make()
    channel = path.start_worker(known=KNOWN)
    for golden_runs in range(1, 6):
        only = path.submit(BAD)
        await tick()
        channel.finish(errors=[(0, "thirteen", False)])
        await work(channel)
        assert (type(only.client.error), channel.golden_runs) == (InferenceFailed, golden_runs)
    assert path.pipeline.breaker.snapshot(path.clock()).failed == 0
    path.close()


async def test_the_variant_is_not_charged_where_the_culprit_may_have_left():
    path = make()
    channel = path.start_worker(known=KNOWN)
    culprit, other = path.submit(BAD), path.submit(1)
    await tick()
    path.pipeline.drop(culprit)
    await work(channel, fails=lambda rows: len(rows) == 2)
    assert other.client.rows == [2]
    assert path.pipeline.breaker.snapshot(path.clock()).failed == 0
    path.close()


async def test_a_batch_in_which_everybody_fails_is_one_failure():
    path = make()
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(value) for value in range(4)]
    await work(channel, fails=lambda _: True, golden_fails=True)
    assert [type(each.client.error) for each in tickets] == [InferenceFailed] * 4
    assert path.pipeline.breaker.snapshot(path.clock()).failed == 1
    path.close()


async def test_an_open_breaker_refuses_and_closes_after_golden_runs_without_a_user_paying():
    path = make()
    channel = path.start_worker(known=KNOWN)
    await fail_alone(path, channel, 5)
    runs, goldens = len(channel.given), channel.golden_runs
    refused = path.submit(1)
    assert type(refused.client.error) is CircuitOpen
    assert 0 < refused.client.error.retry_after_s <= POLICY.reset_s
    await asyncio.sleep(POLICY.reset_s + 0.01)
    waiting = path.submit(2)
    await tick()
    assert len(channel.given) == runs
    await work(channel)
    assert waiting.client.rows == [4]
    assert channel.golden_runs - goldens == POLICY.trials
    assert states(path) == ["open", "half_open", "closed"]
    path.close()


async def test_while_golden_inputs_fail_it_stays_open_for_longer_and_longer():
    path = make()
    channel = path.start_worker(known=KNOWN)
    await fail_alone(path, channel, 5)
    began = path.clock()
    lengths = []
    while len(lengths) < 4:
        await asyncio.sleep(0.01)
        if channel.in_flight():
            lengths.append(round(path.clock() - began))
            began = path.clock()
            await work(channel, golden_fails=True)
    assert lengths == [1, 2, 4, 8]
    path.close()


async def test_without_golden_inputs_users_try_it_one_batch_at_a_time():
    path = make(golden=False)
    channel = path.start_worker(known=KNOWN)
    path.add_worker()
    for _ in range(5):
        path.submit(1)
        await work(channel, fails=lambda _: True)
    assert state(path) is BreakerState.OPEN
    await asyncio.sleep(POLICY.reset_s + 0.01)
    tickets = [path.submit(value) for value in range(4)]
    await tick()
    assert sum(len(each.in_flight()) for each in path.channels) == 1
    for _ in range(8):
        for each in path.channels:
            if each.in_flight():
                each.finish(0.001)
        await tick()
    assert [each.client.rows for each in tickets] == [[0], [2], [4], [6]]
    assert state(path) is BreakerState.CLOSED
    path.close()


async def test_what_opens_it_when_a_worker_ends_on_trial_is_said_once():
    path = make()
    channel = path.start_worker(known=KNOWN)
    await fail_alone(path, channel, 5)
    await asyncio.sleep(POLICY.reset_s + 0.01)
    assert channel.is_golden_next
    path.lose_worker()
    assert path.pipeline.breaker.snapshot(path.clock()).reason == "on trial its worker ended"
    path.close()


async def test_closed_again_it_is_given_little_first():
    path = make()
    path.start_worker(known=KNOWN)
    path.lose_worker()
    channel = path.start_worker(known=KNOWN)
    for value in range(9):
        path.submit(value)
    await work(channel)
    sizes = [len(each) for each in channel.given]
    assert (sizes[0], max(sizes), sum(sizes)) == (1, 4, 9)
    path.close()


async def test_what_must_not_be_run_twice_is_not():
    path = make(is_idempotent=False)
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(BAD), path.submit(1)]
    await work(channel)
    assert [type(each.client.error) for each in tickets] == [InferenceFailed] * 2
    assert len(channel.given) == 1
    lost = path.submit(2)
    await tick()
    path.lose_worker()
    assert type(lost.client.error) is WorkerLost
    path.close()


async def test_what_must_not_be_run_twice_is_not_though_nobody_can_tell_whose_the_rows_are():
    path = make(is_idempotent=False)
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(1), path.submit(2)]
    await tick()
    channel.finish(lost_rows=1)
    await work(channel)
    assert [type(each.client.error) for each in tickets] == [InferenceFailed] * 2
    assert channel.given == [[1, 2]]
    path.close()


async def test_what_must_not_be_run_twice_is_not_where_nobody_is_looked_into():
    path = Path(asyncio.get_running_loop().time, trust=Trust(None, is_idempotent=False))
    channel = path.start_worker(known=KNOWN)
    tickets = [path.submit(BAD), path.submit(1)]
    await work(channel)
    assert [type(each.client.error) for each in tickets] == [InferenceFailed] * 2
    assert len(channel.given) == 1
    path.close()


async def test_who_waits_for_a_run_that_hangs_is_answered_at_the_deadline():
    path = make()
    channel = path.start_worker(known=KNOWN)
    impatient, patient = path.submit(1, within=0.5), path.submit(2, within=5.0)
    await asyncio.sleep(0.45)
    assert impatient.client.ends == 0
    await asyncio.sleep(0.1)
    assert type(impatient.client.error) is RequestTimeout
    channel.finish(0.6)
    assert (impatient.client.ends, patient.client.rows) == (1, [4])
    path.close()


async def test_who_comes_while_a_run_hangs_is_refused_as_soon_as_it_is_clear_that_it_takes_long():
    path = make()
    path.start_worker(known=KNOWN)
    path.submit(1)
    await asyncio.sleep(0.03)
    soon = path.submit(2, within=0.5)
    await asyncio.sleep(0.27)
    early, late = path.submit(3, within=1.0), path.submit(4, within=0.2)
    assert (soon.client.ends, early.client.ends) == (0, 0)
    assert type(late.client.error) is DeadlineInfeasible
    path.close()


async def test_who_waits_behind_a_run_that_hangs_goes_elsewhere_while_that_is_in_time():
    chain = Fallback(("deadline",), (FallbackStep(variant="small"),))
    path = Path(asyncio.get_running_loop().time, config=ModelConfig(fallback=chain))
    path.start_worker(known=KNOWN)
    path.submit(1)
    await asyncio.sleep(0.03)
    waiting = path.submit(2, within=1.0)
    await asyncio.sleep(0.9)
    assert type(waiting.client.error) is DeadlineInfeasible
    path.close()


async def test_a_run_that_is_only_a_little_late_is_worth_its_answer():
    path = make()
    channel = path.start_worker(known={WIDTH: {1: 0.5, 4: 0.5}})
    only = path.submit(1, within=0.6)
    await asyncio.sleep(0.7)
    channel.finish(0.7)
    assert only.client.rows == [2]
    path.close()


async def test_while_a_worker_is_started_again_requests_wait_as_far_as_that_is_in_time():
    path = make()
    await asyncio.sleep(1.0)  # so long does it take to come
    path.start_worker(known=KNOWN)
    path.lose_worker()
    assert state(path) is BreakerState.OPEN
    impatient, patient = path.submit(1, within=0.5), path.submit(2, within=3.0)
    assert type(impatient.client.error) is NotReady
    assert patient.client.ends == 0
    await asyncio.sleep(1.0)
    channel = path.start_worker(known=KNOWN)
    await work(channel)
    assert patient.client.rows == [4]
    assert states(path) == ["open", "closed"]
    path.close()


async def test_a_worker_that_does_not_come_back_is_not_waited_for():
    path = make()
    await asyncio.sleep(0.5)
    path.start_worker(known=KNOWN)
    path.lose_worker()
    await asyncio.sleep(4.0)
    only = path.submit(1, within=60)
    assert type(only.client.error) is NotReady
    path.close()


async def test_runs_that_become_slow_open_it_until_that_is_how_fast_it_is():
    path = make()
    channel = path.start_worker(known=KNOWN)
    heard = []
    for _ in range(400):
        only = path.submit(1)
        await tick()
        while channel.in_flight():
            await asyncio.sleep(0.3)
            if channel.is_golden_next:
                channel.finish_golden(0.3)
            else:
                channel.finish(0.3)
            await tick()
        heard.append(only.client.error)
        await asyncio.sleep(0.05)
    assert states(path)[:2] == ["open", "half_open"]
    assert any(isinstance(each, CircuitOpen) for each in heard)
    assert state(path) is BreakerState.CLOSED
    assert heard[-20:] == [None] * 20
    assert path.pipeline.latency.predict(WIDTH, 1) == pytest.approx(0.3)
    path.close()


async def test_forced_open_nothing_is_run_and_forced_closed_everything_is():
    path = make()
    channel = path.start_worker(known=KNOWN)
    path.pipeline.force_breaker(BreakerState.FORCED_OPEN)
    refused = path.submit(1)
    assert type(refused.client.error) is CircuitOpen
    path.pipeline.force_breaker(BreakerState.FORCED_CLOSED)
    assert await fail_alone(path, channel, 8) == [InferenceFailed] * 8
    path.pipeline.force_breaker(None)
    served = path.submit(2)
    await work(channel)
    assert served.client.rows == [4]
    assert states(path) == ["forced_open", "forced_closed", "closed"]
    path.close()


async def test_whoever_made_a_worker_crash_twice_alone_is_not_run_again():
    path = make()
    path.start_worker(known=KNOWN)
    culprit = path.submit(BAD)
    await tick()
    path.lose_worker(is_own_doing=True)
    path.start_worker(known=KNOWN)
    await tick()
    path.lose_worker(is_own_doing=True)
    assert type(culprit.client.error) is WorkerLost
    path.start_worker(known=KNOWN)
    assert type(path.submit(BAD).client.error) is PoisonedRequest
    path.close()


async def looked_into(path: Path, *, within: float) -> list[ClientTicket]:
    """Four requests whose run has failed: two of them are run again, two wait for that."""
    tickets = [path.submit(value, within=within) for value in (BAD, 1, 2, 3)]
    await tick()
    path.channels[0].fail()
    await tick()
    assert path.channels[0].given == [[BAD, 1, 2, 3], [BAD, 1]]
    return tickets


async def test_who_waits_for_what_is_looked_into_is_answered_at_the_deadline_though_the_run_before_hangs():
    path = make()
    path.start_worker(known=KNOWN)
    tickets = await looked_into(path, within=2.0)
    await asyncio.sleep(2.1)
    assert [type(each.client.error) for each in tickets] == [RequestTimeout] * 4
    path.close()


async def test_who_waits_for_what_is_looked_into_is_answered_at_the_deadline_though_no_worker_comes():
    path = make()
    path.start_worker(known=KNOWN)
    tickets = await looked_into(path, within=2.0)
    path.lose_worker()
    await asyncio.sleep(2.1)
    assert [type(each.client.error) for each in tickets] == [RequestTimeout] * 4
    assert path.pipeline.snapshot().waiting == 0
    path.close()


async def test_who_waits_for_golden_inputs_is_answered_at_the_deadline():
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(BAD, within=2.0)
    for _ in range(2):
        await tick()
        channel.fail()
    await asyncio.sleep(2.1)
    assert channel.is_golden_next
    assert type(only.client.error) is RequestTimeout
    path.close()


async def test_when_a_model_is_given_up_whoever_is_looked_into_hears_it_too():
    path = make()
    path.start_worker(known=KNOWN)
    tickets = await looked_into(path, within=60.0)
    path.lose_worker()
    path.pipeline.refuse_all(NotReady("m", "1", "it died too often"))
    assert [type(each.client.error) for each in tickets] == [NotReady] * 4
    assert path.pipeline.snapshot().waiting == 0
    path.close()


async def test_who_has_left_while_it_was_looked_into_is_not_waited_for():
    path = make()
    path.start_worker(known=KNOWN)
    tickets = await looked_into(path, within=60.0)
    path.lose_worker()
    for each in tickets:
        path.pipeline.drop(each)
    assert path.pipeline.snapshot().waiting == 0
    path.close()


async def test_golden_inputs_that_fail_for_two_at_once_open_the_breaker_once():
    path = make(max_rows=1)
    channel = path.start_worker(known=KNOWN)
    await fail_alone(path, channel, 4)
    other = path.add_worker()
    tickets = [path.submit(1), path.submit(2)]
    await tick()
    channel.fail(), other.fail()
    await tick()
    channel.fail()
    await tick()
    other.fail()
    assert channel.is_golden_next
    channel.fail("golden inputs: told to fail")
    await tick()
    assert [type(each.client.error) for each in tickets] == [InferenceFailed, CircuitOpen]
    assert states(path) == ["open"]
    path.close()


async def test_who_waits_for_golden_inputs_is_answered_though_the_next_worker_has_none():
    path = make(max_rows=1)
    channel = path.start_worker(known=KNOWN)
    only = path.submit(BAD, within=60.0)
    await tick()
    channel.fail()
    await tick()
    other = path.submit(1)
    channel.fail()
    assert channel.next_rows == [1]
    path.lose_worker()
    successor = PuppetChannel(path.pipeline.dispatch, path.clock)
    path.channels.append(successor)
    path.pipeline.attach([successor], path.spec, LatencyModel(KNOWN), golden_cost=None)
    await work(successor)
    assert (type(only.client.error), other.client.rows) == (InferenceFailed, [2])
    path.close()


@pytest.mark.parametrize(("is_excused", "heard"), [(True, PoisonedRequest), (False, InferenceFailed)])
async def test_golden_inputs_lost_to_what_another_model_did_in_the_process_are_run_again(is_excused, heard):
    path = make()
    channel = path.start_worker(known=KNOWN)
    only = path.submit(BAD, within=60.0)
    for _ in range(2):
        await tick()
        channel.fail()
    await tick()
    assert channel.is_golden_next
    path.lose_worker(is_excused=is_excused)
    await work(path.start_worker(known=KNOWN))
    assert type(only.client.error) is heard
    path.close()


@pytest.mark.parametrize("how", ["its client left", "its sender has to change it"])
async def test_a_trial_that_says_nothing_of_the_variant_is_followed_by_the_next(how):
    path = make(golden=False)
    channel = path.start_worker(known=KNOWN)
    for _ in range(5):
        path.submit(1)
        await work(channel, fails=lambda _: True)
    await asyncio.sleep(POLICY.reset_s + 0.01)
    first, *others = [path.submit(value) for value in range(4)]
    await tick()
    if how == "its client left":
        path.pipeline.drop(first)
    channel.fail(is_input=how != "its client left")
    await work(channel)
    assert [each.client.rows for each in others] == [[2], [4], [6]]
    path.close()


async def test_a_model_whose_runs_take_long_and_fail_is_charged_for_them_beside_another():
    clock = asyncio.get_running_loop().time
    device = Device(1, clock)
    failing, good = [Path(clock, max_rows=1, device=device) for _ in range(2)]
    for path in (failing, good):
        path.start_worker(known={WIDTH: {1: 0.05}})
        for value in range(12):
            path.submit(value, within=60.0)
    for _ in range(16):
        await tick()
        if failing.channels[0].in_flight():
            await asyncio.sleep(0.14)
            failing.channels[0].fail()
        else:
            await asyncio.sleep(0.05)
            good.channels[0].finish(0.05)
    assert len(good.channels[0].begun) > 2 * len(failing.channels[0].begun)
    failing.close(), good.close()
