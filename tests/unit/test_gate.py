import pytest

from headrace.admission.gate import admit
from headrace.errors import QueueFull


@pytest.mark.parametrize(
    ("nbytes", "waiting", "is_refused"),
    [(10, 0, False), (100, 0, False), (1000, 0, False), (50, 50, False), (51, 50, True), (0, 100, False)],
)
def test_the_queue_holds_as_many_bytes_as_it_may_and_one_request_however_large(nbytes, waiting, is_refused):
    refusal = admit("m", nbytes, waiting, 100)
    assert isinstance(refusal, QueueFull) is is_refused
    assert str(refusal).startswith("Exceeds maximum queue size") is is_refused
