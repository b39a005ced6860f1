"""The classification extension: an output's greatest elements as text, `value:index` or `value:index:label`.

Triton's clients (image_client above all) read these texts, so they are written as it writes them: values as C++
std::to_string has it, greatest first, and of equal ones the first.
"""

from math import prod

import numpy as np

from headrace import strings
from headrace.errors import InvalidRequest
from headrace.messages import Datatype, ModelSpec, Shape

Labels = tuple[str, ...]

RANKED = frozenset(set(Datatype) - {Datatype.BOOL, Datatype.FP16, Datatype.BF16, Datatype.BYTES})
"""Datatypes whose elements can be classes."""
MOST_WORK = 20_000
"""What is ranked on the loop: above it (about 0.2 ms), a worker does it."""
WORK_A_CLASS = 40
"""Writing a class takes as long as looking at so many elements."""


def read_class_count(value: object, name: str) -> int:
    """The output parameter `classification`.

    Raises:
        InvalidRequest: it is not a positive integer.
    """
    if type(value) is not int or value <= 0:
        raise InvalidRequest(
            f"Unable to set 'classification': expected a positive integer for output '{name}', got {value!r}"[
                :500
            ]
        )
    return value


def check_classified(datatype: Datatype) -> None:
    """Classes are ranked by numbers.

    Raises:
        InvalidRequest: the datatype has none that are ranked.
    """
    if datatype not in RANKED:
        raise InvalidRequest(f"class result not available for output due to unsupported type '{datatype}'")


def has_rows(spec: ModelSpec, index: int) -> bool:
    """Whether each row of an output is classified by itself; else all of it is one."""
    return spec.max_batch_size > 0 and spec.outputs[index].batch_axis == 0


def is_much(elements: int, rows: int, count: int) -> bool:
    """Whether ranking so many elements of so many rows would hold up the loop."""
    return elements + WORK_A_CLASS * min(elements, rows * count) > MOST_WORK


def classify(array: np.ndarray, count: int, labels: Labels, *, by_row: bool) -> tuple[Shape, list[str]]:
    """The shape of the result and its texts, row by row.

    Args:
        array: one request's output.
        count: how many classes at most.
        labels: by index; where there are fewer than elements, the others have none.
        by_row: the first axis is that of the batch.
    """
    rows = array.reshape(array.shape[0], prod(array.shape[1:])) if by_row else array.reshape(1, -1)
    classes = min(count, rows.shape[1])
    order = greatest(rows, classes)
    values = np.take_along_axis(rows, order, axis=1).tolist()
    write = "%f:%d" if array.dtype.kind == "f" else "%d:%d"
    known = len(labels)
    texts = [
        f"{write % (value, at)}:{labels[at]}" if at < known and labels[at] else write % (value, at)
        for row, places in zip(values, order.tolist(), strict=True)
        for value, at in zip(row, places, strict=True)
    ]
    return ((array.shape[0], classes) if by_row else (classes,)), texts


def greatest(rows: np.ndarray, count: int) -> np.ndarray:
    """Positions of each row's `count` greatest elements, greatest first, then by position; NaN last."""
    width = rows.shape[1]
    if rows.dtype.kind == "f":
        keys = np.where(np.isnan(rows), -np.inf, rows)
        keys = -keys
    else:
        # Turned around without overflow: ~x is -x - 1, and for unsigned numbers the greatest minus x.
        keys = ~rows
    if count < width and len(rows):
        # Everything up to the value of the last one that is wanted; equal ones are told apart by the sort.
        limit = np.partition(keys, count - 1, axis=1)[:, count - 1 : count]
        return np.stack([first_of(row, bound, count) for row, bound in zip(keys, limit, strict=True)])
    return np.argsort(keys, axis=1, kind="stable")[:, :count]


def first_of(keys: np.ndarray, bound: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` smallest keys, all of them up to the bound."""
    candidates = np.flatnonzero(keys <= bound)
    return candidates[np.argsort(keys[candidates], kind="stable")][:count]


def join_texts(texts: list[str]) -> bytes:
    """As a BYTES tensor."""
    encoded = np.empty(len(texts), object)
    encoded[:] = [each.encode() for each in texts]
    return strings.join(encoded)
