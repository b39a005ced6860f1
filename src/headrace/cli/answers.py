"""An answer's tensors, printed for people or as the protocol's JSON."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from headrace.cli.client import Answer
from headrace.cli.values import from_wire, shown
from headrace.messages import Datatype


def print_readably(answer: Answer) -> None:
    content = answer.json()
    version = f" version {content['model_version']}" if content.get("model_version") else ""
    click.secho(f"{content['model_name']}{version} answered in {answer.seconds * 1000:.1f} ms", dim=True)
    width = shutil.get_terminal_size().columns
    for entry, array in arrays(answer, content):
        click.echo(
            f"{click.style(entry['name'], bold=True)}  {entry['datatype']}  {shown(tuple(entry['shape']))}"
        )
        texts = (
            np.vectorize(text_of, otypes=[object])(array) if array.dtype == object and array.size else array
        )
        click.echo(np.array2string(texts, max_line_width=width, precision=6))


def print_json(answer: Answer) -> None:
    """As it came, except that binary tensors are written as JSON, too."""
    if answer.header_length is None:
        click.echo(answer.content)
        return
    content = answer.json()
    for entry, array in arrays(answer, content):
        values = array.ravel().tolist()
        entry["data"] = [text_of(each) for each in values] if array.dtype == object else values
        entry.pop("parameters", None)
    click.echo(json.dumps(content))


def arrays(answer: Answer, content: Any) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Each output's entry in the JSON, and its elements."""
    at = answer.header_length or 0
    for entry in content["outputs"]:
        size = entry.get("parameters", {}).get("binary_data_size")
        datatype, shape = Datatype(entry["datatype"]), tuple(entry["shape"])
        if size is None:
            kind = object if datatype is Datatype.BYTES else None
            yield entry, np.array(entry["data"], kind).reshape(shape)
            continue
        try:
            yield entry, from_wire(answer.content[at : at + size], datatype, shape)
        except ValueError as exc:
            raise click.ClickException(f"output '{entry['name']}' cannot be read: {exc}") from exc
        at += size


def text_of(element: bytes | str) -> str:
    return element if isinstance(element, str) else element.decode(errors="backslashreplace")
