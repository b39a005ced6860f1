"""A control group for a test, below the one that the tests are in, so that whatever bounds these bounds it, too."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.execution.machine_memory import Group, GroupV1, groups_of
from tests.integration.process import eventually


@contextlib.contextmanager
def made_group(limit: int) -> Iterator[Group]:
    """With a limit, in bytes; what is left in it is ended. Where none can be made, the test is skipped."""
    groups = groups_of(Path("/proc/self"))
    if not groups:
        pytest.skip("there are no control groups here")
    folder = groups[0].folder / f"headrace-test-{os.getpid()}"
    group = type(groups[0])(folder)
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"no control group can be made here: {exc}")
    try:
        set_limit(group, limit)
    except OSError as exc:
        folder.rmdir()
        pytest.skip(f"no control group can be bounded here: {exc}")
    try:
        yield group
    finally:
        eventually(lambda: is_gone(folder), "what was in the group has ended")


def set_limit(group: Group, nbytes: int) -> None:
    name = "memory.limit_in_bytes" if isinstance(group, GroupV1) else "memory.max"
    (group.folder / name).write_text(str(nbytes))


def below(folder: Path) -> list[Path]:
    """The groups below it."""
    return [each for each in folder.iterdir() if each.is_dir()]


def members(folder: Path) -> list[int]:
    return [int(each) for each in (folder / "cgroup.procs").read_text().split()]


def is_gone(folder: Path) -> bool:
    """End what is in it, and remove it and all below."""
    for each in below(folder):
        is_gone(each)
    for pid in members(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def greedy(row_bytes: int, max_batch_size: int) -> str:
    """A model.py whose runs take so many bytes a row."""
    return f"""
import numpy as np

class Model:
    batched = True
    max_batch_size = {max_batch_size}
    inputs = [("x", "FP32", [-1, 1])]
    outputs = [("y", "FP32", [-1, 1])]

    def infer(self, inputs):
        taken = np.ones(len(inputs["x"]) * {row_bytes}, np.uint8)
        return {{"y": inputs["x"] * 2 * taken[0]}}
"""
