"""Where workers go: each model into a process of its own, or small ones together, so that many are not as many processes."""

import asyncio
import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from headrace.execution.process import Process
from headrace.execution.process_memory import private_bytes
from headrace.execution.supervisor import Worker, WorkerEvents
from headrace.execution.wire import Load
from headrace.execution.worker_groups import WorkerGroups

MAY_SHARE = frozenset({"onnxruntime"})
"""Backends that run nobody's code but their runtime's."""
SMALL_BYTES = 64 << 20
"""Of a model's files together, at most."""
WARM_S = 10.0
"""How long a shared process that has become empty waits for the next model, which needs not wait for a start then."""
MOST_CULPRITS = 1000
"""Models that have ended a shared process, of which that is remembered."""

Identity = tuple[str, tuple[object, ...]]
"""A model's path and its files as they were found: with others it is another model."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A process and what is in it now, as in "skill/1"."""

    pid: int
    labels: tuple[str, ...]


class Workers:
    """All of a server's worker processes begin here. Lives on the loop; `close` it last."""

    def __init__(self, per_process: int = 1, groups: WorkerGroups | None = None) -> None:
        """`per_process`: how many small models share a process; 1 gives each its own. `groups` has the control group of each."""
        self._per_process = per_process
        self._groups = groups or WorkerGroups()
        # The mutable state: processes that are shared, with what ends them while they are empty, and who has ended one.
        self._shared: dict[Process, asyncio.TimerHandle | None] = {}
        self._culprits: dict[Identity, None] = {}

    def hire(self, load: Load, events: WorkerEvents) -> Worker:
        """Have a model opened, beside others where it may be.

        Raises:
            OSError: there is no memory, descriptor or process number left for it.
        """
        if not self.may_share(load):
            return Worker(load, events, groups=self._groups)
        for process in self._with_room():
            with contextlib.suppress(OSError):  # it has ended, and that was not noticed yet
                return self._enter(process, load, events)
        process = Process(self._groups, self)
        self._shared[process] = None
        return self._enter(process, load, events)

    def shared(self) -> list[Shared]:
        """The processes that are shared, empty ones too."""
        return [
            Shared(each.pid, tuple(f"{member.load.name}/{member.load.version}" for member in each.members))
            for each in self._shared
        ]

    def may_share(self, load: Load) -> bool:
        """Whether a model would be put beside others."""
        return self._per_process > 1 and may_share(load) and identity(load) not in self._culprits

    def sharers(self, *, is_in: bool) -> float:
        """How many models share a process, so that their parts make the whole; with one more that may share, if it is not in yet.

        An empty process counts, too: it is there. Where another one is needed for it, that is all its own at first.
        """
        members = sum(len(each.members) for each in self._shared)
        if not self._shared or (not is_in and not self._with_room()):
            return 1.0
        return max(1, members if is_in else members + 1) / len(self._shared)

    def private_bytes(self, pids: Iterable[int]) -> int:
        """Private bytes of one model's processes; of a shared one its part."""
        members = {process.pid: len(process.members) for process in self._shared}
        return sum(private_bytes(pid) // max(1, members.get(pid, 1)) for pid in pids)

    def close(self) -> None:
        """End what is left; waits for it."""
        for process in list(self._shared):
            process.close()

    def on_left(self, process: Process) -> None:
        if not process.members:
            self._shared[process] = asyncio.get_running_loop().call_later(WARM_S, process.kill)

    def on_culprit(self, load: Load) -> None:
        self._culprits[identity(load)] = None
        while len(self._culprits) > MOST_CULPRITS:
            del self._culprits[next(iter(self._culprits))]

    def on_ended(self, process: Process) -> None:
        self._keep(process)
        del self._shared[process]

    def _with_room(self) -> list[Process]:
        """The fullest first: so others become empty as models leave, and end."""
        found = [each for each in self._shared if len(each.members) < self._per_process]
        return sorted(found, key=lambda each: len(each.members), reverse=True)

    def _enter(self, process: Process, load: Load, events: WorkerEvents) -> Worker:
        worker = Worker(load, events, process)
        self._keep(process)
        return worker

    def _keep(self, process: Process) -> None:
        """Do not end it for being empty."""
        timer = self._shared[process]
        if timer is not None:
            timer.cancel()
            self._shared[process] = None


def may_share(load: Load) -> bool:
    """Whether a model may be in a process with others: small, and nothing but its runtime runs there.

    Options with a dot are onnxruntime's own entries, some of which concern the whole process.
    """
    config = load.config
    is_plain = load.backend in MAY_SHARE and not load.measure_only and not config.steps
    return is_plain and not any("." in each for each in config.options) and size_of(load) <= SMALL_BYTES


def size_of(load: Load) -> float:
    """Bytes of a model's files; infinite if they are not known."""
    if load.stamps:
        return sum(each.size for each in load.stamps)
    try:
        return os.stat(load.path).st_size  # noqa: PTH116 - one call a load, and nothing else is asked of the path
    except OSError:
        return float("inf")


def identity(load: Load) -> Identity:
    return load.path, load.stamps
