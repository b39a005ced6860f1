"""Callers whose every answer proves whose it is: each request carries a number of its own, and each model has its own factor.

They are a process of their own (asking_run.py), so that what a row does meanwhile delays no call. Open loop: a call goes out
at its time, whatever became of those before.
"""

import json
import pickle
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

HOST = "127.0.0.1"
LOST, GAVE_UP, NOT_SENT, OUT = -1, -2, -3, -4
"""In place of an HTTP status: the connection ended, the caller did, there was no connection, not over yet."""
PATIENCE_S = 10.0
"""After its deadline a caller still waits so long, to tell an answer that is late from none."""
AHEAD_S = 0.5
"""From an order to its first call."""
MOST_FAULTS = 8


@dataclass(frozen=True)
class Asked:
    """A model and how it is asked: one row, whose first element is the number.

    Attributes:
        name: of the model or skill.
        source, output: its input, and its output whose first element proves the answer.
        width: elements of the row.
        rate: calls a second, at random times.
        deadline_s: told to the server.
        factors: who answered ("" for what was asked, else as x-degraded's step says) → the number's factor in the answer.
        fixed: who answered → the answer's first element, where it is always the same.
    """

    name: str
    source: str
    output: str
    width: int
    rate: float
    deadline_s: float
    factors: dict[str, float]
    fixed: dict[str, float]

    def requests_of(self, numbers: Sequence[float]) -> list[bytes]:
        """One for each number."""
        inputs = [
            {
                "name": self.source,
                "shape": [1, self.width],
                "datatype": "FP32",
                "parameters": {"binary_data_size": 4 * self.width},
            }
        ]
        meta = json.dumps({"inputs": inputs, "outputs": [{"name": self.output}]}).encode()
        head = (
            f"POST /v2/models/{self.name}/infer HTTP/1.1\r\nhost: {HOST}\r\n"
            f"x-request-timeout-seconds: {self.deadline_s:g}\r\n"
            "content-type: application/octet-stream\r\n"
            f"inference-header-content-length: {len(meta)}\r\n"
            f"content-length: {len(meta) + 4 * self.width}\r\n\r\n"
        ).encode()
        rest = np.full(self.width - 1, 0.5, "<f4").tobytes()
        return [head + meta + struct.pack("<f", number) + rest for number in numbers]

    def is_right(self, answer: dict[str, Any], number: float) -> bool:
        """Whether this is the answer to that number, by whoever it says."""
        by = str(answer.get("parameters", {}).get("degraded", ""))
        found = next(each["data"][0] for each in answer["outputs"] if each["name"] == self.output)
        if by in self.fixed:
            return bool(found == self.fixed[by])
        return by in self.factors and bool(np.float32(found) == np.float32(self.factors[by] * number))


@dataclass(frozen=True)
class Order:
    """What the process is told. `zero`: when the first second begins, by time.perf_counter, which all processes share."""

    port: int
    asked: tuple[Asked, ...]
    seconds: float
    zero: float
    seed: int
    core: int | None = None


@dataclass(frozen=True)
class Heard:
    """Arrays of one length, a row a call, in the order of time. Times in seconds of the order's run.

    Attributes:
        whose: int16, index into the order's `asked`.
        number: float64, what the request carried.
        is_right: of an answer with 200, whether it was the one to that number; true where there was no such answer.
        is_degraded: it said that it was a lesser one.
        faults: up to MOST_FAULTS different answers that were neither right nor refusals, as text.
    """

    whose: np.ndarray
    number: np.ndarray
    scheduled: np.ndarray
    ended: np.ndarray
    status: np.ndarray
    is_right: np.ndarray
    is_degraded: np.ndarray
    faults: tuple[str, ...]

    def of(self, whose: int, since: float = 0.0, until: float = float("inf")) -> "Heard":
        """Of one model, scheduled within that time."""
        kept = (self.whose == whose) & (self.scheduled >= since) & (self.scheduled < until)
        names = ("whose", "number", "scheduled", "ended", "status", "is_right", "is_degraded")
        return Heard(**{name: getattr(self, name)[kept] for name in names}, faults=self.faults)

    @property
    def is_ok(self) -> np.ndarray:
        return self.status == HTTPStatus.OK

    @property
    def is_good(self) -> np.ndarray:
        """Answered, and with the right answer."""
        return self.is_ok & self.is_right

    @property
    def wrong(self) -> int:
        return int((~self.is_right).sum())

    @property
    def unanswered(self) -> int:
        """Neither an answer nor an error came."""
        return int((self.status <= 0).sum())

    @property
    def latency(self) -> np.ndarray:
        return self.ended - self.scheduled

    def statuses(self) -> dict[int, int]:
        found, counts = np.unique(self.status, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))


class Asking:
    """A run that is under way; `zero` is when it began, or will."""

    def __init__(
        self, port: int, asked: tuple[Asked, ...], seconds: float, seed: int, core: int | None
    ) -> None:
        self.asked, self.seconds = asked, seconds
        self.zero = time.perf_counter() + AHEAD_S
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("asking_run.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        pickle.dump(Order(port, asked, seconds, self.zero, seed, core), self._process.stdin)
        self._process.stdin.flush()

    def wait_until(self, at: float) -> None:
        """Sleep until so many seconds of the run have passed."""
        time.sleep(max(0.0, self.zero + at - time.perf_counter()))

    @property
    def now(self) -> float:
        return time.perf_counter() - self.zero

    def heard(self) -> Heard:
        """Blocks until the run is over.

        Raises:
            RuntimeError: the process ended without a result.
        """
        longest = self.seconds + max(each.deadline_s for each in self.asked) + PATIENCE_S
        try:
            out, _ = self._process.communicate(timeout=max(0.0, longest - self.now) + 2 * PATIENCE_S)
        finally:
            self.stop()
        if self._process.returncode:
            raise RuntimeError(f"the process that asks ended with status {self._process.returncode}")
        heard: Heard = pickle.loads(out)
        return heard

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
