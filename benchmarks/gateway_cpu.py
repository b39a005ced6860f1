"""CPU microseconds a request costs the gateway, in isolation: no sockets, no worker, no load generator beside it.

    python benchmarks/gateway_cpu.py [32] [--binary] [--profile]
    python benchmarks/gateway_cpu.py --refused [--floats 500] [--binary] [--profile]

The real protocol, decoder, queue, assembly, encoder and metrics run in one process between a transport that forgets
what is written and a channel that answers at once, or, for what is refused on arrival, one that never does and before
which more waits than can be answered in time. What is missing is the kernel's part, about as much again.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import time
from pathlib import Path

import models
import numpy as np
import uvicorn
import uvloop
import workloads
from uvicorn.server import ServerState

from headrace.batching.latency import LatencyModel
from headrace.config import Settings
from headrace.events import Event
from headrace.execution.arena import Region
from headrace.execution.channel import InFlight
from headrace.execution.wire import CREDITS, Done, Placed, Run, decode_result, encode
from headrace.frontends.desk import Desk
from headrace.frontends.http import LeanProtocol
from headrace.lifecycle.catalog import Catalog
from headrace.messages import Datatype, ModelSpec, TensorSpec
from headrace.pipeline import Limits, Pipeline
from headrace.repository.source import Source
from headrace.telemetry.metrics import Metrics
from headrace.telemetry.statistics import Statistics

WIDTH = models.WIDTHS[0]
ROUNDS = 5
HOUR_S = 3600.0
FILLING = 4
"""Requests that wait before those that are refused, in batches of what is run."""
FLOAT = np.dtype("f4")


def spec_of(floats: int) -> ModelSpec:
    return ModelSpec(
        "mlp",
        "1",
        "onnxruntime_onnx",
        (TensorSpec("input", Datatype.FP32, (-1, floats), 0),),
        (TensorSpec("output", Datatype.FP32, (-1, 1), 0),),
        max_batch_size=1024,
        joins_requests=True,
    )


async def no_app(*_: object) -> None:
    """Infer requests never come here."""


class ForgetfulTransport(asyncio.Transport):
    """Counts answers and remembers only whether the last was right."""

    answers = 0
    last = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        ForgetfulTransport.answers += 1
        ForgetfulTransport.last = bytes(data[:12])

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: object = None) -> object:  # noqa: ARG002 - asyncio's signature
        return default

    def pause_reading(self) -> None:
        """There is no socket."""

    def resume_reading(self) -> None:
        """There is no socket."""


class PromptChannel:
    """Answers each batch in the next turn of the loop, with the messages a worker would send."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipeline: Pipeline) -> None:
        self._loop = loop
        self._pipeline = pipeline
        self._inputs, self._outputs = Region.create(), Region.create()
        self._in_flight: list[InFlight] = []
        self.batches = 0

    @property
    def credits(self) -> int:
        return CREDITS - len(self._in_flight)

    @property
    def is_idle(self) -> bool:
        return not self._in_flight

    def in_flight(self) -> list[InFlight]:
        return self._in_flight

    def inputs(self) -> Region:
        return self._inputs

    def send(self, batch: InFlight, inputs: tuple[Placed, ...], wanted: tuple[int, ...]) -> None:
        self._in_flight.append(batch)
        self.batches += 1
        encode(Run(self.batches, 0, self._inputs.size, inputs, wanted))
        self._loop.call_soon(self._answer, inputs[0].shape[0])

    def _answer(self, rows: int) -> None:
        batch = self._in_flight.pop(0)
        now = time.perf_counter_ns()
        output = Placed(0, 0, FLOAT.itemsize * rows, (rows, 1))
        message = encode(Done(self.batches, self._outputs.size, (output,), now, now, now, now))
        self._pipeline.dispatch()
        done = decode_result(message)
        assert isinstance(done, Done), "it was encoded as one"
        batch.on_done(done, self._outputs)


class StuckChannel(PromptChannel):
    """Answers nothing."""

    def _answer(self, rows: int) -> None:
        """It takes an hour."""


class ReadyVersion:
    """What the catalog and the desk ask of a version."""

    accepts = True
    reason = ""
    transforms = None
    source = Source("mlp", "1", Path("mlp.onnx"), "onnxruntime")

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline


