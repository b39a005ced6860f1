import numpy as np
import pytest

from headrace.messages import (
    BUCKET_RATIO,
    NUMPY_TYPES,
    SMALLEST_EDGE,
    Datatype,
    TensorSpec,
    bucket_edge,
    element_count,
)

BYTES_AN_ELEMENT = {
    **dict.fromkeys(("BOOL", "UINT8", "INT8"), 1),
    **dict.fromkeys(("UINT16", "INT16", "FP16", "BF16"), 2),
    **dict.fromkeys(("UINT32", "INT32", "FP32"), 4),
    **dict.fromkeys(("UINT64", "INT64", "FP64"), 8),
    "BYTES": None,
}


@pytest.mark.parametrize("datatype", Datatype)
def test_elements_have_the_sizes_of_the_protocol(datatype):
    assert TensorSpec("x", datatype, (1,)).itemsize == BYTES_AN_ELEMENT[datatype]


def test_bytes_on_the_wire_are_little_endian():
    assert all(dtype == dtype.newbyteorder("<") for dtype in NUMPY_TYPES.values())


@pytest.mark.parametrize(("shape", "count"), [((), 1), ((3,), 3), ((2, 0, 5), 0), ((2, 3, 4), 24)])
def test_a_shape_has_the_product_of_its_sizes_for_elements(shape, count):
    assert element_count(shape) == count == np.empty(shape).size


def test_a_length_bucket_holds_its_length_and_at_most_a_fifth_of_padding():
    for length in range(SMALLEST_EDGE, 5000):
        edge = bucket_edge(length)
        assert length <= edge <= max(length + 1, length * BUCKET_RATIO)
        assert bucket_edge(edge) == edge


@pytest.mark.parametrize("length", [0, 1, SMALLEST_EDGE])
def test_short_lengths_share_a_bucket(length):
    assert bucket_edge(length) == SMALLEST_EDGE
