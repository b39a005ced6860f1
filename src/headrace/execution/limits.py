"""What keeps a worker that wants too much memory from taking the gateway, or the machine, with it.

The kernel ends workers before the gateway, and probes before workers. A worker whose needs are known may take so much
address space for data and no more: beyond that its allocations fail, which it survives, and nobody has to be ended.
"""

import contextlib
import resource

from headrace.execution.footprint import Footprint
from headrace.execution.machine_memory import MachineMemory
from headrace.execution.process_memory import status_of

WORKER_SCORE, PROBE_SCORE = 500, 800
"""Of 1000, on top of the part of the machine's memory that they have: who has to go first where there is none left."""
SLACK_BYTES, OF_RUNS = 576 << 20, 2
"""A worker may take so much, and so many times what its runs are known to take, on top of what it has when it is ready: it is
to hold one that goes wrong, not one that is a little off. Of address space: an arena that grows asks for one region more, of
as much as it has and a first one, and its bookkeeping. Where that does not fit whole, onnxruntime takes a smaller one, and
loses it for good if what is left is too little to keep book of it."""
OF_BOUND = 1.25
"""Its control group may take so many times that, and SLACK_BYTES: what its address space does not bound, as shared memory, the
kernel's own of it, and processes that it starts."""


class KernelKills:
    """Tells whether a process that was killed was killed by the kernel for want of memory. Lives on the loop.

    The kernel counts its kills and does not say whom. One that befell somebody else in the same group is taken for the next
    worker's that is killed from outside.
    """

    def __init__(self, machine: MachineMemory | None = None) -> None:
        self._machine = machine or MachineMemory()
        # The mutable state: kills that are accounted for.
        self._seen = self._machine.oom_kills()

    def take(self) -> bool:
        """A process was killed; True if there is a kernel's kill to account for it."""
        if self._machine.oom_kills() <= self._seen:
            return False
        self._seen += 1
        return True


def let_go_first(pid: int, score: int = WORKER_SCORE) -> None:
    """Have the kernel end that process before this one where memory runs out. A process that has ended is left alone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:  # noqa: PTH123 - a kernel file
        file.write(str(score))


def data_of(pid: int) -> int:
    """Address space for private data that a process has; 0 if it has ended."""
    return status_of(pid).get("VmData", 0)


def shared_of(pid: int) -> int:
    """Bytes in memory that are no private data and count in its control group all the same: files, and what others see too."""
    status = status_of(pid)
    return status.get("RssFile", 0) + status.get("RssShmem", 0)


def bound(pid: int, ready_bytes: int, footprint: Footprint, runs_bytes: int) -> int | None:
    """Bound a process to what it needs; the bound may be moved again.

    Gives the bytes of address space for data; None if what it needs is not known, or it has ended.

    Args:
        pid: a child of this process.
        ready_bytes: address space for data that it had when it was ready.
        footprint: what its model takes, as measured.
        runs_bytes: what its runs may take at once.
    """
    if not footprint.peaks or not ready_bytes:
        return None
    data = ready_bytes + OF_RUNS * (footprint.data + runs_bytes) + SLACK_BYTES
    return data if limit_data(pid, data) else None


def group_limit(data: int, shared: int) -> int:
    """Bytes at which a process is ended that may have so much address space for data, and had so much else when it was ready.

    Well above both: whoever is refused memory says so and lives on, and is not to be ended just before.
    """
    return round(OF_BOUND * (data + shared)) + SLACK_BYTES


def limit_data(pid: int, nbytes: int) -> bool:
    """Bound address space for private data, softly, so that it can be moved; False if the process has ended or is another's."""
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            nbytes = min(nbytes, hard)
        resource.prlimit(pid, resource.RLIMIT_DATA, (nbytes, hard))
    except (ProcessLookupError, PermissionError):
        return False
    return True
