"""What the sections of a skill.yaml say of each other and of the files beside it, and what of that cannot be.

Every check goes on after a mistake, so that all of them are found in one reading. Sections that have mistakes of form are
not looked at again (`left_out`), and nothing is said that would only follow from those.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import fsum
from pathlib import Path as FilePath

from headrace.repository.plain import not_there
from headrace.repository.skill_examples import Wrong, below, example_mistakes
from headrace.repository.skill_fallback import fallback_mistakes
from headrace.repository.skill_yaml import (
    ByteInput,
    CategoryFeature,
    ImageInput,
    ImageSteps,
    Memory,
    Output,
    RecordInput,
    Share,
    SkillFile,
    TextInput,
    ValueInput,
)
from headrace.repository.yaml_tree import Mistake, Path, Tree

TRANSFORM = "transform.py"
PRECISION = 9
"""Decimals of a sum of shares: 0.1, 0.2 and 0.7 are 1."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a transform.py has, without running it. `is_readable`: False where only loading can tell."""

    before: bool
    after: bool
    is_readable: bool = True


@dataclass
class SkillFolder:
    """A skill.yaml and what lies beside it.

    Attributes:
        skill: without what is wrong in its form.
        left_out: the entries that were left out for that.
        labels: of each output that has any; filled by the checks.
        code: of transform.py, None if there is none.
    """

    folder: FilePath
    skill: SkillFile
    tree: Tree
    left_out: set[Path]
    labels: dict[str, list[str]] = field(default_factory=dict)
    code: Code | None = None


def find_mistakes(place: SkillFolder) -> list[Mistake]:
    """All of them, and the labels and code read on the way."""
    place.code = read_code(place.folder / TRANSFORM)
    found = [
        *below(("share",), share_mistakes(place.skill.share)),
        *below(("memory",), memory_mistakes(place.skill.memory)),
        *input_mistakes(place),
        *target_mistakes(place.skill),
        *transform_mistakes(place),
        *output_mistakes(place),
        *example_mistakes(place.folder, place.skill, place.labels, place.left_out),
        *fallback_mistakes(
            place.folder, place.skill, variant_names(place), known_outputs(place), place.left_out
        ),
    ]
    return [Mistake(place.tree.line(path), path, text) for path, text in found]


def share_mistakes(share: Share) -> Iterator[Wrong]:
    """Levels that leave one out, or that cannot all have what they are promised."""
    here: Path = ("priorities",)
    levels = sorted(map(int, share.priorities))
    if levels == [1]:
        yield here, "has one level only, which all requests have: name the others', as in {1: 0.5, 2: null}"
    elif missing := set(range(1, max(levels, default=0))).difference(levels):
        yield here, f"lacks level {min(missing)}: levels are counted from 1, and 1 goes first"
    parts = list(share.priorities.values())
    total = round(fsum(part for part in parts if part is not None), PRECISION)
    if total > 1:
        yield here, f"promise {total:g} of the device time in all, and there is 1: lower them"
    elif total == 1 and None in parts:
        yield here, "promise all of the device time, and leave nothing for levels with null: lower them"
    default = share.default_priority
    if default is not None and not levels:
        yield ("default_priority",), "goes with priorities: add them, as in priorities: {1: 0.5, 2: null}"
    elif default is not None and default not in levels:
        yield ("default_priority",), f"is {default}, and the levels are {', '.join(map(str, levels))}"


def memory_mistakes(memory: Memory) -> Iterator[Wrong]:
    """What is pinned is there from the start and stays."""
    if memory.pin and memory.idle is not None:
        yield ("idle",), "is for what may leave, and pin is true: leave one of them out"
    if memory.pin and memory.preload is False:
        yield ("preload",), "is false, and what is pinned is loaded at start: leave one of them out"


def input_mistakes(place: SkillFolder) -> Iterator[Wrong]:
    for name, each in place.skill.inputs.items():
        here: Path = ("inputs", name)
        if isinstance(each, TextInput):
            file = place.folder / each.tokenizer
            if not file.is_file():
                yield (*here, "tokenizer"), not_there(file)
        elif isinstance(each, ImageInput):
            yield from below((*here, "image"), image_mistakes(each.image))
        elif isinstance(each, ByteInput) and not each.bytes.head + each.bytes.tail:
            yield (*here, "bytes"), "takes no bytes: say how many, as in {head: 1024}"
        elif isinstance(each, RecordInput):
            yield from below((*here, "record"), record_mistakes(each))


def image_mistakes(image: ImageSteps) -> Iterator[Wrong]:
    if image.size is None and image.resize != "none":
        yield (), "lacks the size: write it as in size: [224, 224], or resize: none"
    channels = 1 if image.mode == "L" else 3
    for key, numbers in (("mean", image.mean), ("std", image.std)):
        if isinstance(numbers, list) and len(numbers) not in {1, channels}:
            yield (key,), f"has {len(numbers)} numbers, and {image.mode} has {channels} channels"
    std = image.std if isinstance(image.std, list) else [image.std]
    if 0 in std:
        yield ("std",), "is 0, which nothing can be divided by"
    is_scaled = any(each is not None for each in (image.scale, image.mean, image.std))
    if image.datatype == "UINT8" and is_scaled:
        yield ("datatype",), "is UINT8, which scaled pixels do not fit: leave it out, or scale, mean and std"


