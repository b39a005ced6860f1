"""Whose requests are served where not all can be: levels with a share, tenants, and short ones beside long ones."""

import pytest
from fakes import WIDTH
from traffic import Source, capacity, goodput, jain, late, linear, percentile, run

from headrace.model_config import NOTHING_SAID, ModelConfig, QueuePolicy

pytestmark = pytest.mark.looptime(noop_cycles=0)

LAW = linear(5, 0.5)
CAPACITY = capacity(LAW)
LEVELS = ModelConfig(levels={1: QueuePolicy(share=0.7), 2: QueuePolicy()}, default_level=2)


def p99(calls, kind, since=0.5):
    """Of what was answered."""
    return percentile(
        [
            call.latency_s
            for call in calls
            if call.kind == kind and call.error is None and call.arrived >= since
        ],
        0.99,
    )


def classes(tight_level=0, loose_level=0):
    """A third of 1.2 times the capacity has 30 ms, the rest has 100."""
    return (
        Source("tight", 0.36 * CAPACITY, within_s=0.03, level=tight_level),
        Source("loose", 0.84 * CAPACITY, within_s=0.1, level=loose_level),
    )


async def test_a_tight_class_with_a_share_gets_what_it_gets_alone(serve):
    tight, loose = classes(1, 2)
    alone = goodput(await run(serve(LAW, config=LEVELS), [tight], 3), 0.5, 3)
    both = await run(serve(LAW, config=LEVELS), [tight, loose], 3)
    assert goodput(both, 0.5, 3, "tight") >= 0.9 * alone
    # Runs are as short as the tight ones need them, and that has its price; who is taken in is answered in time.
    assert goodput(both, 0.5, 3, "loose") >= 0.25 * CAPACITY
    assert late(both) <= 0.01


async def test_deadlines_alone_do_not_protect_a_tight_class(serve):
    both = await run(serve(LAW), classes(), 3)
    assert goodput(both, 0.5, 3, "tight") <= 0.5 * 0.36 * CAPACITY


async def test_beyond_its_share_a_level_leaves_the_rest_to_the_others(serve):
    served = serve(LAW, config=LEVELS)
    sources = [
        Source(kind, 2 * CAPACITY, within_s=0.3, level=level) for kind, level in (("first", 1), ("last", 2))
    ]
    calls = await run(served, sources, 3)
    first, last = (goodput(calls, 0.5, 3, kind) for kind in ("first", "last"))
    assert first / (first + last) == pytest.approx(0.7, abs=0.04)
    assert first + last >= 0.93 * CAPACITY


def tenants(abuser, share=1.0):
    """Five that offer as much as they may have, of which the first may offer ten times that."""
    rate = share * CAPACITY / 5
    return [
        Source(tenant, rate * (abuser if tenant == "a" else 1), within_s=0.15, tenant=tenant)
        for tenant in "abcde"
    ]


async def test_a_tenant_at_ten_times_its_share_takes_nothing_from_the_others(serve):
    usual = await run(serve(LAW), tenants(1, share=1.1), 2.5)
    beside = await run(serve(LAW), tenants(10, share=1.1), 2.5)
    assert jain([goodput(beside, 0.5, 2.5, tenant) for tenant in "abcde"]) >= 0.95
    for tenant in "bcde":
        assert goodput(beside, 0.5, 2.5, tenant) >= 0.95 * goodput(usual, 0.5, 2.5, tenant)
        assert p99(beside, tenant) <= 1.3 * p99(usual, tenant)
    assert goodput(beside, 0.5, 2.5) >= 0.93 * CAPACITY


async def test_without_tenants_the_same_flood_drowns_everybody(serve):
    flood = [Source(each.kind, each.rate, within_s=0.15) for each in tenants(10)]
    calls = await run(serve(LAW), flood, 2)
    assert jain([goodput(calls, 0.5, 2, tenant) for tenant in "abcde"]) <= 0.5


async def test_what_a_tenant_does_not_want_the_others_have(serve):
    calls = await run(serve(LAW), tenants(10, share=0.5), 3)
    assert goodput(calls, 0.5, 3, "a") >= 0.45 * CAPACITY
    others = [call for call in calls if call.kind != "a" and call.arrived >= 0.5]
    # What is staged shortly before a run ends cannot be joined any more.
    assert sum(call.is_in_time for call in others) >= 0.98 * len(others)


