import inspect

import pytest

from headrace import errors
from headrace.protocol.status import HTTP_STATUS, RETRY_AFTER_S

CLASSES = {
    each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.HeadraceError)
}


def test_the_table_covers_every_error_class_and_nothing_else():
    assert set(HTTP_STATUS) == CLASSES


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequest, 400),
        (errors.RequestTooLarge, 400),  # as in Triton, not 413
        (errors.NotFound, 404),
        (errors.Unsupported, 501),
        (errors.NotReady, 503),
        (errors.QueueFull, 503),
        (errors.RequestTimeout, 503),
        (errors.ServerExiting, 503),
        (errors.DeadlineExceeded, 504),
        (errors.InferenceFailed, 500),
        (errors.LoadFailed, 500),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_codes_that_clients_look_for(error, status):
    assert HTTP_STATUS[error] == status


def test_only_errors_that_go_away_by_themselves_say_when_to_try_again():
    assert {HTTP_STATUS[each] for each in RETRY_AFTER_S} == {503}
