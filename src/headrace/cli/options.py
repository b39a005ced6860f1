"""Command-line options made from the settings, so that each is written down once."""

import ast
import inspect
import re
from collections.abc import Callable
from itertools import pairwise
from math import inf
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from headrace.config import Settings, Tenant
from headrace.errors import ConfigurationError

PAD = re.compile(r"([^:]+):(.+)=([-+]?[0-9]+(?:\.[0-9]*)?)")
WEIGHT = re.compile(r"(.+)=([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))")
Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

OPTIONS_APART: dict[str, Decorator] = {
    "pads": click.option(
        "--pad",
        multiple=True,
        metavar="MODEL:INPUT=VALUE",
        help="Lengths of this input may be padded with the value, so that requests of different lengths can share a "
        "run; used if a run at load confirms that answers stay the same. Repeat for each input.",
    ),
    "weights": click.option(
        "--weight",
        multiple=True,
        metavar="MODEL=NUMBER",
        help="The model's part of the device beside other models, in relation to theirs; 1 where nothing is said. "
        "Goes before what its skill.yaml says. Repeat for each model.",
    ),
    "tenants": click.option(
        "--tenants",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="YAML that gives tenants weights and API keys, as in acme: {weight: 3, keys: [...]}; whoever is not in "
        "it has weight 1.",
    ),
}
"""Settings that are more than one value: the option that each is made from."""


def settings_options(command: Command) -> Command:
    """Add an option for each field of Settings, its help from the text below the field."""
    return some_settings_options(*Settings.model_fields)(command)


def some_settings_options(*names: str) -> Decorator:
    """The same for some fields, where a command has no use for the others."""
    texts = field_texts()

    def decorate(command: Command) -> Command:
        for name, field in reversed(Settings.model_fields.items()):
            if name in names:
                option = OPTIONS_APART.get(name) or settings_option(name, field, texts[name])
                command = option(command)
        return command

    return decorate


def settings_option(name: str, field: FieldInfo, text: str) -> Decorator:
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not NoneType]
    kind: Any = click.Path(path_type=Path) if kinds[0] is Path else kinds[0]
    if get_origin(field.annotation) is Literal:
        kind = click.Choice(kinds)
    if get_origin(kind) is Annotated:
        kind = Words(name)
    flag = f"--{name.replace('_', '-')}"
    if kinds[0] is bool and field.default:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    return click.option(
        flag,
        default=field.default,
        show_default=field.default not in (None, frozenset()),
        help=text,
        multiple=get_origin(field.annotation) is frozenset,
        **({"is_flag": True} if kinds[0] is bool else {"type": kind}),
    )


class Words(click.ParamType[str]):
    """A value that its field reads from words; shown as the last word of the field's name."""

    def __init__(self, field: str) -> None:
        self.name = field.rpartition("_")[2]


def make_settings(options: dict[str, Any]) -> Settings:
    """The settings that the options of a command give, those of OPTIONS_APART among them.

    Raises:
        click.BadParameter: a value is outside what its field allows.
        click.ClickException: the file of tenants has mistakes.
    """
    plain = {name: value for name, value in options.items() if name not in {"pad", "weight", "tenants"}}
    pads, weights = parse_pads(options.get("pad", ())), parse_weights(options.get("weight", ()))
    tenants = parse_tenants(options.get("tenants"))
    try:
        return Settings(**plain, pads=pads, weights=weights, tenants=tenants)
    except ValidationError as exc:
        first = exc.errors()[0]
        flag = f"--{str(first['loc'][0]).replace('_', '-')}"
        said = first["msg"].removeprefix("Value error, ")
        raise click.BadParameter(f"{said}, not {first['input']}", param_hint=f"'{flag}'") from exc


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


def parse_weights(weights: tuple[str, ...]) -> dict[str, float]:
    """`MODEL=NUMBER` … → model → weight."""
    parsed: dict[str, float] = {}
    for each in weights:
        match = WEIGHT.fullmatch(each)
        if match is None or not 0 < float(match[2]) < inf:
            raise click.BadParameter(
                f"'{each}' is not MODEL=NUMBER with a number above 0, as in bert=2", param_hint="'--weight'"
            )
        if match[1] in parsed:
            raise click.BadParameter(f"model '{match[1]}' has two: keep one", param_hint="'--weight'")
        parsed[match[1]] = float(match[2])
    return parsed


def parse_tenants(file: Path | None) -> dict[str, Tenant]:
    """The tenants in a file; none without one."""
    from headrace.cli.tenants import read_tenants

    try:
        return {} if file is None else read_tenants(file)
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc
