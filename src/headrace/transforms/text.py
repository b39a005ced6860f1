"""Sentences as tokens: the tokenizer's file, lengths, and which sentences share a run.

Rows of a run are padded to the longest of it. So a run is parted into runs of similar length where padding would waste
too much: one long text does not make everybody pay.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from headrace.errors import InvalidItem, LoadFailed
from headrace.transforms.kinds import TextStep, read_bytes

BYTES_A_TOKEN = 64
"""A text with more bytes than this for each token it may have is refused, or cut, without being tokenized."""
USUAL_TOKENS = 512
"""Where neither the skill nor the tokenizer nor the model says how many."""
WASTE = 0.25
"""Share of a row that may be padding."""
WORTH_A_RUN = 16
"""So many tokens of padding cost no more than a run of its own."""
MADE_UP_TOKENS = 12
MOST_WORDS = 200
WORD_MARKS = "▁Ġ "
"""How vocabularies write the space before a word."""


class Tokens:
    """A tokenizer and what its tokens may be. Thread-safe, since the tokenizer is."""

    def __init__(self, name: str, step: TextStep, longest: int | None) -> None:
        """Open the tokenizer.

        Args:
            name: the input's, for errors.
            step: as declared.
            longest: what the model takes, None if any length.

        Raises:
            LoadFailed: the file is not there or is no tokenizer, or the package is not installed.
        """
        self._name = name
        self._tokenizer = open_tokenizer(Path(step.tokenizer))
        truncation, padding = self._tokenizer.truncation or {}, self._tokenizer.padding or {}
        usual = min(truncation.get("max_length") or USUAL_TOKENS, longest or USUAL_TOKENS)
        self.max_tokens: int = step.max_tokens or usual
        if longest is not None and self.max_tokens > longest:
            raise LoadFailed(
                f"input '{name}' has max_tokens {self.max_tokens}, and the model takes {longest}"
            )
        self.special = int(self._tokenizer.num_special_tokens_to_add(is_pair=False))
        if self.max_tokens <= self.special:
            raise LoadFailed(
                f"input '{name}' has max_tokens {self.max_tokens}, and {self.special} of them are special tokens"
            )
        self.pad_id = int(padding.get("pad_id", 0)) or self._pad_token()
        self._is_cut = step.too_long == "cut"
        self._found: list[str] = []  # words of one token each, looked for once
        self._tokenizer.no_padding()
        if self._is_cut:
            self._tokenizer.enable_truncation(self.max_tokens)
        else:
            self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[bytes]) -> tuple[list[Any], dict[int, Exception]]:
        """The texts' encodings, and why those that have none have none.

        Returns:
            One encoding a text (its `ids`, `attention_mask` and `type_ids` as long as each other), the empty text's
            where there is an error; and the errors by row.
        """
        errors: dict[int, Exception] = {}
        accepted = []
        for row, content in enumerate(texts):
            try:
                accepted.append(self._text(content))
            except InvalidItem as exc:
                errors[row] = exc
                accepted.append("")
        encodings = self._tokenizer.encode_batch_fast(accepted)
        if not self._is_cut:
            for row, each in enumerate(encodings):
                if len(each) > self.max_tokens:
                    errors[row] = InvalidItem(
                        f"'{self._name}' has {len(each)} tokens, and {self.max_tokens} are the limit: shorten it"
                    )
        return encodings, errors

    def made_up(self, seed: int, samples: Iterable[str]) -> str:
        """A text of words that are one token each.

        Seeds that are equal modulo 3 give texts of equal length, other seeds ones that are a fifth apart: short of
        what makes a run be parted, so that a run of two of them shows what padding does.
        """
        samples = list(samples)
        counts = [len(each) for each in self._tokenizer.encode_batch_fast(samples)] if samples else []
        most = self.max_tokens - self.special
        usual = min(most, int(median(counts)) - self.special if counts else MADE_UP_TOKENS)
        step = max(1, usual // 10)
        count = min(most, max(1, min(usual, most - 2 * step)) + (seed % 3) * step)
        rng = np.random.default_rng(seed)
        return " ".join(rng.choice(self._words(), count).tolist())

    def longest(self) -> str:
        """A text of as many tokens as there may be."""
        return " ".join([self._words()[0]] * (self.max_tokens - self.special))

    def _words(self) -> list[str]:
        if self._found:
            return self._found
        found = []
        for token in sorted(self._tokenizer.get_vocab(with_added_tokens=False)):
            word = token.lstrip(WORD_MARKS)
            if word.isalpha() and len(self._tokenizer.encode(f"{word} {word}")) == 2 + self.special:
                found.append(word)
            if len(found) == MOST_WORDS:
                break
        self._found = found or ["a", "b"]
        return self._found

    def _text(self, content: bytes) -> str:
        limit = BYTES_A_TOKEN * self.max_tokens
        if len(content) > limit:
            if not self._is_cut:
                raise InvalidItem(
                    f"'{self._name}' has {len(content)} bytes, far more than its limit of {self.max_tokens} tokens "
                    "can have: shorten it"
                )
            return content[:limit].decode(errors="ignore")
        try:
            return content.decode()
        except UnicodeDecodeError as exc:
            raise InvalidItem(f"'{self._name}' is not UTF-8: {exc}") from exc

    def _pad_token(self) -> int:
        for token in ("[PAD]", "<pad>", "<|pad|>"):
            if (found := self._tokenizer.token_to_id(token)) is not None:
                return int(found)
        return 0


def open_tokenizer(file: Path) -> Any:
    """The tokenizer of a file.

    Raises:
        LoadFailed: there is none, or the package that reads it is not installed.
    """
    # Its own threads would take the cores from the model and from everybody else.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        import tokenizers  # noqa: PLC0415 - only whoever has texts needs it
    except ModuleNotFoundError as exc:
        raise LoadFailed("texts need tokenizers; install it with: pip install 'headrace[text]'") from exc
    content = read_bytes(file)
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as exc:  # the package raises nothing more exact
        raise LoadFailed(f"{file} is no tokenizer.json: {exc}") from exc


def runs_of(lengths: Sequence[int], *, is_padded: bool) -> list[list[int]]:
    """Which rows run together: similar lengths where rows can be padded, else equal ones. Longest first."""
    if room(max(lengths), is_padded=is_padded) >= max(lengths) - min(lengths):
        return [list(range(len(lengths)))]
    runs: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        longest = lengths[runs[-1][0]] if runs else 0
        if runs and longest - lengths[row] <= room(longest, is_padded=is_padded):
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def room(longest: int, *, is_padded: bool) -> float:
    """Tokens that a row of a run may be shorter than its longest."""
    return max(WORTH_A_RUN, WASTE * longest) if is_padded else 0


def padded_rows(rows: list[list[int]], length: int, value: int, dtype: np.dtype) -> np.ndarray:
    """Lists of numbers as an array, shorter ones filled up."""
    array = np.full((len(rows), length), value, dtype)
    for row, numbers in zip(array, rows, strict=True):
        row[: len(numbers)] = numbers
    return array
