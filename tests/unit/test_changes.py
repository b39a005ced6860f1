from pathlib import Path

import pytest

from headrace.execution.stamps import Stamp
from headrace.lifecycle.changes import Keep, Put, Remove, decide
from headrace.repository.scan import Found, Scan
from headrace.repository.source import Source

KEY = ("m", "1")


def copy(content: int, name: str = "m", version: str = "1", problem: str = "") -> Found:
    """A version whose file is known by a number."""
    path = Path(f"/models/{name}/{version}/model.onnx")
    return Found(Source(name, version, path, "onnxruntime", problem), (Stamp(str(path), content),))


def seen(*founds: Found, **more) -> Scan:
    return Scan({each.key: each for each in founds}, **more)


def changes(before, now, tried=(), serving=None):
    known = {each.key: each for each in tried}
    return decide(before, now, known, known if serving is None else {each.key: each for each in serving})


OLD, NEW = copy(1), copy(2)


@pytest.mark.parametrize(
    ("before", "now", "tried", "expected"),
    [
        (seen(OLD), seen(OLD), [OLD], []),
        (seen(OLD), seen(NEW), [OLD], []),
        (seen(NEW), seen(NEW), [OLD], [Put(NEW)]),
        (seen(), seen(NEW), [], []),
        (seen(NEW), seen(NEW), [], [Put(NEW)]),
        (seen(OLD), seen(), [OLD], []),
        (seen(), seen(), [OLD], [Remove(KEY)]),
        (seen(OLD), seen(copy(1, problem="none")), [OLD], []),
    ],
    ids=[
        "nothing changed",
        "a change seen once",
        "a change seen twice",
        "a newcomer seen once",
        "a newcomer seen twice",
        "missed once",
        "missed twice",
        "a problem seen once",
    ],
)
def test_only_what_two_scans_agree_on_counts(before, now, tried, expected):
    assert changes(before, now, tried) == expected


def test_a_copy_that_was_tried_is_not_tried_again():
    assert changes(seen(NEW), seen(NEW), tried=[NEW], serving=[OLD]) == []


def test_what_serves_and_lies_there_again_is_kept():
    assert changes(seen(OLD), seen(OLD), tried=[NEW], serving=[OLD]) == [Keep(KEY)]


def test_a_scan_that_failed_changes_nothing():
    assert changes(seen(), seen(problem="cannot be read"), [OLD]) == []


def test_changes_come_in_order_and_what_goes_comes_last():
    first, second, gone = copy(1, "a"), copy(1, "b"), copy(1, "c")
    now = seen(second, first)
    assert changes(now, now, [gone]) == [Put(first), Put(second), Remove(("c", "1"))]


def test_what_was_never_on_disk_is_not_missed():
    assert changes(seen(), seen(), tried=[], serving=[OLD]) == []
