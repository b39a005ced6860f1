"""The steps around a model as a skill declares them (ModelConfig.steps): kinds of inputs and outputs, typed.

A skill's reader checks its file and tells the author what to write instead; here the same is read once more, since it has
come through a message, and what fits the model is found out where the model is (wrapped.py).
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from headrace.errors import LoadFailed

MOST_ROWS = 64
"""Items of a run of the transform worker."""
DECODING_S = 10.0
"""For an item without code of the skill's own: the largest image that is taken is decoded in a fraction of it."""

Size = tuple[int, int]
Numbers = float | tuple[float, ...]
ValueKind = Literal["text", "bytes", "number", "json", "image"]


class TextStep(msgspec.Struct, frozen=True, tag_field="kind", tag="text"):
    """A text that becomes tokens.

    Attributes:
        tokenizer: file, absolute.
        max_tokens: with the special ones; None for the tokenizer's own limit.
        too_long: whether a longer text is refused or cut.
        tensors: "ids", "mask", "types" → the model's name for them.
    """

    tokenizer: str
    max_tokens: int | None = None
    too_long: Literal["error", "cut"] = "error"
    tensors: dict[str, str] = {}


class Ends(msgspec.Struct, frozen=True):
    """Which bytes of a file become numbers.

    Attributes:
        head, tail: how many from its beginning and from its end.
        pad: the number that stands for a byte that is not there.
        strip: whether white space at the beginning and the end is left out first.
        block: how far from either end is looked for them; None for four times as many.
    """

    head: int = 0
    tail: int = 0
    pad: float = 256
    strip: bool = False
    block: int | None = None


class BytesStep(msgspec.Struct, frozen=True, tag_field="kind", tag="bytes"):
    """Bytes that become numbers; `to` is the model's input."""

    ends: Ends = msgspec.field(name="bytes")
    to: str | None = None


class RecordStep(msgspec.Struct, frozen=True, tag_field="kind", tag="record"):
    """Named features, in the order of the model's columns; `to` is the model's input where they are one vector."""

    features: dict[str, Any] = msgspec.field(name="record")
    to: str | None = None


