import numpy as np
import pytest

from headrace import strings
from headrace.errors import InvalidRequest


def test_elements_are_length_and_bytes_in_row_major_order():
    array = np.array([[b"a", b""], [b"\x00\xff", b"bcd"]], object)
    data = strings.join(array)
    assert data == b"\1\0\0\0a\0\0\0\0\2\0\0\0\x00\xff\3\0\0\0bcd"
    assert (strings.split(data, (2, 2)) == array).all()


def test_an_empty_tensor_is_no_bytes():
    assert strings.join(np.empty((0, 3), object)) == b""
    assert strings.split(b"", (0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("data", "shape", "text"),
    [
        (b"\1\0\0", (1,), "incomplete string data"),
        (b"\5\0\0\0abc", (1,), "incomplete string data"),
        (b"\xff\xff\xff\xffabc", (1,), "incomplete string data"),
        (b"\1\0\0\0a", (2,), "expected 2 string elements, got 1"),
        (b"\1\0\0\0a\1\0\0\0b", (1,), "expected 1 string elements, got 2"),
        (b"", (1,), "expected 1 string elements, got 0"),
    ],
)
def test_lengths_that_do_not_add_up_are_refused(data, shape, text):
    with pytest.raises(InvalidRequest, match=text):
        strings.split(data, shape)
