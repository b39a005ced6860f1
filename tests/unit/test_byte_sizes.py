import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.byte_sizes import byte_size, in_words


@pytest.mark.parametrize(
    ("written", "nbytes"),
    [
        ("0", 0),
        ("1000000", 1_000_000),
        ("12b", 12),
        ("1KB", 1_000),
        ("600MB", 600_000_000),
        ("2GB", 2_000_000_000),
        ("1KiB", 1 << 10),
        ("600MiB", 600 << 20),
        ("4 GiB", 4 << 30),
        ("2g", 2 << 30),
        ("1.5m", 3 << 19),
        ("1tib", 1 << 40),
    ],
)
def test_an_amount_is_its_number_times_its_unit(written, nbytes):
    assert byte_size(written) == nbytes


@pytest.mark.parametrize(
    "written", ["", "GiB", "4 gigs", "-1", "1e9", "50%", "4GiB free", "\u0664g", "nan", "1_000"]
)
def test_what_is_no_amount_is_refused_with_how_one_is_written(written):
    with pytest.raises(ValueError, match="should be bytes, as in 600MiB"):
        byte_size(written)


def test_what_is_no_text_is_left_as_it_is():
    assert byte_size(5) == 5
    assert byte_size(None) is None


@pytest.mark.parametrize(
    ("nbytes", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (600 << 20, "600 MiB"),
        ((1 << 30) + (1 << 27), "1.12 GiB"),
        (81_300_000_000, "75.7 GiB"),
        (-(300 << 20), "-300 MiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_an_amount_is_told_to_three_digits(nbytes, words):
    assert in_words(nbytes) == words


@given(st.integers(1, 1 << 45))
def test_what_is_told_is_what_it_is_to_three_digits(nbytes):
    words = in_words(nbytes)
    read = byte_size(words.removesuffix(" bytes"))
    assert read == pytest.approx(nbytes, rel=0.006)
