"""Who leaves memory for another, case by case."""

import pytest

from headrace.lifecycle.eviction import HALF_LIVES_S, Candidate, Choice, Eviction

NOW = 1000.0


def candidate(name, nbytes=100, reload_s=1.0, since=0.0):
    return Candidate((name, "1"), nbytes, reload_s, since)


def asked(**requests):
    """So often each, over a long time until NOW."""
    eviction = Eviction()
    for second in range(int(NOW) - 100, int(NOW)):
        for name, rate in requests.items():
            eviction.asked((name, "1"), rate, float(second))
    return eviction


def freeing(nbytes):
    return lambda going: sum(each.nbytes for each in going) >= nbytes


def choose(eviction, residents, lacking=100, incoming=None, now=NOW, *, is_asked=True):
    incoming = incoming or candidate("incoming")
    return eviction.victims(incoming, residents, freeing(lacking), now, is_asked=is_asked)


def names(choice):
    return [each.key[0] for each in choice.victims]


def test_who_is_asked_least_leaves():
    residents = [candidate("much"), candidate("little"), candidate("some")]
    assert names(choose(asked(much=9, little=1, some=4), residents)) == ["little"]


def test_of_those_asked_alike_who_loads_fast_leaves():
    residents = [candidate("slow", reload_s=10.0), candidate("fast", reload_s=0.5)]
    assert names(choose(asked(slow=2, fast=2), residents)) == ["fast"]


def test_of_those_asked_alike_who_is_large_leaves():
    residents = [candidate("small", nbytes=100), candidate("large", nbytes=1000)]
    assert names(choose(asked(small=2, large=2), residents)) == ["large"]


def test_of_those_worth_the_same_who_came_last_leaves():
    residents = [candidate("first", since=1.0), candidate("last", since=3.0), candidate("middle", since=2.0)]
    assert names(choose(asked(first=5, last=5, middle=5), residents)) == ["last"]
    assert names(choose(Eviction(), residents)) == ["last"], "and of those nobody ever asked for"


def test_as_many_leave_as_it_takes():
    residents = [candidate("a"), candidate("b"), candidate("c")]
    assert names(choose(asked(a=1, b=2, c=9), residents, lacking=150)) == ["a", "b"]


def test_nobody_leaves_who_turns_out_not_to_be_needed():
    residents = [candidate("little", nbytes=10), candidate("large", nbytes=1000)]
    assert names(choose(asked(little=0, large=1), residents, lacking=900)) == ["large"]


def test_nobody_leaves_where_all_would_not_be_enough():
    assert choose(Eviction(), [candidate("a"), candidate("b")], lacking=300) == Choice((), None)
    assert choose(Eviction(), [], lacking=1) == Choice((), None)


def test_where_nothing_lacks_nobody_leaves_and_one_can_ask_again_at_once():
    assert choose(Eviction(), [candidate("a")], lacking=0) == Choice((), NOW)


def test_who_is_waited_for_comes_in_for_somebody_worth_more():
    assert names(choose(asked(a=9), [candidate("a", since=NOW)])) == ["a"]


@pytest.mark.parametrize(("rate", "leaves"), [(20, ["there"]), (13, ["there"]), (11, []), (1, [])])
def test_who_is_not_waited_for_has_to_be_worth_clearly_more(rate, leaves):
    eviction = asked(there=10, incoming=rate)
    assert names(choose(eviction, [candidate("there")], is_asked=False)) == leaves


def test_for_one_nobody_waits_for_those_stay_who_came_just_now():
    eviction = asked(there=1, incoming=20)
    recent = candidate("there", reload_s=0.3, since=NOW - 1)
    choice = choose(eviction, [recent], is_asked=False)
    assert choice == Choice((), pytest.approx(recent.since + 3.0))
    assert names(choose(eviction, [recent], now=choice.not_before, is_asked=False)) == ["there"]


def test_nobody_is_protected_for_longer_than_half_a_minute():
    eviction = asked(there=1, incoming=20_000)
    choice = choose(eviction, [candidate("there", reload_s=600.0, since=NOW)], is_asked=False)
    assert choice.not_before == NOW + 30


def test_a_steady_rate_is_what_is_asked_a_second():
    assert asked(steady=7).rate(("steady", "1"), NOW) == pytest.approx(7, rel=0.05)
    assert Eviction().rate(("unknown", "1"), NOW) == 0


def test_who_is_asked_no_more_is_soon_worth_nothing():
    eviction = asked(gone=10)
    half_a_minute = [eviction.rate(("gone", "1"), NOW + s) for s in (0, 10, 20, 30)]
    assert half_a_minute == sorted(half_a_minute, reverse=True)
    assert half_a_minute[-1] < 10 / 2


def test_who_becomes_popular_is_soon_worth_as_much_as_others():
    eviction = asked(old=5)
    for second in range(30):
        for name in ("old", "new"):
            eviction.asked((name, "1"), 5, NOW + second)
    rates = [eviction.rate((name, "1"), NOW + 30) for name in ("old", "new")]
    assert rates[1] > rates[0] / 2


def test_a_lull_that_may_be_chance_changes_little():
    eviction = Eviction()
    for second in range(0, 600, 20):
        eviction.asked(("rare", "1"), 1, float(second))
    assert eviction.rate(("rare", "1"), 600 + HALF_LIVES_S[-1]) == pytest.approx(1 / 20, rel=0.3)


def test_what_is_forgotten_was_never_asked():
    eviction = asked(a=5)
    eviction.forget(("a", "1"))
    eviction.forget(("a", "1"))
    assert eviction.rate(("a", "1"), NOW) == 0
