import pytest

from headrace.cli.chain import in_words, span
from headrace.model_config import FALLBACK_REASONS, Fallback, FallbackStep


@pytest.mark.parametrize(
    ("on", "words"),
    [
        (("error",), "on error: "),
        (("error", "loading", "breaker"), "on error, loading or breaker: "),
        (FALLBACK_REASONS, "whatever the reason: "),
        (FALLBACK_REASONS[::-1], "whatever the reason: "),
    ],
)
def test_the_reasons_are_named_unless_they_are_all(on, words):
    assert in_words(Fallback(on, (FallbackStep(variant="small"),))) == f"{words}variant small"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "250 ms"), (1, "1 s"), (90, "1.5 min"), (21600, "6 h"), (604800, "7 d"), (1e-5, "0.01 ms")],
)
def test_a_span_is_told_in_the_largest_unit_it_has_one_of(seconds, words):
    assert span(seconds) == words
