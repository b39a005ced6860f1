import pytest

from headrace.admission.terms import Terms, best_terms, terms
from headrace.errors import DeadlineExceeded, RequestTimeout
from headrace.model_config import ModelConfig, QueuePolicy

SERVER_S = 5.0
PLAIN = ModelConfig()
PROMISING = ModelConfig(latency_p99_s=0.1)
LEVELS = ModelConfig(
    latency_p99_s=0.1,
    levels={
        1: QueuePolicy(default_timeout_s=1.0, allow_timeout_override=False),
        2: QueuePolicy(default_timeout_s=9.0),
    },
    default_level=2,
)


@pytest.mark.parametrize(
    ("config", "asked", "expected"),
    [
        (PLAIN, {}, Terms(0, 5.0, 5.0)),
        (PLAIN, {"asked_s": 0.5}, Terms(0, 0.5, 0.5, is_asked=True)),
        (PLAIN, {"asked_s": 60.0}, Terms(0, 5.0, 5.0, is_asked=True)),
        (PLAIN, {"header_s": 60.0}, Terms(0, 5.0, 5.0, is_asked=True)),
        (PROMISING, {}, Terms(0, 5.0, 0.1)),
        (PROMISING, {"asked_s": 2.0}, Terms(0, 2.0, 2.0, is_asked=True)),
        (PROMISING, {"asked_s": 0.05}, Terms(0, 0.05, 0.05, is_asked=True)),
        (LEVELS, {}, Terms(2, 5.0, 0.1)),
        (LEVELS, {"priority": 1}, Terms(1, 1.0, 0.1)),
        (LEVELS, {"priority": 1, "asked_s": 0.5}, Terms(1, 1.0, 0.1)),  # it may not say
        (LEVELS, {"priority": 2, "asked_s": 0.5}, Terms(2, 0.5, 0.5, is_asked=True)),
    ],
)
def test_a_caller_s_own_deadline_takes_the_place_of_what_the_skill_promises(config, asked, expected):
    assert terms(config, SERVER_S, **asked) == expected


def test_the_promise_never_outlasts_the_server_s_deadline():
    assert terms(ModelConfig(latency_p99_s=60.0), SERVER_S) == Terms(0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("asked_s", "header_s", "error"),
    [(None, 1.0, DeadlineExceeded), (2.0, 1.0, DeadlineExceeded), (1.0, 2.0, RequestTimeout)],
)
def test_whoever_set_the_earliest_deadline_is_answered_in_its_own_way(asked_s, header_s, error):
    granted = terms(PROMISING, SERVER_S, asked_s=asked_s, header_s=header_s)
    assert granted == Terms(0, 1.0, 1.0, is_asked=True, timeout_error=error)


@pytest.mark.parametrize("priority", [0, 1, 2])
@pytest.mark.parametrize("asked_s", [None, 0.01, 60.0])
@pytest.mark.parametrize("header_s", [None, 0.02, 60.0])
@pytest.mark.parametrize("config", [PLAIN, PROMISING, LEVELS])
def test_nobody_gets_better_terms_than_the_best(config, header_s, asked_s, priority):
    best, granted = (
        best_terms(config, SERVER_S, header_s),
        terms(config, SERVER_S, priority, asked_s, header_s),
    )
    assert best.level <= granted.level
    assert best.allowed_s >= granted.allowed_s
    assert best.target_s >= granted.target_s
    assert best.is_asked <= granted.is_asked