class Harness:
    """A gateway with so many connections; one that is full has an hour of work before it, and no longer to do it."""

    def __init__(self, connections: int, floats: int = WIDTH, *, is_full: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        settings = Settings(deadline_s=HOUR_S) if is_full else Settings()
        clock = time.perf_counter
        observers = [Metrics(lambda: ()), Statistics(time.time)]

        def report(event: Event) -> None:
            for observer in observers:
                observer(event)

        spec = spec_of(floats)
        pipeline = Pipeline(spec, Limits(settings.max_queue_bytes, settings.max_rows), clock, report)
        self.channel = (StuckChannel if is_full else PromptChannel)(loop, pipeline)
        latency = LatencyModel({floats: {1: 1e-4, 32: 2e-4}})
        if is_full:
            latency = LatencyModel({floats: {1: HOUR_S / 4, settings.max_rows: HOUR_S / 2}})
        pipeline.attach([self.channel], spec, latency)  # type: ignore[list-item]
        catalog = Catalog(settings, clock, report)
        catalog._models["mlp"] = {"1": ReadyVersion(pipeline)}  # type: ignore[dict-item]
        self._desk = Desk(catalog, settings, clock, lambda: pipeline, report)
        self._config = uvicorn.Config(no_app, ws="none", log_config=None, access_log=False, lifespan="off")
        self._config.load()
        self._state = ServerState()
        self.protocols = self._connect(connections)
        self._most_rows = settings.max_rows

    def _connect(self, connections: int) -> list[LeanProtocol]:
        found = []
        for _ in range(connections):
            protocol = LeanProtocol(self._config, self._state, {}, self._loop, desk=self._desk)
            protocol.connection_made(ForgetfulTransport())
            found.append(protocol)
        return found

    async def fill(self, requests: list[bytes]) -> None:
        """Let more wait than can be answered in time."""
        waiting = self._connect(FILLING * self._most_rows)
        for protocol in waiting:
            protocol.data_received(requests[0])
            await asyncio.sleep(0)
        self.waiting = waiting

    async def work(self, requests: list[bytes], wanted: int, status: bytes = b"200") -> int:
        """Send on all connections, wait for all answers, again; the number of answers."""
        transport, first = ForgetfulTransport, ForgetfulTransport.answers
        at = 0
        while transport.answers - first < wanted:
            due = transport.answers + len(self.protocols)
            for protocol in self.protocols:
                protocol.data_received(requests[at])
                at = (at + 1) % len(requests)
            while transport.answers < due:
                await asyncio.sleep(0)
        assert transport.last == b"HTTP/1.1 " + status, f"answered {transport.last!r}"
        return transport.answers - first


async def measure(given: argparse.Namespace) -> dict[str, object]:
    requests = make_requests(given.floats, binary=given.binary)
    status = b"503" if given.refused else b"200"
    harness = Harness(given.batch, given.floats, is_full=given.refused)
    if given.refused:
        await harness.fill(requests)
    await harness.work(requests, given.requests // 10, status)
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        answers = await harness.work(requests, given.requests, status)
        found.append(1e6 * (time.process_time() - started) / answers)
    if given.profile:
        with cProfile.Profile() as profile:
            await harness.work(requests, given.requests, status)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    measured: dict[str, object] = {"batch": given.batch, "us": found}
    if given.refused:
        body = requests[0].partition(b"\r\n\r\n")[2]
        return {**measured, "body_bytes": len(body)}
    return {**measured, "mean_batch": ForgetfulTransport.answers / harness.channel.batches}


def make_requests(floats: int, *, binary: bool) -> list[bytes]:
    rows = workloads.rows(floats)
    if binary:
        return [workloads.binary_request("mlp", {"input": row.astype("f4")}, "output") for row in rows]
    return [workloads.json_request("mlp", row) for row in rows]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("batch", nargs="?", type=int, default=32)
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("--refused", action="store_true", help="requests that are refused on arrival")
    parser.add_argument("--floats", type=int, default=WIDTH, help="a row")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--requests", type=int, default=20_000, help="in each of five runs")
    print(json.dumps(uvloop.run(measure(parser.parse_args()))))