async def test_saturated_tenants_get_device_time_by_weight(serve):
    served = serve(LAW, tenant_weights={"heavy": 3.0})
    sources = [Source(each, 2 * CAPACITY, within_s=0.15, tenant=each) for each in ("heavy", "light")]
    calls = await run(served, sources, 2)
    heavy, light = (goodput(calls, 0.5, 2, each) for each in ("heavy", "light"))
    assert heavy / light == pytest.approx(3.0, rel=0.1)


async def test_a_tenant_that_was_idle_has_nothing_saved_up(serve):
    sources = [
        Source("busy", 1.5 * CAPACITY, within_s=0.15, tenant="busy"),
        Source("back", 1.5 * CAPACITY, within_s=0.15, tenant="back", since=2),
    ]
    calls = await run(serve(LAW), sources, 3)
    busy, back = (goodput(calls, 2.25, 3, each) for each in ("busy", "back"))
    assert busy == pytest.approx(back, rel=0.15)


LONG = 16 * WIDTH
ROW = linear(2, 0.1)
MIXED = 1.1 / (0.8 / capacity(ROW, 32) + 0.2 / capacity(ROW, 32, LONG))
"""Requests a second of which one in five is long, and that are more than can be served."""


async def test_short_requests_do_not_wait_for_the_long_ones(serve):
    known = {"max_rows": 32, "costs": (WIDTH, LONG)}
    one = [
        Source("short", 0.8 * MIXED, within_s=0.5, cost=LONG),
        Source("long", 0.2 * MIXED, within_s=0.5, cost=LONG),
    ]
    buckets = [
        Source("short", 0.8 * MIXED, within_s=0.5),
        Source("long", 0.2 * MIXED, within_s=0.5, cost=LONG),
    ]
    together = await run(serve(ROW, **known), one, 2)
    apart = await run(serve(ROW, **known), buckets, 2)
    assert p99(apart, "short") <= 0.5 * p99(together, "short")
    assert goodput(apart, 0.5, 2, "short") >= 0.95 * 0.8 * MIXED
    # The long ones get what is left, which is most of the machine, and not less than beside short ones padded to theirs.
    assert goodput(apart, 0.5, 2, "long") >= goodput(together, 0.5, 2, "long")


async def test_levels_change_nothing_while_everything_fits(serve):
    for config in (NOTHING_SAID, LEVELS):
        level = 1 if config.levels else 0
        sources = [
            Source("one", 0.2 * CAPACITY, level=level),
            Source("other", 0.2 * CAPACITY, level=level and 2),
        ]
        calls = await run(serve(LAW, config=config), sources, 1)
        assert all(call.is_in_time for call in calls)


async def test_who_travels_alone_pays_for_the_whole_run(serve):
    law = linear(10, 0.05)
    together = Source("together", capacity(law), within_s=1, tenant="together")
    alone = Source("alone", 200, within_s=1, tenant="alone", is_alone=True)
    served = serve(law)
    calls = await run(served, [together, alone], 3)
    assert goodput(calls, 0.5, 3, "together") >= 0.4 * capacity(law)


async def test_what_nobody_could_answer_in_time_does_not_make_runs_short(serve):
    served = serve(LAW, config=LEVELS)
    hopeless = Source("hopeless", 5, within_s=0.001, level=1)
    calls = await run(served, [Source("usual", CAPACITY, within_s=0.3, level=2), hopeless], 2)
    assert goodput(calls, 0.5, 2, "usual") >= 0.9 * CAPACITY


async def test_a_backlog_of_long_requests_is_not_run_at_once(serve):
    """Their throughput grows by next to nothing with the batch, and short ones wait behind each run."""

    def law(cost, rows):
        return 0.001 + rows * cost * 8e-5

    short, long = (18, 33, 51), (293, 457)
    served = serve(law, costs=(*short, *long), way_s=0.0005)
    sources = [Source("short", 35, within_s=2, cost=cost) for cost in short]
    sources += [Source("long", 18, within_s=2, cost=cost) for cost in long]
    calls = await run(served, sources, 8)
    waits = [call.latency_s for call in calls if call.kind == "short" and call.arrived >= 2]
    assert percentile(waits, 0.99) <= 0.25
