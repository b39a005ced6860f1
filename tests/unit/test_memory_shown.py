"""What `headrace models --memory` prints of a view."""

import json

import pytest

from headrace.cli.memory import FORESEEN, show
from headrace.lifecycle.memory_view import MemoryView
from tests.memory import MIB, device, model


@pytest.fixture
def shown(capsys):
    """Gives the lines that are printed of a view, each with single spaces."""

    def lines(*models, mistakes=(), states=None, as_json=False, **of_device):
        view = MemoryView((device(**of_device),), models)
        show(view, mistakes, states or {}, as_json=as_json)
        printed = capsys.readouterr().out
        return json.loads(printed) if as_json else [" ".join(line.split()) for line in printed.splitlines()]

    return lines


def about(lines, name):
    """The line that begins with the name."""
    return next(line for line in lines if line.startswith(name))


def test_the_budget_is_told_as_the_sum_it_is(shown):
    assert about(shown(), "cpu") == (
        "cpu 8 GiB in all - 512 MiB in reserve - 1.5 GiB that others hold = 6 GiB for models (the machine's memory)"
    )


def test_a_budget_that_was_lowered_is_told_beside_what_there_would_be(shown):
    line = about(shown(budget=2048 * MIB, limit="--memory-budget"), "cpu")
    assert line.endswith("that others hold = 6 GiB; 2 GiB for models (--memory-budget)")


def test_what_is_reserved_is_told_and_drawn(shown):
    line = next(
        each for each in shown(resident=3072 * MIB, scratch=1536 * MIB, used=3000 * MIB) if "█" in each
    )
    assert line.startswith("█" * 20 + "▒" * 10 + "·" * 10 + " ")
    assert line.endswith("3 GiB held, 1.5 GiB for 2 runs at once, 1.5 GiB free; 2.93 GiB used")


def test_what_is_over_the_budget_is_told_and_the_bar_stays_within_its_length(shown):
    line = next(each for each in shown(resident=7000 * MIB) if "█" in each)
    assert line.startswith("█" * 40 + " ")
    assert "956 MiB over" in line


def test_a_model_has_a_line_with_what_is_known_of_it(shown):
    line = about(shown(model("mood", is_pinned=True, cap=8, evictions=3, gives_back=True)), "mood/1")
    assert line == (
        "mood/1 READY 60 MiB 10 MiB 50 MiB 500 ms 1.5/s, 3 s ago 3 times "
        "pinned; gives back after each run; batches of up to 8 rows"
    )


def test_of_a_model_that_was_never_there_what_is_not_known_is_left_out(shown):
    unknown = {
        "state": "ABSENT",
        "is_measured": False,
        "used": 0,
        "reload_s": None,
        "idle_s": None,
        "scratch": 0,
    }
    lines = shown(model("mood", reason="loaded when it is asked for", **unknown))
    assert about(lines, "mood/1") == "mood/1 ABSENT ~60 MiB loaded when it is asked for"
    assert lines[-1] == ("1 model: 0 in memory, 1 loaded when asked for, 1 not measured yet (~)")


def test_before_a_start_states_are_what_will_become_of_them_and_mistakes_come_last(shown):
    lines = shown(
        model("first"),
        model("later", state="ABSENT"),
        model("huge", state="UNAVAILABLE"),
        states=FORESEEN,
        mistakes=("huge/1 can never fit",),
    )
    assert about(lines, "first/1").startswith("first/1 at start")
    assert about(lines, "later/1").startswith("later/1 when asked for")
    assert about(lines, "huge/1").startswith("huge/1 never")
    assert lines[-2] == "3 models: 1 loaded at start, 1 loaded when asked for, 1 never"
    assert lines[-1] == "huge/1 can never fit"


def test_names_cannot_command_the_terminal(shown):
    assert "\x1b" not in "".join(shown(model("mood\x1b[31m")))


def test_programs_get_bytes_and_seconds_as_numbers(shown):
    found = shown(model("mood"), as_json=True)
    assert found["devices"][0]["budget"] == 6144 * MIB
    assert (found["models"][0]["name"], found["models"][0]["resident"]) == ("mood", 60 * MIB)
    assert "mistakes" not in found


def test_programs_hear_of_mistakes_before_a_start(shown):
    assert shown(states=FORESEEN, mistakes=("too much",), as_json=True)["mistakes"] == ["too much"]
