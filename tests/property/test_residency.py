"""Whatever happens in whatever order: nothing is loaded without room, nobody busy leaves, who is asked for comes in."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.execution.footprint import Footprint
from headrace.lifecycle.state import VersionState
from tests.versions import MIB, World

NAMES = "abcde"
STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(NAMES)),
    st.tuples(st.just("load"), st.sampled_from(NAMES)),
    st.tuples(st.just("end"), st.sampled_from(NAMES)),
    st.tuples(st.just("busy"), st.sampled_from(NAMES)),
    st.tuples(st.just("idle"), st.sampled_from(NAMES)),
    st.tuples(st.just("rest"), st.sampled_from(NAMES)),
    st.tuples(st.just("grow"), st.sampled_from(NAMES)),
    st.tuples(st.just("budget"), st.integers(150, 700)),
    st.tuples(st.just("time"), st.floats(0, 50)),
)
SIZES = st.lists(st.integers(10, 140), min_size=len(NAMES), max_size=len(NAMES))


def step(world: World, kind: str, what: object) -> None:
    match kind:
        case "budget":
            assert isinstance(what, int)
            world.budget = what * MIB
        case "time":
            assert isinstance(what, float)
            world.clock.now += what
            world.residency.watch()
        case _:
            version = world.versions[str(what)]
            if kind == "ask":
                version.on_wanted()
            elif kind == "load" and version.state is VersionState.LOADING and version.processes:
                version.ready()
            elif kind == "end" and version.state is VersionState.ABSENT and version.processes:
                version.ended()
            elif kind in {"busy", "idle"}:
                version.is_idle = kind == "idle"
            elif kind == "rest":
                world.clock.now += 2
                stay = world.residency._stays[version]  # type: ignore[index]
                stay.idle_limit_s = -1.0
                world.residency.watch()
                stay.idle_limit_s = None
            elif kind == "grow" and version.state is VersionState.READY:
                version.bytes += 5 * MIB


@given(SIZES, st.lists(STEPS, min_size=20, max_size=60))
@settings(max_examples=150, deadline=None)
def test_nothing_is_loaded_without_room_nobody_busy_leaves_and_who_is_asked_for_comes_in(
    sizes: list[int], steps: list[tuple[str, object]]
) -> None:
    async def happen() -> None:
        raised: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
        world = World(1000)
        for name, weights in zip(NAMES, sizes, strict=True):
            world.version(name, footprint=Footprint(10 * MIB, weights * MIB, {4: {1: 5 * MIB}}))
        world.start()
        await world.settle()
        for kind, what in steps:
            step(world, kind, what)
            await asyncio.sleep(0)
        world.budget = 200 * MIB
        for version in world.versions.values():
            version.is_idle = True
        for name in NAMES:
            for _ in range(8):
                world.versions[name].on_wanted()
                world.clock.now += 50
                world.residency.watch()
                await world.settle()
                if name in world.there():
                    break
            assert name in world.there(), "each fits alone"
        for version in world.versions.values():
            world.residency.forget(version)  # type: ignore[arg-type]
        assert world.reserved == 0
        assert not raised

    asyncio.run(happen())
