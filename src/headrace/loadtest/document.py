"""A load test as a document: how it was run, what came of it, and the same as JSON for programs."""

import os
import platform
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from headrace.loadtest.analysis import Analysis, Window, windows
from headrace.loadtest.record import Record
from headrace.loadtest.scrape import batch_sizes
from headrace.loadtest.search import Found, Outcome
from headrace.loadtest.verdict import Verdict

FORMAT, VERSION = "headrace bench", 1
"""Of the JSON; the version changes when a field changes its meaning or goes, not when one is added."""
SHORT_S = 5.0
"""A run up to this length is shown in tenths of a second."""
PERCENTILES = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100)
Json = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """Where the generator ran."""

    cores: int
    cpu: str
    system: str


@dataclass(frozen=True)
class Setup:
    """How a load test was run.

    Attributes:
        command: as it was typed.
        url: of the server.
        server: name and version, as it says.
        model: that was asked.
        load: what was sent, in words.
        seed: of its schedule.
        pinning: who runs on which core, in sentences.
        machine: of the generator.
        started: when, ISO 8601.
    """

    command: str
    url: str
    server: str
    model: str
    load: str
    seed: int
    pinning: tuple[str, ...]
    machine: Machine
    started: str


@dataclass(frozen=True)
class LoadTest:
    """One run, or a search with the run that it ended with.

    Attributes:
        setup: how it was run.
        record: of the run.
        analysis: of the record.
        verdict: the last word.
        outcomes: of a search's trials, in their order; empty for a single run.
        found: what the search found.
    """

    setup: Setup
    record: Record
    analysis: Analysis
    verdict: Verdict
    outcomes: tuple[Outcome, ...] = ()
    found: Found | None = None

    @property
    def window_s(self) -> float:
        return 1.0 if self.record.seconds > SHORT_S else 0.1

    @property
    def latencies(self) -> np.ndarray:
        """Of the accepted attempts, seconds from when each was scheduled."""
        is_accepted = self.record.status == HTTPStatus.OK
        taken: np.ndarray = (self.record.ended - self.record.scheduled)[is_accepted]
        return taken

    def windows(self, caller: int | None = None) -> list[Window]:
        """The run over time, of all callers or one."""
        return windows(self.record, self.window_s, caller)


def this_machine() -> Machine:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    return Machine(len(os.sched_getaffinity(0)), cpu, f"{platform.system()} {platform.release()}")


def to_json(test: LoadTest) -> Json:
    """Everything that the report shows, and no array of all calls."""
    latencies = test.latencies
    return {
        "format": FORMAT,
        "version": VERSION,
        "setup": asdict(test.setup),
        "verdict": asdict(test.verdict),
        "analysis": asdict(test.analysis),
        "callers": [asdict(each) for each in test.record.who],
        "latency_ms": {
            f"p{each:g}": float(value) * 1000
            for each, value in zip(PERCENTILES, np.percentile(latencies, PERCENTILES), strict=True)
        }
        if len(latencies)
        else {},
        "windows": [asdict(each) for each in test.windows()],
        "caller_windows": {
            who.name: [asdict(each) for each in test.windows(at)] for at, who in enumerate(test.record.who)
        }
        if len(test.record.who) > 1
        else {},
        "batch_sizes": batch_sizes(test.record),
        "trials": [trial_json(each) for each in test.outcomes],
        "found": None if test.found is None else asdict(test.found),
    }


def trial_json(outcome: Outcome) -> Json:
    return {
        "phase": outcome.trial.phase.value,
        "rate": outcome.trial.rate,
        "seconds": outcome.trial.seconds,
        "seed": outcome.trial.seed,
        "total": outcome.total,
        "late": outcome.late,
        "p99_ms": outcome.p99_ms,
        "void": outcome.void,
        "is_passed": outcome.is_passed,
    }
