"""How an answer that is less than what was asked says so."""

import json

import pytest

from headrace.frontends.chain import Mark
from headrace.protocol.response import with_parameters


def test_a_mark_says_who_answered_and_why():
    mark = Mark("variant:small", "overload")
    assert mark.header == b"variant:small; reason=overload"
    assert json.loads(mark.json) == {"by": "variant:small", "reason": "overload"}


@pytest.mark.parametrize("name", ["größe", "a b", "x; reason=none", "a,b", "a\r\nx-evil: 1"])
def test_a_header_holds_whatever_a_variant_is_called(name):
    header = Mark(f"variant:{name}", "error").header.decode("ascii")
    assert header.startswith("variant:")
    assert header.endswith("; reason=error")
    assert not set(header.removesuffix("; reason=error")) & set(" ;,\r\n")
    assert json.loads(Mark(f"variant:{name}", "error").json)["by"] == f"variant:{name}"


@pytest.mark.parametrize("tail", [b"", b"\0\1\2\3"])
def test_parameters_go_into_the_json_and_binary_tensors_stay_behind_it(tail):
    content = b'{"model_name":"m","outputs":[]}'
    length = len(content) if tail else None
    marked, marked_length = with_parameters(content + tail, length, {"degraded": "stale"})
    assert (marked_length is None) == (length is None)
    head = marked[:marked_length]
    assert json.loads(head) == {"parameters": {"degraded": "stale"}, **json.loads(content)}
    assert marked[len(head) :] == tail
