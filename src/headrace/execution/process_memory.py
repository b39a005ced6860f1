"""How much memory a process has, as the kernel counts it.

Private bytes are what a process has of its own: anonymous and shared-memory pages. Pages of mapped files, libraries and
weights alike, are left out: whoever maps the file shares them, and the kernel takes them back where memory runs short.
"""

import contextlib
import os

KIB = 1024


def private_bytes(pid: int) -> int:
    """Bytes of a process's own pages that are in memory; 0 if it is gone. One small read."""
    fields = status_of(pid)
    return fields.get("RssAnon", 0) + fields.get("RssShmem", 0)


def status_of(pid: int) -> dict[str, int]:
    """What /proc/PID/status gives in kilobytes, by its names, in bytes; empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - a kernel file, not a path of ours
            return in_bytes(file.read())
    except OSError:
        return {}


def in_bytes(content: bytes) -> dict[str, int]:
    """Names and values of a kernel file whose lines are NAME: N kB; other lines are left out."""
    return {
        name: int(value.split()[0]) * KIB
        for name, _, value in (line.partition(":") for line in content.decode(errors="replace").splitlines())
        if value.endswith(" kB")
    }


def forget_peak(pid: int) -> None:
    """Have the kernel begin anew with the most that a process had in memory; where it cannot, the peak only rises."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/clear_refs", "w") as file:  # noqa: PTH123 - a kernel file
        file.write("5")


def peak_private_bytes(pid: int) -> int:
    """The most private bytes that a process had since `forget_peak`.

    The kernel keeps the peak of all pages only. Mapped files hardly change between, so what they have now is taken off.
    """
    fields = status_of(pid)
    return max(0, fields.get("VmHWM", 0) - fields.get("RssFile", 0))


def private_address_space() -> int:
    """Bytes of this process that RLIMIT_DATA bounds: writable, its own, and not all of them in memory."""
    return status_of(os.getpid()).get("VmData", 0)


def proportional_bytes(pid: int) -> tuple[int, int]:
    """PSS and USS: with its share of what others map too, and without; for reports, since it takes milliseconds.

    Raises:
        OSError: the process is gone, or another user's.
    """
    with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123 - a kernel file, not a path of ours
        fields = in_bytes(file.read())
    return fields["Pss"], fields["Private_Clean"] + fields["Private_Dirty"]
