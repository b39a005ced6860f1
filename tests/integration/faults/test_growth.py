"""What is refused, cancelled or rejected leaves nothing behind; `make faults` does it by the million."""

import asyncio
import gc
import tracemalloc

import pytest
from repeated import REPEATED

COUNT, WARM = 10_000, 2_000
MOST_BYTES = 4.0
"""Each: half of what a reference to it would take."""


@pytest.mark.parametrize("name", REPEATED)
def test_ten_thousand_of_them_leave_nothing_behind(name: str) -> None:
    held: dict[int, int] = {}

    def look(done: int) -> None:
        if done in {WARM, COUNT}:
            gc.collect()
            held[done] = tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        asyncio.run(REPEATED[name](COUNT, look))
    finally:
        tracemalloc.stop()
    assert held[COUNT] - held[WARM] <= MOST_BYTES * (COUNT - WARM)
