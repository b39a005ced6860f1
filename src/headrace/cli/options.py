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

from headrace.config import Settings

HIDDEN = frozenset({"pads"})
PAD = re.compile(r"([^.]+)\.(.+)=([-+]?[0-9]+(?:\.[0-9]*)?)")
Command = Callable[..., Any]


def settings_options(command: Command) -> Command:
    """Add an option for each field of Settings, its help from the text below the field."""
    texts = field_texts()
    for name, field in reversed(Settings.model_fields.items()):
        if name in HIDDEN:
            continue
        kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not NoneType]
        flag = f"--{name.replace('_', '-')}"
        kind = click.Path(path_type=Path) if kinds[0] is Path else kinds[0]
        option = click.option(
            flag,
            default=field.default,
            show_default=field.default is not None,
            help=texts[name],
            **({"is_flag": True} if kinds[0] is bool else {"type": kind}),
        )
        command = option(command)
    return command


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
    """`MODEL.INPUT=VALUE` … → model → input → value."""
    parsed: dict[str, dict[str, float]] = {}
    for each in pads:
        match = PAD.fullmatch(each)
        if match is None:
            raise click.BadParameter(f"'{each}' is not MODEL.INPUT=VALUE, as in bert.input_ids=0")
        model, name, number = match[1], match[2], float(match[3])
        parsed.setdefault(model, {})[name] = number
    return parsed
