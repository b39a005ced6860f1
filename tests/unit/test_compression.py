import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidRequest, UnsupportedCoding
from headrace.protocol.compression import Coding, coding_for_answer, coding_of_body, deflate, inflate
from headrace.protocol.transcode import DEFLATE, IN_FULL, INFLATE, TOO_MUCH, perform, result, task

MIB = 1 << 20


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        ("gzip", Coding.GZIP),
        (" GZip ", Coding.GZIP),
        ("deflate", Coding.DEFLATE),
        ("identity", None),
        ("", None),
    ],
)
def test_a_body_is_what_its_header_says(value, coding):
    assert coding_of_body(value) is coding


@pytest.mark.parametrize("value", ["br", "zstd", "gzip, gzip", "compress", "gzip;q=1", "x" * 5000])
def test_another_coding_of_a_body_is_refused_by_name(value):
    with pytest.raises(UnsupportedCoding, match=f"Unsupported compression type '{value[:20]}"):
        coding_of_body(value)


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        ("gzip", "gzip"),
        ("DEFLATE", "deflate"),
        ("gzip, identity", "gzip"),
        ("gzip;q=0.5", "gzip"),
        ("gzip;q=0.5, deflate;q=0.9", "deflate"),
        ("gzip;q=0.5, deflate;q=0.5", "gzip"),
        ("deflate, gzip;q=1.0", "deflate"),
        ("br;q=1.0, gzip;q=0.8", "gzip"),
        ("identity;q=1, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("gzip;q=much", None),
        ("gzip;q=nan", None),
        ("gzip;q=2", None),
        ("identity", None),
        ("*", None),
        ("br", None),
        ("", None),
        # What libraries offer of their own accord.
        ("gzip, deflate", None),
        ("gzip, deflate, br, zstd", None),
    ],
)
def test_an_answer_is_compressed_for_who_names_one_coding_or_weighs_several(value, coding):
    assert coding_for_answer(value) == coding


@pytest.mark.parametrize("coding", Coding)
@given(data=st.binary(max_size=3000))
def test_what_was_deflated_inflates_to_the_same(coding, data):
    assert inflate(deflate(data, coding), coding, len(data)) == data
    if data:
        assert inflate(deflate(data, coding), coding, len(data) - 1) is None


def test_both_are_what_everybody_calls_so():
    assert gzip.decompress(deflate(b"abc", Coding.GZIP)) == b"abc"
    assert zlib.decompress(deflate(b"abc", Coding.DEFLATE)) == b"abc"
    assert inflate(gzip.compress(b"abc"), Coding.GZIP, 10) == b"abc"
    assert inflate(zlib.compress(b"abc"), Coding.DEFLATE, 10) == b"abc"


@pytest.mark.parametrize("coding", Coding)
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda data: data[:-1], "ends too early"),
        (lambda _: b"", "ends too early"),
        (lambda data: data + b"more", "4 bytes after the end"),
        (lambda data: b"x" + data, "cannot be decompressed"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "cannot be decompressed"),
    ],
    ids=["cut", "empty", "longer", "shifted", "another checksum"],
)
def test_a_spoilt_body_is_told_what_is_wrong(coding, spoil, text):
    with pytest.raises(InvalidRequest, match=text):
        inflate(spoil(deflate(b"a body that is long enough", coding)), coding, 1000)


@pytest.mark.parametrize("coding", Coding)
def test_a_bomb_is_not_unpacked_beyond_the_limit(coding):
    bomb = deflate(bytes(64 * MIB), coding)
    tracemalloc.start()
    try:
        assert inflate(bomb, coding, MIB) is None
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", Coding)
def test_the_transcoder_does_the_same(coding):
    def done(operation, number, body):
        return result(perform(bytes(task(operation, number, body).tensors[0])))

    packed, _ = done(DEFLATE[coding], 0, b"abc" * 1000)
    assert packed == deflate(b"abc" * 1000, coding)
    assert done(INFLATE[coding], 3000, packed) == (b"abc" * 1000, IN_FULL)
    assert done(INFLATE[coding], 2999, packed) == (b"", TOO_MUCH)
    assert done(INFLATE[coding], 1 << 40, packed)[1] == IN_FULL
    with pytest.raises(InvalidRequest):
        done(INFLATE[coding], 3000, packed[:-1])
