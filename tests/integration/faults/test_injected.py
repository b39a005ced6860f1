"""A fault at every step of load, run, reply and swap: no hang, no lost request, nothing left behind.

The list is generated from the steps that workers pass and from what the core reports, so that a new one cannot be
forgotten. Every step once here; `make faults` has every fault at every step.
"""

import json
from collections.abc import Iterator
from itertools import product

import pytest

from headrace.execution.steps import FaultKind, Step
from headrace.testing import RunningServer, fault, run_server
from tests.integration.faults.scene import (
    assert_nothing_left,
    callers,
    change,
    held,
    load,
    serve_again,
    wait_whole,
)
from tests.integration.process import eventually

pytestmark = pytest.mark.integration

VICTIM, OTHER = "victim", "other"
LOAD_LIMIT_S = 8.0
"""A load that hangs is given up after it."""
SLOW = {FaultKind.HANG, FaultKind.STOP}
QUICK = [kind for kind in FaultKind if kind not in SLOW]
BESIDE, ALONE = "beside the old one", "with nothing before it"
FIRST = [(step, QUICK[at % len(QUICK)], (BESIDE, ALONE)[at // 3 % 2]) for at, step in enumerate(Step)]
"""Each step once; all quick kinds in turn."""
OTHERS = [
    (step, kind, how)
    for step, kind, how in product(Step, FaultKind, (BESIDE, ALONE))
    if (step, kind, how) not in FIRST
    and (kind, how) not in {(FaultKind.HANG, ALONE), (FaultKind.STOP, BESIDE)}
]
"""A load that hangs is waited for long, so each way of it is tried once."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("injected")
    for name in (VICTIM, OTHER):
        (folder / f"{name}.fake").write_text(json.dumps({}))
    options = {"profile_dir": folder / "profiles", "hang_floor_s": 0.5, "load_timeout_s": LOAD_LIMIT_S}
    with run_server(
        [folder / f"{name}.fake" for name in (VICTIM, OTHER)], instances=1, watch=False, **options
    ) as running:
        yield running


@pytest.mark.parametrize(("step", "kind", "how"), FIRST)
def test_a_fault_at_any_step_costs_nobody_but_who_was_there(
    server: RunningServer, step: Step, kind: FaultKind, how: str
) -> None:
    suffer(server, step, kind, how)


@pytest.mark.load
@pytest.mark.parametrize(("step", "kind", "how"), OTHERS)
def test_every_fault_at_every_step(server: RunningServer, step: Step, kind: FaultKind, how: str) -> None:
    suffer(server, step, kind, how)


def suffer(server: RunningServer, step: Step, kind: FaultKind, how: str) -> None:
    serve_again(server, VICTIM)
    wait_whole(server)
    before = held(server)
    with callers(server, VICTIM, VICTIM, OTHER) as asking, fault(step, kind, model=VICTIM) as injected:
        if how == ALONE:
            load(server, VICTIM, "unload")
        change(server, VICTIM)
        load(server, VICTIM)
        if step is Step.ENDING:
            change(server, VICTIM)
            load(server, VICTIM)  # which ends the worker that suffers it there
        # On a busy machine a load may be given up before it comes to the step.
        eventually(lambda: injected.has_happened or serve_again(server, VICTIM), f"{step} was reached")
        serve_again(server, VICTIM)
        answered = asking[0].statuses[200]
        eventually(lambda: asking[0].statuses[200] > answered, "it answers again")
    assert set(asking[-1].statuses) == {200}, "the neighbour's callers notice nothing"
    assert_nothing_left(server, before)
