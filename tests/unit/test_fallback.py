"""Which lesser answer comes next."""

import pytest

from headrace import errors
from headrace.model_config import FALLBACK_REASONS, Fallback, FallbackStep
from headrace.routing.fallback import Descent, label, reasons

SMALL, TINY = FallbackStep(variant="small"), FallbackStep(variant="tiny")
STALE, STATIC = FallbackStep(stale_s=60.0), FallbackStep(static="/popular.json")
FAILED = errors.InferenceFailed("no")
OPEN = errors.CircuitOpen("m", "5 runs failed", 1.0)
LATE = errors.DeadlineInfeasible("m", 0.3, 0.1)

REASONS = {
    "overload": [errors.Overloaded("full", 1.0), LATE, errors.QueueFull("m", "9 bytes")],
    "deadline": [errors.RequestTimeout(), errors.DeadlineExceeded(), LATE],
    "breaker": [OPEN],
    "loading": [
        errors.NotReady("m", "1", "it loads"),
        errors.ModelAbsent("m", "1", 1.2, 0.5),
        errors.NoRoom("m", "1", "it needs more", None),
    ],
    "error": [FAILED, errors.WorkerLost("m"), errors.TookTooLong("m")],
}
NEVER = [
    errors.InvalidRequest("no"),
    errors.InvalidItem("no"),
    errors.PoisonedRequest("m", "it raises"),
    errors.NotFound("m"),
    errors.UnknownVersion("m", "2"),
    errors.ServerExiting(),
    errors.GatewayBusy(0.1),
    errors.BodiesFull(),
    errors.SlowSender(1.0),
    errors.Unsupported("no"),
    errors.LoadFailed("no"),
]


def descent(*chain, on=FALLBACK_REASONS, is_idempotent=True):
    return Descent(Fallback(on, chain), is_idempotent=is_idempotent)


@pytest.mark.parametrize("reason", FALLBACK_REASONS)
def test_an_error_is_what_it_is_called(reason):
    assert all(reason in reasons(each) for each in REASONS[reason])
    others = [each for name, found in REASONS.items() if name != reason for each in found if each is not LATE]
    assert not any(reason in reasons(each) for each in others)


@pytest.mark.parametrize("error", NEVER, ids=lambda each: type(each).__name__)
def test_what_the_sender_or_the_server_has_to_mend_has_no_lesser_answer(error):
    assert reasons(error) == ()
    assert not descent(STATIC).fail(error)


def test_every_step_is_tried_once_in_turn():
    falling = descent(SMALL, STALE, STATIC)
    assert falling.fail(OPEN)
    assert [falling.next() for _ in range(4)] == [SMALL, STALE, STATIC, None]
    assert falling.first is OPEN


def test_the_caller_hears_of_the_first_failure_and_why():
    falling = descent(SMALL, TINY)
    assert falling.fail(OPEN)
    falling.next()
    assert falling.fail(errors.InvalidRequest("the variant cannot read it"))
    assert (falling.first, falling.reason, falling.next()) == (OPEN, "breaker", TINY)


def test_what_is_not_said_is_not_fallen_back_for():
    assert not descent(SMALL, on=("overload", "loading")).fail(FAILED)


@pytest.mark.parametrize("reason", ["overload", "deadline"])
def test_too_late_for_the_deadline_is_either_reason(reason):
    falling = descent(SMALL, on=(reason,))
    assert falling.fail(LATE)
    assert falling.reason == reason


@pytest.mark.parametrize("error", [*REASONS["error"], errors.RequestTimeout(), errors.DeadlineExceeded()])
def test_what_may_have_been_run_is_not_run_elsewhere_unless_it_may_be_run_twice(error):
    falling = descent(SMALL, STALE, TINY, STATIC, is_idempotent=False)
    assert falling.fail(error)
    assert [falling.next() for _ in range(3)] == [STALE, STATIC, None]


@pytest.mark.parametrize("error", [LATE, OPEN, *REASONS["loading"]])
def test_what_was_never_run_may_be_run_elsewhere_once(error):
    falling = descent(SMALL, TINY, STATIC, is_idempotent=False)
    assert falling.fail(error)
    assert falling.next() is SMALL
    assert falling.fail(FAILED)
    assert [falling.next() for _ in range(2)] == [STATIC, None]


def test_nothing_is_run_any_more_once_the_server_exits():
    falling = descent(SMALL, TINY, STATIC)
    assert falling.fail(OPEN)
    falling.next()
    assert falling.fail(errors.ServerExiting())
    assert [falling.next() for _ in range(2)] == [STATIC, None]


def test_a_chain_that_is_given_up_has_no_more_steps():
    falling = descent(SMALL, STATIC)
    falling.fail(OPEN)
    falling.give_up()
    assert falling.next() is None


def test_steps_are_called_what_their_answers_say():
    assert [label(each) for each in (SMALL, STALE, STATIC)] == ["variant:small", "stale", "static"]


@pytest.mark.parametrize(("is_idempotent", "expected"), [(True, SMALL), (False, STATIC)])
def test_what_was_run_and_is_not_to_be_run_twice_is_not_run_elsewhere_whatever_becomes_of_its_answer(
    is_idempotent, expected
):
    falling = descent(SMALL, STATIC, is_idempotent=is_idempotent)
    falling.has_run()
    assert falling.fail(errors.QueueFull("the transcoder", "9 bytes"))
    assert falling.next() == expected
