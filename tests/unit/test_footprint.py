import pytest

from headrace.execution.footprint import Footprint

MB = 1_000_000
IMAGE = Footprint(30 * MB, 20 * MB, {100: {1: 10 * MB, 2: 20 * MB, 4: 40 * MB, 16: 160 * MB}})
TEXT = Footprint(30 * MB, 20 * MB, {32: {1: 1 * MB, 8: 8 * MB}, 128: {1: 8 * MB, 8: 64 * MB}})


def test_what_was_measured_is_as_it_was():
    assert IMAGE.activations(100, 4) == 40 * MB
    assert IMAGE.total(100, 4) == 90 * MB


def test_between_two_sizes_it_is_on_the_line_through_all():
    assert IMAGE.activations(100, 8) == 80 * MB


def test_beyond_the_largest_size_the_margin_is_added():
    doubtful = Footprint(0, 0, IMAGE.peaks, margin=5 * MB)
    assert doubtful.activations(100, 32) == 325 * MB


def test_a_margin_does_not_lift_what_lies_between_above_the_next_size():
    doubtful = Footprint(0, 0, IMAGE.peaks, margin=500 * MB)
    assert doubtful.activations(100, 8) == 160 * MB


def test_longer_rows_grow_as_the_longest_two_did():
    assert TEXT.activations(256, 8) == pytest.approx(64 * MB * 2**1.5)


def test_rows_of_a_length_in_between_lie_on_the_chord():
    assert TEXT.activations(80, 8) == 36 * MB


def test_rows_shorter_than_any_take_what_the_shortest_take():
    assert TEXT.activations(8, 8) == 8 * MB


def test_of_a_model_with_one_length_elements_tell():
    assert IMAGE.activations(200, 4) == IMAGE.activations(100, 8)


def test_a_model_that_was_not_run_takes_nothing_on_top():
    assert Footprint(1, 2).activations(10, 100) == 0


def test_what_failed_for_want_of_memory_takes_more_than_there_was():
    assert Footprint(0, 0, IMAGE.peaks, over={100: {32: 900 * MB}}).rows_within(100, 900 * MB, 64) == 31


def test_no_row_fits_where_one_takes_more():
    assert IMAGE.rows_within(100, 9 * MB, 64) == 0


def test_as_many_rows_fit_as_the_line_says():
    assert IMAGE.rows_within(100, 85 * MB, 64) == 8
