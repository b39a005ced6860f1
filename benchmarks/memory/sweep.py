"""Every batch size of a model, measured round by round in a process of its own: what a chosen size is held against.

`python sweep.py`, on standard input a JSON object of `load` (a Load), `sizes` and `rounds`; a line for each size comes out.
Sizes go up in the first round, so that what runs took by then is known of each; in later ones they are shuffled, so that
what else the machine does befalls all alike.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import numpy as np

from headrace.execution import linux
from headrace.execution.measure import once
from headrace.execution.opening import Opening
from headrace.execution.probe import Probe
from headrace.execution.process_memory import forget_peak, peak_private_bytes
from headrace.execution.profiles import ProfileStore
from headrace.execution.wire import Load

RUNS = 4
"""Of a size in a round."""


def sweep(load: Load, sizes: list[int], rounds: int) -> list[dict[str, float]]:
    opened = Opening(load, ProfileStore(Path(load.profile_dir or "."))).open()
    probe = Probe(opened.backend, max_batch_size=max(sizes), pads={})
    probe.first_run()
    took: dict[int, list[float]] = {rows: [] for rows in sizes}
    nbytes: dict[int, int] = {}
    linux.trim_heap()
    for at in range(rounds):
        order = sizes if at == 0 else Random(at).sample(sizes, len(sizes))
        for rows in order:
            inputs = probe.batch([probe.row(seed) for seed in range(rows)])
            forget_peak(os.getpid())
            probe.run(inputs)  # it may take memory, and is not timed
            took[rows] += [once(partial(probe.run, inputs)) for _ in range(RUNS)]
            nbytes.setdefault(rows, peak_private_bytes(os.getpid()))
    return [
        {
            "rows": rows,
            "rate": rows / float(np.median(took[rows])),
            "p99_s": float(np.quantile(took[rows], 0.99, method="inverted_cdf")),
            "nbytes": nbytes[rows],
        }
        for rows in sizes
    ]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    for line in sweep(msgspec.convert(asked["load"], Load), asked["sizes"], asked["rounds"]):
        print(json.dumps(line))
