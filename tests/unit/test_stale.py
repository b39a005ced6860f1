"""What was answered before is given again to whoever asks the same, as long as it is not too old."""

import tracemalloc

import numpy as np
import pytest
from msgspec.structs import replace

from headrace.messages import Datatype, Wanted
from headrace.parts import BatchOutputs, Part
from headrace.routing import stale
from headrace.routing.stale import StaleAnswers
from tests.fakes import model, request, tensor

SPEC = model()
MIB = 1 << 20
TAKEN = stale.ENTRY_BYTES + 2 * stale.TENSOR_BYTES
"""By an answer of one output to one input, beside the numbers in it."""


def answers(max_bytes=MIB):
    return StaleAnswers(max_bytes)


def part(*rows, spec=SPEC, of=None):
    """An answer of these rows, in a batch with others."""
    array = np.array([[0, 0], *rows, [9, 9]], "<f4") if of is None else of
    return Part(BatchOutputs(spec.outputs, {0: array}), 1, 1 + len(rows), is_whole=False, lengths=None)


def found(kept, asked, *, name="m", spec=SPEC, max_age_s=60.0, now=0.0):
    answer = kept.find(name, spec, asked, max_age_s, now)
    return None if answer is None else answer[0].outputs.array(0, answer[0]).tolist()


def test_the_same_question_gets_the_same_answer_whatever_it_calls_itself():
    kept = answers()
    kept.keep("m", SPEC, request(1.0), part([2, 3]), 0.0)
    assert found(kept, replace(request(1.0), id="another")) == [[2, 3]]
    assert found(kept, request(1.5)) is None
    assert found(kept, request(1.0, rows=2)) is None


def test_answers_know_how_old_they_are():
    kept = answers()
    kept.keep("m", SPEC, request(1.0), part([2, 3]), 10.0)
    answer = kept.find("m", SPEC, request(1.0), 60.0, 70.0)
    assert answer is not None
    assert answer[1] == 60.0
    assert found(kept, request(1.0), now=70.1) is None


def test_the_newest_answer_counts():
    kept = answers()
    for value in (2, 4):
        kept.keep("m", SPEC, request(1.0), part([value, value]), float(value))
    assert found(kept, request(1.0)) == [[4, 4]]
    assert len(kept) == 1


def test_answers_are_copies_since_their_memory_is_the_next_batchs():
    kept, batch = answers(), np.array([[0, 0], [2, 3], [9, 9]], "<f4")
    kept.keep("m", SPEC, request(1.0), part([2, 3], of=batch), 0.0)
    batch[:] = 7
    assert found(kept, request(1.0)) == [[2, 3]]


def test_all_rows_of_a_request_are_kept_together():
    kept = answers()
    kept.keep("m", SPEC, request(1.0, rows=2), part([2, 3], [4, 5]), 0.0)
    assert found(kept, request(1.0, rows=2)) == [[2, 3], [4, 5]]


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"spec": model(outputs=[tensor("z")])},
        {"spec": model(outputs=[tensor("y", Datatype.FP64)])},
        {"spec": model(tensor("w"))},
    ],
    ids=["another skill", "another output", "another datatype", "another input"],
)
def test_whoever_takes_or_gives_something_else_has_not_answered_that(changed):
    kept = answers()
    kept.keep("m", SPEC, request(1.0), part([2, 3]), 0.0)
    assert found(kept, request(1.0), **changed) is None


def test_who_wants_other_outputs_asks_something_else():
    both = model(outputs=[tensor("y"), tensor("z")])
    kept = answers()
    kept.keep("m", both, request(1.0), part([2, 3], spec=both), 0.0)
    only_z = replace(request(1.0), wanted=replace(request(1.0).wanted, outputs=(1,)))
    assert kept.find("m", both, only_z, 60.0, 0.0) is None


def test_who_was_not_asked_for_longest_goes_first():
    kept = answers(3 * (TAKEN + 8) * 3)
    most = 0
    while len(kept) == most:
        kept.keep("m", SPEC, request(float(most)), part([most, most]), 0.0)
        found(kept, request(0.0))
        most += 1
    assert found(kept, request(0.0)) is not None
    assert found(kept, request(1.0)) is None
    assert kept.nbytes <= 3 * (TAKEN + 8) * 3


def test_what_is_kept_is_counted_and_bounded():
    kept = answers(100_000)
    for value in range(1000):
        kept.keep("m", SPEC, request(float(value % 400)), part([value, value]), 0.0)
    assert 0 < kept.nbytes <= 100_000
    assert kept.nbytes == len(kept) * (TAKEN + 8)


def test_many_small_outputs_take_more_than_their_numbers():
    outputs = [tensor(f"y{at}", Datatype.FP32, (-1, 1)) for at in range(100)]
    spec = model(outputs=outputs)
    asked = replace(request(1.0), wanted=Wanted(tuple(range(100)), (False,) * 100))
    arrays = {at: np.zeros((1, 1), "<f4") for at in range(100)}
    kept = answers()
    tracemalloc.start()
    try:
        kept.keep("m", spec, asked, Part(BatchOutputs(spec.outputs, arrays), 0, 1, True, None), 0.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == 1
    assert kept.nbytes >= taken


def test_strings_are_counted_by_their_bytes():
    spec = model(outputs=[tensor("y", Datatype.BYTES, (-1,))])
    texts = np.array([b"", b"x" * 1000, b""], object)
    kept = answers()
    kept.keep("m", spec, request(1.0), part([0], spec=spec, of=texts), 0.0)
    assert kept.nbytes > 1000
    assert found(kept, request(1.0), spec=spec) == [b"x" * 1000]


def test_an_answer_that_would_take_most_of_the_room_is_not_kept():
    kept = answers(8 * stale.ENTRY_BYTES)
    kept.keep("m", SPEC, request(1.0), part([2, 3]), 0.0)
    assert len(kept) == 0


def test_a_request_too_large_to_be_hashed_is_not_looked_up():
    kept, large = answers(), replace(request(1.0), nbytes=stale.MOST_REQUEST_BYTES + 1)
    kept.keep("m", SPEC, large, part([2, 3]), 0.0)
    assert len(kept) == 0
