"""`headrace infer` in callers' words: a sentence, a file, a record, or a line of standard input each."""

import base64
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import click

from headrace.cli.client import Client
from headrace.cli.query import Json

TENSORS = "give either --input NAME=VALUE for each input or --request FILE"
TOGETHER = 32
"""Lines that are sent in one request, so that they share runs."""
FILES, TEXTS, OBJECTS = ("image", "bytes"), ("text",), ("record", "json")
LONGEST = 200


class Asked(NamedTuple):
    """A skill, and what was typed for it."""

    skill: str
    variant: str | None
    version: str | None
    text: str | None
    files: tuple[str, ...]
    data: str | None

    @property
    def is_item(self) -> bool:
        return bool(self.text is not None or self.files or self.data is not None)

    @property
    def path(self) -> str:
        named = {"variant": self.variant, "version": self.version}
        query = urlencode({name: value for name, value in named.items() if value})
        return f"/v1/skills/{quote(self.skill, safe='')}{'?' if query else ''}{query}"


class Skill:
    """What a skill takes, as the server describes it."""

    def __init__(self, described: Json) -> None:
        self.name: str = described["name"]
        self._inputs: list[Json] = described["inputs"]

    @property
    def wants(self) -> str:
        return ", ".join(f"{each['name']} ({each['send']})" for each in self._inputs)

    def only(self, kinds: tuple[str, ...], what: str) -> str:
        """The one input of these kinds.

        Raises:
            click.UsageError: there is none, or several.
        """
        names = [each["name"] for each in self._inputs if each["kind"] in kinds]
        if len(names) == 1:
            return str(names[0])
        if not names:
            raise click.UsageError(f"'{self.name}' takes {self.wants} and no {what}: {TENSORS}")
        raise click.UsageError(
            f"'{self.name}' takes several: {', '.join(names)}; give them by name in --data"
        )

    def item(self, asked: Asked) -> Json:
        """The item of what was typed."""
        item = self.of_data(asked.data) if asked.data is not None else {}
        if asked.text is not None:
            item[self.only(TEXTS, "text")] = asked.text
        for given in asked.files:
            name, content = self._file(given)
            item[name] = {"b64": base64.b64encode(content).decode()}
        return item

    def of_data(self, text: str) -> Json:
        """An item from JSON: by input name, or what the one record takes."""
        try:
            data = json.loads(text)
        except ValueError as exc:
            raise click.BadParameter(f"it is no JSON: {exc}", param_hint="'--data'") from exc
        names = {each["name"] for each in self._inputs}
        if isinstance(data, dict) and set(data) & names:
            return data
        return {self.only(OBJECTS, "record"): data}

    def of_line(self, line: str) -> Json:
        """An item from a line: JSON if it begins like an object, else text."""
        return self.of_data(line) if line.startswith("{") else {self.only(TEXTS, "text"): line}

    def _file(self, given: str) -> tuple[str, bytes]:
        """Which input a file is for, PATH or NAME=PATH, and its content."""
        name, separator, path = given.partition("=")
        if not separator or name not in {each["name"] for each in self._inputs}:
            name, path = self.only(FILES, "file"), given
        try:
            return name, Path(path).read_bytes()
        except OSError as exc:
            raise click.BadParameter(f"{path} cannot be read: {exc.strerror}", param_hint="'--file'") from exc


def ask(client: Client, asked: Asked, *, as_json: bool) -> None:
    """Ask and print. Standard input is read where nothing else was given."""
    if not asked.is_item and sys.stdin.isatty():
        raise click.UsageError(
            f"give --text, --file or --data, or lines on standard input; for tensors {TENSORS}"
        )
    skill = Skill(client.describe(asked.path, asked.skill))
    if asked.is_item:
        answer = client.ask(asked.path, asked.skill, skill.item(asked))
        content = answer.json()
        if as_json:
            click.echo(answer.content)
            return
        variant = f" ({content['variant']})" if content["variant"] else ""
        click.secho(
            f"{content['skill']}{variant} version {content['version']} answered in {answer.seconds * 1000:.1f} ms",
            dim=True,
        )
        for name, value in named(content["answer"]):
            click.echo(f"{click.style(name, bold=True)}  {readable(value)}")
        return
    failed = 0
    for each in lines_answered(client, asked, skill):
        failed += "error" in each and set(each) == {"error"}
        click.echo(json.dumps(each, ensure_ascii=False) if as_json else one_line(each))
    if failed:
        raise click.exceptions.Exit(1)


def lines_answered(client: Client, asked: Asked, skill: Skill) -> Iterator[Json]:
    """Each line's answer, or its error, in their order."""
    lines = (line.rstrip("\n") for line in sys.stdin)
    items = (skill.of_line(line) for line in lines if line.strip())
    while some := list(islice(items, TOGETHER)):
        yield from client.ask_each(asked.path, asked.skill, some)


def named(answer: Any) -> Iterable[tuple[str, Any]]:
    return answer.items() if isinstance(answer, dict) else [("answer", answer)]


def readable(value: Any) -> str:
    """An output in one line."""
    if isinstance(value, dict) and "label" in value:
        several = value.get("top")
        shown = several if several is not None else [value]
        return ", ".join(label_of(each) for each in shown) or "none"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def label_of(value: Json) -> str:
    score = "" if value["score"] is None else f" {value['score']:.3f}"
    return f"{value['label'] or 'none'}{score}"


def one_line(answer: Json) -> str:
    if set(answer) == {"error"} and isinstance(answer["error"], dict):
        return f"error: {answer['error']['message']}"
    outputs = list(named(answer))
    if len(outputs) == 1:
        return readable(outputs[0][1])
    return "  ".join(f"{name}: {readable(value)}" for name, value in outputs)
