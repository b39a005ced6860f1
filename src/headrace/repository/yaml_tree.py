"""YAML as plain values that remember their lines, so that every mistake in a settings file can be shown where it is.

Scalars mean what they mean in YAML 1.2, as in editors and JSON: only true and false are booleans, so that a label can be
`no` or `on`, and 1e-3 is a number. Keys are always text.
"""

import re
from collections.abc import Hashable
from typing import Any, NamedTuple

import yaml

MOST_VALUES = 100_000
"""Values in one file; more are a handful of aliases of aliases."""
DEEPEST = 50
LONGEST_INTEGER = 18
"""Digits; longer ones are floats."""

NULL = re.compile(r"~|null|Null|NULL|")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
PREFIX = "tag:yaml.org,2002:"
PLAIN_TAGS = frozenset(
    PREFIX + each for each in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")
)
"""What the parser takes plain scalars for; what they mean is decided here."""

Path = tuple[str | int, ...]
"""Keys and indexes from the file's top."""


class Mistake(NamedTuple):
    """What is wrong, with what to write instead. `path` is empty where it is the whole file."""

    line: int
    path: Path
    text: str

    def shown(self, file: str) -> str:
        """As in `skills/x/skill.yaml:12: inputs.text.max_token: unknown key; did you mean max_tokens?`."""
        what = f"{dotted(self.path)}: " if self.path else ""
        return f"{file}:{self.line}: {what}{self.text}"


class Tree(NamedTuple):
    """A file's values.

    Attributes:
        data: dicts with text keys, lists, text, numbers, booleans, None.
        lines: the line of each key or element.
        mistakes: found so far; where YAML cannot be read at all, the only one, and no data.
    """

    data: Any
    lines: dict[Path, int]
    mistakes: list[Mistake]

    def line(self, path: Path) -> int:
        """Of the value, or of the nearest thing around it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_tree(text: str) -> Tree:
    """Parse one document."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        return Tree(None, {}, [Mistake(mark.line + 1 if mark else 1, (), explained(exc))])
    except (yaml.YAMLError, RecursionError) as exc:
        return Tree(None, {}, [Mistake(1, (), f"this is not YAML: {' '.join(str(exc).split())[:200]}")])
    reader = Reader()
    data = None if node is None else reader.value(node, ())
    return Tree(data, reader.lines, reader.mistakes)


class Reader:
    """Turns a document's nodes into values."""

    def __init__(self) -> None:
        # The mutable state: what was read so far.
        self.lines: dict[Path, int] = {(): 1}
        self.mistakes: list[Mistake] = []
        self._values = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._values += 1
        if self._values > MOST_VALUES or len(path) > DEEPEST:
            if self._values != MOST_VALUES + 2:
                self._values = MOST_VALUES + 1
                self._mistake(node, path[:1], "too many values or levels: write them out without aliases")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for at, each in enumerate(node.value):
                self.lines[*path, at] = each.start_mark.line + 1
                items.append(self.value(each, (*path, at)))
            return items
        assert isinstance(node, yaml.ScalarNode), "there is no other kind of node"
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, each in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._mistake(key, path, "a key is text, and this one is a list or a mapping")
                continue
            name = key.value
            here = (*path, name)
            if name in content:
                self._mistake(key, here, f"given twice, first in line {self.lines[here]}: keep one")
                continue
            self.lines[here] = key.start_mark.line + 1
            content[name] = self.value(each, here)
        return content

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Hashable:
        text: str = node.value
        if node.tag not in PLAIN_TAGS:
            # Of others than YAML's own, no word: one may be a secret that begins with an exclamation mark.
            is_own = node.tag.startswith(PREFIX)
            tag = f"the tag {node.tag.replace(PREFIX, '!!')}" if is_own else "a tag, as in !this,"
            self._mistake(node, path, f"{tag} means nothing here: leave it out, or put text in quotes")
            return text
        return text if node.style is not None else resolved(text)  # quoted, or a block of text

    def _mistake(self, node: yaml.Node, path: Path, text: str) -> None:
        self.mistakes.append(Mistake(node.start_mark.line + 1, path, text))


def resolved(text: str) -> Hashable:
    """What a plain scalar means."""
    if NULL.fullmatch(text):
        return None
    if BOOL.fullmatch(text):
        return text.lower() == "true"
    if INT.fullmatch(text) and len(text) <= LONGEST_INTEGER:
        return int(text)
    if FLOAT.fullmatch(text) or SPECIAL.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def explained(exc: yaml.MarkedYAMLError) -> str:
    """A parser's complaint, in words for whoever wrote the file."""
    problem = exc.problem or "it cannot be read"
    if "'\\t'" in problem:
        return "a tab cannot indent YAML: use spaces"
    if "could not find expected ':'" in problem:
        return "this is not YAML: a key needs a colon and a space behind it, as in 'format: 1'"
    if "mapping values are not allowed" in problem:
        return "this is not YAML: a second ': ' in one line; put the text in quotes, or check the indentation"
    if "undefined alias" in problem:
        return "this is not YAML: text that begins with * has to be in quotes"
    if "expected a single document" in str(exc):
        return "there is a second document behind '---': keep one"
    context = f" {exc.context}" if exc.context else ""
    return f"this is not YAML: {problem}{context}"


def dotted(path: Path) -> str:
    """As in inputs.text.max_tokens or examples[0].input."""
    text = ""
    for each in path:
        text += f"[{each}]" if isinstance(each, int) else f".{each}" if text else each
    return text
