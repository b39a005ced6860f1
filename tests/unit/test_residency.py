"""Who is in memory: what fits is loaded, who is asked for comes in, and who is worth least leaves, with nothing to do."""

import asyncio
from typing import Any

import pytest

from headrace.events import RequestsAbsent, VersionEvicted, VersionLoaded
from headrace.execution.footprint import Footprint
from headrace.execution.nvml import Gpu
from headrace.faults.breaker import Breaker, BreakerPolicy
from headrace.lifecycle.ledger import Holding
from headrace.lifecycle.state import VersionState
from headrace.model_config import Residence
from tests.versions import MIB, World, on_card

GIB = 1024 * MIB


def three(world: World) -> None:
    for name in "abc":
        world.version(name)


async def test_what_fits_is_loaded_at_start() -> None:
    world = World(300)
    three(world)
    world.start()
    await world.settle()
    assert world.there() == {"a", "b", "c"}
    assert world.reserved == 300
    assert {each.cause for each in world.of(VersionLoaded)} == {"start"}


async def test_what_does_not_fit_waits_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 200)
    assert world.there() == {"a", "b"}
    assert world.versions["c"].is_on_demand


async def of_three(monkeypatch: pytest.MonkeyPatch, budget_mib: int, **settings: Any) -> World:
    """With a, b and c, as many of them loaded as fit."""
    world = World(budget_mib, **settings)
    three(world)
    await started(world, monkeypatch)
    return world


