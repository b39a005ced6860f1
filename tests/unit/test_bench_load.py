"""What a person types for `headrace bench`, and the callers, schedules and bodies it becomes."""

import os

import click
import numpy as np
import pytest

from headrace.cli.load import (
    NAMED,
    OTHERS,
    Load,
    make_bodies,
    parse_callers,
    parse_lengths,
    parse_steps,
    parse_viral,
    read_load,
)
from headrace.cli.pinning import pin
from headrace.errors import ConfigurationError
from headrace.loadtest.plan import Caller
from headrace.loadtest.wire import Metadata, Tensor
from headrace.messages import Datatype

BERT = Metadata("bert", (Tensor("ids", Datatype.INT64, (-1, -1)),))


def load(**more) -> Load:
    fields = {"pattern": "poisson", "steps": (), "keys": 10, "zipf": None, "viral": None, **more}
    return read_load(
        fields.pop("trace", None), fields.pop("base", Caller()), fields.pop("callers", ()), **fields
    )


def trace_of(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_a_caller_says_what_differs_from_the_usual_one():
    usual = Caller(deadline_s=0.5, retries=2)
    web, batch = parse_callers(
        (
            "web:part=3,deadline_ms=50,heeds_retry_after=yes,sends_deadline=no",
            "batch:tenant=b,priority=2,retries=0",
        ),
        usual,
    )
    assert (web.name, web.part, web.deadline_s, web.retries) == ("web", 3.0, 0.05, 2)
    assert (web.heeds_retry_after, web.sends_deadline) == (True, False)
    assert (batch.tenant, batch.priority, batch.retries, batch.deadline_s) == ("b", 2, 0, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "web:colour=red",
        "web:part",
        "web:part=much",
        "web:part=0",
        "web:retries=-1",
        ":part=1",
        "",
        "a:part=inf",
        "a:give_up_ms=inf",
        "a:tenant=b\r\nx: y",
        "a:priority=x",
    ],
)
def test_a_caller_that_cannot_be_is_refused(text):
    with pytest.raises(click.BadParameter):
        parse_callers((text,), Caller())


@pytest.mark.parametrize(
    ("more", "rate", "seconds"),
    [({}, 1e12, 1.0), ({"pattern": "steps", "steps": ((1e9, 1.0),)}, None, 1.0)],
    ids=["rate", "steps"],
)
def test_more_calls_than_memory_has_room_for_are_refused(more, rate, seconds):
    with pytest.raises(ConfigurationError, match="lower its rate or length"):
        load(**more).schedule(rate, seconds, 1)


def test_calls_of_nobody_are_not_those_of_the_others(tmp_path):
    lines = "".join(f"{at},{f'c{at}' if at > 2 else ''}\n" for at in range(NAMED + 5))
    names = [each.name for each in load(trace=trace_of(tmp_path, f"time,caller\n{lines}")).callers]
    assert names[-1] == OTHERS
    assert len(set(names)) == len(names) == NAMED + 1


def test_a_moment_recorded_is_not_repeated_for_ever(tmp_path):
    recorded = load(trace=trace_of(tmp_path, "time\n0\n1e-9\n"))
    with pytest.raises(ConfigurationError, match="lower its rate or length"):
        recorded.schedule(None, 5.0, 1)


def test_two_callers_have_two_names():
    with pytest.raises(click.BadParameter, match="one name"):
        parse_callers(("a:part=1", "a:part=2"), Caller())


def test_texts_of_steps_lengths_and_virality_are_read():
    assert parse_steps("100:5,1000:0.5") == ((100.0, 5.0), (1000.0, 0.5))
    assert parse_lengths("16,128") == (16, 128)
    assert parse_viral("5:10:0.3") == (5.0, 10.0, 0.3)


@pytest.mark.parametrize("text", ["100", "100:0", "-1:5", "a:b", "1:2:3", "100:5,"])
def test_steps_that_cannot_be_are_refused(text):
    with pytest.raises(click.BadParameter, match="100:5,1000:5,100:10"):
        parse_steps(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [(parse_lengths, "0"), (parse_lengths, "x"), (parse_viral, "1:2"), (parse_viral, "1:2:3")],
)
def test_other_texts_that_cannot_be_are_refused(parse, text):
    with pytest.raises(click.BadParameter):
        parse(text)


