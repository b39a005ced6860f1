"""Records of named features as the columns a model was trained on: numbers as they are, categories by their index."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headrace.errors import InvalidItem, LoadFailed

MOST_SHOWN = 12
"""Allowed values an error lists; of more it says how many there are."""
MISSING = object()


class Range(NamedTuple):
    """The numbers that a column can hold without becoming others."""

    lowest: float
    highest: float
    is_whole: bool

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int | float), "numbers only are asked for"
        return self.lowest <= number <= self.highest and not (self.is_whole and number != int(number))

    def __str__(self) -> str:
        if self.is_whole:
            return f"a whole number from {self.lowest} to {self.highest}"
        return "a number" + ("" if math.isinf(self.highest) else f" from {self.lowest:g} to {self.highest:g}")


ANY = Range(-math.inf, math.inf, is_whole=False)


def range_of(dtype: np.dtype) -> Range:
    """What a column of that dtype can hold; floats round, integers must not."""
    if dtype.kind == "f":
        return Range(float(np.finfo(dtype).min), float(np.finfo(dtype).max), is_whole=False)
    if dtype.kind == "b":
        return Range(0, 1, is_whole=True)
    return Range(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max), is_whole=True)


@dataclass(frozen=True)
class Feature:
    """One column. `categories` by the key that tells True from 1; None for a number. `default` is MISSING if none."""

    name: str
    categories: dict[tuple[bool, Any], int] | None
    default: Any
    range: Range = ANY

    @property
    def allowed(self) -> str:
        """What may stand there, in words."""
        if self.categories is None:
            return str(self.range) if self.range.is_whole else "a number"
        shown = [json(value) for _, value in list(self.categories)[:MOST_SHOWN]]
        more = len(self.categories) - MOST_SHOWN
        return f"one of {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")

    def number(self, value: object) -> float:
        """The value's place in the column.

        Raises:
            InvalidItem: it has none.
        """
        if self.categories is not None:
            index = self.categories.get(key_of(value)) if is_simple(value) else None
            if index is None:
                raise InvalidItem(f"feature '{self.name}' must be {self.allowed}, and it is {json(value)}")
            return float(index)
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = ": leave the quotation marks away" if is_numeric(value) else ""
            raise InvalidItem(f"feature '{self.name}' must be a number, and it is {json(value)}{hint}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise InvalidItem(f"feature '{self.name}' must be a finite number, and it is {number}")
        if value not in self.range:
            raise InvalidItem(f"feature '{self.name}' must be {self.range}, and it is {json(value)}")
        return int(value) if self.range.is_whole else number

    @property
    def usual(self) -> Any:
        """A value for a made-up record."""
        if self.default is not MISSING:
            return self.default
        return next(iter(self.categories))[1] if self.categories else 1

    def made_up(self, rng: np.random.Generator) -> Any:
        """A value that is allowed."""
        if self.categories is not None:
            return list(self.categories)[int(rng.integers(len(self.categories)))][1]
        usual = self.number(self.usual)
        near = usual + (int(rng.integers(-1, 2)) if self.range.is_whole else round(float(rng.random()), 3))
        return near if near in self.range else usual


class Records:
    """Turns JSON records into columns."""

    def __init__(self, features: dict[str, Any], ranges: Mapping[str, Range] | None = None) -> None:
        """Read the declaration.

        Args:
            features: as declared, by name.
            ranges: what their columns can hold; anything where that is not said.

        Raises:
            LoadFailed: a feature's declaration is none, or its default or its categories do not fit.
        """
        if not features:
            raise LoadFailed("`record` names no features")
        known = ranges or {}
        self.features = [make_feature(name, each, known.get(name, ANY)) for name, each in features.items()]
        self._names = frozenset(features)

    def values(self, content: bytes) -> list[Any]:
        """One record's values in the order of the features, defaults filled in.

        Raises:
            InvalidItem: it is no record, a feature is missing, unknown, or has a value it cannot have.
        """
        try:
            record = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise InvalidItem(f"the record is no JSON: {exc}") from exc
        if not isinstance(record, dict):
            raise InvalidItem(f"a record is a JSON object of features, and this is {json(record)}")
        if unknown := [name for name in record if name not in self._names]:
            raise InvalidItem(self._unknown(unknown[0]))
        values = []
        for feature in self.features:
            value = record.get(feature.name)
            if value is None:
                if feature.default is MISSING:
                    is_there = "is null" if feature.name in record else "is missing"
                    raise InvalidItem(f"feature '{feature.name}' {is_there}: it must be {feature.allowed}")
                value = feature.default
            values.append(value)
        return values

    def numbers(self, content: bytes) -> list[float]:
        """The same as numbers: categories by index."""
        values = self.values(content)
        return [feature.number(value) for feature, value in zip(self.features, values, strict=True)]

    def made_up(self, rng: np.random.Generator) -> bytes:
        """A record that is allowed."""
        record = {each.name: each.made_up(rng) for each in self.features}
        return msgspec.json.encode(record)

    def _unknown(self, name: str) -> str:
        near = get_close_matches(name, self._names, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        names = ", ".join(each.name for each in self.features)
        return f"'{shortened(name)}' is no feature{hint} The features are {names}"


def make_feature(name: str, declared: object, holds: Range) -> Feature:
    """One feature as skill.yaml has it: number, a list of categories, or either with a default."""
    default: Any = MISSING
    categories: object = None
    match declared:
        case "number" | {"number": None}:
            pass
        case list():
            categories = declared
        case {"number": dict() as options}:
            default = options.get("default", MISSING)
        case {"categories": list() as categories, **others}:
            default = others.get("default", MISSING)
        case _:
            raise LoadFailed(
                f"feature '{name}' is {json(declared)}: write number, {{number: {{default: 1}}}}, "
                "a list of categories, or {categories: [...], default: ...}"
            )
    feature = Feature(name, None if categories is None else make_categories(name, categories), default, holds)
    if feature.categories is not None and len(feature.categories) - 1 not in holds:
        raise LoadFailed(
            f"feature '{name}' has {len(feature.categories)} categories, and the model takes {holds} for their index"
        )
    if default is not MISSING:
        try:
            feature.number(default)
        except InvalidItem as exc:
            raise LoadFailed(f"the default of {exc}") from exc
    return feature


def make_categories(name: str, values: object) -> dict[tuple[bool, Any], int]:
    assert isinstance(values, list), "lists only come here"
    if not values or not all(is_simple(value) for value in values):
        raise LoadFailed(f"feature '{name}' needs categories that are strings, numbers or true and false")
    categories = {key_of(value): index for index, value in enumerate(values)}
    if len(categories) != len(values):
        raise LoadFailed(f"feature '{name}' has a category twice")
    return categories


def key_of(value: object) -> tuple[bool, Any]:
    """What a category is looked up by: True and 1 are two."""
    return isinstance(value, bool), value


def is_simple(value: object) -> bool:
    return isinstance(value, str | int | float)


def is_numeric(value: object) -> bool:
    """Whether it is a number that somebody wrote as a string."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def json(value: object) -> str:
    """A value as it may stand in a sentence."""
    try:
        return shortened(msgspec.json.encode(value).decode())
    except (TypeError, ValueError, msgspec.MsgspecError):
        return shortened(repr(value))


def shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - about half a line
