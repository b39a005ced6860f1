"""From a model's outputs to answers: probabilities, labels, embeddings, for all rows of a run at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.backends.base import Declared
from headrace.errors import LoadFailed
from headrace.messages import Datatype
from headrace.transforms.kinds import EmbeddingStep, LabelsStep, OutputStep, RawStep, read_bytes

SCORES = "_scores"
"""What follows a labels output's name in the name of the output with their scores."""
FEW = 256
"""Up to so many classes, sorting all of them costs less than finding the best first."""
SMALLEST_LENGTH = 1e-12
TOKEN_AXES = 3
"""Axes of an output with a vector a token: rows, tokens, elements."""

Answers = Callable[[np.ndarray, np.ndarray | None], list[np.ndarray]]
"""A model's output and the attention mask → the arrays of what it becomes, in the order they are declared."""


@dataclass(frozen=True)
class Output:
    """One of the skill's outputs: what it is made of, the tensors it becomes, and how."""

    source: str
    declared: tuple[Declared, ...]
    answers: Answers


def make_output(name: str, step: OutputStep, outputs: tuple[Declared, ...]) -> Output:
    """Hold one output of a skill against the model's.

    Raises:
        LoadFailed: the model has no such output, or it cannot become what is declared.
    """
    source = source_of(name, step, outputs)
    if isinstance(step, RawStep):
        return Output(source.name, (Declared(name, source.datatype, source.axes),), lambda array, _: [array])
    if source.datatype is Datatype.BYTES:
        raise LoadFailed(f"output '{name}' is made of '{source.name}', which holds strings and no numbers")
    if isinstance(step, EmbeddingStep):
        return make_embedding(name, step, source)
    return make_labels(name, step, source)


def source_of(name: str, step: OutputStep, outputs: tuple[Declared, ...]) -> Declared:
    by_name = {each.name: each for each in outputs}
    if step.source is None and name not in by_name and len(outputs) == 1:
        return outputs[0]
    found = by_name.get(step.source or name)
    if found is None:
        says = f"is made `from: {step.source}`" if step.source else "has no `from`"
        raise LoadFailed(f"output '{name}' {says}, and the model's outputs are {', '.join(by_name)}")
    return found


def make_embedding(name: str, step: EmbeddingStep, source: Declared) -> Output:
    axes = source.axes
    wanted = TOKEN_AXES if step.pool else None
    if step.pool and axes is not None and len(axes) != wanted:
        raise LoadFailed(
            f"output '{name}' pools '{source.name}', which has {len(axes)} axes and not rows, tokens and elements"
            + (": leave `pool` out" if len(axes) == TOKEN_AXES - 1 else "")
        )

    def answers(array: np.ndarray, mask: np.ndarray | None) -> list[np.ndarray]:
        vectors = np.asarray(array, np.float32)
        if step.pool:
            vectors = pooled(vectors, mask, step.pool)
        return [normalized(vectors) if step.normalize else vectors]

    kept = (axes[0], axes[-1]) if axes and step.pool else axes
    return Output(source.name, (Declared(name, Datatype.FP32, kept),), answers)


