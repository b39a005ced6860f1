from pathlib import Path

import numpy as np
import pytest

from headrace.errors import ConfigurationError
from headrace.loadtest.schedules import recorded


@pytest.fixture
def csv(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "trace.csv"
        path.write_text(text)
        return path

    return write


def test_seconds_count_from_the_first_call(csv) -> None:
    trace = recorded(csv("time\n100.5\n101\n103\n"))
    assert trace.times.tolist() == [0, 0.5, 2.5]
    assert trace.keys is trace.callers is trace.lengths is None


def test_published_traces_are_read_as_they_are(csv) -> None:
    trace = recorded(
        csv(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2023-11-16 18:15:46.6805900,374,44\n"
            "2023-11-16 18:15:50.9951690,396,109\n"
        )
    )
    assert trace.times == pytest.approx([0, 4.314579])
    assert trace.lengths is not None
    assert trace.lengths.tolist() == [374, 396]


def test_calls_are_put_in_the_order_of_time_with_all_that_belongs_to_them(csv) -> None:
    trace = recorded(csv("Time,Key,tenant,length\n3,c,x,30\n1,a,y,10\n\n2,c,x,20\n"))
    assert trace.times.tolist() == [0, 1, 2]
    assert trace.keys is not None
    assert trace.keys.tolist() == [0, 1, 1]
    assert trace.callers is not None
    assert [trace.names[each] for each in trace.callers] == ["y", "x", "x"]
    assert trace.lengths is not None
    assert trace.lengths.tolist() == [10, 20, 30]


def test_a_trace_is_played_at_another_rate_and_again_and_again(csv) -> None:
    trace = recorded(csv("time,key\n0,a\n1,b\n2,a\n3,c\n"))
    assert trace.seconds == 4
    fast = trace.scaled(rate=10)
    assert fast.times == pytest.approx([0, 0.1, 0.2, 0.3])
    longer = fast.repeated(1.0)
    assert longer.times == pytest.approx(np.arange(10) / 10)
    assert longer.keys is not None
    assert longer.keys.tolist() == [0, 1, 0, 2, 0, 1, 0, 2, 0, 1]


def test_a_trace_of_one_call_is_a_second_long(csv) -> None:
    assert recorded(csv("time\n17\n")).repeated(3).times.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no column of times"),
        ("when,key\n1,2\n", "names no column of times"),
        ("time\n", "no line after its header"),
        ("time\n1\nsoon\n", "line 3: 'soon'"),
        ("time\nnan\n", "line 2: 'nan'"),
        ("time,length\n1,2\n1,2.5\n", "line 3: '2.5'"),
        ("time,length\n1,2\n1,99999999999\n", "line 3: '99999999999'"),
        ('time,caller\n1,"a\nx: y"\n', "is no name of a caller"),
        ("time,key\n1,a\n2\n", "line 3 has 1 cells and the header has 2"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(csv, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        recorded(csv(text))
    assert said in str(caught.value)


def test_a_file_that_is_no_text_or_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        recorded(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"time\n\xff\xfe\n")
    with pytest.raises(ConfigurationError, match="not a CSV file in UTF-8"):
        recorded(tmp_path / "x.csv")


def test_calls_that_came_all_at_once_have_no_rate_to_change(csv) -> None:
    with pytest.raises(ConfigurationError, match="all at once"):
        recorded(csv("time\n5\n5\n")).scaled(10)
