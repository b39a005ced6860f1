"""Which language a text is in, judged by its letters: how often three of them follow each other in samples.txt.

A model in Python gets whole batches: arrays with a row for each caller. Replace this with whatever you have.
"""

from collections import Counter
from typing import Any

import numpy as np

from headrace import InvalidItem, Tensor

SMOOTHING = 0.3
"""Counted for letters that no sample has, so that one unheard name decides nothing."""


class Model:
    """Scores of languages, in the order of labels.txt."""

    inputs = (Tensor("text", "BYTES", [-1]),)
    outputs = (Tensor("scores", "FP32", [-1, 5]),)

    def load(self, context: Any) -> None:
        """Once, in each process that serves the model."""
        languages = (context.folder / "labels.txt").read_text("utf-8").split()
        counts = {each: Counter[str]() for each in languages}
        for line in (context.folder / "samples.txt").read_text("utf-8").splitlines():
            language, _, text = line.partition("\t")
            counts[language].update(triples(text))
        self._places = {triple: at for at, triple in enumerate(sorted(set().union(*counts.values())))}
        table = np.array([[each[triple] for each in counts.values()] for triple in self._places], float)
        shares = (table + SMOOTHING) / (table + SMOOTHING).sum(axis=0)
        self._weights = np.log(shares) - np.log(shares).mean(axis=1, keepdims=True)

    def infer(self, inputs: dict[str, np.ndarray]) -> Any:
        """A batch. A text without letters fails by itself, and the others get their answers."""
        texts = [text.decode() for text in inputs["text"]]
        scores = np.array([self._scores(text) for text in texts], np.float32)
        wrong = {
            row: InvalidItem("'text' has no letters: send a sentence")
            for row, text in enumerate(texts)
            if not any(map(str.isalpha, text))
        }
        return {"scores": scores}, wrong

    def _scores(self, text: str) -> np.ndarray:
        known = [self._places[triple] for triple in triples(text) if triple in self._places]
        total: np.ndarray = self._weights[known].sum(axis=0)
        return total


def triples(text: str) -> list[str]:
    """Every three characters in a row, of words and the spaces around them."""
    words = "".join(each if each.isalpha() else " " for each in text.lower()).split()
    spaced = f" {' '.join(words)} "
    return [spaced[at : at + 3] for at in range(len(spaced) - 2)]
