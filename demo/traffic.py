"""Mixed traffic from clients that run at the same time, shown live; every answer is compared with the bare runtime's."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from served import Failure
from skills import Sample, Skill

SECONDS = 10.0
CLIENTS = {"file-type": 6, "photo-moderation": 2, "sentence-embedding": 8}
SHOWN_S = 0.25
TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest element of the right answer: a batch is not summed in the same
order as a single row."""


@dataclass
class Load:
    """What one skill's clients send, and what came of it."""

    skill: Skill
    expected: list[np.ndarray]
    largest: float = 0.0
    latencies: list[float] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    now: dict[str, int] = field(default_factory=dict)

    @property
    def rows_a_batch(self) -> float:
        """From the differences of what the server counted."""
        rows, batches = (
            self.now.get(key, 0) - self.before.get(key, 0) for key in ("inference_count", "execution_count")
        )
        return rows / batches if batches else 0.0

    def check(self, sample: int, answer: np.ndarray) -> None:
        """Note how far an answer is from the bare runtime's."""
        expected = self.expected[sample]
        if answer.shape != expected.shape:
            self.largest = float("inf")
            return
        difference = float(np.abs(answer - expected).max() / np.abs(expected).max())
        self.largest = difference if np.isnan(difference) else max(self.largest, difference)


def bare_answers(skill: Skill) -> list[np.ndarray]:
    """What onnxruntime alone gives, each sample by itself, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(skill.model), options, providers=["CPUExecutionProvider"])
    return [session.run([skill.output], sample.inputs)[0] for sample in skill.samples]


def encoded(module: Any, sample: Sample) -> list[Any]:
    """The sample as tritonclient wants it, tensors in binary."""
    inputs = []
    for name, array in sample.inputs.items():
        tensor = module.InferInput(name, array.shape, triton.np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def send(address: str, loads: list[Load], console: Console) -> None:
    """Let the clients of all loads ask for ten seconds.

    Raises:
        Failure: a request was not answered.
    """
    try:
        with Live(console=console, auto_refresh=False) as live:
            asyncio.run(_send(address, loads, live))
    except ExceptionGroup as exc:
        raise Failure(f"a request was not answered: {exc.exceptions[0]!r}") from exc


async def _send(address: str, loads: list[Load], live: Live) -> None:
    clients = [(each, first) for each in loads for first in range(CLIENTS[each.skill.name])]
    async with triton_aio.InferenceServerClient(address, conn_limit=64) as client:
        for load in loads:
            load.before = load.now = await counts(client, load)
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for load, first in clients:
                tasks.create_task(keep_asking(client, load, first, started + SECONDS))
            tasks.create_task(keep_showing(client, loads, live, started))
        await show(client, loads, live, started)


async def keep_showing(
    client: triton_aio.InferenceServerClient, loads: list[Load], live: Live, started: float
) -> None:
    while time.perf_counter() < started + SECONDS - SHOWN_S:
        await show(client, loads, live, started)
        await asyncio.sleep(SHOWN_S)


async def show(
    client: triton_aio.InferenceServerClient, loads: list[Load], live: Live, started: float
) -> None:
    seconds = time.perf_counter() - started
    for load in loads:
        load.now = await counts(client, load)
    live.update(table(loads, seconds), refresh=True)


async def keep_asking(client: triton_aio.InferenceServerClient, load: Load, first: int, ends: float) -> None:
    """One client: the next request goes out when the answer to the last has come."""
    skill = load.skill
    requests = [encoded(triton_aio, sample) for sample in skill.samples]
    output = [triton_aio.InferRequestedOutput(skill.output)]
    at = first % len(requests)
    while (started := time.perf_counter()) < ends:
        result = await client.infer(skill.name, requests[at], outputs=output)
        load.latencies.append(time.perf_counter() - started)
        load.check(at, result.as_numpy(skill.output))
        at = (at + 1) % len(requests)


async def counts(client: triton_aio.InferenceServerClient, load: Load) -> dict[str, int]:
    found: dict[str, int] = (await client.get_inference_statistics(load.skill.name))["model_stats"][0]
    return found


def table(loads: list[Load], seconds: float) -> Table:
    shown = Table("model")
    for heading in ("clients", "answers/s", "p50 ms", "p99 ms", "rows a batch"):
        shown.add_column(heading, justify="right")
    for load in loads:
        name, latencies = load.skill.name, load.latencies
        p50, p99 = np.percentile(latencies, (50, 99)) * 1000 if latencies else (0.0, 0.0)
        rate = len(latencies) / seconds if seconds else 0.0
        shown.add_row(
            name, str(CLIENTS[name]), f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}", f"{load.rows_a_batch:.2f}"
        )
    return shown
