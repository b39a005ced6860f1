"""From scores to labels and from tokens' vectors to one: all rows at once."""

import numpy as np
import pytest
from fakes import Function

from headrace.backends.base import Declared
from headrace.errors import LoadFailed
from headrace.messages import Datatype
from headrace.model_config import ModelConfig
from headrace.transforms.outputs import best_indices
from headrace.transforms.wrapped import wrap

FP32 = Datatype.FP32
NAMES = ["cat", "dog", "bird"]
LOGITS = np.array([[0, 2, 1], [5, 0, 0]], "f4")


def answers(array, outputs, axes=("rows", 3), mask=None):
    """What the outputs of a skill are for a model that gives the array."""
    inputs = [Declared("x", FP32, ("rows", 1))]
    arrays = {"x": np.zeros((len(array), 1), "f4")}
    if mask is not None:
        inputs.append(Declared("attention_mask", Datatype.INT64, ("rows", "tokens")))
        arrays["attention_mask"] = np.array(mask)
    model = Function(inputs, [Declared("y", FP32, axes)], lambda _: {"y": array})
    wrapped = wrap(model, ModelConfig(steps={"inputs": {}, "outputs": outputs}), {})
    names = [each.name for each in wrapped.outputs]
    return dict(zip(names, wrapped.run(arrays, names), strict=True))


def labels(**step):
    return {"label": {"kind": "labels", "from": "y", "labels": NAMES, **step}}


def test_the_best_label_and_its_share():
    given = answers(LOGITS, labels(softmax=True))
    assert given["label"].tolist() == [[b"dog"], [b"cat"]]
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    assert given["label_scores"].ravel() == pytest.approx([shares[0, 1], shares[1, 0]])
    assert (given["label"].dtype, given["label_scores"].dtype) == (object, np.float32)


def test_the_best_few_come_in_their_order():
    given = answers(LOGITS, labels(top_k=2))
    assert given["label"].tolist() == [[b"dog", b"bird"], [b"cat", b"dog"]]
    assert given["label_scores"].tolist() == [[2, 1], [5, 0]]


def test_more_than_there_are_is_all_of_them():
    assert answers(LOGITS, labels(top_k=9))["label"].shape == (2, 3)


def test_several_labels_may_hold_at_once():
    given = answers(LOGITS, labels(sigmoid=True, threshold=0.7))
    assert given["label"].tolist() == [[b"dog", b"bird", b""], [b"cat", b"", b""]]
    assert given["label_scores"][0] == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1)), 0])


@pytest.mark.parametrize(
    ("otherwise", "first"), [(None, b""), ("unknown", b"unknown")], ids=["nothing", "otherwise"]
)
def test_a_threshold_leaves_out_what_is_unsure(otherwise, first):
    step = (
        labels(softmax=True, threshold=0.9)
        if otherwise is None
        else labels(softmax=True, threshold=0.9, otherwise=otherwise)
    )
    given = answers(LOGITS, step)
    assert given["label"].tolist() == [[first], [b"cat"]]
    assert given["label_scores"][0, 0] == 0


def test_no_number_is_too_large_for_softmax_and_sigmoid():
    large = np.array([[1e4, -1e4, 0]], "f4")
    assert answers(large, labels(softmax=True))["label_scores"].tolist() == [[1.0]]
    assert answers(large, labels(sigmoid=True))["label_scores"].tolist() == [[1.0, 0.5, 0.0]]


def test_labels_may_be_in_a_file(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("cat\ndog\nbird\n\n")
    assert answers(LOGITS, labels(labels=str(file)))["label"].tolist() == [[b"dog"], [b"cat"]]


def test_without_labels_they_are_counted():
    given = answers(LOGITS, {"y": {"kind": "labels", "top_k": 1}})
    assert given["y"].tolist() == [[b"1"], [b"0"]]


def test_the_best_of_many_are_those_that_sorting_finds():
    scores = np.random.default_rng(1).integers(0, 50, (20, 3000)).astype("f4")
    assert np.array_equal(np.take_along_axis(scores, best_indices(scores, 7), 1), -np.sort(-scores, 1)[:, :7])


# --- embeddings -------------------------------------------------------------------------------------------------------

HIDDEN = np.array([[[1, 0], [3, 4], [9, 9]], [[2, 2], [0, 4], [4, 0]]], "f4")
MASK = [[1, 1, 0], [1, 1, 1]]
TOKENS = ("rows", "tokens", 2)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [("mean", [[2, 2], [2, 2]]), ("first", [[1, 0], [2, 2]]), ("max", [[3, 4], [4, 4]])],
    ids=["mean", "first", "max"],
)
def test_tokens_are_pooled_by_the_mask(pool, expected):
    given = answers(HIDDEN, {"v": {"kind": "embedding", "from": "y", "pool": pool}}, TOKENS, MASK)
    assert given["v"].tolist() == expected


def test_vectors_are_normalized_and_nothing_is_divided_by_zero():
    array = np.array([[3, 4], [0, 0]], "f4")
    given = answers(array, {"v": {"kind": "embedding", "from": "y", "normalize": True}}, ("rows", 2))
    assert given["v"].tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]


def test_an_output_may_stay_as_it_is_under_another_name():
    assert answers(LOGITS, {"score": {"kind": "raw", "from": "y"}})["score"].tolist() == LOGITS.tolist()


# --- what cannot be loaded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outputs", "axes", "reason"),
    [
        (labels(labels=["a", "b"]), ("rows", 3), "has 2 labels, and the model gives 3 scores"),
        (labels(), TOKENS, "has 3 axes and not rows and classes"),
        (labels(softmax=True, sigmoid=True), ("rows", 3), "softmax if one label holds, else sigmoid"),
        (labels(labels="/nowhere/labels.txt"), ("rows", 3), "cannot be read"),
        (
            {"l": {"kind": "raw", "from": "z"}},
            ("rows", 3),
            "is made `from: z`, and the model's outputs are y",
        ),
        ({"v": {"kind": "embedding", "from": "y", "pool": "mean"}}, ("rows", 3), "leave `pool` out"),
        (
            {"a": {"kind": "labels", "from": "y"}, "a_scores": {"kind": "raw", "from": "y"}},
            ("rows", 3),
            "two outputs",
        ),
        ({"a": {"kind": "guess"}}, ("rows", 3), "cannot be read"),
    ],
    ids=["count", "axes", "both", "file", "source", "pool", "names", "kind"],
)
def test_what_the_model_does_not_give_is_refused_at_load(outputs, axes, reason):
    with pytest.raises(LoadFailed, match=reason):
        answers(LOGITS, outputs, axes)


def test_a_count_that_shows_only_in_a_run_is_a_reason_not_to_load():
    with pytest.raises(LoadFailed, match="has 3 labels, and the model gives 4 scores"):
        answers(np.zeros((1, 4), "f4"), labels(), ("rows", "classes"))
