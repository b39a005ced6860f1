"""Whoever is there and whatever was asked: those who leave were there, are enough, and all needed."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.lifecycle.eviction import Candidate, Choice, Eviction

NOW = 100.0
MODELS = st.builds(
    Candidate,
    st.tuples(st.sampled_from("abcdefgh"), st.just("1")),
    st.integers(0, 50),
    st.sampled_from([0.0, 0.3, 1.0, 20.0]),
    st.floats(0, NOW),
)
RESIDENTS = st.lists(MODELS, max_size=8, unique_by=lambda each: each.key)
ASKED = st.lists(
    st.tuples(st.sampled_from("abcdefghi"), st.integers(0, 30), st.floats(0, NOW)), max_size=30
).map(lambda asked: sorted(asked, key=lambda each: each[2]))


def told(asked):
    eviction = Eviction()
    for name, requests, then in asked:
        eviction.asked((name, "1"), requests, then)
    return eviction


@given(RESIDENTS, ASKED, st.integers(-5, 200), st.booleans())
def test_who_leaves_was_there_and_is_enough_and_needed(residents, asked, lacking, is_asked):
    calls = []

    def is_enough(going):
        calls.append(tuple(going))
        return sum(each.nbytes for each in going) >= lacking

    incoming = Candidate(("i", "1"), 10, 1.0, NOW)
    choice = told(asked).victims(incoming, residents, is_enough, NOW, is_asked=is_asked)
    chosen = choice.victims
    assert set(chosen) <= set(residents)
    assert len(set(chosen)) == len(chosen)
    assert all(set(call) <= set(residents) for call in calls)
    if lacking <= 0:
        assert choice == Choice((), NOW)
    elif chosen:
        assert is_enough(chosen)
        assert not any(is_enough([each for each in chosen if each is not left_out]) for left_out in chosen)
    elif is_asked:
        assert not is_enough(residents)
        assert choice.not_before is None
    else:
        assert choice.not_before is None or choice.not_before > NOW


@given(RESIDENTS, ASKED, st.integers(1, 200))
def test_who_is_not_waited_for_takes_nobodys_place_that_is_worth_as_much(residents, asked, lacking):
    eviction = told(asked)
    incoming = Candidate(("i", "1"), 10, 1.0, NOW)

    def is_enough(going):
        return sum(each.nbytes for each in going) >= lacking

    for victim in eviction.victims(incoming, residents, is_enough, NOW, is_asked=False).victims:
        assert eviction.priority(victim, NOW) < eviction.priority(incoming, NOW)
        assert victim.since + min(30.0, 10 * victim.reload_s) <= NOW


@given(ASKED)
def test_rates_are_never_negative_and_who_was_never_asked_has_none(asked):
    eviction = told(asked)
    for name in "abcdefghij":
        assert (eviction.rate((name, "1"), NOW) > 0) == any(
            each == name and requests for each, requests, _ in asked
        )
