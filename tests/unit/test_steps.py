"""Faults that are asked for befall the worker where, when and as often as they were asked for."""

import pytest

from headrace.execution import steps
from headrace.execution.steps import INJECTED, FaultKind, InjectedFault, Step, arm, parse_fault, reached


@pytest.fixture(autouse=True)
def _no_faults_after():
    yield
    INJECTED.clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ran:kill", InjectedFault(Step.RAN, FaultKind.KILL, 1)),
        ("replied:hang:3", InjectedFault(Step.REPLIED, FaultKind.HANG, 3)),
    ],
)
def test_a_fault_is_read_as_it_is_written(text, expected):
    assert parse_fault(text) == expected


@pytest.mark.parametrize(
    "text", ["ran", "ran:melt", "walked:kill", "ran:kill:x", "ran:kill:0", "ran:kill:1:2"]
)
def test_what_is_no_fault_is_said_with_what_there_is(text):
    with pytest.raises(ValueError, match="where STEP is one of"):
        parse_fault(text)


def test_it_befalls_the_worker_the_time_it_was_asked_for_and_never_again():
    arm("m", {steps.VARIABLE: "ran:raise:2,replied:raise"})
    reached(Step.RAN)
    reached(Step.OPENED)
    with pytest.raises(RuntimeError, match="told to fail at step 'ran'"):
        reached(Step.RAN)
    reached(Step.RAN)
    with pytest.raises(RuntimeError, match="replied"):
        reached(Step.REPLIED)


def test_it_befalls_one_model_only_if_that_is_asked():
    arm("other", {steps.VARIABLE: "ran:raise", steps.MODEL_VARIABLE: "m"})
    reached(Step.RAN)
    arm("m", {steps.VARIABLE: "ran:raise", steps.MODEL_VARIABLE: "m"})
    with pytest.raises(RuntimeError):
        reached(Step.RAN)


def test_it_befalls_one_process_only_if_that_is_asked(tmp_path):
    environment = {steps.VARIABLE: "ran:raise", steps.ONCE_VARIABLE: str(tmp_path / "happened")}
    arm("m", environment)
    with pytest.raises(RuntimeError):
        reached(Step.RAN)
    INJECTED.clear()  # as another process has it
    arm("m", environment)
    reached(Step.RAN)


def test_nothing_is_asked_for_usually():
    arm("m", {})
    assert not INJECTED
