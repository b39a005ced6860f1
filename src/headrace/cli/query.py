"""What was asked for on the command line, and the request body it becomes."""

import json
from typing import Any, NamedTuple
from urllib.parse import quote

import click
import numpy as np

from headrace.cli.values import Tensor, read_value, to_bytes
from headrace.messages import Datatype

NO_JSON = frozenset({Datatype.FP16, Datatype.BF16})
"""Datatypes that travel as bytes only."""

Json = dict[str, Any]


class Query(NamedTuple):
    """A model, and the options that say what it is asked."""

    model: str
    version: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_binary: bool

    @property
    def path(self) -> str:
        version = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        return f"/v2/models/{quote(self.model, safe='')}{version}"


class Metadata(NamedTuple):
    """What the server says of a model. `is_batched`: the first axis of all its tensors is known to be the batch."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    is_batched: bool


class Body(NamedTuple):
    """header_length is set where binary tensors follow the JSON."""

    content: bytes
    header_length: int | None


def encode(query: Query, metadata: Metadata) -> Body:
    """The request's body.

    Raises:
        click.UsageError: what was typed is not what the model takes.
    """
    wanted = [chosen(metadata.outputs, name, query.model, "output") for name in query.outputs]
    entries, tail = [], []
    for name, array in read_inputs(query, metadata).items():
        datatype = metadata.inputs[name].datatype
        entry: Json = {"name": name, "shape": list(array.shape), "datatype": datatype.value}
        if query.is_binary or datatype in NO_JSON:
            tail.append(to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = json_data(name, array)
        entries.append(entry)
    outputs = [
        {"name": each.name, "parameters": {"binary_data": query.is_binary or each.datatype in NO_JSON}}
        for each in wanted or metadata.outputs.values()
    ]
    header = json.dumps({"inputs": entries, "outputs": outputs}, separators=(",", ":")).encode()
    return Body(b"".join([header, *tail]), len(header) if tail else None)


def read_inputs(query: Query, metadata: Metadata) -> dict[str, np.ndarray]:
    """The arrays of all inputs, each by its name."""
    arrays = {}
    for given in query.inputs:
        name, separator, text = given.partition("=")
        if not separator:
            raise click.BadParameter(f"'{given}' is not NAME=VALUE, as in x=[[1,2]]", param_hint="'--input'")
        tensor = chosen(metadata.inputs, name, query.model, "input")
        try:
            arrays[name] = read_value(text, tensor, is_batched=metadata.is_batched)
        except ValueError as exc:
            raise click.BadParameter(f"{name}: {exc}", param_hint="'--input'") from exc
    if missing := [str(each) for name, each in metadata.inputs.items() if name not in arrays]:
        raise click.UsageError(f"model '{query.model}' also takes: {', '.join(missing)}")
    return arrays


def chosen(there: dict[str, Tensor], name: str, model: str, kind: str) -> Tensor:
    if name not in there:
        has = ", ".join(map(str, there.values()))
        raise click.BadParameter(
            f"model '{model}' has no {kind} '{name}'; it has: {has}", param_hint=f"'--{kind}'"
        )
    return there[name]


def json_data(name: str, array: np.ndarray) -> list[Any]:
    values: list[Any] = array.ravel().tolist()
    if array.dtype != object:
        return values
    try:
        return [each.decode() for each in values]
    except UnicodeDecodeError as exc:
        raise click.UsageError(f"input '{name}' is not UTF-8 text: send it with --binary") from exc


def split_body(content: bytes) -> Body:
    """A whole body as somebody has it in a file: finds where its JSON ends, if binary tensors follow it."""
    try:
        # A byte is a character of Latin-1, so positions are the same.
        _, end = json.JSONDecoder().raw_decode(content.decode("latin-1"))
    except ValueError:
        return Body(content, None)  # the server says what is wrong with it
    return Body(content, end if content[end:].strip() else None)
