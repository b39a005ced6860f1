"""What a file is known by without reading it, so that a change is noticed by looking.

Whoever loads a model holds its files against the stamps they were found with: half a copy, or another file in the same
place, is then not served as what was found.
"""

import os
from collections.abc import Iterable

import msgspec


class Stamp(msgspec.Struct, array_like=True, frozen=True, order=True):
    """A file as it was. All numbers are 0 if it was not there; links are followed, so a link that moved shows."""

    path: str
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """The file as it is now."""
    name = os.fspath(path)
    try:
        status = os.stat(name)  # noqa: PTH116 - thousands of them, and a Path for each takes longer than the call
    except (OSError, ValueError):
        return Stamp(name)
    return Stamp(name, status.st_ino, status.st_size, status.st_mtime_ns)


def changed(stamps: Iterable[Stamp]) -> str | None:
    """The first file that is another one now; None if all are as they were."""
    return next((each.path for each in stamps if stamp_of(each.path) != each), None)
