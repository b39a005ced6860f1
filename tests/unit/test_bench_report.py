"""What is made of a record: the verdict, JSON, plots and the page."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from rich.console import Console

from headrace.loadtest.analysis import analyse
from headrace.loadtest.document import FORMAT, VERSION, LoadTest, Machine, Setup, to_json
from headrace.loadtest.live import LiveTable
from headrace.loadtest.plan import Caller
from headrace.loadtest.plots import goodput_plot
from headrace.loadtest.record import GAVE_UP, Record
from headrace.loadtest.report import to_html
from headrace.loadtest.scrape import BATCHES, ROWS, BatchSizes, batch_sizes, read_totals
from headrace.loadtest.search import Found, Outcome, Phase, Trial
from headrace.loadtest.sender import Progress
from headrace.loadtest.verdict import count_late, judge, judge_search, outcome_of

NASTY = "<script>alert('x')</script>"
SETUP = Setup(
    command=f"headrace bench {NASTY}",
    url="http://127.0.0.1:8000",
    server="headrace 0.1.0",
    model=NASTY,
    load="Poisson",
    seed=1,
    pinning=("The generator runs on core 1.",),
    machine=Machine(2, "a CPU", "Linux"),
    started="2026-01-01T00:00:00+00:00",
)


def record(
    count: int = 2000, *, slow: int = 0, refused: int = 0, lag_s: float = 0.0, names=("all",)
) -> Record:
    """Calls of ten seconds, each answered after 10 ms; first of all the slow ones, after 900 ms, then the refused ones."""
    scheduled = np.arange(count) / count * 10
    took = np.full(count, 0.01)
    took[:slow] = 0.9
    status = np.full(count, 200, np.int16)
    status[slow : slow + refused] = 503
    return Record(
        scheduled=scheduled,
        sent=scheduled + lag_s,
        ended=scheduled + took,
        status=status,
        callers=np.arange(count, dtype=np.int16) % len(names),
        keys=np.zeros(count, np.int32),
        attempt=np.zeros(count, np.int16),
        who=tuple(Caller(each, deadline_s=0.1) for each in names),
        seconds=10.0,
        first_faults=(f"400 {NASTY}",),
        samples={
            ROWS: [(1.0, 0.0), (2.0, 80.0), (3.0, 80.0)],
            BATCHES: [(1.0, 0.0), (2.0, 10.0), (3.0, 10.0)],
        },
    )


def load_test(seen: Record, **more) -> LoadTest:
    analysis = analyse(seen)
    return LoadTest(SETUP, seen, analysis, judge(seen, analysis, 0.1), **more)


class Page(HTMLParser):
    """A page's ids, what it would fetch, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.fetched += [
            value
            for name, value in attrs
            if name in {"src", "href", "xlink:href", "data"} and value[0] != "#"
        ]

    def handle_data(self, data):
        self.text += data


def test_calls_that_are_refused_or_slow_or_given_up_are_late():
    seen = record(1000, slow=3, refused=4)
    status = seen.status.copy()
    status[-1] = GAVE_UP
    assert count_late(replace(seen, status=status), 0.1) == (1000, 8)
    assert count_late(replace(seen, status=status), 0.1, since_s=5.0) == (500, 1)


def test_a_retry_does_not_make_its_call_good():
    seen = record(1000, refused=1)
    again = {
        name: np.append(getattr(seen, name), getattr(seen, name)[-1:])
        for name in ("scheduled", "sent", "ended", "status", "callers", "keys")
    }
    assert count_late(replace(seen, **again, attempt=np.append(seen.attempt, 1)), 0.1) == (1000, 1)


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (record(2000), "kept", "100.00% of 2000 calls"),
        (record(2000, slow=19), "kept", "too few calls"),
        (record(2000, slow=21), "failed", "the objective is 99%"),
        (record(2000, lag_s=0.006), "void", "late"),
        (record(2000, refused=2000), "failed", "nothing was answered with success"),
    ],
    ids=["kept", "unproved", "failed", "void", "nothing"],
)
def test_the_verdict_of_a_run(seen, state, words):
    verdict = judge(seen, analyse(seen), 0.1)
    assert verdict.state == state
    assert words in verdict.text
    assert verdict.is_kept == (state == "kept")


def test_the_warm_up_of_a_trial_does_not_count():
    trial = Trial(200, 10.0, 1, Phase.BISECT)
    seen = record(2000, slow=150)
    outcome = outcome_of(trial, seen, analyse(seen), 0.1)
    assert (outcome.total, outcome.late, outcome.is_passed) == (1800, 0, True)


def test_a_search_is_kept_only_if_it_is_confirmed():
    assert judge_search(Found(100.0, True, "confirmed"), 0.05).is_kept
    assert not judge_search(Found(100.0, False, "the time was up"), 0.05).is_kept


def test_json_holds_everything_and_says_its_version():
    outcome = Outcome(Trial(100, 10, 1, Phase.CONFIRM), 1000, 0, 9.0)
    document = json.loads(json.dumps(to_json(load_test(record(names=("a", "b")), outcomes=(outcome,)))))
    assert (document["format"], document["version"]) == (FORMAT, VERSION)
    assert document["analysis"]["whole"]["calls"] == 2000
    assert document["latency_ms"]["p99"] == pytest.approx(10)
    assert len(document["windows"]) == 10
    assert set(document["caller_windows"]) == {"a", "b"}
    assert document["trials"][0]["is_passed"]
    assert document["batch_sizes"] == [[2.0, 8.0]]