def pooled(vectors: np.ndarray, mask: np.ndarray | None, how: str) -> np.ndarray:
    """One vector a row out of one a token, [rows, tokens, elements] → [rows, elements]; `mask` says which count."""
    if how == "first":
        return vectors[:, 0]
    if mask is None:
        mask = np.ones(vectors.shape[:2], np.float32)
    if how == "max":
        largest: np.ndarray = np.where(mask[..., None] > 0, vectors, -np.inf).max(1)
        return largest
    weights = mask.astype(np.float32)
    sums: np.ndarray = np.einsum("rte,rt->re", vectors, weights)
    means: np.ndarray = sums / np.maximum(weights.sum(1, keepdims=True), 1)
    return means


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Of length 1 along the last axis."""
    lengths = np.sqrt(np.square(vectors).sum(-1, keepdims=True))
    quotient: np.ndarray = vectors / np.maximum(lengths, SMALLEST_LENGTH)
    return quotient


def make_labels(name: str, step: LabelsStep, source: Declared) -> Output:
    names = label_names(name, step)
    classes = source.axes[-1] if source.axes and len(source.axes) > 1 else None
    if source.axes is not None and len(source.axes) > 2:  # noqa: PLR2004 - rows and classes
        raise LoadFailed(
            f"output '{name}' has labels, and '{source.name}' has {len(source.axes)} axes and not rows and classes"
        )
    if step.softmax and step.sigmoid:
        raise LoadFailed(f"output '{name}' has softmax and sigmoid: softmax if one label holds, else sigmoid")
    if isinstance(classes, int):
        names = checked(name, names, classes)
    count = len(names) if names is not None else None
    top = step.top_k or (None if step.sigmoid else 1)
    if count is not None:
        top = min(top or count, count)

    def answers(array: np.ndarray, mask: np.ndarray | None) -> list[np.ndarray]:  # noqa: ARG001 - the form of all
        scores = np.asarray(array, np.float32)
        scores = scores.reshape(len(scores), -1)
        known = checked(name, names, scores.shape[1])
        if step.softmax:
            scores = softmax(scores)
        elif step.sigmoid:
            scores = sigmoid(scores)
        return best(scores, known, top or len(known), step)

    axes = (source.axes[0] if source.axes else None, top)
    declared = (Declared(name, Datatype.BYTES, axes), Declared(name + SCORES, Datatype.FP32, axes))
    return Output(source.name, declared, answers)


def label_names(name: str, step: LabelsStep) -> np.ndarray | None:
    """Names by index as an array of bytes; None to count them."""
    if step.labels is None:
        return None
    if isinstance(step.labels, list):
        return as_objects(step.labels)
    try:
        lines = read_bytes(Path(step.labels)).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as exc:
        raise LoadFailed(f"the labels of output '{name}', {step.labels}, are not UTF-8: {exc}") from exc
    return as_objects([line.strip() for line in lines if line.strip()])


def checked(name: str, names: np.ndarray | None, classes: int) -> np.ndarray:
    """The names, if they are as many as the model's classes."""
    if names is None:
        return as_objects([str(index) for index in range(classes)])
    if len(names) != classes:
        raise LoadFailed(f"output '{name}' has {len(names)} labels, and the model gives {classes} scores")
    return names


def best(scores: np.ndarray, names: np.ndarray, count: int, step: LabelsStep) -> list[np.ndarray]:
    """The names and scores of the best of each row, best first; "" and 0 for what a threshold leaves out."""
    count = min(count, scores.shape[1])
    chosen = best_indices(scores, count)
    labels, values = names[chosen], np.take_along_axis(scores, chosen, 1)
    if step.threshold is not None:
        out = ~(values >= step.threshold)
        labels[out], values[out] = b"", 0
        if step.otherwise is not None:
            labels[out[:, 0], 0] = step.otherwise.encode()
    return [labels, np.ascontiguousarray(values)]


def best_indices(scores: np.ndarray, count: int) -> np.ndarray:
    """Columns of the best of each row, best first; of equal ones the first column wins."""
    if count == 1:
        first: np.ndarray = np.argmax(scores, 1, keepdims=True)
        return first
    if scores.shape[1] <= FEW or count == scores.shape[1]:
        return np.argsort(-scores, 1, kind="stable")[:, :count]
    among = np.sort(np.argpartition(-scores, count - 1, 1)[:, :count], 1)
    order = np.argsort(-np.take_along_axis(scores, among, 1), 1, kind="stable")
    return np.take_along_axis(among, order, 1)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Of each row; the largest is subtracted first, so that nothing overflows."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """Of each element, by way of tanh, which does not overflow."""
    halved: np.ndarray = 0.5 * (np.tanh(0.5 * scores) + 1)
    return halved.astype(np.float32, copy=False)


def as_objects(texts: list[str]) -> np.ndarray:
    array = np.empty(len(texts), object)
    array[:] = [each.encode() for each in texts]
    return array
