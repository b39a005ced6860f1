"""The examples of a skill.yaml held against its inputs and outputs, and as the golden inputs that they are."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any

from headrace.repository.skill_yaml import (
    ByteInput,
    CategoryFeature,
    Example,
    Feature,
    ImageInput,
    Input,
    NumberFeature,
    RecordInput,
    SkillFile,
    TensorInput,
    TextInput,
    ValueInput,
)
from headrace.repository.yaml_tree import Path

Wrong = tuple[Path, str]
"""Where, and what."""


def example_mistakes(
    folder: FilePath, skill: SkillFile, labels: dict[str, list[str]], left_out: set[Path]
) -> Iterator[Wrong]:
    """Where an example is not what the skill says callers send and get."""
    declared = [*skill.inputs, *(str(path[1]) for path in left_out if path[0] == "inputs" and len(path) > 1)]
    answered = [
        *skill.outputs,
        *(str(path[1]) for path in left_out if path[0] == "outputs" and len(path) > 1),
    ]
    has_code = (folder / "transform.py").is_file()
    for at, example in enumerate(skill.examples):
        here: Path = ("examples", at)
        if here in left_out:
            continue
        yield from below((*here, "input"), given_mistakes(folder, skill, example, declared))
        for name, answer in (example.answer or {}).items():
            if answered and name not in answered and not has_code:
                yield (*here, "answer", name), f"is no output; {there_are(name, answered)}"
            words = labels.get(name)
            output = skill.outputs.get(name)
            if words and output and isinstance(answer, str) and answer not in {*words, output.otherwise}:
                yield (*here, "answer", name), f"is {answer}, which is no label; {there_are(answer, words)}"


def given_mistakes(
    folder: FilePath, skill: SkillFile, example: Example, declared: list[str]
) -> Iterator[Wrong]:
    for name, value in example.input.items():
        kind = skill.inputs.get(name)
        if kind is not None:
            yield from below((name,), value_mistakes(folder, kind, value))
        elif declared and name not in declared and not isinstance(value, list):
            yield (name,), f"is no input; {there_are(name, declared)}"
    for name in skill.inputs:
        if name not in example.input:
            yield (), f"lacks {name}, which every caller has to send"


def value_mistakes(folder: FilePath, kind: Input, value: Any) -> Iterator[Wrong]:
    """What is wrong with a value for an input."""
    if is_file(kind):
        if not isinstance(value, str):
            yield (), "should be the name of a file beside skill.yaml"
        elif not (folder / value).is_file():
            yield (), f"should be a file beside skill.yaml, and there is no {value}"
    elif isinstance(kind, TextInput) or (isinstance(kind, ValueInput) and kind.value == "text"):
        if not isinstance(value, str):
            yield (), "should be text: put it in quotes"
    elif isinstance(kind, RecordInput):
        yield from features_mistakes(kind.record, value)
    elif isinstance(kind, ValueInput) and kind.value == "number":
        if not is_number(value):
            yield (), "should be a number"
    elif isinstance(kind, TensorInput) and not (isinstance(value, list) or is_number(value)):
        yield (), "should be nested lists of numbers"


def features_mistakes(features: dict[str, Feature], record: Any) -> Iterator[Wrong]:
    if not isinstance(record, dict):
        yield (), "should be a record, as in {" + ", ".join(f"{name}: …" for name in list(features)[:2]) + "}"
        return
    for name in record:
        if name not in features:
            yield (name,), f"is no feature; {there_are(name, list(features))}"
    for name, feature in features.items():
        words = feature.categories if isinstance(feature, CategoryFeature) else feature
        value = record.get(name)
        if value is None:
            if default_of(feature) is None:
                yield (), f"lacks {name}, which has no default"
        elif isinstance(words, list):
            if value not in words:
                yield (name,), f"should be one of {', '.join(words)}"
        elif not is_number(value):
            yield (name,), "should be a number"


def below(here: Path, found: Iterator[Wrong]) -> Iterator[Wrong]:
    """What was found in a part, as seen from the whole."""
    for path, text in found:
        yield (*here, *path), text


def default_of(feature: Feature) -> float | str | None:
    if isinstance(feature, CategoryFeature):
        return feature.default
    return feature.number.default if isinstance(feature, NumberFeature) else None


def is_file(kind: Input | None) -> bool:
    """Whether callers send a file."""
    return isinstance(kind, ImageInput | ByteInput) or (
        isinstance(kind, ValueInput) and kind.value in {"bytes", "image"}
    )


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def there_are(name: str, names: list[str]) -> str:
    """What there is instead of a name."""
    close = get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names[:20])}"


def golden_inputs(folder: FilePath, skill: SkillFile) -> tuple[dict[str, Any], ...]:
    """The examples in JSON's values; files by their whole names."""
    return tuple(golden(folder, skill, each) for each in skill.examples)


def golden(folder: FilePath, skill: SkillFile, example: Example) -> dict[str, Any]:
    given = {
        name: str(folder / value) if is_file(skill.inputs.get(name)) else value
        for name, value in example.input.items()
    }
    return {"input": given} if example.answer is None else {"input": given, "answer": example.answer}
