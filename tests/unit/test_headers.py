import pytest

from headrace.config import Settings
from headrace.errors import UnsupportedCoding
from headrace.frontends.headers import Wishes, read_headers
from headrace.frontends.tenants import Tenants
from headrace.protocol.compression import Coding

TENANTS = Tenants(Settings())


def wishes(**headers):
    raw = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return read_headers(raw, TENANTS).wishes


def test_most_requests_wish_for_nothing():
    assert wishes(content_length=b"7", content_type=b"application/json", host=b"h") is None
    assert wishes(accept_encoding=b"gzip, deflate", content_encoding=b"identity") is None


@pytest.mark.parametrize(
    ("value", "level"), [(b"1", 1), (b" 3 ", 3), (b"-1", 0), (b"high", 0), (b"9" * 99, 0)]
)
def test_a_priority_is_a_level_or_nothing(value, level):
    found = wishes(x_request_priority=value)
    assert (found.priority if found else 0) == level


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


def test_whose_a_request_is_comes_with_its_wishes():
    assert wishes(x_tenant=b"acme") == Wishes(tenant="acme")
    assert wishes(x_tenant=b"acme", x_request_id=b"7").tenant == "acme"
    assert wishes(x_api_key=b"a", x_tenant=b"acme").tenant == "acme"
    assert wishes(x_api_key=b"a").stranger.startswith("key-")
    assert wishes(authorization=b"Basic eDp5", x_tenant=b"") is None
