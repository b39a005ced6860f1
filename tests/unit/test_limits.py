"""What bounds a worker, against real child processes; and whose kill was the kernel's."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.execution.footprint import Footprint
from headrace.execution.limits import SLACK_BYTES, KernelKills, bound, data_of, let_go_first, limit_data

MIB = 1 << 20
TAKE = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    try:
        taken = bytearray(int(line))
        print("taken", flush=True)
    except MemoryError:
        print("refused", flush=True)
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """Takes as many bytes as it is told, and says whether it got them."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert said(process) == "ready"
    yield process
    process.kill()
    process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def take(process: subprocess.Popen[str], nbytes: int) -> str:
    assert process.stdin is not None
    process.stdin.write(f"{nbytes}\n")
    process.stdin.flush()
    return said(process)


def footprint(**more) -> Footprint:
    return Footprint(0, 0, **{"peaks": {8: {1: MIB}}, **more})


def test_a_bounded_process_is_refused_what_is_too_much_and_lives_on(child):
    assert bound(child.pid, data_of(child.pid), footprint(), 10 * MIB)
    assert take(child, SLACK_BYTES + 200 * MIB) == "refused"
    assert take(child, SLACK_BYTES) == "taken"


def test_an_arena_that_has_to_grow_gets_its_next_region_whole(child):
    # As doubling goes: a first region, of which runs touch a part; then one of as much again and a first one.
    touched, untouched, first = 200 * MIB, 312 * MIB, 512 * MIB
    assert bound(child.pid, data_of(child.pid), footprint(data=untouched), touched)
    assert take(child, first) == "taken"
    assert take(child, first + touched + untouched + first // 32) == "taken"


def test_a_bound_can_be_moved_up_again(child):
    limit_data(child.pid, data_of(child.pid) + 10 * MIB)
    assert take(child, 50 * MIB) == "refused"
    limit_data(child.pid, data_of(child.pid) + 100 * MIB)
    assert take(child, 50 * MIB) == "taken"


@pytest.mark.parametrize(("known", "ready"), [(footprint(peaks={}), MIB), (footprint(), 0)])
def test_where_nothing_is_known_of_its_runs_it_is_not_bounded(child, known, ready):
    before = resource.prlimit(child.pid, resource.RLIMIT_DATA)
    assert not bound(child.pid, ready, known, 0)
    assert resource.prlimit(child.pid, resource.RLIMIT_DATA) == before


def test_a_process_that_has_ended_is_left_alone(child):
    child.kill()
    child.wait()
    assert not bound(child.pid, MIB, footprint(), 0)
    let_go_first(child.pid)
    assert data_of(child.pid) == 0


def test_the_kernel_is_told_who_goes_first(child):
    let_go_first(child.pid, 700)
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "700"


class Machine:
    def __init__(self) -> None:
        self.kills = 3

    def oom_kills(self) -> int:
        return self.kills


def test_each_kill_of_the_kernel_accounts_for_one_process():
    machine = Machine()
    kills = KernelKills(machine)
    assert not kills.take()
    machine.kills += 2
    assert [kills.take(), kills.take(), kills.take()] == [True, True, False]
