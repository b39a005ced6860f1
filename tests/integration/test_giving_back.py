"""What a run took is given back by its worker once the answer is sent, also where large outputs lay in the midst of it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from headrace.execution.channel import Channel
from headrace.execution.process_memory import status_of
from headrace.execution.wire import Done, Placed
from tests.integration import graphs
from tests.integration.process import eventually
from tests.integration.test_golden import Answer, worker

pytestmark = pytest.mark.integration

MB = 1_000_000
ROWS = np.ones((8, 4), np.float32)
TIMES = 1 << 16
"""A row comes out so many times as wide: 1 MB, and as much again between."""


def widened(path: Path) -> Path:
    """Three pieces as large as its output, which is the last."""
    nodes = [
        helper.make_node("Tile", ["x", "times"], ["wide"]),
        helper.make_node("Exp", ["wide"], ["more"]),
        helper.make_node("Softmax", ["more"], ["y"], axis=1),
    ]
    return graphs.save(
        path,
        nodes,
        [("x", "FP32", ["rows", 4])],
        [("y", "FP32", ["rows", 4 * TIMES])],
        times=np.array([1, TIMES]),
    )


async def ran(channel: Channel, *, gives_back: bool) -> Done:
    """One batch of all rows; the worker goes on to give back when it has answered."""
    answer, region = Answer(), channel.inputs()
    answer.gives_back = gives_back
    region.reserve(ROWS.nbytes)
    region.write(0, [ROWS.tobytes()], ROWS.nbytes)
    channel.send(answer, (Placed(0, 0, ROWS.nbytes, ROWS.shape),), (0,))
    done = await answer.result
    assert isinstance(done, Done)
    return done


def own_bytes(pid: int) -> int:
    """Without the slots, which stay."""
    return status_of(pid)["RssAnon"]


def test_large_outputs_do_not_keep_what_a_run_took(tmp_path: Path) -> None:
    async def look() -> None:
        path = widened(tmp_path / "wide.onnx")
        async with worker(path, "onnxruntime", tmp_path, instances=1, threads=1) as (started, _):
            (channel,) = started.channels
            before = own_bytes(started.pid)
            await ran(channel, gives_back=False)
            assert own_bytes(started.pid) > before + 20 * MB
            await ran(channel, gives_back=True)
            eventually(lambda: own_bytes(started.pid) < before + 10 * MB, "given back")
            # Nor had what its model was tried out with when it was opened been kept.
            assert before < own_bytes(started.pid) + 10 * MB

    asyncio.run(look())