class Picture(msgspec.Struct, frozen=True):
    """How an image becomes numbers.

    Attributes:
        size: height and width of what comes out.
        resize: to cover `size` with the shorter side, to have it exactly, to lie within it, or not at all.
        resize_to: height and width it is resized to before it is cropped to `size`; None for `size`.
        crop: the middle, or nothing; None for the middle where `resize` leaves more than `size`.
        mode: the colours and their order.
        layout: of the row, whose batch axis N comes later.
        scale: each number is multiplied by it first.
        mean, std: per channel, or one for all; subtracted and divided by after that.
        max_pixels: of an image as it is sent; a larger one is refused unread.
        resample: how pixels between pixels are found.
        datatype: None for FP32 where numbers are scaled or shifted, else UINT8.
        reduced: whether a JPEG much larger than needed may be decoded at half its size or less.
    """

    size: Size | None = None
    resize: Literal["shortest", "stretch", "fit", "none"] = "shortest"
    resize_to: Size | None = None
    crop: Literal["center", "none"] | None = None
    mode: Literal["RGB", "BGR", "L"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    max_pixels: int = 50_000_000
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = msgspec.field(
        default="bilinear", name="filter"
    )
    datatype: Literal["FP32", "UINT8"] | None = None
    reduced: bool = False


class ImageStep(msgspec.Struct, frozen=True, tag_field="kind", tag="image"):
    """An image file that becomes a tensor; `to` is the model's input, else one of the caller's name."""

    image: Picture = Picture()
    to: str | None = None


class ValueStep(msgspec.Struct, frozen=True, tag_field="kind", tag="value"):
    """Something for the skill's own `before`."""

    value: ValueKind


class TensorStep(msgspec.Struct, frozen=True, tag_field="kind", tag="tensor"):
    """An input of the model's that callers send as it is."""


class LabelsStep(msgspec.Struct, frozen=True, tag_field="kind", tag="labels"):
    """Scores that become names.

    Attributes:
        source: the model's output; None for the one of this name, or the only one.
        softmax, sigmoid: what makes probabilities of the scores, if anything; with sigmoid several labels may hold.
        labels: names by index, or a file with one a line, absolute; None to count from 0.
        top_k: how many, best first; None for one, or all of them with sigmoid.
        threshold: a label with less is left out.
        otherwise: the label where none is left.
    """

    source: str | None = msgspec.field(default=None, name="from")
    softmax: bool = False
    sigmoid: bool = False
    labels: str | list[str] | None = None
    top_k: int | None = None
    threshold: float | None = None
    otherwise: str | None = None


class EmbeddingStep(msgspec.Struct, frozen=True, tag_field="kind", tag="embedding"):
    """Vectors of tokens that become one vector.

    Attributes:
        source: as of labels.
        pool: over the tokens that the attention mask keeps; None if there is one vector a row already.
        normalize: to length 1.
    """

    source: str | None = msgspec.field(default=None, name="from")
    pool: Literal["mean", "first", "max"] | None = None
    normalize: bool = False


class RawStep(msgspec.Struct, frozen=True, tag_field="kind", tag="raw"):
    """An output of the model's as it is, maybe under another name."""

    source: str | None = msgspec.field(default=None, name="from")


class CodeStep(msgspec.Struct, frozen=True):
    """A skill's own transform.py.

    Attributes:
        path: of the file, absolute.
        timeout_s: a call that takes longer ends its worker.
        before, after: which of the two the class has; None if nobody has looked.
    """

    path: str
    timeout_s: float = 1.0
    before: bool | None = None
    after: bool | None = None


InputStep = TextStep | BytesStep | RecordStep | ImageStep | ValueStep | TensorStep
OutputStep = LabelsStep | EmbeddingStep | RawStep


class Steps(msgspec.Struct, frozen=True):
    """All steps around a model, by the names that callers use."""

    inputs: dict[str, InputStep] = {}
    outputs: dict[str, OutputStep] = {}
    transform: CodeStep | None = None

    @property
    def files(self) -> list[Path]:
        """What the steps read beside the model."""
        named = [each.tokenizer for each in self.inputs.values() if isinstance(each, TextStep)]
        named += [
            each.labels
            for each in self.outputs.values()
            if isinstance(each, LabelsStep) and isinstance(each.labels, str)
        ]
        named += [self.transform.path] if self.transform else []
        return [Path(each) for each in named]


def parse_steps(steps: dict[str, Any]) -> Steps:
    """The steps, typed.

    Raises:
        LoadFailed: they are not what steps can be.
    """
    try:
        return msgspec.convert(steps, Steps)
    except msgspec.ValidationError as exc:
        raise LoadFailed(f"the skill's inputs and outputs cannot be read: {exc}") from exc


def item_limit_s(steps: dict[str, Any]) -> float:
    """Seconds one item may take in the transform worker, before and after the model each."""
    limit_s: float = steps.get("transform", {}).get("timeout_s", DECODING_S)
    return limit_s


def fingerprint(steps: dict[str, Any]) -> str:
    """What the steps and the files they read come to: a measurement is good for as long as this stays the same.

    Raises:
        LoadFailed: a file cannot be read, or the steps are none.
    """
    if not steps:
        return ""
    digest = hashlib.blake2b(msgspec.json.encode(steps, order="sorted"), digest_size=16)
    for file in parse_steps(steps).files:
        digest.update(read_bytes(file))
    return digest.hexdigest()


def read_bytes(file: Path) -> bytes:
    """A file that a skill names.

    Raises:
        LoadFailed: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as exc:
        raise LoadFailed(f"{file}, which the skill names, cannot be read: {exc.strerror}") from exc
