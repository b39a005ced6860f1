"""A worker tries itself out on its golden inputs, and finds NaN where that is declared to be a failure."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from headrace.execution.channel import Channel
from headrace.execution.supervisor import Worker, WorkerEvents
from headrace.execution.wire import Done, Failed, Load, Placed, Ready
from headrace.model_config import ModelConfig
from tests.integration import graphs

pytestmark = pytest.mark.integration

LIMIT_S = 60.0
PYTHON_MODEL = """
class Model:
    batched = True
    inputs = outputs = [("x", "FP32", [-1])]

    def infer(self, inputs):
        return {"x": 2 * inputs["x"]}
"""


class Switch:
    """Has a fake model misbehave."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def turn(self, **fault: object) -> None:
        self.path.write_text(json.dumps(fault))

    def off(self) -> None:
        self.path.unlink()


class Answer:
    """What a worker says of one batch."""

    gives_back = False

    def __init__(self) -> None:
        self.result: asyncio.Future[Done | Failed] = asyncio.get_running_loop().create_future()

    def on_done(self, done: Done, outputs: object) -> None:
        self.result.set_result(done)

    def on_failed(self, failed: Failed) -> None:
        self.result.set_result(failed)

    def on_unread(self, reason: str) -> None:
        raise AssertionError(reason)


@asynccontextmanager
async def worker(
    path: Path, backend: str, profiles: Path, **said: object
) -> AsyncIterator[tuple[Worker, Ready]]:
    """A worker that is ready, until the block ends."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[Ready] = loop.create_future()
    ended: asyncio.Future[None] = loop.create_future()
    events = WorkerEvents(
        lambda _, report: ready.set_result(report),
        lambda _, reason: ready.set_exception(AssertionError(reason)),
        lambda *_: ended.set_result(None),
        lambda: None,
    )
    load = Load(path.stem, "1", str(path), backend, 2, 8, 8, profile_dir=str(profiles), **said)  # type: ignore[arg-type]
    started = Worker(load, events)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield started, await ready
    finally:
        started.stop()
        async with asyncio.timeout(LIMIT_S):
            await ended


async def golden_run(channel: Channel) -> Done | Failed:
    answer = Answer()
    channel.send_golden(answer)
    return await answer.result


async def run_rows(channel: Channel, rows: np.ndarray) -> Done | Failed:
    answer, region, nbytes = Answer(), channel.inputs(), rows.nbytes
    region.reserve(nbytes)
    region.write(0, [rows.tobytes()], nbytes)
    channel.send(answer, (Placed(0, 0, nbytes, rows.shape),), (0,))
    return await answer.result


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    return Switch(tmp_path / "switch")


@pytest.fixture
def fake(tmp_path: Path, switch: Switch) -> Path:
    path = tmp_path / "told.fake"
    path.write_text(json.dumps({"switch": str(switch.path)}))
    return path


@pytest.mark.parametrize("start", ["measured", "with a stored profile"])
def test_golden_inputs_go_well_as_long_as_the_model_does(
    fake: Path, switch: Switch, tmp_path: Path, start: str
) -> None:
    async def look() -> None:
        if start != "measured":
            async with worker(fake, "fake", tmp_path):
                pass
        async with worker(fake, "fake", tmp_path, instances=2) as (started, ready):
            assert ready.golden_cost == 4
            for channel in started.channels:  # each on an instance of its own
                done = await golden_run(channel)
                assert isinstance(done, Done)
                assert done.outputs == ()
                assert done.received <= done.started <= done.ended <= done.sent
                switch.turn(fault="raise")
                assert await golden_run(channel) == Failed(
                    2, "golden inputs: told to fail by the switch", is_input=False
                )
                switch.turn(fault="nan")
                failed = await golden_run(channel)
                assert isinstance(failed, Failed)
                assert failed.reason.startswith("golden inputs: output 'y' has NaN or an infinite number")
                switch.turn(fault="raise", golden_too=False)
                assert isinstance(await golden_run(channel), Done)
                assert isinstance(await run_rows(channel, np.ones((1, 4), np.float32)), Failed)
                switch.off()

    asyncio.run(look())


def test_code_of_users_is_not_tried_out_unasked(tmp_path: Path, profiles: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(PYTHON_MODEL)

    async def look() -> None:
        async with worker(path, "python", profiles) as (started, ready):
            assert ready.golden_cost is None
            failed = await golden_run(started.channels[0])
            assert isinstance(failed, Failed)
            assert failed.reason == "golden inputs: there are none"

    asyncio.run(look())


@pytest.mark.parametrize("must_be_finite", [True, False])
def test_nan_is_a_failure_of_its_row_where_that_is_declared(
    tmp_path: Path, profiles: Path, *, must_be_finite: bool
) -> None:
    graphs.identity(tmp_path / "same.onnx", "FP32")
    config = ModelConfig(finite_outputs=must_be_finite)

    async def look() -> None:
        async with worker(tmp_path / "same.onnx", "onnxruntime", profiles, config=config) as (started, ready):
            assert ready.spec.joins_requests
            shape = (4, *(1 if size < 0 else size for size in ready.spec.inputs[0].shape[1:]))
            rows = np.ones(shape, np.float32)
            (channel,) = started.channels[:1]
            done = await run_rows(channel, rows)
            assert isinstance(done, Done)
            assert not done.errors
            rows[2] = np.nan
            done = await run_rows(channel, rows)
            assert isinstance(done, Done)
            found = [(each.row, each.reason, each.is_input) for each in done.errors]
            name = ready.spec.outputs[0].name
            expected = [(2, f"output '{name}' has NaN or an infinite number", False)]
            assert found == (expected if must_be_finite else [])
            rows[...] = np.inf
            assert isinstance(await run_rows(channel, rows), Failed if must_be_finite else Done)

    asyncio.run(look())
