from hypothesis import given
from hypothesis import strategies as st

from headrace.execution.footprint import Footprint, largest_residual, line_through

sizes = st.dictionaries(st.integers(1, 64), st.integers(0, 10_000), min_size=1, max_size=6)
footprints = st.builds(
    Footprint,
    context=st.just(0),
    weights=st.just(0),
    peaks=st.dictionaries(st.integers(1, 1000), sizes, max_size=4),
    margin=st.integers(0, 500),
    over=st.dictionaries(st.integers(1, 1000), sizes, max_size=2),
)


@given(footprints, st.integers(1, 2000), st.integers(0, 20_000), st.integers(1, 100))
def test_one_row_more_than_fits_takes_more(footprint, cost, nbytes, most):
    rows = footprint.rows_within(cost, nbytes, most)
    assert 0 <= rows <= most
    assert footprint.activations(cost, rows) <= nbytes
    assert rows == most or footprint.activations(cost, rows + 1) > nbytes


@given(footprints, st.integers(1, 2000), st.integers(1, 100))
def test_more_rows_never_take_less(footprint, cost, rows):
    assert footprint.activations(cost, rows) <= footprint.activations(cost, rows + 1)


@given(sizes)
def test_with_the_margin_the_line_is_never_too_low(measured):
    margin = largest_residual({1: measured})
    base, slope = line_through(list(measured.items()))
    assert all(nbytes <= base + slope * rows + margin + 1 for rows, nbytes in measured.items())
