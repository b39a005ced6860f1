"""What pydantic finds wrong with a skill.yaml, in words for whoever wrote it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from headrace.repository.fallback_yaml import STEP_KINDS
from headrace.repository.skill_yaml import FORMAT, INPUT_KINDS, SkillFile
from headrace.repository.yaml_tree import FLOAT, Mistake, Path, Tree

EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list, as in [a, b]",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of keys to values",
    "int_from_float": "a whole number",
    "finite_number": "a finite number",
}
INPUT_DEPTH = 2
"""Keys down to an input."""
LONGEST = 50
"""Characters of a value that a sentence repeats."""
BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
SECTIONS = ("inputs", "outputs", "variants", "examples", "fallback")
"""Whose entries stand by themselves: a mistake in one leaves the others to be looked at."""
CHAIN: Path = ("fallback", "chain")
"""Whose steps do so, too."""
IN_PLACE: dict[Path, Any] = {("examples",): {"input": {}}, CHAIN: {"static": "-"}}
"""What stands for an element that is left out, so that the others keep their places, by which they are told."""


def validated(tree: Tree) -> tuple[SkillFile, list[Mistake], set[Path]]:
    """The skill without what is wrong, what is wrong, and the paths that were left out for it."""
    data = {} if tree.data is None else tree.data
    if not isinstance(data, dict):
        text = f"a skill.yaml is a mapping of keys to values, and this is {shown(data)}"
        return SkillFile(), [Mistake(1, (), text)], set()
    try:
        return SkillFile.model_validate(data), [], set()
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    mistakes = [mistake(tree, error) for error in errors]
    left_out = {entry(place(error["loc"], data)) for error in errors}
    return SkillFile.model_validate(without(data, left_out)), mistakes, left_out


def entry(path: Path) -> Path:
    """The smallest part that can be left out because of a mistake in it."""
    if path[:2] == CHAIN:
        return path[:3] if len(path) > len(CHAIN) else path[:1]  # there is no fallback without a chain
    return path[:2] if path[0] in SECTIONS else path[:1]


def without(value: Any, left_out: set[Path], here: Path = ()) -> Any:
    """What lies at `here`, without the parts that are left out."""
    if isinstance(value, dict):
        return {
            key: without(each, left_out, (*here, key))
            for key, each in value.items()
            if (*here, key) not in left_out
        }
    if isinstance(value, list):
        return [
            IN_PLACE[here] if (*here, at) in left_out else without(each, left_out, (*here, at))
            for at, each in enumerate(value)
        ]
    return value


def mistake(tree: Tree, error: ErrorDetails) -> Mistake:
    path = place(error["loc"], tree.data)
    return Mistake(tree.line(path), path, sentence(error))


def place(loc: tuple[str | int, ...], data: Any) -> Path:
    """`plain`, where keys may look like what pydantic says of alternatives: those in the file are the file's."""
    path: Path = ()
    for each in loc:
        is_there = isinstance(each, int) or (isinstance(data, dict) and each in data)
        if is_there or plain((each,)):
            path = (*path, each)
            data = data[each] if is_there else None
    return path


def plain(loc: tuple[str | int, ...]) -> Path:
    """Where it is in the file: without what pydantic says of alternatives."""
    return tuple(each for each in loc if not (isinstance(each, str) and each.startswith(("|", "["))))


def sentence(error: ErrorDetails) -> str:
    kind, given, loc = error["type"], error["input"], error["loc"]
    context: dict[str, Any] = error.get("ctx", {})
    match kind:
        case "extra_forbidden":
            text = unknown_key(loc)
        case "missing":
            text = f"is missing{hint(loc)}"
        case "literal_error":
            text = not_one_of(loc, given)
        case "union_tag_not_found" | "union_tag_invalid":
            text = no_alternative(loc, given)
        case "string_pattern_mismatch":
            text = "is no priority level: they are counted from 1, as in {1: 0.5, 2: null}"
        case "too_short" | "too_long" | "string_too_short":
            text = wrong_size(loc, context)
        case "value_error":
            text = str(context["error"])
        case _ if kind in EXPECTED:
            text = f"should be {EXPECTED[kind]}, and is {shown(given)}{quoted(kind, given)}"
        case _ if kind in BOUNDS:
            word, name = BOUNDS[kind]
            text = f"should be {word} {flow(whole(context[name]))}, and is {shown(given)}"
        case _:
            text = f"{error['msg'][:1].lower()}{error['msg'][1:]}"
    return text


def unknown_key(loc: tuple[str | int, ...]) -> str:
    names = keys_of(loc[:-1])
    close = get_close_matches(str(loc[-1]), names, 1)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; there are {', '.join(names)}"


def not_one_of(loc: tuple[str | int, ...], given: object) -> str:
    if plain(loc) == ("format",):
        return f"should be {FORMAT}, the only version of the format there is, and is {shown(given)}"
    choices = [str(each).lower() if each is True else str(each) for each in choices_of(loc)]
    close = get_close_matches(str(given), choices, 1)
    perhaps = f"; did you mean {close[0]}?" if close else ""
    return f"should be {either(choices)}, and is {shown(given)}{perhaps}"


def no_alternative(loc: tuple[str | int, ...], given: object) -> str:
    """A value of none of the kinds that may stand there."""
    if len(loc) > INPUT_DEPTH and loc[-1] in {"mean", "std"}:
        return f"should be a number or a list of numbers, and is {shown(given)}"
    if plain(loc)[:1] == ("inputs",) and len(plain(loc)) == INPUT_DEPTH:
        return no_input(given)
    if plain(loc)[:2] == CHAIN:
        return no_step(given)
    if "|record" in loc:
        return f"should be number, a list of categories, {{number: …}} or {{categories: …}}, and is {shown(given)}"
    return f"should be a file's name or a list of labels, and is {shown(given)}{quoted('string_type', given)}"


