import pytest

from headrace.admission.gate import admit, patience
from headrace.errors import QueueFull
from headrace.model_config import ModelConfig, QueuePolicy


@pytest.mark.parametrize(
    ("nbytes", "waiting", "is_refused"),
    [(10, 0, False), (100, 0, False), (1000, 0, False), (50, 50, False), (51, 50, True), (0, 100, False)],
)
def test_the_queue_holds_as_many_bytes_as_it_may_and_one_request_however_large(nbytes, waiting, is_refused):
    refusal = admit("m", nbytes, waiting, 100)
    assert isinstance(refusal, QueueFull) is is_refused
    assert str(refusal).startswith("Exceeds maximum queue size") is is_refused


CONFIG = ModelConfig(
    queue=QueuePolicy(default_timeout_s=2),
    levels={
        1: QueuePolicy(default_timeout_s=1, allow_timeout_override=False),
        2: QueuePolicy(default_timeout_s=9),
    },
    default_level=2,
)


@pytest.mark.parametrize(
    ("priority", "asked_s", "expected"),
    [
        (1, None, (1, 1)),
        (1, 0.5, (1, 1)),  # it may not say
        (2, None, (2, 5)),  # no longer than the server
        (2, 0.5, (2, 0.5)),
        (2, 99, (2, 5)),
        (0, None, (2, 5)),
        (7, None, (2, 5)),  # no such level: the default
    ],
)
def test_a_request_waits_as_its_level_has_it(priority, asked_s, expected):
    assert patience(CONFIG, priority, asked_s, 5) == expected


def test_without_levels_all_wait_alike():
    config = ModelConfig(queue=QueuePolicy(default_timeout_s=2))
    assert patience(config, 3, None, 5) == (0, 2)


def test_a_bound_on_how_many_wait():
    assert admit("m", 1, 0, 100, waiting=2, max_waiting=3) is None
    refusal = admit("m", 1, 0, 100, waiting=3, max_waiting=3)
    assert str(refusal) == "Exceeds maximum queue size: 3 requests wait for model 'm' already"