def test_steps_have_a_rate_and_a_length_of_their_own():
    stepped = load(pattern="steps", steps=((200.0, 1.0), (2000.0, 2.0)))
    assert stepped.has_rate
    assert stepped.seconds(None, 10.0) == 3.0
    times = stepped.schedule(None, 3.0, 1).times
    assert (times < 1).sum() < 400 < (times >= 1).sum()


def test_a_viral_key_takes_its_part_of_the_calls_while_it_lasts():
    made = load(viral=(2.0, 2.0, 0.5), keys=100).schedule(1000.0, 6.0, 1)
    during = made.keys[(made.times >= 2) & (made.times < 4)]
    before = made.keys[made.times < 2]
    assert np.bincount(during).max() > 0.4 * len(during)
    assert np.bincount(before).max() < 0.1 * len(before)


def test_callers_call_by_their_parts():
    callers = parse_callers(("a:part=3", "b:part=1"), Caller())
    made = load(callers=callers).schedule(2000.0, 2.0, 1)
    assert (made.callers == 0).mean() == pytest.approx(0.75, abs=0.05)


def test_a_trace_is_sent_as_it_was_or_at_a_rate(tmp_path):
    recorded = load(trace=trace_of(tmp_path, "time,key\n10,a\n11,b\n12,a\n13,a\n"))
    assert recorded.seconds(None, 10.0) == 4.0
    assert recorded.seconds(None, 10.0, 10.0) == pytest.approx(0.4)
    assert recorded.schedule(None, 4.0, 1).times.tolist() == [0, 1, 2, 3]
    assert recorded.schedule(None, 4.0, 1).keys.tolist() == [0, 1, 0, 0]
    assert recorded.schedule(10.0, 0.4, 1).times == pytest.approx([0, 0.1, 0.2, 0.3])


def test_callers_of_a_trace_are_tenants_and_the_rarest_are_one(tmp_path):
    rows = [f"{at},{who}" for at, who in enumerate([*range(NAMED), *range(NAMED), "rare", "rarer"])]
    recorded = load(trace=trace_of(tmp_path, "\n".join(["time,tenant", *rows])), base=Caller(deadline_s=0.1))
    assert [each.name for each in recorded.callers] == [*map(str, range(NAMED)), OTHERS]
    assert recorded.callers[3].tenant == "3"
    assert recorded.callers[3].deadline_s == 0.1
    made = recorded.schedule(None, recorded.seconds(None, 10.0), 1)
    assert made.callers[-2:].tolist() == [NAMED, NAMED]


def test_callers_that_are_given_call_in_place_of_a_traces(tmp_path):
    given = (Caller("given"),)
    recorded = load(trace=trace_of(tmp_path, "time,tenant\n1,a\n2,b\n"), callers=given)
    assert recorded.callers == given
    assert recorded.schedule(None, 2.0, 1).callers.tolist() == [0, 0]


def test_lengths_of_a_trace_are_those_of_its_inputs(tmp_path):
    recorded = load(trace=trace_of(tmp_path, "time,length\n1,5\n2,90\n3,5\n4,700\n"))
    made, bodies = make_bodies(recorded, BERT, seed=1, lengths=(128,), binary=True)
    keys = made.schedule(None, 4.0, 1).keys.tolist()
    sizes = [len(bodies[key].content) - (bodies[key].header_length or 0) for key in keys]
    assert [size // 8 for size in sizes] == [5, 90, 5, 128]


def test_the_generator_takes_the_last_core_and_says_what_is_left():
    cores = sorted(os.sched_getaffinity(0))
    pinning = pin(None, "127.0.0.1", is_wanted=True)
    if len(cores) == 1:
        assert pinning.core is None
    else:
        assert pinning.core == cores[-1]
        assert f"taskset -c {','.join(map(str, cores[:-1]))} headrace serve" in pinning.words[1]
        assert len(pin(None, "192.0.2.1", is_wanted=True).words) == 1
    assert pin(None, "127.0.0.1", is_wanted=False).core is None


def test_a_core_that_is_not_there_is_refused():
    with pytest.raises(click.BadParameter, match="not on 4095"):
        pin(4095, "127.0.0.1", is_wanted=True)
