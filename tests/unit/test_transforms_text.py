"""Texts as tokens: with a small tokenizer made on the spot, one token a word."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from fakes import Function
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from headrace.backends.base import Declared, ItemErrors
from headrace.errors import InvalidItem, LoadFailed
from headrace.execution.probe import Probe
from headrace.messages import Datatype
from headrace.model_config import ModelConfig
from headrace.transforms.kinds import TextStep
from headrace.transforms.text import BYTES_A_TOKEN, Tokens, runs_of
from headrace.transforms.wrapped import wrap

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"word{letter}" for letter in "abcdefghij"), "tea", "milk"]
IDS = {word: index for index, word in enumerate(WORDS)}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    made = tokenizers.Tokenizer(WordLevel(IDS, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.enable_padding(
        length=8
    )  # as files of real models do, which would pad every text to the longest there may be
    made.enable_truncation(8)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(file))
    return file


def declared(name, datatype=Datatype.INT64, axes=("batch", "length")):
    return Declared(name, datatype, axes)


class Model:
    """Gives the ids back as hidden states of one element, and remembers what it was run on."""

    def __init__(self, *inputs, uses_mask=True):
        self.runs = []
        self.uses_mask = uses_mask
        self.backend = Function(inputs, [declared("hidden", Datatype.FP32, ("batch", "length", 1))], self.run)

    def run(self, arrays):
        self.runs.append({name: array.copy() for name, array in arrays.items()})
        return {"hidden": arrays["input_ids"][..., None].astype("f4")}


def skill(file, model, *, outputs=None, pads=None, **step):
    steps = {
        "inputs": {"text": {"kind": "text", "tokenizer": str(file), **step}},
        "outputs": outputs or {"mean": {"kind": "embedding", "from": "hidden", "pool": "mean"}},
    }
    return wrap(model.backend, ModelConfig(steps=steps), pads or {})


def texts(*values):
    column = np.empty(len(values), object)
    column[:] = [value if isinstance(value, bytes) else value.encode() for value in values]
    return {"text": column}


# --- what the model gets ----------------------------------------------------------------------------------------------


def test_rows_are_padded_to_the_longest_of_the_run_and_no_further(tokenizer):
    model = Model(
        declared("input_ids"), declared("attention_mask"), declared("token_type_ids", Datatype.INT32)
    )
    skill(tokenizer, model).run(texts("tea", "tea milk"), ["mean"])
    (run,) = model.runs
    assert run["input_ids"].tolist() == [[1, 14, 2, 0], [1, 14, 15, 2]]
    assert run["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert run["token_type_ids"].tolist() == [[0] * 4] * 2
    assert [run[name].dtype for name in run] == [np.int64, np.int64, np.int32]


def test_padding_does_not_count_in_the_mean(tokenizer):
    model = Model(declared("input_ids"), declared("attention_mask"))
    (mean,) = skill(tokenizer, model).run(texts("tea", "tea milk"), ["mean"])
    assert mean.ravel().tolist() == pytest.approx([17 / 3, 32 / 4])


def test_one_long_text_does_not_make_everybody_pay(tokenizer):
    model = Model(declared("input_ids"), declared("attention_mask"))
    wrapped = skill(tokenizer, model, max_tokens=200)
    (mean,) = wrapped.run(texts("tea", "milk " * 150, "tea milk", "milk"), ["mean"])
    assert [run["input_ids"].shape for run in model.runs] == [(1, 152), (3, 4)]
    alone = [wrapped.run(texts(each), ["mean"])[0][0] for each in ("tea", "milk " * 150, "tea milk", "milk")]
    assert np.array_equal(mean, alone)


def test_without_a_mask_only_texts_of_one_length_share_a_run(tokenizer):
    model = Model(declared("input_ids"))
    (mean,) = skill(tokenizer, model).run(texts("tea", "tea milk", "milk"), ["mean"])
    assert sorted(run["input_ids"].shape for run in model.runs) == [(1, 4), (2, 3)]
    assert mean.ravel().tolist() == pytest.approx([17 / 3, 32 / 4, 18 / 3])


def test_a_model_of_one_length_gets_that_length(tokenizer):
    model = Model(declared("input_ids", axes=("batch", 6)), declared("attention_mask", axes=("batch", 6)))
    skill(tokenizer, model).run(texts("tea"), ["mean"])
    assert model.runs[0]["input_ids"].tolist() == [[1, 14, 2, 0, 0, 0]]


def test_a_model_of_single_rows_is_run_once_a_row(tokenizer):
    model = Model(declared("input_ids", axes=(1, "length")), declared("attention_mask", axes=(1, "length")))
    wrapped = skill(tokenizer, model)
    assert wrapped.inputs[0].axes == (None,)
    (mean,) = wrapped.run(texts("tea", "milk"), ["mean"])
    assert (len(model.runs), mean.shape) == (2, (2, 1))


def test_declared_padding_fills_the_ids(tokenizer):
    model = Model(declared("input_ids"), declared("attention_mask"))
    skill(tokenizer, model, pads={"input_ids": 7}).run(texts("tea", "tea milk"), ["mean"])
    assert model.runs[0]["input_ids"][0].tolist() == [1, 14, 2, 7]


def test_inputs_of_other_names_are_named(tokenizer):
    model = Model(declared("input_ids"), declared("valid"))
    skill(tokenizer, model, tensors={"mask": "valid"}).run(texts("tea"), ["mean"])
    assert model.runs[0]["valid"].tolist() == [[1, 1, 1]]


# --- what is refused, row by row --------------------------------------------------------------------------------------


def test_a_text_that_is_too_long_fails_alone_and_hears_its_count(tokenizer):
    model = Model(declared("input_ids"), declared("attention_mask"))
    with pytest.raises(ItemErrors) as raised:
        skill(tokenizer, model, max_tokens=5).run(texts("tea", "tea tea tea milk", "milk"), ["mean"])
    assert {row: str(why) for row, why in raised.value.errors.items()} == {
        1: "'text' has 6 tokens, and 5 are the limit: shorten it"
    }
    (mean,) = raised.value.outputs
    assert mean.ravel().tolist() == pytest.approx([17 / 3, 0, 18 / 3])


def test_a_text_that_is_too_long_is_cut_where_that_is_declared(tokenizer):
    model = Model(declared("input_ids"), declared("attention_mask"))
    skill(tokenizer, model, max_tokens=5, too_long="cut").run(texts("tea tea tea milk"), ["mean"])
    assert model.runs[0]["input_ids"].tolist() == [[1, 14, 14, 14, 2]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a" * (5 * BYTES_A_TOKEN + 1), "has 321 bytes, far more than its limit of 5 tokens can have"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
    ids=["megabytes", "no text"],
)
def test_what_no_tokenizer_should_see_is_refused_before(tokenizer, content, reason):
    _, errors = Tokens("text", TextStep(str(tokenizer), 5), None).encode([content, b"tea"])
    assert list(errors) == [0]
    assert isinstance(errors[0], InvalidItem)
    assert reason in str(errors[0])


def test_megabytes_are_cut_before_they_are_tokenized(tokenizer):
    encodings, errors = Tokens("text", TextStep(str(tokenizer), 5, "cut"), None).encode(
        ["tée ".encode() * 10**6]
    )
    assert (len(encodings[0]), errors) == (5, {})


def test_an_empty_text_is_a_text(tokenizer):
    model = Model(declared("input_ids"), declared("attention_mask"))
    skill(tokenizer, model).run(texts(""), ["mean"])
    assert model.runs[0]["input_ids"].tolist() == [[1, 2]]


# --- what cannot be loaded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "step", "reason"),
    [
        ([declared("tokens")], {}, "fill 'input_ids' with its token ids, and the model's inputs are tokens"),
        ([declared("input_ids")], {"tensors": {"mask": "m"}}, "to fill 'm' with its mask"),
        ([declared("input_ids")], {"tensors": {"ides": "m"}}, "there are ids, mask and types"),
        ([declared("input_ids", Datatype.BYTES)], {}, "BYTES and takes no tokens"),
        (
            [declared("input_ids", axes=("b", 4))],
            {"max_tokens": 9},
            "has max_tokens 9, and the model takes 4",
        ),
        ([declared("input_ids")], {"max_tokens": 2}, "2 of them are special tokens"),
        ([declared("input_ids")], {"tokenizer": "/nowhere/tokenizer.json"}, "cannot be read: No such file"),
        ([declared("input_ids")], {"tokenizer": __file__}, "is no tokenizer.json"),
    ],
    ids=["no ids", "no mask", "role", "strings", "longer", "special", "missing", "no tokenizer"],
)
def test_what_does_not_fit_the_model_is_refused_at_load(tokenizer, inputs, step, reason):
    with pytest.raises(LoadFailed, match=reason):
        skill(tokenizer, Model(*inputs), **step)


# --- probing ----------------------------------------------------------------------------------------------------------


def test_texts_of_different_lengths_are_joined_once_a_run_has_shown_that_padding_is_harmless(tokenizer):
    model = Model(declared("input_ids"), declared("attention_mask"))
    spec = Probe(skill(tokenizer, model), max_batch_size=8, pads={}).spec("m", "1")
    assert (spec.joins_requests, spec.max_batch_size, spec.notes) == (True, 8, ())
    assert any((run["attention_mask"] == 0).any() for run in model.runs), "the probe has seen padding"


def test_texts_are_not_joined_where_padding_changes_answers(tokenizer):
    model = Model(declared("input_ids"), declared("attention_mask"))
    outputs = {"hidden": {"kind": "raw"}}
    spec = Probe(skill(tokenizer, model, outputs=outputs), max_batch_size=8, pads={}).spec("m", "1")
    assert not spec.joins_requests


def test_made_up_texts_are_as_long_as_the_examples(tokenizer):
    tokens = Tokens("text", TextStep(str(tokenizer)), None)
    lengths = [len(tokens.made_up(seed, ["tea " * 20]).split()) for seed in (0, 1, 4, 2)]
    assert lengths == [4, 5, 5, 6], "the tokenizer's own limit is 8, and two are special"
    tokens = Tokens("text", TextStep(str(tokenizer), 100), None)
    assert [len(tokens.made_up(seed, ["tea " * 20]).split()) for seed in (0, 1, 4, 2)] == [20, 22, 22, 24]


# --- which rows run together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "runs"),
    [
        ([8, 8, 8], [[0, 1, 2]]),
        ([5, 7, 6], [[0, 1, 2]]),
        ([10, 100, 12], [[1], [2, 0]]),
        ([128, 16, 120, 20, 124], [[0, 4, 2], [3, 1]]),
        ([100], [[0]]),
    ],
    ids=["equal", "little waste", "one long", "two kinds", "alone"],
)
def test_runs_are_parted_where_padding_would_waste_too_much(lengths, runs):
    assert runs_of(lengths, is_padded=True) == runs


def test_every_row_is_in_one_run_and_little_is_wasted():
    rng = np.random.default_rng(3)
    for _ in range(50):
        lengths = rng.integers(2, 300, rng.integers(1, 40)).tolist()
        runs = runs_of(lengths, is_padded=True)
        assert sorted(row for run in runs for row in run) == list(range(len(lengths)))
        for run in runs:
            longest = max(lengths[row] for row in run)
            assert all(longest - lengths[row] <= max(16, 0.25 * longest) for row in run)


def test_a_missing_package_is_named_with_what_installs_it(tokenizer, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(LoadFailed, match=r"pip install 'headrace\[text\]'"):
        Tokens("text", TextStep(str(Path(tokenizer))), None)
