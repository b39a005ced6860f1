import os

import numpy as np
import pytest

from headrace.execution.arena import ALIGNMENT, JOIN_BELOW, SMALLEST, Region, aligned


@pytest.fixture
def sides():
    """One region as gateway and worker have it: two descriptors of one memory."""
    ours = Region.create()
    theirs = Region(os.dup(ours.fd))
    yield ours, theirs
    ours.close()
    theirs.close()


def test_what_one_side_writes_the_other_reads(sides):
    ours, theirs = sides
    ours.write(64, [b"ab", b"cd"], 4)
    assert bytes(theirs.view[64:68]) == b"abcd"


@pytest.mark.parametrize("nbytes", [SMALLEST + 1, 3 * SMALLEST, 16 * SMALLEST])
def test_it_grows_to_the_next_power_of_two_and_the_other_side_follows(sides, nbytes):
    ours, theirs = sides
    ours.view[:2] = b"ab"
    ours.reserve(nbytes)
    assert nbytes <= ours.size < 2 * nbytes
    ours.view[nbytes - 1 : nbytes] = b"z"
    theirs.follow(ours.size)
    assert (bytes(theirs.view[:2]), bytes(theirs.view[nbytes - 1 : nbytes])) == (b"ab", b"z")


def test_it_never_shrinks(sides):
    ours, theirs = sides
    ours.reserve(4 * SMALLEST)
    ours.reserve(1)
    ours.follow(1)
    assert ours.size == 4 * SMALLEST
    with pytest.raises(PermissionError):
        os.ftruncate(theirs.fd, 1)


def test_views_taken_before_it_grew_still_show_the_same_memory(sides):
    ours, _ = sides
    before = ours.array(np.dtype("<i4"), (2,), 0, 2)
    ours.reserve(8 * SMALLEST)
    ours.write(0, [np.array([7, 8], "<i4").tobytes()], 8)
    assert before.tolist() == [7, 8]


@pytest.mark.parametrize("size", [1, JOIN_BELOW // 2, JOIN_BELOW])
def test_parts_are_placed_one_after_the_other(sides, size):
    ours, theirs = sides
    parts = [bytes([at]) * size for at in range(4)]
    ours.reserve(5 * size)
    theirs.follow(ours.size)
    ours.write(size, [parts[0], *map(memoryview, parts[1:])], 4 * size)
    assert bytes(theirs.view[size : 5 * size]) == b"".join(parts)


def test_arrays_are_views_in_their_shape(sides):
    ours, _ = sides
    ours.array(np.dtype("<f4"), (2, 3), ALIGNMENT, 6)[...] = np.arange(6).reshape(2, 3)
    assert np.frombuffer(ours.view, "<f4", 6, ALIGNMENT).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("nbytes", "offset"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_tensors_begin_at_aligned_offsets(nbytes, offset):
    assert aligned(nbytes) == offset
