"""What only Linux has: anonymous shared memory, death with the parent, priorities."""

import contextlib
import ctypes
import fcntl
import functools
import os
import resource
import signal
import threading

PR_SET_PDEATHSIG = 1
F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2
BEHIND = 5
"""Steps of nice, each a quarter of the time of a core that two want: the gateway gets three times a worker's."""
LOWEST = 19


def create_memory(name: str) -> int:
    """An anonymous memory file that can grow and never shrink.

    It has no name in any file system, so nothing is left to clean up; sealed against shrinking, so that a reader
    of mapped pages cannot be killed by whoever shares it.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
    return fd


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    `parent` is the pid that started it: if that has died before the call, this process exits here.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def enter_group(name: str) -> None:
    """Make a control group of that name and this process's number, and go there; it stays where it is if it cannot."""
    folder = f"{name}-{os.getpid()}"
    with contextlib.suppress(OSError):
        os.mkdir(folder)  # noqa: PTH102 - a kernel file, not a path of ours
        try:
            with open(f"{folder}/cgroup.procs", "r+") as members:  # noqa: PTH123 - a kernel file, too
                members.write(str(os.getpid()))
        except OSError:
            os.rmdir(folder)  # noqa: PTH106 - a kernel file, too


def trim_heap() -> None:
    """Give the kernel back what was freed here and the C library keeps for later; does nothing where it is not glibc."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def run_when_idle(pid: int) -> None:
    """Give a process of one thread only the time that nobody else wants."""
    with contextlib.suppress(ProcessLookupError):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


@functools.cache
def may_come_back_from_idle() -> bool:
    """Whether a thread that runs when nobody else wants a core may be made to run as others do again."""
    idle, usual = os.sched_param(0), os.sched_param(0)
    came_back = []

    def try_it() -> None:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, idle)
            os.sched_setscheduler(0, os.SCHED_OTHER, usual)
            came_back.append(True)

    trial = threading.Thread(target=try_it)
    trial.start()
    trial.join()
    return bool(came_back)


def is_idle() -> bool:
    """Whether this thread runs only when nobody else wants a core."""
    return os.sched_getscheduler(0) == os.SCHED_IDLE


def run_as_usual(pid: int) -> None:
    """Have all threads of a process take their part of the cores again."""
    with contextlib.suppress(OSError):  # it has ended, or one of them has
        for task in os.scandir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


def have_way_given(pid: int) -> None:
    """Have a process that was just started let this one go first where both want a core.

    The gateway's work a batch is short and everybody waits for it; a run is long and loses little. Not left to the process
    itself: until it has read its modules, it would go before those that are running something.
    """
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, min(LOWEST, os.getpriority(os.PRIO_PROCESS, 0) + BEHIND))


def waited_for_core_s() -> float:
    """Seconds this thread was ready to run and no core was free; 0 where the kernel does not count them."""
    try:
        with open("/proc/thread-self/schedstat") as file:  # noqa: PTH123 - a kernel file, not a path of ours
            return int(file.read().split()[1]) * 1e-9
    except (OSError, IndexError):
        return 0.0


def usable_cores() -> int:
    """Cores this process may run on, within its control group's quota (v1 and v2)."""
    cores = len(os.sched_getaffinity(0))
    for path, parse in (
        ("/sys/fs/cgroup/cpu.max", lambda text: text.split()),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", lambda text: [text.strip(), _v1_period()]),
    ):
        try:
            with open(path) as file:  # noqa: PTH123 - a kernel file, not a path of ours
                quota, period = parse(file.read())
        except (OSError, ValueError):
            continue
        if quota not in {"max", "-1"}:
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _v1_period() -> str:
    with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:  # noqa: PTH123 - a kernel file
        return file.read().strip()


def allow_open_files(wanted: int = 65536) -> None:
    """Raise the soft limit on open files towards the hard one; connections need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


def starved_s(pid: int) -> float:
    """Seconds the process could run and got no core, of the thread that fared worst; 0 where nobody counts them."""
    longest = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for task in os.scandir(f"/proc/{pid}/task"):
            with open(f"{task.path}/schedstat") as file:  # noqa: PTH123 - a kernel file, not a path of ours
                longest = max(longest, int(file.read().split()[1]))
    return longest * 1e-9