def record_mistakes(given: RecordInput) -> Iterator[Wrong]:
    for name, feature in given.record.items():
        path: Path = (name, "categories") if isinstance(feature, CategoryFeature) else (name,)
        words = feature.categories if isinstance(feature, CategoryFeature) else feature
        if not isinstance(words, list):
            continue
        if twice := [each for at, each in enumerate(words) if each in words[:at]]:
            yield path, f"has {twice[0]} twice"
        if isinstance(feature, CategoryFeature) and feature.default not in {None, *words}:
            yield (name, "default"), f"is {feature.default}, which is not among {', '.join(words)}"


def target_mistakes(skill: SkillFile) -> Iterator[Wrong]:
    """Two inputs for one input of the model."""
    taken: dict[str, str] = {}
    for name, each in skill.inputs.items():
        if isinstance(each, TextInput):
            names = each.tensors
            targets = [
                names.ids or "input_ids",
                names.mask or "attention_mask",
                names.types or "token_type_ids",
            ]
        else:
            to = getattr(each, "to", None)
            targets = [to] if to else []
        for target in targets:
            if target in taken:
                yield ("inputs", name), f"fills the model's '{target}', which {taken[target]} fills already"
                break
            taken[target] = name


def transform_mistakes(place: SkillFolder) -> Iterator[Wrong]:
    skill, code = place.skill, place.code
    values = [name for name, each in skill.inputs.items() if isinstance(each, ValueInput)]
    if code is None:
        for name in values:
            yield (
                ("inputs", name, "value"),
                f"is for before() in {TRANSFORM}, and there is none beside skill.yaml: write one",
            )
        if skill.transform is not None:
            yield ("transform",), f"there is no {TRANSFORM} beside skill.yaml"
        return
    if not code.is_readable:
        return
    if values and not code.before:
        yield ("inputs", values[0], "value"), f"is for before(), which {TRANSFORM} does not have"
    is_sure = not any(path[0] == "inputs" for path in place.left_out)
    has_images = any(isinstance(each, ImageInput) for each in skill.inputs.values())
    if code.before and not values and not has_images and is_sure:
        yield (
            ("inputs",),
            f"{TRANSFORM} has before(), and no input is for it: declare what callers send, as in text: {{value: text}}",
        )


def output_mistakes(place: SkillFolder) -> Iterator[Wrong]:
    for name, each in place.skill.outputs.items():
        here: Path = ("outputs", name)
        yield from below(here, kind_mistakes(each))
        if each.labels is None:
            continue
        try:
            labels = place.labels[name] = read_labels(place.folder, each.labels)
        except ValueError as exc:
            yield (*here, "labels"), str(exc)
            continue
        if each.top_k is not None and each.top_k > len(labels):
            yield (*here, "top_k"), f"is {each.top_k}, and there are {len(labels)} labels"


def kind_mistakes(output: Output) -> Iterator[Wrong]:
    is_vector = output.pool is not None or output.normalize
    used = [
        key
        for key in ("softmax", "sigmoid", "top_k", "threshold", "otherwise")
        if key in output.model_fields_set
    ]
    if output.labels is None and used:
        yield (used[0],), "goes with labels: add labels, as a file or a list"
    if output.labels is not None and is_vector:
        key = "pool" if output.pool is not None else "normalize"
        yield (key,), "is for embeddings, and labels are not: make them two outputs"
    if output.softmax and output.sigmoid:
        yield ("sigmoid",), "excludes softmax: one label is right with softmax, any number with sigmoid"
    if output.otherwise is not None and output.threshold is None:
        yield ("otherwise",), "is never used without a threshold: add one, as in threshold: 0.5"


def variant_names(place: SkillFolder) -> list[str] | None:
    """Of all that are written down, whatever is wrong with one; None if nobody can tell."""
    if ("variants",) in place.left_out:
        return None
    return list(place.tree.data.get("variants") or ()) if isinstance(place.tree.data, dict) else []


def known_outputs(place: SkillFolder) -> dict[str, Output] | None:
    """What callers get; None where only loading tells, or code writes the answer."""
    code = place.code
    is_of_code = code is not None and (code.after or not code.is_readable)
    is_sure = not any(path[0] == "outputs" for path in place.left_out)
    return place.skill.outputs if place.skill.outputs and is_sure and not is_of_code else None


def read_labels(folder: FilePath, given: str | list[str]) -> list[str]:
    """The labels.

    Raises:
        ValueError: there are none, with what is wrong.
    """
    if isinstance(given, list):
        return given
    file = folder / given
    if not file.is_file():
        raise ValueError(f"{not_there(file)}; a list of labels is written as [a, b]")
    try:
        labels = [each.strip() for each in file.read_text("utf-8-sig").rstrip().split("\n")]
    except UnicodeDecodeError as exc:
        raise ValueError(f"{given} is not UTF-8 text: save it as UTF-8") from exc
    except OSError as exc:
        raise ValueError(f"{given} cannot be read: {exc.strerror}") from exc
    if "" in labels:
        line = f":{labels.index('') + 1}" if len(labels) > 1 else ""
        raise ValueError(f"{given}{line} is empty: it has one label a line")
    return labels


def read_code(file: FilePath) -> Code | None:
    """Which methods a transform.py has; what is wrong with it is said when it is loaded."""
    if not file.is_file():
        return None
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return Code(before=True, after=False, is_readable=False)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Transform":
            methods = {
                each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            return Code("before" in methods, "after" in methods)
    return Code(before=True, after=False, is_readable=False)