def no_input(given: object) -> str:
    """An input that is none, or several."""
    if not isinstance(given, dict):
        return f"should say what callers send, as in {{value: text}}, and is {shown(given)}"
    found = [key for key in INPUT_KINDS if key in given]
    if len(found) > 1:
        return f"has {' and '.join(found)}, and an input is one of them: make them two inputs"
    return f"should have one of {', '.join(INPUT_KINDS)}{meant(given, INPUT_KINDS)}"


def no_step(given: object) -> str:
    """A step of a fallback chain that is none, or several."""
    keys = given if isinstance(given, dict) else {}
    found = [key for key in STEP_KINDS if key in keys]
    if len(found) > 1:
        return f"has {' and '.join(found)}, and a step is one of them: make them {len(found)} steps"
    return (
        f"should be a step, {{variant: NAME}}, {{stale: 6h}} or {{static: FILE}}, and is {shown(given)}"
        f"{meant(keys, STEP_KINDS)}"
    )


def meant(keys: Iterable[str], known: Sequence[str]) -> str:
    """The key that was perhaps meant."""
    close = [each for key in keys for each in get_close_matches(key, known, 1)]
    return f"; did you mean {close[0]}?" if close else ""


def wrong_size(loc: tuple[str | int, ...], context: dict[str, Any]) -> str:
    least, most = context.get("min_length"), context.get("max_length")
    if loc[-1] in {"size", "resize_to"}:
        return "should be height and width, as in [224, 224]"
    return "is empty" if least == 1 else f"should have {least or most} elements"


def hint(loc: tuple[str | int, ...]) -> str:
    """What could be written for a key that is missing."""
    holder = section_at(loc[:-1])
    field = fields_of(holder).get(str(loc[-1])) if holder else None
    examples = field.examples if field is not None else None
    return f"; write it as in {loc[-1]}: {flow(examples[0])}" if examples else ""


def quoted(kind: str, given: object) -> str:
    """What to do where quotes decide."""
    if kind == "string_type" and isinstance(given, bool | int | float):
        return f": put it in quotes, '{flow(given)}'"
    is_number = kind in {"int_type", "float_type"} and isinstance(given, str) and FLOAT.fullmatch(given)
    return " in quotes: leave them out" if is_number else ""


def whole(number: float) -> float:
    return int(number) if number == int(number) else number


def shown(value: object) -> str:
    """A value in a sentence."""
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return f"the list {flow(value)}" if len(flow(value)) <= LONGEST else "a list"
    return flow(value) if len(flow(value)) <= LONGEST else f"{flow(value)[:LONGEST]}…"


def flow(value: object) -> str:
    """A value in YAML, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def either(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def keys_of(loc: tuple[str | int, ...]) -> list[str]:
    holder = section_at(loc)
    return list(fields_of(holder)) if holder else []


def choices_of(loc: tuple[str | int, ...]) -> list[Any]:
    if is_element := isinstance(loc[-1], int):
        loc = loc[:-1]
    holder = section_at(loc[:-1] if not str(loc[-1]).startswith("|") else loc[:-2])
    field = fields_of(holder).get(str(loc[-1])) if holder else None
    if field is None:
        return ["number"]
    kind = element(field.annotation) if is_element else field.annotation
    kinds = [get_args(each) for each in flattened(kind)]
    return [each for values in kinds for each in values]


def fields_of(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """By the names they have in a file."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def section_at(loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The section that a location is in, found along the types of the format."""
    now: Any = SkillFile
    for each in loc:
        if isinstance(each, str) and each.startswith("|"):
            now = next((kind for tag, kind in alternatives(now) if tag == each), now)
        elif (section := the_section(now)) is not None:
            field = fields_of(section).get(str(each))
            if field is None:
                return None
            now = field.annotation if not field.metadata else Annotated[field.annotation, *field.metadata]
        else:
            now = element(now)
    return the_section(now)


def the_section(kind: Any) -> type[BaseModel] | None:
    found = [each for each in flattened(kind) if isinstance(each, type) and issubclass(each, BaseModel)]
    return found[0] if len(found) == 1 and not alternatives(kind) else None


def alternatives(kind: Any) -> list[tuple[str, Any]]:
    """Tag and type of each, where a value may be of several kinds."""
    found = []
    for each in flattened(kind, keep_tags=True):
        if get_origin(each) is Annotated:
            tags = [getattr(meta, "tag", None) for meta in each.__metadata__]
            found += [(tag, get_args(each)[0]) for tag in tags if tag]
    return found


def flattened(kind: Any, *, keep_tags: bool = False) -> Iterator[Any]:
    """The members of a union, or the type itself, without its annotations."""
    origin = get_origin(kind)
    if origin is Annotated:
        if keep_tags and any(hasattr(meta, "tag") for meta in kind.__metadata__):
            yield kind
        else:
            yield from flattened(get_args(kind)[0], keep_tags=keep_tags)
    elif origin in {Union, UnionType}:
        for each in get_args(kind):
            yield from flattened(each, keep_tags=keep_tags)
    else:
        yield kind


def element(kind: Any) -> Any:
    """The type of the values of a mapping or list."""
    (bare,) = flattened(kind)
    return get_args(bare)[-1]
