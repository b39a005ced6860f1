import pytest

from headrace.records import LONGEST_ID, LONGEST_TEXT, MOST_NOTES, USUAL_NOTES, Record, Records


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def records(clock):
    return Records(3, clock, lambda: 1e9 + clock.now)


def test_a_record_says_when_its_request_came_by_the_time_of_day(records, clock):
    clock.now = 103.0
    assert records.open("a", "mlp", 101.0).came == 1e9 + 101.0


def test_the_same_request_has_the_same_record(records):
    assert records.open("a", "mlp", 100.0) is records.open("a", "mlp", 100.0)
    assert len(records) == 1


def test_of_two_requests_with_one_id_the_newest_counts(records):
    first = records.open("a", "mlp", 100.0)
    second = records.open("a", "mlp", 101.0)
    assert records.find("a") is second is not first


def test_the_earlier_of_two_with_one_id_does_not_come_back(records):
    second = records.open("a", "mlp", 101.0)
    assert records.open("a", "mlp", 100.0) is None
    assert records.find("a") is second


def test_so_many_are_kept_and_the_oldest_is_forgotten(records):
    for at, name in enumerate("abcd"):
        records.open(name, "mlp", float(at))
    assert records.find("a") is None
    assert [each.id for each in records.newest()] == ["d", "c", "b"]


def test_one_that_comes_again_is_among_the_newest(records):
    for at, name in enumerate("abca"):
        records.open(name, "mlp", float(at))
    assert [each.id for each in records.newest()] == ["a", "c", "b"]


def test_how_far_back_they_go_is_known(records, clock):
    assert records.oldest_age_s() == 0.0
    records.open("a", "mlp", 95.0)
    assert records.oldest_age_s() == 5.0


def test_none_are_kept_where_none_are_wanted(clock):
    assert Records(0, clock, clock).open("a", "mlp", 100.0) is None


def test_an_id_that_no_header_could_hold_is_not_kept(records):
    assert records.open("a" * LONGEST_ID, "mlp", 100.0) is not None
    assert records.open("b" * (LONGEST_ID + 1), "mlp", 100.0) is None


def test_of_very_many_notes_the_first_and_the_last_are_kept():
    record = Record("a", "mlp", 0.0)
    for at in range(1000):
        record.note(float(at), "noted")
    assert len(record.notes) == MOST_NOTES
    assert [each.at for each in (record.notes[0], record.notes[-1])] == [0.0, 999.0]


def test_what_is_noted_of_a_part_says_of_which_and_is_the_requests():
    record = Record("a", "mlp", 0.0)
    record.of(item=3).of(stage="model").note(1.0, "ran", rows=2)
    assert record.notes[0].numbers == {"item": 3, "stage": "model", "rows": 2}


def test_a_long_reason_is_cut():
    record = Record("a", "mlp", 0.0)
    record.note(1.0, "failed", reason="x" * 10_000)
    assert len(record.notes[0].numbers["reason"]) == LONGEST_TEXT + 1


def test_where_requests_have_many_notes_fewer_are_kept() -> None:
    records = Records(8, lambda: 0.0, lambda: 0.0)
    for at in range(20):
        record = records.open(str(at), "m", float(at))
        assert record is not None
        for _ in range(3 * USUAL_NOTES):
            record.of(item=1).note(0.0, "failed")
    assert len(records) == 3
    for at in range(20, 60):
        assert records.open(str(at), "m", float(at)) is not None
    assert len(records) == 8
    record.note(0.0, "too late")
    assert records._tally == [0]
