"""Some seconds of mixed load from callers that ask at the same time, with what the server made of it."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from threading import Event
from typing import Any

import numpy as np
from ask import Caller, Request, one
from case import Case, Skill
from rich.console import Console
from rich.live import Live
from rich.table import Table

SECONDS = 5.0
CALLERS = {"sentiment": 8, "credit-risk": 4, "upload-guard": 2, "photo-moderation": 1}
SHOWN_S = 0.25


@dataclass
class Load:
    """What one skill's callers send, and what came of it. The callers' threads only append to it."""

    skill: Skill
    requests: list[Request]
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


def load_of(skill: Skill, cases: list[Case]) -> Load:
    """A skill's requests, each of one item."""
    return Load(skill, [one(skill.name, case) for case in cases])


def send(address: str, loads: list[Load], console: Console) -> None:
    """Let all callers ask for some seconds.

    Raises:
        Failure: a request was not answered.
    """
    for load in loads:
        load.before = load.now = counted(address, load)
    over = Event()
    callers = [(load, first) for load in loads for first in range(CALLERS[load.skill.name])]
    started = time.perf_counter()
    with ThreadPoolExecutor(len(callers)) as threads, Live(console=console, auto_refresh=False) as live:
        running = [threads.submit(keep_asking, address, load, first, over.is_set) for load, first in callers]
        try:
            keep_showing(loads, live if console.is_terminal else None, started)
        finally:
            over.set()
        for each in running:
            each.result()
        passed = time.perf_counter() - started
        for load in loads:
            load.now = counted(address, load)
        live.update(table(loads, passed), refresh=True)


def keep_showing(loads: list[Load], live: Live | None, started: float) -> None:
    """Until the time is over; where nobody looks on, the last table is enough."""
    while (passed := time.perf_counter() - started) < SECONDS:
        if live is not None:
            live.update(table(loads, passed), refresh=True)
        time.sleep(SHOWN_S)


def keep_asking(address: str, load: Load, first: int, is_over: Callable[[], bool]) -> None:
    """One caller: the next request goes out when the answer to the last has come."""
    caller, at = Caller(address), first
    while not is_over():
        started = time.perf_counter()
        caller.ask(load.requests[at % len(load.requests)])
        load.latencies.append(time.perf_counter() - started)
        at += 1
    caller.close()


def counted(address: str, load: Load) -> dict[str, int]:
    """The server's statistics of a skill's model."""
    connection = HTTPConnection(address, timeout=10)
    connection.request("GET", f"/v2/models/{load.skill.name}/stats")
    stats: dict[str, Any] = json.loads(connection.getresponse().read())["model_stats"][0]
    connection.close()
    return stats


def table(loads: list[Load], seconds: float) -> Table:
    shown = Table("skill")
    for heading in ("callers", "answers/s", "p50 ms", "p99 ms", "rows a batch"):
        shown.add_column(heading, justify="right")
    for load in loads:
        name, latencies = load.skill.name, list(load.latencies)
        p50, p99 = np.percentile(latencies, (50, 99)) * 1000 if latencies else (0.0, 0.0)
        rate = len(latencies) / seconds if seconds else 0.0
        rows = f"{load.rows_a_batch:.2f}" if load.rows_a_batch else ""
        shown.add_row(name, str(CALLERS[name]), f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}", rows)
    return shown
