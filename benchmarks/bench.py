"""What all rows share: the folder, the length of a run, the load generator, the peers."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import models
import peers
from load import Seen, Workload
from servers import NotServing, Server

HERE = Path(__file__).parent
SEED = 7
LOAD_LIMIT_S = 120.0
SATURATED = 0.95
"""Above this share of its core the generator, not the server, may have set the figure."""


@dataclass
class Bench:
    """One run of the benchmarks."""

    folder: Path
    is_quick: bool
    began: float = field(default_factory=time.perf_counter)
    checked: int = 0
    answers: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        return 1 if self.is_quick else 5

    def seconds(self, full: float) -> float:
        """Length of a measured window."""
        return full / 4 if self.is_quick else full

    def say(self, text: str) -> None:
        """A progress line, apart from the report."""
        print(f"[{time.perf_counter() - self.began:5.0f} s] {text}", file=sys.stderr, flush=True)

    @cached_property
    def peers(self) -> peers.Peers:
        """Installed when the first row asks for them."""
        self.say("installing the servers to compare with")
        found = peers.install(self.folder / "peers")
        for reason in found.missing.values():
            self.say(reason)
        return found

    @property
    def core(self) -> int | None:
        """The generator's: the last one this process may use, if there is another for the servers."""
        cores = sorted(os.sched_getaffinity(0))
        return cores[-1] if len(cores) > 1 else None

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def model(self, name: str, make: Callable[[Path], Path]) -> Path:
        """A small model of ours; its name is what it is served as."""
        return make(self.folder / "models" / f"{name}.onnx")

    def packaged(self, name: str, source: tuple[str, str]) -> Path:
        """A real model under a short name.

        Raises:
            LookupError: its package is not there.
        """
        link = self.folder / "models" / f"{name}.onnx"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(models.packaged(*source))
        return link

    def workload(self, name: str, workload: Workload) -> Path:
        folder = self.folder / "workloads"
        folder.mkdir(parents=True, exist_ok=True)
        return workload.save(folder / f"{name}.pickle")

    def load(
        self,
        server: Server,
        workload: Path,
        connections: int,
        seconds: float,
        probes: tuple[str, ...] = (),
    ) -> Seen:
        """Load a server; wrong or missing answers are remembered and fail the whole run."""
        spec = {
            "workload": str(workload),
            "port": server.port,
            "connections": connections,
            "seed": SEED,
            "warm_s": max(0.3, seconds / 5),
            "seconds": seconds,
            "core": self.core,
            "pids": server.pids(),
            "probes": list(probes),
        }
        done = subprocess.run(
            [sys.executable, str(HERE / "load.py")],
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            timeout=LOAD_LIMIT_S + seconds,
            check=False,
        )
        if done.returncode:
            reason = f"{server.name} could not be loaded: {done.stderr[-500:]}"
            self.faults.append(reason)
            raise NotServing(reason)
        seen = Seen(**json.loads(done.stdout))
        self.answers += seen.answers
        self.checked += seen.checked
        if seen.wrong or seen.lost:
            self.faults.append(
                f"{server.name}, {connections} connections: {seen.wrong} wrong answers, {seen.lost} lost; "
                f"first: {seen.first_fault}"
            )
        rate = seen.answers / seen.seconds
        self.say(
            f"{server.name}, {connections} connections: {rate:,.0f} requests/s, p50 {seen.p50_ms:.2f} ms"
        )
        return seen


def rate(seen: Seen) -> float:
    return seen.answers / seen.seconds


def cpu_us(seen: Seen, who: str) -> float:
    """CPU microseconds a request."""
    return 1e6 * seen.cpu_s[who] / max(1, seen.answers)


def middle(values: list[float]) -> float:
    """The median; nan of nothing."""
    return statistics.median(values) if values else float("nan")


def spread(values: list[float], digits: int = 2) -> str:
    """Median and range."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{middle(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Round by round, so that what slows the machine for a while slows both sides of a ratio."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if b]


def generator_note(runs: list[Seen]) -> list[str]:
    """Says so when the generator was the limit."""
    busiest = max((each.own_cpu_s / each.seconds for each in runs), default=0.0)
    if busiest < SATURATED:
        return []
    return [
        f"The load generator used up to {100 * busiest:.0f} % of its core: the fastest figures may be its own."
    ]
