import pytest

from headrace.loadtest.sender_answers import CHUNKED, UNTIL_CLOSE, Head, body_end, read_head, retry_after


@pytest.mark.parametrize(
    ("head", "meaning"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 12", Head(200, 12, closes=False, retry_after_s=0)),
        (b"HTTP/1.1 200\r\nCONTENT-LENGTH:12 ", Head(200, 12, closes=False, retry_after_s=0)),
        (b"HTTP/1.1 204 No Content", Head(204, 0, closes=False, retry_after_s=0)),
        (b"HTTP/1.1 200 OK\r\nX-Content-Length: 3", Head(200, UNTIL_CLOSE, closes=True, retry_after_s=0)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", Head(200, CHUNKED, closes=False, retry_after_s=0)),
        (
            b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0",
            Head(503, 0, closes=True, retry_after_s=2),
        ),
        (
            b"HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0",
            Head(503, 0, closes=False, retry_after_s=0),
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1", Head(200, 1, closes=True, retry_after_s=0)),
        (
            b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1",
            Head(200, 1, closes=False, retry_after_s=0),
        ),
    ],
)
def test_a_head_says_status_and_end(head: bytes, meaning: Head) -> None:
    assert read_head(head) == meaning


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/2 200", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: many"]
)
def test_what_is_no_answer_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        read_head(head)


def test_chunks_end_only_where_all_of_them_are_there() -> None:
    head = Head(200, CHUNKED, closes=False, retry_after_s=0)
    body = b"a;name=value\r\n0123456789\r\n5\r\n0\r\n\r\n\r\n0\r\nTrailer: x\r\n\r\n"
    assert body_end(body, 0, head) == len(body)
    assert all(body_end(body[:size], 0, head) is None for size in range(len(body)))
    with pytest.raises(ValueError, match="zz"):
        body_end(b"zz\r\n", 0, head)


def test_milliseconds_in_the_body_are_more_exact_than_the_header() -> None:
    head = Head(503, 30, closes=False, retry_after_s=1)
    assert retry_after(head, b'..."retry_after_ms": 12.5}') == 0.0125
    assert retry_after(head, b"{}") == 1