async def started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was measured before, so there is nothing to look up."""
    monkeypatch.setattr("headrace.lifecycle.stay.Stay.look_up", lambda *_: None)
    world.start()
    for _ in range(1000):
        if all(each.state is not VersionState.LOADING or each.processes for each in world.versions.values()):
            break
        await asyncio.sleep(0.001)  # a thread looks up what was measured before
    await world.settle()


async def test_pinned_models_are_loaded_first_and_those_to_be_left_out_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(200, pin=frozenset({"z"}), preload=frozenset({"y"}))
    three(world)
    world.version("x", Residence(is_preloaded=False))
    world.version("y")
    world.version("z")
    await started(world, monkeypatch)
    assert world.there() == {"y", "z"}


async def test_who_is_asked_for_comes_in_and_who_is_asked_least_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await of_three(monkeypatch, 195)
    for _ in range(5):
        await world.ask("a")
    await world.ask("c")
    assert world.there() == {"a", "c"}
    assert [each.model for each in world.of(VersionEvicted)] == ["b"]
    assert world.versions["b"].reason == "not in memory: c came in its place"


async def test_before_anybody_leaves_runs_give_back_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(285)  # 3 x 90, and the largest run: 10
    world.version("a")
    world.version("b")
    world.version("c", Residence(is_preloaded=False))
    await started(world, monkeypatch)
    assert world.there() == {"a", "b"}
    assert not world.versions["a"].pipeline.gives_back
    await world.ask("c")
    assert world.there() == {"a", "b", "c"}
    assert all(each.pipeline.gives_back for each in world.versions.values())
    assert world.reserved == 280


async def test_once_there_is_room_again_runs_keep_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 285)
    await world.ask("c")
    world.budget = 1000 * MIB
    world.clock.now += 10
    world.residency.watch()
    assert not world.versions["a"].pipeline.gives_back


async def test_nobody_leaves_who_has_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 195)
    busy = [world.versions["a"], world.versions["b"]]
    for each in busy:
        each.is_idle = each.is_quiet = False
    await world.ask("c")
    assert world.there() == {"a", "b"}
    for each in busy:
        each.is_idle = each.is_quiet = True
    world.clock.now += 10
    world.residency.watch()
    await world.settle()
    assert "c" in world.there()
    assert len(world.there()) == 2


async def test_whoever_is_about_to_leave_holds_what_it_held(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(195)
    for name in "abc":
        world.version(name, footprint=Footprint(30 * MIB, 60 * MIB, {4: {1: 4 * MIB}}, opening=20 * MIB))
    await started(world, monkeypatch)
    world.clock.now += 100
    before = world.reserved
    world.versions["c"].on_wanted()
    await asyncio.sleep(0)
    assert VersionState.ABSENT in {each.state for each in world.versions.values() if each.processes}
    world.clock.now += 100
    world.residency.watch()
    assert world.reserved == before


async def test_of_whom_nobody_measured_what_was_seen_counts_when_memory_gets_short() -> None:
    world = World(300)
    world.version("a", footprint=None)
    world.start()
    await world.settle()
    before = world.reserved
    world.residency._set_tight(is_tight=True)
    assert world.reserved == before


async def test_who_comes_gives_way_to_those_that_serve_and_to_nobody_where_none_does() -> None:
    world = World(300)
    for name in "ab":
        world.version(name, Residence(is_preloaded=False))
    world.start()
    await world.ask("a")
    await world.ask("b")
    assert [each.is_hurried for each in world.versions.values()] == [True, False]


async def test_room_is_taken_only_when_those_that_leave_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 195)
    world.clock.now += 100
    world.versions["c"].on_wanted()
    await asyncio.sleep(0)
    left = next(
        each for each in world.versions.values() if each.state is VersionState.ABSENT and each.processes
    )
    assert not world.versions["c"].processes
    left.ended()
    await asyncio.sleep(0)
    assert world.versions["c"].processes


async def test_who_is_unloaded_while_it_waits_for_room_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 195)
    world.clock.now += 100
    world.versions["c"].on_wanted()
    await asyncio.sleep(0)
    world.versions["c"].stop()
    await world.settle()
    assert world.versions["c"].state is VersionState.UNLOADING
    assert not world.versions["c"].processes


async def test_many_who_ask_at_once_have_it_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 195)
    world.clock.now += 100
    for _ in range(10):
        world.versions["c"].on_wanted()
    await world.settle()
    assert [each.cause for each in world.of(VersionLoaded)] == ["start", "start", "asked"]


async def test_a_model_that_never_fits_is_refused_with_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(195, pin=frozenset({"a"}))
    world.version("a")
    world.version("big", footprint=Footprint(context=30 * MIB, weights=90 * MIB))
    await started(world, monkeypatch)
    world.versions["big"].on_wanted()
    await world.settle()
    assert world.there() == {"a"}
    assert world.versions["big"].reason == (
        "it needs 120 MiB, and of the budget of 195 MiB (a test) pinned models hold 100 MiB: 25 MiB are lacking; "
        "raise --memory-budget, or pin less"
    )


async def test_who_never_fits_keeps_nobody_waiting_whoever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(110)
    world.version("a")
    world.version("b")
    world.version("large", footprint=Footprint(30 * MIB, 900 * MIB))
    await started(world, monkeypatch)
    assert world.there() == {"a"}
    await world.ask("large")
    assert "raise --memory-budget" in world.versions["large"].reason
    await world.ask("b")
    assert world.there() == {"b"}


async def test_what_a_probe_may_take_is_waited_for_and_no_reason_to_be_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(110)
    world.version("a", Residence(is_preloaded=False))
    world.version("b", Residence(is_preloaded=False))
    await started(world, monkeypatch)
    probed = world.versions["a"]
    held = world.residency._books.reserve("measuring", Holding(60 * MIB))
    assert held is not None
    probed.is_measuring = True
    world.residency._stays[probed].measure(held, 60 * MIB)  # type: ignore[index]
    await world.ask("b")
    assert world.there() == set()
    assert world.versions["b"].reason == "not in memory: it is loaded when it is asked for"
    probed.is_measuring = False
    await world.ask("b")
    assert world.there() == {"b"}


async def test_who_is_not_asked_for_since_its_breaker_is_open_leaves_like_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(110)
    world.version("a")
    world.version("b")
    await started(world, monkeypatch)
    breaker = Breaker(BreakerPolicy(), lambda: 0.5)
    breaker.trip("5 runs in a row failed", world.clock.now)
    world.versions["a"].pipeline.breaker = breaker
    await world.ask("b")
    assert world.there() == {"b"}


async def test_a_pinned_model_never_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 195, pin=frozenset({"b"}))
    for _ in range(5):
        await world.ask("a")
    await world.ask("c")
    assert "b" in world.there()


async def test_who_is_not_asked_for_for_its_idle_time_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(1000, idle_timeout_s=60)
    world.version("a")
    world.version("b", Residence(idle_s=600))
    world.version("c", Residence(is_pinned=True))
    await started(world, monkeypatch)
    world.clock.now += 61
    world.residency.watch()
    await world.settle()
    assert world.there() == {"b", "c"}
    assert world.reserved == 200


async def test_a_budget_that_shrinks_makes_them_leave_and_one_that_grows_lets_them_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await of_three(monkeypatch, 300)
    world.budget = 195 * MIB
    for _ in range(5):
        world.clock.now += 10
        world.residency.watch()
        await world.settle()
    assert len(world.there()) == 2
    world.budget = 400 * MIB
    world.clock.now += 10
    world.residency.watch()
    gone = ({"a", "b", "c"} - world.there()).pop()
    await world.ask(gone)
    assert world.there() == {"a", "b", "c"}


async def test_what_takes_more_than_was_thought_is_counted_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 300)
    world.versions["a"].bytes = 250 * MIB
    for _ in range(5):
        world.clock.now += 10
        world.residency.watch()
        await world.settle()
    assert world.reserved <= 300
    assert world.of(VersionEvicted)


async def test_requests_that_find_it_absent_are_told_of_once_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 195)
    world.versions["c"].pipeline.absent_requests += 7
    world.clock.now += 10
    world.residency.watch()
    world.clock.now += 10
    world.residency.watch()
    assert world.of(RequestsAbsent) == [RequestsAbsent("c", "1", 7)]


async def test_what_a_model_takes_is_measured_in_a_quiet_moment_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(1000)
    three(world)
    measured: list[str] = []
    for each in world.versions.values():
        each.needs_measuring = True
        each.measure = lambda _, each=each: (
            measured.append(each.source.name),
            setattr(each, "is_measuring", True),
        )  # type: ignore[attr-defined]
    await started(world, monkeypatch)
    world.residency.watch()
    assert not measured, "something has just been loaded"
    world.clock.now += 10
    world.residency.watch()
    world.clock.now += 10
    world.residency.watch()
    assert measured == ["a"]
    assert world.reserved > 300
    world.versions["a"].is_measuring = world.versions["a"].needs_measuring = False
    world.versions["a"].on_gone()
    await asyncio.sleep(0)
    assert world.reserved == 300


async def test_nothing_is_held_once_everything_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await of_three(monkeypatch, 195)
    await world.ask("c")
    for each in world.versions.values():
        world.residency.forget(each)  # type: ignore[arg-type]
    assert world.reserved == 0
    assert not world.residency.view().models


async def test_a_model_on_a_graphics_card_comes_in_where_the_card_has_room_for_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(10_000)
    world.cards = [Gpu("gpu:0", "a card", 10 * GIB, 0, {})]
    for name in "abc":
        world.version(name, footprint=on_card(3 * GIB))
    world.residency.watch()
    await started(world, monkeypatch)
    assert world.there() == {"a", "b"}, "of 10 GiB 9 can be used, less a reserve"
    cpu, card = world.residency.view().devices
    assert (cpu.device, card.device, card.resident) == ("cpu", "gpu:0", 6 * GIB)
    for _ in range(3):
        await world.ask("a")
    await world.ask("c")
    assert world.there() == {"a", "c"}


async def test_what_others_hold_of_a_card_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(10_000)
    world.cards = [Gpu("gpu:0", "a card", 10 * GIB, 4 * GIB, {4711: 4 * GIB})]
    world.version("a", footprint=on_card(3 * GIB))
    world.version("b", footprint=on_card(3 * GIB))
    world.versions["a"].pids = [1]
    for _ in range(5):
        world.clock.now += 1
        world.residency.watch()
    await started(world, monkeypatch)
    assert world.there() == {"a"}


async def test_a_model_for_a_card_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(10_000)
    world.version("a", footprint=on_card(3 * GIB))
    await started(world, monkeypatch)
    world.versions["a"].on_wanted()
    await world.settle()
    assert not world.there()
    assert "gpu:0" in world.versions["a"].reason


async def test_who_is_worth_less_is_waited_for_a_moment_before_who_is_worth_more_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await of_three(monkeypatch, 195)
    for _ in range(5):
        await world.ask("a")
    world.versions["b"].is_idle = False
    world.clock.now += 100
    world.versions["c"].on_wanted()
    await world.settle()
    assert world.there() == {"a", "b"}, "b is worth less, and busy"
    world.versions["b"].is_idle = True
    world.clock.now += 1.5
    world.residency.watch()
    await world.settle()
    assert world.there() == {"a", "c"}


async def test_who_always_has_something_to_do_makes_way_once_nothing_of_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await of_three(monkeypatch, 195)
    for _ in range(5):
        await world.ask("a")
    b = world.versions["b"]
    b.is_idle = b.is_quiet = False
    world.clock.now += 100
    world.versions["c"].on_wanted()
    await world.settle()
    world.clock.now += 1.5
    world.residency.watch()
    await world.settle()
    assert b.is_paused
    assert world.there() == {"a", "b"}, "something of it runs"
    b.is_quiet = True
    world.clock.now += 1.5
    world.residency.watch()
    await world.settle()
    assert world.there() == {"a", "c"}
    assert not b.is_paused


async def test_who_was_to_make_way_goes_on_when_somebody_else_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await of_three(monkeypatch, 195)
    a, b = world.versions["a"], world.versions["b"]
    a.is_idle = a.is_quiet = b.is_idle = b.is_quiet = False
    world.clock.now += 100
    world.versions["c"].on_wanted()
    await world.settle()
    world.clock.now += 1.5
    world.residency.watch()
    (paused,) = [each for each in (a, b) if each.is_paused]
    world.budget = 400 * MIB
    world.clock.now += 1.5
    world.residency.watch()
    await world.settle()
    assert world.there() == {"a", "b", "c"}
    assert not paused.is_paused


async def test_a_load_that_takes_far_longer_than_the_last_one_is_hurried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await of_three(monkeypatch, 195)
    world.clock.now += 100
    world.versions["c"].on_wanted()
    for _ in range(3):
        await asyncio.sleep(0)
        for each in world.versions.values():
            if each.state is VersionState.ABSENT and each.processes:
                each.ended()
    assert world.versions["c"].processes
    world.clock.now += 1.5
    world.residency.watch()
    assert not world.versions["c"].is_hurried
    world.clock.now += 1.0
    world.residency.watch()
    assert world.versions["c"].is_hurried
