"""@headrace.batched where the process itself matters: forks, the end of the interpreter."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

BEGINNING = """
import os
import threading
import headrace

@headrace.batched(max_batch_size=4)
def double(items: list[int]) -> list[int]:
    return [2 * item for item in items]

assert double(1) == 2
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGINNING + program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(
    "program",
    [
        "",
        "threading.Thread(target=lambda: [double(item) for item in iter(lambda: 1, 2)], daemon=True).start()",
        "threading.Thread(target=lambda: print(double.many(range(9))[-1], end='')).start()",
        "double.close()\nassert double(2) == 4",
    ],
    ids=["idle", "busy in a daemon", "busy in a thread", "closed before"],
)
def test_the_interpreter_ends_at_once_and_without_a_word(program: str) -> None:
    ended = run(program)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout in {"", "16"}


def test_a_forked_child_batches_by_itself_and_its_parent_goes_on() -> None:
    ended = run(
        """
child = os.fork()
if not child:
    assert double.many(range(9)) == [2 * item for item in range(9)]
    raise SystemExit(7)
assert double.many(range(9)) == [2 * item for item in range(9)]
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert double(3) == 6
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
