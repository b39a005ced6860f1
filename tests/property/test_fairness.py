"""Turns by weighted virtual time, against whatever they cost and whoever comes and goes."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.batching.fairness import LEAST_SHARE, FairOrder, Flow, FlowOrder, shares

KEYS = "abcd"
LONGEST = 8.0
weights = st.fixed_dictionaries({key: st.floats(0.25, 4.0) for key in KEYS})
costs = st.lists(st.tuples(*(st.floats(0.01, LONGEST) for _ in KEYS)), min_size=1, max_size=200)


@given(weights, costs)
def test_who_always_wants_more_has_its_weights_part_but_for_one_turn(weight, turns):
    order, used = FairOrder(weight.__getitem__), dict.fromkeys(KEYS, 0.0)
    for each in turns:
        asked = dict(zip(KEYS, each, strict=True))
        order.want(asked)
        chosen = order.pick(asked)
        order.charge(chosen, asked[chosen])
        used[chosen] += asked[chosen]
        # By virtual finish times nobody is further ahead of another than one turn of each (Golestani 1994).
        for one in KEYS:
            for other in KEYS:
                apart = used[one] / weight[one] - used[other] / weight[other]
                assert apart <= LONGEST / weight[one] + LONGEST / weight[other] + 1e-6


@given(weights, st.lists(st.sets(st.sampled_from(KEYS), min_size=1), min_size=1, max_size=200))
def test_nobody_waits_longer_than_the_others_take_for_one_turn_more_than_their_part(weight, wanting):
    """Whoever comes and goes: while somebody waits, no other gets further ahead of it than that."""
    order = FairOrder(weight.__getitem__)
    had: dict[str, dict[str, float]] = {}  # of who waits: what each has had since it came
    for keys in wanting:
        had = {key: had.get(key, dict.fromkeys(KEYS, 0.0)) for key in keys}
        order.want(keys)
        chosen = order.pick(dict.fromkeys(sorted(keys), 1.0))
        order.charge(chosen, 1.0)
        for key, since in had.items():
            since[chosen] += 1.0
            for other in KEYS:
                ahead = since[other] / weight[other] - since[key] / weight[key]
                # What a key that waits is behind when it comes is bounded by what it was ahead when it left.
                assert ahead <= order.lead(key) + 2 / weight[key] + 2 / weight[other] + 1e-6


flows = st.builds(Flow, st.sampled_from([1, 2]), st.sampled_from("ab"), st.sampled_from([0, 5]))


@given(st.lists(st.sets(flows, min_size=1), min_size=1, max_size=100))
def test_a_turn_is_always_given_to_somebody_who_wants_it(wanting):
    order = FlowOrder(shares([1, 2], {}), {"a": 2.0})
    for each in wanting:
        order.want(each)
        chosen = order.pick(dict.fromkeys(each, 1.0))
        assert chosen in each
        order.charge(chosen, 1.0)


@given(st.dictionaries(st.integers(0, 5), st.none() | st.floats(0.01, 0.99), min_size=1))
def test_shares_are_promises_that_can_be_kept(reserved):
    found = shares(reserved, reserved)
    promised = {level: share for level, share in reserved.items() if share is not None}
    assert {level: found[level] for level in promised} == promised
    assert all(share >= LEAST_SHARE for share in found.values())
    if sum(promised.values()) <= 1:
        assert sum(found.values()) <= 1 + LEAST_SHARE * len(found) + 1e-9
