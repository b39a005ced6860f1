"""What a start would make of memory, worked out before it."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from headrace.config import Settings
from headrace.errors import ConfigurationError
from headrace.execution.footprint import Footprint
from headrace.execution.profiles import ProfileStore
from headrace.execution.wire import Profile
from headrace.lifecycle.budget import Budget
from headrace.lifecycle.foreseen import Foreseen, foresee, refuse_impossible
from headrace.lifecycle.holdings import CONTEXT, ON_TOP
from headrace.lifecycle.version import ModelVersion
from headrace.model_config import Residence
from headrace.repository.source import Source

MIB = 1 << 20
GUESS = CONTEXT + ON_TOP
"""Of a model of no bytes of which nothing is known."""
SLOTS = 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def source(folder: Path, name: str, *, problem: str = "", **residence: object) -> Source:
    path = folder / f"{name}.fake"
    path.touch()
    made = Source(name, "1", path, "fake", problem)
    config = msgspec.structs.replace(made.config, residence=Residence(**residence))
    return Source(name, "1", path, "fake", problem, config=config)


def settings(folder: Path, **given: object) -> Settings:
    return Settings(profile_dir=folder / "profiles", **given)


def measure(of: Source, given: Settings, footprint: Footprint) -> None:
    """As if it had been measured before."""

    async def write() -> None:
        store = ProfileStore(given.profile_dir)
        version = ModelVersion(of, given, float, lambda _: None)
        store.write(store.key_of(version.order()), Profile(footprint=footprint, load_s=0.7))

    asyncio.run(write())


def budget(nbytes: int, allowed: int | None = None) -> Budget:
    return Budget(4096 * MIB, 512 * MIB, 0, nbytes, "a machine", allowed)


def foreseen(given: Settings, sources: list[Source], nbytes: int) -> Foreseen:
    async def see() -> Foreseen:
        return foresee(given, sources, budget(nbytes), SLOTS)

    return asyncio.run(see())


def states(found: Foreseen) -> dict[str, str]:
    return {each.name: each.state for each in found.view.models}


def test_while_there_is_room_all_are_loaded_at_start(folder):
    found = foreseen(settings(folder), [source(folder, name) for name in "abc"], 3 * GUESS)
    assert states(found) == dict.fromkeys("abc", "READY")
    assert found.view.devices[0].resident == 3 * GUESS
    assert found.mistakes == ()


def test_who_is_pinned_goes_first_and_then_who_is_to_be_preloaded(folder):
    sources = [source(folder, "a"), source(folder, "b", is_preloaded=True), source(folder, "c")]
    found = foreseen(settings(folder, pin={"c"}), sources, 2 * GUESS)
    assert states(found) == {"a": "ABSENT", "b": "READY", "c": "READY"}
    assert "72 MiB are lacking at start" in found.view.models[0].reason


def test_who_is_not_to_be_preloaded_waits_though_there_is_room(folder):
    found = foreseen(settings(folder), [source(folder, "a", is_preloaded=False)], 3 * GUESS)
    assert states(found) == {"a": "ABSENT"}
    assert found.view.devices[0].resident == 0


def test_what_was_measured_goes_before_what_files_suggest(folder):
    given, mine = settings(folder), source(folder, "a")
    measure(mine, given, Footprint(30 * MIB, 100 * MIB, {1: {1: 20 * MIB}}))
    (model,) = foreseen(given, [mine], 300 * MIB).view.models
    assert (model.is_measured, model.reload_s) == (True, 0.7)
    assert model.resident == 150 * MIB


def test_where_memory_is_short_runs_give_back_and_only_those_at_once_count(folder):
    given, sources = settings(folder), [source(folder, name) for name in "abc"]
    for each in sources:
        measure(each, given, Footprint(30 * MIB, 20 * MIB, {1: {1: 40 * MIB}}))
    plenty = foreseen(given, sources, 1000 * MIB).view
    assert not any(each.gives_back for each in plenty.models)
    assert (plenty.devices[0].resident, plenty.devices[0].scratch) == (270 * MIB, 0)
    short = foreseen(given, sources, 240 * MIB).view
    assert [each.state for each in short.models] == ["READY"] * 3
    assert all(each.gives_back for each in short.models)
    assert (short.devices[0].resident, short.devices[0].scratch) == (150 * MIB, SLOTS * 40 * MIB)


def test_what_does_not_fit_alone_is_never_loaded_and_a_mistake(folder):
    found = foreseen(settings(folder), [source(folder, "a")], GUESS - 1)
    assert states(found) == {"a": "UNAVAILABLE"}
    (said,) = found.mistakes
    assert said.startswith("a/1 (guessed from its files) takes 72 MiB")


def test_of_pinned_models_runs_count_that_can_go_on_at_once(folder):
    sources = [source(folder, name, is_pinned=True) for name in "abc"]
    given = settings(folder)
    for each in sources:
        measure(each, given, Footprint(10 * MIB, 10 * MIB, {1: {1: 30 * MIB}}))
    assert foreseen(given, sources, 3 * 20 * MIB + SLOTS * 30 * MIB).mistakes == ()
    (said,) = foreseen(given, sources, 3 * 20 * MIB + SLOTS * 30 * MIB - 1).mistakes
    assert said.startswith("pinned models take a/1 50 MiB + b/1 50 MiB + c/1 20 MiB = 120 MiB")


def test_what_cannot_be_loaded_takes_nothing(folder):
    found = foreseen(settings(folder), [source(folder, "a", problem="no model")], 3 * GUESS)
    assert found.view.models == ()


def start(given: Settings, sources: list[Source], of_machine: Budget) -> None:
    async def look() -> None:
        refuse_impossible(given, sources, of_machine, SLOTS)

    asyncio.run(look())


def test_a_start_is_refused_for_pinned_models_that_never_fit_and_for_no_others(folder):
    start(settings(folder, memory_budget=MIB), [source(folder, "a")], budget(MIB, MIB))
    with pytest.raises(ConfigurationError, match=r"a/1 .* takes 72 MiB, and the budget is 1 MiB"):
        start(settings(folder, memory_budget=MIB, pin={"a"}), [source(folder, "a")], budget(MIB, MIB))


def test_what_others_hold_now_keeps_no_server_from_its_start(folder):
    busy = Budget(4096 * MIB, 512 * MIB, 3584 * MIB, 0, "a machine", 2048 * MIB)
    start(settings(folder, memory_budget=2048 * MIB, pin={"a"}), [source(folder, "a")], busy)


def test_a_budget_above_all_there_is_refuses_the_start(folder):
    with pytest.raises(ConfigurationError, match=r"--memory-budget is 4 GiB, and there are 3\.5 GiB"):
        start(settings(folder, memory_budget=4096 * MIB), [], budget(3584 * MIB, 4096 * MIB))
