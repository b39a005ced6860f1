"""The bytes at both ends of a file as numbers, which is what models that tell file types take."""

import numpy as np

from headrace.errors import LoadFailed
from headrace.transforms.kinds import Ends

REACH = 4
"""White space is skipped within so many times the bytes that are kept."""
LARGEST_BYTE = 255


class EndsOf:
    """Turns files into rows of numbers."""

    def __init__(self, ends: Ends, dtype: np.dtype) -> None:
        """Say which bytes, and as what.

        Raises:
            LoadFailed: that is none, or a byte does not fit into the datatype.
        """
        if ends.head < 0 or ends.tail < 0 or not ends.head + ends.tail:
            raise LoadFailed("`bytes` keeps nothing: give `head`, `tail` or both, in bytes")
        if dtype.kind == "b" or (dtype.kind in "iu" and np.iinfo(dtype).max < LARGEST_BYTE):
            raise LoadFailed(
                f"bytes are numbers up to {LARGEST_BYTE}, which do not fit into the model's {dtype.name}"
            )
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= ends.pad <= np.iinfo(dtype).max:
            raise LoadFailed(f"`pad: {ends.pad:g}` does not fit into the model's {dtype.name}")
        self._ends = ends
        self._dtype = dtype
        self._block = ends.block or REACH * max(ends.head, ends.tail)

    @property
    def width(self) -> int:
        """Numbers a row."""
        return self._ends.head + self._ends.tail

    def rows(self, files: list[bytes]) -> np.ndarray:
        """One row a file: its first bytes with padding after them, then padding and its last bytes."""
        ends, block = self._ends, self._block
        rows = np.full((len(files), self.width), ends.pad, self._dtype)
        for row, content in zip(rows, files, strict=True):
            head, tail = content[:block], content[-block:]
            if ends.strip:
                head, tail = head.lstrip(), tail.rstrip()
            head, tail = head[: ends.head], tail[-ends.tail :] if ends.tail else b""
            row[: len(head)] = np.frombuffer(head, np.uint8)
            row[self.width - len(tail) :] = np.frombuffer(tail, np.uint8)
        return rows
