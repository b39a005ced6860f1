"""Two models that share cores: runs that overlap there take as much longer as they would on a machine."""

import asyncio

import pytest
from fakes import WIDTH
from traffic import Cores, Source, capacity, goodput, linear, percentile, run

from headrace.admission.device import Device
from headrace.errors import NotReady
from headrace.model_config import ModelConfig

pytestmark = pytest.mark.looptime(noop_cycles=0)

LONG, MIDDLE = linear(5, 0.5), linear(2, 0.2)
SECONDS, SINCE = 3, 0.5


class Machine:
    """One core, and a device token for it or none."""

    def __init__(self, serve, *, has_token=True):
        self._serve = serve
        self._device = Device(1, asyncio.get_running_loop().time) if has_token else None
        self._cores = Cores(1)

    def serve(self, law, **more):
        return self._serve(law, device=self._device, cores=self._cores, noise=0.05, **more)


def part(served):
    """Of the device's time."""
    return served.busy_s(SINCE, SECONDS) / (SECONDS - SINCE)


def stretch(served):
    """Seconds of its runs, over what they would have taken alone."""
    runs = [run for run in served.runs if run.began > SINCE]
    return sum(run.seconds for run in runs) / sum(served.law(WIDTH, run.rows) for run in runs)


async def offer(*loads):
    """Each of the models gets so many times what it could serve alone, with a deadline."""
    return await asyncio.gather(
        *(
            run(served, [Source("any", load * capacity(served.law), within_s)], SECONDS, seed)
            for seed, (served, load, within_s) in enumerate(loads)
        )
    )


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 0.5), (3.0, 0.75)])
@pytest.mark.parametrize("other_law", [LONG, MIDDLE], ids=["alike", "shorter"])
async def test_saturated_models_have_the_device_by_weight_and_runs_as_long_as_alone(
    serve, weight, expected, other_law
):
    machine = Machine(serve)
    one, other = machine.serve(LONG, weight=weight), machine.serve(other_law, seed=2)
    await offer((one, 2, 0.3), (other, 2, 0.3))
    assert part(one) == pytest.approx(expected, abs=0.05)
    assert part(other) == pytest.approx(1 - expected, abs=0.05)
    assert stretch(one) == pytest.approx(1.0, abs=0.05)
    assert stretch(other) == pytest.approx(1.0, abs=0.05)


async def test_without_turns_runs_overlap_and_each_takes_twice_as_long(serve):
    machine = Machine(serve, has_token=False)
    one, other = machine.serve(LONG), machine.serve(LONG, seed=2)
    await offer((one, 2, 0.3), (other, 2, 0.3))
    assert stretch(one) > 1.8


async def test_what_one_does_not_want_the_other_has(serve):
    machine = Machine(serve)
    busy, rare = machine.serve(LONG), machine.serve(LONG, seed=2)
    of_busy, of_rare = await offer((busy, 2, 0.3), (rare, 0.02, 0.3))
    assert all(call.is_in_time for call in of_rare)
    assert part(busy) >= 0.7
    assert goodput(of_busy, SINCE, SECONDS) >= 0.7 * capacity(LONG)


async def test_short_runs_do_not_wait_for_long_ones(serve):
    short = linear(0.2, 0.01)
    machine = Machine(serve)
    heavy, light = machine.serve(LONG), machine.serve(short, seed=2)
    _, of_light = await offer((heavy, 2, 0.3), (light, 0.005, 0.3))
    assert percentile([call.latency_s for call in of_light], 0.99) <= 0.002
    assert part(heavy) >= 0.9


async def test_beside_a_tight_objective_the_runs_of_others_are_short(serve):
    machine = Machine(serve)
    heavy = machine.serve(LONG)
    tight = machine.serve(MIDDLE, seed=2, config=ModelConfig(latency_p99_s=0.03))
    await offer((heavy, 2, 0.3), (tight, 0.03, 0.03))
    longest = max(run.seconds for run in heavy.runs if run.began > SINCE)
    assert longest <= 0.03 * 0.5 * 1.25
    answered = [call for call in tight.calls if call.error is None and call.arrived > SINCE]
    assert len(answered) >= 0.97 * sum(call.arrived > SINCE for call in tight.calls)
    assert percentile([call.latency_s for call in answered], 0.99) <= 0.03


async def test_a_model_that_is_taken_away_leaves_the_device_to_the_other(serve):
    machine = Machine(serve)
    stays, goes = machine.serve(LONG), machine.serve(LONG, seed=2)
    sent = asyncio.gather(
        run(stays, [Source("any", 2 * capacity(LONG), 0.3)], SECONDS),
        run(goes, [Source("any", 2 * capacity(LONG), 0.3)], 0.3),
    )
    await asyncio.sleep(0.31)
    goes.pipeline.refuse_all(NotReady("m", "1", "gone"))
    goes.close()
    await sent
    assert goodput(stays.calls, 1, SECONDS) >= 0.93 * capacity(LONG)


async def test_while_one_hangs_the_others_run_up_no_debt(serve):
    machine = Machine(serve)
    hangs, stays, comes = (machine.serve(LONG, seed=seed) for seed in (1, 2, 3))
    hangs.machines[0].hangs_s = 60
    busy = 2 * capacity(LONG)
    await asyncio.gather(
        run(hangs, [Source("hangs", busy, 0.3)], 0.01),
        run(stays, [Source("stays", busy, 0.3)], 6),
        run(comes, [Source("comes", busy, 0.3, since=4)], 6),
    )
    assert stays.busy_s(4, 6) == pytest.approx(comes.busy_s(4, 6), rel=0.15)


async def test_an_objective_shorter_than_any_run_beside_it_does_not_make_all_runs_small(serve):
    machine, law = Machine(serve), linear(10, 0.05)
    heavy = machine.serve(law)
    tight = machine.serve(linear(1.5, 0.1), seed=2, config=ModelConfig(latency_p99_s=0.01))
    await offer((heavy, 1, 0.3), (tight, 0.01, 0.01))
    assert goodput(heavy.calls, SINCE, SECONDS) >= 0.8 * capacity(law)
