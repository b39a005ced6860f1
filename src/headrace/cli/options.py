"""Command-line options made from the settings, so that each is written down once."""

import ast
import inspect
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from headrace.config import Settings

HIDDEN = frozenset({"pads", "tenants", "weights", "refuse_with"})
PAD = re.compile(r"([^:]+):(.+)=([-+]?[0-9]+(?:\.[0-9]*)?)")
Command = Callable[..., Any]


def settings_options(command: Command) -> Command:
    """Add an option for each field of Settings, its help from the text below the field."""
    return some_settings_options(*Settings.model_fields)(command)


def some_settings_options(*names: str) -> Callable[[Command], Command]:
    """The same for some fields, where a command has no use for the others."""
    texts = field_texts()

    def decorate(command: Command) -> Command:
        for name, field in reversed(Settings.model_fields.items()):
            if name in names and name not in HIDDEN:
                command = settings_option(name, field, texts[name])(command)
        return command

    return decorate


def settings_option(name: str, field: FieldInfo, text: str) -> Callable[[Command], Command]:
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not NoneType]
    kind = click.Path(path_type=Path) if kinds[0] is Path else kinds[0]
    flag = f"--{name.replace('_', '-')}"
    if kinds[0] is bool and field.default:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    return click.option(
        flag,
        default=field.default,
        show_default=field.default is not None,
        help=text,
        **({"is_flag": True} if kinds[0] is bool else {"type": kind}),
    )


def make_settings(options: dict[str, Any], pads: tuple[str, ...]) -> Settings:
    """The settings that the options give.

    Raises:
        click.BadParameter: a value is outside what its field allows.
    """
    try:
        return Settings(**options, pads=parse_pads(pads))
    except ValidationError as exc:
        first = exc.errors()[0]
        flag = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise click.BadParameter(f"{first['msg']}, not {first['input']}", param_hint=f"'{flag}'") from exc


def field_texts() -> dict[str, str]:
    """Field → the string that stands below it in config.py."""
    tree = ast.parse(inspect.getsource(Settings))
    body = tree.body[0].body  # type: ignore[attr-defined]
    texts = {}
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                texts[name] = " ".join(words.split())
            case _:
                pass
    return texts


def parse_pads(pads: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """`MODEL:INPUT=VALUE` … → model → input → value."""
    parsed: dict[str, dict[str, float]] = {}
    for each in pads:
        match = PAD.fullmatch(each)
        if match is None:
            raise click.BadParameter(f"'{each}' is not MODEL:INPUT=VALUE, as in bert:input_ids=0")
        model, name, number = match[1], match[2], float(match[3])
        parsed.setdefault(model, {})[name] = number
    return parsed
