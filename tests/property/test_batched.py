"""Whatever callers bring and however the function fails: each gets the answer to its own item, exactly once."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

import headrace

FATES = st.sampled_from(["fine", "fine", "fine", "returned", "raised"])
OPTIONS = st.fixed_dictionaries(
    {"max_batch_size": st.integers(1, 9), "concurrency": st.integers(1, 3), "max_queue": st.just(1000)}
)


class Failed(Exception):
    """Of one item."""


class Function:
    """Runs items that say what becomes of them."""

    def __init__(self) -> None:
        self.runs: Counter[int] = Counter()
        self.sizes: list[int] = []

    def __call__(self, items: list[tuple[int, str]]) -> list[object]:
        self.sizes.append(len(items))
        self.runs.update(number for number, _ in items)
        for number, fate in items:
            if fate == "raised":
                raise Failed(number)
        return [Failed(number) if fate == "returned" else ("done", number) for number, fate in items]

    async def arun(self, items: list[tuple[int, str]]) -> list[object]:
        await asyncio.sleep(0)
        return self(items)

    def check(self, items: list[tuple[int, str]], answers: list[object], most: int) -> None:
        for (number, fate), answer in zip(items, answers, strict=True):
            if fate == "fine":
                assert answer == ("done", number)
            else:
                assert isinstance(answer, Failed)
                assert answer.args == (number,)
        assert set(self.runs.values()) <= {1, 2}
        assert max(self.sizes) <= most
        if all(fate != "raised" for _, fate in items):
            assert set(self.runs.values()) == {1}, "what did not fail is run once"


@given(fates=st.lists(FATES, min_size=1, max_size=40), ticks=st.lists(st.integers(0, 3)), options=OPTIONS)
def test_on_a_loop_each_caller_gets_its_own_result_once(fates, ticks, options):
    function, items = Function(), list(enumerate(fates))
    batched = headrace.batched(**options)(function.arun)

    async def call(item: tuple[int, str]) -> object:
        for _ in range(ticks[item[0]] if item[0] < len(ticks) else 0):
            await asyncio.sleep(0)
        return await batched(item)

    async def everybody() -> list[object]:
        return await asyncio.gather(*map(call, items), return_exceptions=True)

    function.check(items, asyncio.run(everybody()), options["max_batch_size"])


@given(fates=st.lists(FATES, min_size=1, max_size=40), options=OPTIONS)
def test_from_threads_each_caller_gets_its_own_result_once(fates, options):
    function, items = Function(), list(enumerate(fates))
    batched = headrace.batched(**options)(function)

    def call(item: tuple[int, str]) -> object:
        try:
            return batched(item)
        except Failed as exc:
            return exc

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, items))
    batched.close()
    function.check(items, answers, options["max_batch_size"])
