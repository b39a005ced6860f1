"""Bare loops over onnxruntime, in a process of their own: what a worker would do with nothing around it.

python benchmarks/bare.py < spec.json        # prints seconds and rows as JSON
"""

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
import workloads
from workloads import Feed

Batch = tuple[int, Feed]
PREPARED = 3
"""Times the sentences are cut into batches, differently where the batch does not divide them."""


class Turns:
    """Batches for several threads, one after the other."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._lock = threading.Lock()

    def next(self) -> Batch:
        with self._lock:
            return next(self._batches)


def image_batches(sizes: dict[str, int]) -> Iterator[Batch]:
    """Batches in the sizes the server ran, as often beside each other as it ran them."""
    rng = np.random.default_rng(2)
    pool = rng.normal(0, 60, (max(map(int, sizes)), 224, 224, 3)).astype("f4")
    total = sum(sizes.values())
    shares = {int(size): number / total for size, number in sizes.items()}
    owed: dict[int, float] = dict.fromkeys(shares, 0.0)
    while True:
        for size, share in shares.items():
            owed[size] += share
        size = max(owed, key=lambda each: owed[each])
        owed[size] -= 1
        yield size, {"input:0": pool[:size]}


def sentence_batches(rows: int, window: int) -> Iterator[Batch]:
    """Batches of so many rows, padded to their longest, made before the clock runs.

    Args:
        rows: of a batch.
        window: sentences sorted by length before they are cut into batches; 1 leaves the order of arrival.
    """
    feeds = workloads.sentence_feeds()
    arriving = cycle(feeds)
    batches: list[Batch] = []
    while sum(size for size, _ in batches) < PREPARED * len(feeds):
        group = [next(arriving) for _ in range(max(window, rows))]
        if window > 1:
            group.sort(key=lambda feed: feed["input_ids"].shape[1])
        for start in range(0, len(group), rows):
            chosen = group[start : start + rows]
            batches.append((len(chosen), pad(chosen)))
    return cycle(batches)


def pad(feeds: list[Feed]) -> Feed:
    longest = max(feed["input_ids"].shape[1] for feed in feeds)
    return {
        name: np.concatenate([np.pad(f[name], ((0, 0), (0, longest - f[name].shape[1]))) for f in feeds])
        for name in feeds[0]
    }


def loop(spec: dict[str, Any], batches: Iterator[Batch]) -> dict[str, Any]:
    """As many threads as the server has instances, each running batches of one session until the time is over."""
    session = workloads.bare_session(Path(spec["model"]), spec["threads"], spins=spec["spins"])
    turns, clock = Turns(batches), time.perf_counter
    times: list[tuple[int, float]] = []
    warm = clock() + spec["warm_s"]
    ends = warm + spec["seconds"]

    def serve() -> None:
        for _ in count():
            size, feed = turns.next()
            started = clock()
            session.run([spec["output"]], feed)
            ended = clock()
            if ended >= ends:
                return
            if started >= warm:
                times.append((size, ended - started))

    threads = [threading.Thread(target=serve) for _ in range(spec["instances"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_size = defaultdict(list)
    for size, seconds in times:
        by_size[size].append(seconds)
    return {
        "rows": sum(size for size, _ in times),
        "batches": len(times),
        "compute_s": sum(seconds for _, seconds in times),
        "seconds": spec["seconds"],
        "by_size": {size: sum(each) / len(each) for size, each in sorted(by_size.items())},
    }


if __name__ == "__main__":
    given = json.load(sys.stdin)
    if given["kind"] == "images":
        source = image_batches(given["sizes"])
    else:
        source = sentence_batches(given["rows"], given["window"])
    json.dump(loop(given, source), sys.stdout)
