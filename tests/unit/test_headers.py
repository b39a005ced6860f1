import pytest

from headrace.errors import UnsupportedCoding
from headrace.frontends.headers import Wishes, read_headers
from headrace.protocol.compression import Coding


def wishes(**headers):
    return read_headers([(name.replace("_", "-").encode(), value) for name, value in headers.items()]).wishes


def test_most_requests_wish_for_nothing():
    assert wishes(content_length=b"7", content_type=b"application/json", host=b"h") is None
    assert wishes(accept_encoding=b"gzip, deflate", content_encoding=b"identity") is None


def test_what_is_wished_for_is_read():
    assert wishes(
        content_encoding=b"gzip",
        accept_encoding=b"deflate",
        x_request_id=b"a-1",
        x_request_timeout_seconds=b"2",
    ) == Wishes(2.0, Coding.GZIP, Coding.DEFLATE, b"a-1")


@pytest.mark.parametrize("value", [b"", b"a b", b"a\tb", b"x" * 129, "é".encode()])
def test_an_id_that_cannot_be_echoed_is_ignored(value):
    assert wishes(x_request_id=value) is None


def test_another_coding_is_refused():
    with pytest.raises(UnsupportedCoding):
        wishes(content_encoding=b"br")


def test_the_sooner_deadline_counts():
    assert wishes(x_request_timeout_seconds=b"2", x_envoy_expected_rq_timeout_ms=b"500") == Wishes(
        timeout_s=0.5
    )
