"""CPU microseconds a request costs the gateway, in isolation: no sockets, no worker, no load generator beside it.

    python benchmarks/gateway_cpu.py [32] [--binary] [--profile]

The real protocol, decoder, queue, assembly, encoder and metrics run in one process between a transport that forgets
what is written and a channel that answers at once. What is missing is the kernel's part, about as much again.
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
FLOAT = np.dtype("f4")
SPEC = ModelSpec(
    "mlp",
    "1",
    "onnxruntime_onnx",
    (TensorSpec("input", Datatype.FP32, (-1, WIDTH), 0),),
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


class ReadyVersion:
    """What the catalog and the desk ask of a version."""

    accepts = True
    reason = ""
    transforms = None
    source = Source("mlp", "1", Path("mlp.onnx"), "onnxruntime")

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline


class Harness:
    """A gateway with so many connections."""

    def __init__(self, connections: int) -> None:
        loop = asyncio.get_running_loop()
        settings, clock = Settings(), time.perf_counter
        observers = [Metrics(lambda: ()), Statistics(time.time)]

        def report(event: Event) -> None:
            for observer in observers:
                observer(event)

        pipeline = Pipeline(SPEC, Limits(settings.max_queue_bytes, settings.max_rows), clock, report)
        self.channel = PromptChannel(loop, pipeline)
        latency = LatencyModel({WIDTH: {1: 1e-4, 32: 2e-4}})
        pipeline.attach([self.channel], SPEC, latency)  # type: ignore[list-item]
        catalog = Catalog(settings, clock, report)
        catalog._models["mlp"] = {"1": ReadyVersion(pipeline)}  # type: ignore[dict-item]
        desk = Desk(catalog, settings, clock, lambda: pipeline, report)
        config = uvicorn.Config(no_app, ws="none", log_config=None, access_log=False, lifespan="off")
        config.load()
        state = ServerState()
        self.protocols = []
        for _ in range(connections):
            protocol = LeanProtocol(config, state, {}, loop, desk=desk)
            protocol.connection_made(ForgetfulTransport())
            self.protocols.append(protocol)

    async def work(self, requests: list[bytes], wanted: int) -> int:
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
        assert transport.last == b"HTTP/1.1 200", f"answered {transport.last!r}"
        return transport.answers - first


async def measure(batch: int, requests: list[bytes], each: int, *, is_profiled: bool) -> dict[str, object]:
    harness = Harness(batch)
    await harness.work(requests, each // 10)
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        answers = await harness.work(requests, each)
        found.append(1e6 * (time.process_time() - started) / answers)
    if is_profiled:
        with cProfile.Profile() as profile:
            await harness.work(requests, each)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    return {"batch": batch, "us": found, "mean_batch": ForgetfulTransport.answers / harness.channel.batches}


def make_requests(folder: Path, *, binary: bool) -> list[bytes]:
    model = models.make_mlp(folder / "mlp.onnx")
    return workloads.vectors(model, "mlp", WIDTH, binary=binary).requests


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("batch", nargs="?", type=int, default=32)
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    parser.add_argument("--requests", type=int, default=20_000, help="in each of five runs")
    parser.add_argument("--folder", type=Path, default=Path(".bench/models"))
    given = parser.parse_args()
    bodies = make_requests(given.folder, binary=given.binary)
    print(json.dumps(uvloop.run(measure(given.batch, bodies, given.requests, is_profiled=given.profile))))
