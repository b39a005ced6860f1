import numpy as np
import pytest
from fakes import ticket

from headrace.batching.ticket import State
from headrace.errors import QueueFull, RequestTimeout
from headrace.messages import Datatype, TensorSpec
from headrace.parts import BatchOutputs, Part


def part():
    spec = TensorSpec("y", Datatype.FP32, (-1, 1), batch_axis=0)
    return Part(BatchOutputs((spec,), {0: np.float32([[7]])}), 0, 1, is_whole=True, lengths=None)


def running():
    accepted = ticket()
    accepted.state = State.RUNNING
    return accepted


def test_an_answer_reaches_the_client_and_ends():
    accepted = running()
    accepted.answer(part())
    assert (accepted.client.rows, accepted.client.ends, accepted.state) == ([7], 1, State.ANSWERED)


def test_a_refusal_reaches_the_client():
    accepted = ticket()
    accepted.refuse(RequestTimeout())
    assert isinstance(accepted.client.error, RequestTimeout)
    assert accepted.state is State.ANSWERED


def test_it_is_not_answered_twice():
    accepted = running()
    accepted.answer(part())
    with pytest.raises(AssertionError):
        accepted.answer(part())
    with pytest.raises(AssertionError):
        accepted.refuse(RequestTimeout())


def test_only_what_runs_has_an_answer():
    with pytest.raises(AssertionError):
        ticket().answer(part())


@pytest.mark.parametrize("tell", ["answer", "refuse"])
def test_a_client_that_has_gone_is_told_nothing(tell):
    accepted = running()
    accepted.drop()
    getattr(accepted, tell)(part() if tell == "answer" else QueueFull("m", "1 bytes"))
    assert accepted.client.ends == 0


@pytest.mark.parametrize(
    ("state", "was_waiting", "after"),
    [
        (State.WAITING, True, State.DROPPED),
        (State.RUNNING, False, State.DROPPED),
        (State.ANSWERED, False, State.ANSWERED),
        (State.DROPPED, False, State.DROPPED),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_drop_says_whether_a_queue_has_to_forget_it(state, was_waiting, after):
    accepted = ticket()
    accepted.state = state
    assert accepted.drop() is was_waiting
    assert accepted.state is after
