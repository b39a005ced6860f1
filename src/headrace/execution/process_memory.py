"""How much memory a process has, as the kernel counts it.

Private bytes are what a process has of its own: anonymous and shared-memory pages. Pages of mapped files, libraries and
weights alike, are left out: whoever maps the file shares them, and the kernel takes them back where memory runs short.
"""

KIB = 1024


def private_bytes(pid: int) -> int:
    """Bytes of a process's own pages that are in memory; 0 if it is gone. One small read."""
    fields = status_of(pid)
    return fields.get("RssAnon", 0) + fields.get("RssShmem", 0)


def status_of(pid: int) -> dict[str, int]:
    """What /proc/PID/status gives in kilobytes, by its names, in bytes; empty if the process is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - a kernel file, not a path of ours
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return {}
    return {
        name: int(value.split()[0]) * KIB
        for name, _, value in (line.partition(":") for line in lines)
        if value.endswith(" kB")
    }
