"""A skill's stages as one entry: what either of them cannot take in, the skill cannot."""

from collections.abc import Iterable

import pytest
from fakes import Client, model, request, tensor

from headrace import strings
from headrace.admission.forecast import Arrival
from headrace.batching.ticket import Ticket
from headrace.errors import DeadlineInfeasible, HeadraceError
from headrace.messages import Datatype
from headrace.records import Record
from headrace.routing.staged import Staged

STEPS = {"inputs": {"photo": {"kind": "image", "to": "x"}}}
SPEC = model(tensor("x"))
ARRIVAL = Arrival(2, 99, 10, 1, "acme", arrived=1.0, deadline=6.0, target=1.1, is_asked=False)


class Stage:
    """A pipeline that says what it is told to, and remembers what came."""

    def __init__(self, refusal: HeadraceError | None = None, *, is_pressed: bool = False) -> None:
        self.spec = SPEC
        self.is_pressed = is_pressed
        self.asked: list[Arrival] = []
        self.tickets: list[Ticket] = []
        self._refusal = refusal

    def refusal(self, arrival: Arrival) -> HeadraceError | None:
        self.asked.append(arrival)
        return self._refusal

    def submit(self, ticket: Ticket) -> None:
        self.tickets.append(ticket)


def photos(texts: Iterable[bytes]) -> bytes:
    return b"".join(strings.LENGTH.pack(len(each)) + each for each in texts)


@pytest.mark.parametrize("pressed", [(False, False), (True, False), (False, True), (True, True)])
def test_it_is_pressed_when_either_stage_is(pressed):
    before, of_model = (Stage(is_pressed=each) for each in pressed)
    assert Staged(of_model, before, STEPS).is_pressed is any(pressed)


@pytest.mark.parametrize("which", [0, 1, None])
def test_it_refuses_what_either_stage_refuses(which):
    error = DeadlineInfeasible("m", 1.0, 0.1)
    before, of_model = (Stage(error if at == which else None) for at in (0, 1))
    assert Staged(of_model, before, STEPS).refusal(ARRIVAL) is (None if which is None else error)


def test_each_stage_is_asked_for_the_rows_at_its_own_cost_and_only_the_model_knows_levels():
    before, of_model = Stage(), Stage()
    Staged(of_model, before, STEPS).refusal(ARRIVAL)
    assert before.asked == [ARRIVAL._replace(cost=1, level=0)]
    assert of_model.asked == [ARRIVAL._replace(cost=2)]


def test_the_first_stage_has_to_make_the_target_and_all_know_whose_the_request_is():
    before, of_model = Stage(), Stage()
    blobs = photos([b"one"])
    ticket = Ticket(
        request(shapes=((1,),), tensors=(blobs,), nbytes=len(blobs)), Client(), arrived=1.0, deadline=6.0
    )
    ticket.target, ticket.tenant, ticket.is_asked, ticket.level = 1.1, "acme", True, 2
    staged = Staged(of_model, before, STEPS)
    assert staged.spec.inputs[0].datatype is Datatype.BYTES
    staged.submit(ticket)
    (inner,) = before.tickets
    assert (inner.target, inner.deadline, inner.tenant, inner.is_asked) == (1.1, 6.0, "acme", True)
    assert inner.level == 0
    staged._run_model(ticket, [{"x": ("FP32", (2,), bytes(8))}])
    (inner,) = of_model.tickets
    assert (inner.target, inner.deadline, inner.tenant, inner.level) == (6.0, 6.0, "acme", 2)


def test_what_is_written_down_of_a_request_says_at_which_stage():
    before, of_model = Stage(), Stage()
    blobs = photos([b"one"])
    ticket = Ticket(
        request(shapes=((1,),), tensors=(blobs,), nbytes=len(blobs)), Client(), arrived=1.0, deadline=6.0
    )
    ticket.record = Record("a", "m", 1.0)
    staged = Staged(of_model, before, STEPS)
    staged.submit(ticket)
    staged._run_model(ticket, [{"x": ("FP32", (2,), bytes(8))}])
    for stage in (before, of_model):
        stage.tickets[0].record.note(2.0, "ran")
    assert [each.numbers for each in ticket.record.notes] == [{"stage": "before"}, {"stage": "model"}]
