import pytest

from headrace.batching.fairness import LEAST_SHARE, MOST_KNOWN, NEARLY_ALL, FairOrder, Flow, FlowOrder, shares

ALIKE = lambda key: 1.0  # noqa: E731  (a weight, where it says nothing)
A, B = Flow(0, "a", 0), Flow(0, "b", 0)


def served(order, turns, costs):
    """Who gets so many turns, while all of these always want one."""
    found = []
    for _ in range(turns):
        order.want(costs)
        chosen = order.pick(costs)
        order.charge(chosen, costs[chosen])
        found.append(chosen)
    return found


def test_equals_take_turns():
    assert served(FairOrder(ALIKE), 6, {"a": 1.0, "b": 1.0}) == ["a", "b"] * 3


def test_who_takes_longer_has_fewer_turns():
    found = served(FairOrder(ALIKE), 100, {"short": 1.0, "long": 4.0})
    assert found.count("long") == pytest.approx(20, abs=1)


def test_turns_are_by_weight():
    found = served(FairOrder({"heavy": 3.0, "light": 1.0}.__getitem__), 100, {"heavy": 1.0, "light": 1.0})
    assert found.count("heavy") == pytest.approx(75, abs=1)


def test_time_that_was_not_wanted_is_not_banked():
    order = FairOrder(ALIKE)
    served(order, 100, {"busy": 1.0})
    assert served(order, 6, {"busy": 1.0, "back": 1.0}).count("back") == pytest.approx(3, abs=1)


def test_a_short_absence_does_not_wipe_out_what_was_used():
    order = FairOrder(ALIKE)
    served(order, 2, {"a": 1.0, "b": 1.0})
    order.charge("a", 10.0)
    order.want(["b"])
    assert served(order, 10, {"a": 1.0, "b": 1.0}) == ["b"] * 10


def test_what_was_charged_too_much_is_given_back():
    order = FairOrder(ALIKE)
    order.want("ab")
    order.charge("a", 5.0)
    order.charge("a", -5.0)
    assert order.lead("a") == order.lead("b") == 0.0


def test_who_has_not_been_seen_for_long_is_forgotten_and_comes_back_without_debts():
    order = FairOrder(ALIKE)
    for key in range(MOST_KNOWN + 10):
        order.want([key])
        order.charge(key, 1.0)
    assert len(order._used) <= MOST_KNOWN + 1
    order.want([0, MOST_KNOWN + 9])
    assert order.lead(0) == 0.0


def flow_order(**more):
    return FlowOrder(more.get("level_shares", {0: 1.0}), more.get("tenant_weights", {}))


def test_a_level_goes_first_until_it_has_had_its_share():
    order = flow_order(level_shares=shares([1, 2], {1: 0.7}))
    first, last = Flow(1, "", 0), Flow(2, "", 0)
    found = served(order, 100, {first: 1.0, last: 1.0})
    assert found[:2] == [first, first]
    assert found.count(first) == pytest.approx(70, abs=1)


def test_a_level_that_wants_little_goes_first_each_time():
    order = flow_order(level_shares=shares([1, 2], {1: 0.5}))
    first, last = Flow(1, "", 0), Flow(2, "", 0)
    for _ in range(50):
        assert served(order, 1, {first: 1.0, last: 1.0}) == [first]
        assert served(order, 4, {last: 1.0}) == [last] * 4


def test_a_tenant_with_many_lengths_has_no_more_than_one_with_one():
    several = [Flow(0, "many", bucket) for bucket in range(4)]
    found = served(flow_order(), 80, dict.fromkeys([*several, Flow(0, "one", 0)], 1.0))
    assert found.count(Flow(0, "one", 0)) == pytest.approx(40, abs=1)
    assert [found.count(flow) for flow in several] == [pytest.approx(10, abs=1)] * 4


def test_long_and_short_ones_of_a_tenant_have_alike_of_its_time():
    long, short = Flow(0, "", 9), Flow(0, "", 0)
    found = served(flow_order(), 170, {long: 16.0, short: 1.0})
    assert found.count(long) == pytest.approx(10, abs=1)


def test_modest_is_who_has_not_had_more_than_its_part():
    order = flow_order(tenant_weights={"b": 2.0})
    order.want([A, B])
    order.charge(A, 1.0)
    order.charge(B, 2.0)
    assert order.modest(0, {"a", "b"}, 0.3) == {"a", "b"}
    order.charge(A, 0.2)
    assert order.modest(0, {"a", "b"}, 0.3) == {"b"}
    assert order.modest(0, {"a"}, 0.3) == {"a"}


@pytest.mark.parametrize(
    ("levels", "reserved", "expected"),
    [
        ([0], {}, {0: 1.0}),
        ([1, 2], {}, {1: NEARLY_ALL, 2: 1 - NEARLY_ALL}),
        ([2, 1], {1: 0.7}, {1: 0.7, 2: 0.3}),
        ([1, 2, 3], {1: 0.5, 2: None}, {1: 0.5, 2: 0.5 * NEARLY_ALL, 3: 0.5 * (1 - NEARLY_ALL)}),
        ([1, 2, 3], {1: 0.6, 2: 0.4}, {1: 0.6, 2: 0.4, 3: LEAST_SHARE}),
    ],
)
def test_shares_of_levels_are_what_was_promised_and_what_is_left(levels, reserved, expected):
    assert shares(levels, reserved) == pytest.approx(expected)


def test_who_is_forgotten_begins_anew_and_holds_nobody_back():
    order = FairOrder(lambda _: 1.0)
    order.want(["a", "b"])
    order.charge("a", 5.0)
    order.forget("a")
    order.want(["a", "b"])
    assert order.lead("a") == 0.0
