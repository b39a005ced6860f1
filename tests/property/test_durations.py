import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.repository.section import LONGEST_S, UNITS, seconds

UNIT = st.sampled_from(list(UNITS))


@given(st.decimals("0.001", 365, places=3), UNIT, st.sampled_from(["", " "]))
def test_a_duration_is_its_number_times_its_unit(number, unit, space):
    assert seconds(f"{number}{space}{unit}") == pytest.approx(float(number) * UNITS[unit])


@given(st.floats(0, LONGEST_S, exclude_min=True) | st.integers(1, int(LONGEST_S)))
def test_a_number_is_its_seconds(number):
    assert seconds(number) == number


ANYTHING = (
    st.text("0123456789.- msmhd+e", max_size=8)
    | st.text(max_size=8)
    | st.text("0123456789", min_size=300, max_size=400).map(lambda digits: digits + "d")
    | st.floats()
    | st.integers()
    | st.booleans()
    | st.none()
    | st.lists(st.integers())
)


def outcome(written: object) -> float | str:
    try:
        return seconds(written)
    except ValueError as exc:
        return str(exc)


@given(ANYTHING)
def test_whatever_is_written_is_a_duration_within_bounds_or_a_mistake_in_words(written):
    found = outcome(written)
    assert found.startswith("should be ") if isinstance(found, str) else 0 < found <= LONGEST_S
