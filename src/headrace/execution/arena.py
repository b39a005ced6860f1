"""Shared memory for one direction of one batch in flight.

A slot is a pair of regions: the gateway writes a batch's inputs into one, the worker its outputs into the other. The
turn-taking of the channel says who may touch a region, so there is nothing to lock, allocate or free: a region is
free again when its slot's batch is done. Either side may grow a region; the other follows when told the new size.
"""

import mmap
import os
from collections.abc import Iterable

import numpy as np

from headrace.execution import linux

SMALLEST = 1 << 16
ALIGNMENT = 64
JOIN_BELOW = 1 << 15  # bytes; joining small tensors first is one copy more and many calls less


class Region:
    """A growing piece of shared memory. Used by one side at a time, as the channel's turns allow."""

    def __init__(self, fd: int) -> None:
        """Take over a memory file descriptor; `close` closes it."""
        self.fd = fd
        self.size = 0
        self.view = memoryview(b"")
        self.follow(os.fstat(fd).st_size)

    @classmethod
    def create(cls) -> "Region":
        fd = linux.create_memory("headrace")
        os.ftruncate(fd, SMALLEST)
        return cls(fd)

    def follow(self, size: int) -> None:
        """Map what the other side has grown."""
        if size > self.size:
            self.view = memoryview(mmap.mmap(self.fd, size))
            self.size = size

    def reserve(self, nbytes: int) -> None:
        """Make room for that many bytes, growing to the next power of two."""
        if nbytes > self.size:
            size = 1 << (nbytes - 1).bit_length()
            os.ftruncate(self.fd, size)
            self.follow(size)

    def write(self, offset: int, parts: Iterable[bytes | memoryview], nbytes: int) -> None:
        """Place the parts one after the other."""
        if nbytes <= JOIN_BELOW:
            self.view[offset : offset + nbytes] = b"".join(parts)
            return
        for part in parts:
            end = offset + len(part)
            self.view[offset:end] = part
            offset = end

    def array(self, dtype: np.dtype, shape: tuple[int, ...], offset: int, count: int) -> np.ndarray:
        """A view of elements that lie in the region."""
        return np.frombuffer(self.view, dtype, count, offset).reshape(shape)

    def close(self) -> None:
        """Let go of it; its mapping, which has a descriptor of its own, goes with the last array that lies in it."""
        os.close(self.fd)
        self.view = memoryview(b"")


def aligned(nbytes: int) -> int:
    """The next offset at which a tensor may begin."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
