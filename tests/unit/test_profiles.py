import os

import pytest
from fakes import model, tensor

from headrace.errors import LoadFailed
from headrace.execution.profiles import HASH_BYTES, WORTH_A_MEMO, ProfileStore
from headrace.execution.wire import Profile

PROFILE = Profile(
    model(tensor("x", lengths=(None, "length"), pad_value=1.5)), 2, 3, {100: {1: 0.01, 8: 0.05}}
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def store(tmp_path):
    return ProfileStore(tmp_path / "profiles")


def test_a_profile_comes_back_as_it_was_kept(store):
    store.write("k", PROFILE)
    assert store.read("k") == PROFILE


def test_nothing_is_known_of_a_key_nobody_wrote(store):
    assert store.read("k") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"instances":"two"}', b"\xff"])
def test_a_damaged_profile_is_one_that_is_not_there(store, tmp_path, content):
    store.write("k", PROFILE)
    (tmp_path / "profiles" / "k.json").write_bytes(content)
    assert store.read("k") is None


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(file):
    store = ProfileStore(file / "profiles")
    store.write("k", PROFILE)
    assert store.read("k") is None
    with store.turn():
        pass


def test_nothing_half_written_is_left_beside(store, tmp_path):
    store.write("k", PROFILE)
    assert [each.name for each in (tmp_path / "profiles").iterdir()] == ["k.json"]


def test_the_key_follows_the_content_and_not_the_place(store, file, tmp_path):
    copy = tmp_path / "copy" / "other.onnx"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    assert store.key(file, "fake", "") == store.key(copy, "fake", "")


def test_the_key_changes_with_all_that_a_measurement_depends_on(store, file):
    before = store.key(file, "fake", "")
    keys = {before, store.key(file, "onnxruntime", ""), store.key(file, "fake", "threads 2")}
    file.with_name("m.onnx.data").write_bytes(b"external")
    keys.add(store.key(file, "fake", ""))
    file.write_bytes(b"other weights")
    keys.add(store.key(file, "fake", ""))
    assert len(keys) == 5


def test_a_large_file_that_has_not_changed_is_not_read_again(store, file, tmp_path):
    os.truncate(file, WORTH_A_MEMO)
    before = store.key(file, "fake", "")
    (memo,) = (tmp_path / "profiles").glob("*.hash")
    assert store.key(file, "fake", "") == before
    memo.write_bytes(bytes(HASH_BYTES))
    assert store.key(file, "fake", "") != before  # it was taken from the memo


def test_a_damaged_memo_is_one_that_is_not_there(store, file, tmp_path):
    os.truncate(file, WORTH_A_MEMO)
    before = store.key(file, "fake", "")
    (memo,) = (tmp_path / "profiles").glob("*.hash")
    memo.write_bytes(b"half")
    assert store.key(file, "fake", "") == before


def test_a_file_that_cannot_be_read_says_why(store, tmp_path):
    with pytest.raises(LoadFailed, match="cannot be read"):
        store.key(tmp_path / "gone.onnx", "fake", "")


def test_a_turn_can_be_taken_again_and_again(store):
    for _ in range(2):
        with store.turn():
            pass