def test_the_page_stands_alone():
    page = Page(to_html(load_test(record(names=("a", "b"), refused=5))))
    assert page.fetched == []
    assert "script" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    assert {"verdict", "figures", "over-time", "latency-over-time", "latency-by-percentile"} <= set(page.ids)
    assert {"batch-size", "goodput-by-caller", "callers", "statuses", "faults", "how"} <= set(page.ids)


def test_the_page_shows_names_and_answers_as_text():
    text = to_html(load_test(record(names=(NASTY, "b"))))
    assert NASTY not in text
    assert Page(text).text.count(NASTY) >= 3


def test_plots_have_a_title_and_a_text_for_who_cannot_see_them():
    text = to_html(load_test(record()))
    drawn = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(drawn) == 4
    for each in drawn:
        assert re.search(r'role="img" aria-labelledby="(\w+)-title \1-description"', each)
        assert re.search(r"<title id=.*?>.+?</title><desc id=.*?>.+?</desc>", each)
        assert "currentColor" in each


def test_the_page_of_a_search_lists_its_trials():
    outcomes = tuple(
        Outcome(Trial(rate, 10, 1, Phase.BRACKET), 1000, late, 9.0) for rate, late in ((100, 0), (200, 700))
    )
    page = to_html(load_test(record(), outcomes=outcomes, found=Found(123.0, True, "confirmed")))
    assert "trials" in Page(page).ids
    assert "123 /s" in page


def test_a_page_can_be_made_of_a_run_without_any_answer():
    page = Page(to_html(load_test(record(20, refused=20))))
    assert "nothing was answered with success" in page.text


def test_a_plot_of_goodput_is_a_file_of_its_own():
    drawn = goodput_plot(
        {"headrace": [(1, 1), (10, 0.9)], "_other $1 <x>": [(10, 0.1), (1, 1)]}, title="A & B"
    )
    root = ET.fromstring(drawn)
    texts = " ".join("".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text"))
    assert root.tag.endswith("svg")
    assert "_other $1 <x>" in texts
    assert "A & B" in texts
    assert "prefers-color-scheme" in drawn


HEADRACE = """\
# HELP inference_batch_size Rows that ran together.
inference_batch_size_count{skill="m",version="1"} 4.0
inference_batch_size_sum{skill="m",version="1"} 20.0
inference_batch_size_count{skill="m",version="2"} 1.0
inference_batch_size_sum{skill="m",version="2"} 10.0
inference_batch_size_sum{skill="other",version="1"} 99.0
"""
TRITON = """\
nv_inference_count{model="m",version="1"} 30
nv_inference_exec_count{model="m",version="1"} 5
"""


@pytest.mark.parametrize("text", [HEADRACE, TRITON, HEADRACE + TRITON])
def test_batches_are_read_from_metrics_of_either_name(text):
    assert read_totals(text, "m") == {ROWS: 30.0, BATCHES: 5.0}


def test_metrics_that_say_nothing_of_the_model_give_nothing():
    assert read_totals(HEADRACE, "nobody") == {}
    assert read_totals("<html>no metrics here</html>", "m") == {}


def test_a_server_without_metrics_is_asked_once():
    sizes = BatchSizes("http://127.0.0.1:1", "m")
    assert sizes() == {}
    assert sizes() == {}
    assert sizes.latest is None


def test_a_second_without_batches_has_no_size():
    assert batch_sizes(record()) == [(2.0, 8.0)]


def test_lines_are_written_where_there_is_no_terminal():
    out = StringIO()
    with LiveTable(Console(file=out, width=40), lambda: 3.25) as show:
        for second in (1.0, 2.0):
            show(Progress(second, 100, 90, 70, 5, 1, 0, 0, 4, 0.0001, 0.01, 1.25))
    heading, first, second = out.getvalue().splitlines()
    assert heading.split()[:5] == ["s", "offered", "served", "good", "refused"]
    assert first.split() == ["1", "100", "90", "70", "5", "1", "0", "4", "10", "1250", "0.1", "3.2"]
    assert second.split()[0] == "2"


def test_a_terminal_gets_a_table_that_goes_away():
    out = StringIO()
    with LiveTable(Console(file=out, force_terminal=True, width=120), lambda: None) as show:
        show(Progress(1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0))
    assert "offered" in out.getvalue()
    assert "\x1b[2K" in out.getvalue()


@pytest.mark.parametrize("width", [79, 80], ids=["wrapped", "table"])
def test_no_terminal_cuts_off_a_figure(width):
    out = StringIO()
    with LiveTable(Console(file=out, force_terminal=True, width=width), lambda: 12.5) as show:
        show(Progress(599.0, 54321, 54322, 54323, 1234, 3210, 123, 0, 4567, 1.111, 2.222, 3.333))
    for figure in (
        "599",
        "54321",
        "54322",
        "54323",
        "1234",
        "3210",
        "123",
        "4567",
        "1111",
        "2222",
        "3333",
        "12.5",
    ):
        assert figure in out.getvalue()
    assert "…" not in out.getvalue()
