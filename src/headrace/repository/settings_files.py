"""Settings files that other servers read: their text, their JSON, and the places they name.

All problems are ConfigurationErrors that begin with FILE or FILE:LINE; find.py makes them the problem of the model.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from headrace.errors import ConfigurationError

LARGEST = 8 << 20
"""Bytes; whatever is longer is no settings file."""
REMOTE = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)


def read_text(file: Path) -> str:
    """The whole file.

    Raises:
        ConfigurationError: it is no file, too large, or not UTF-8.
        OSError: it cannot be read.
    """
    if not file.is_file():
        raise ConfigurationError(f"{file} is no file, or a link to nowhere")
    with file.open("rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ConfigurationError(f"{file} has more than {LARGEST >> 20} MiB: settings are shorter")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise ConfigurationError(f"{file}:{line}: this is not UTF-8 text") from exc


def parse_object(file: Path, text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as exc:
        raise ConfigurationError(f"{file}:{exc.lineno}: not JSON at column {exc.colno}: {exc.msg}") from exc
    except RecursionError as exc:
        raise ConfigurationError(f"{file}: JSON that deep is no settings file") from exc
    except ValueError as exc:  # a number of thousands of digits
        raise ConfigurationError(f"{file}: not JSON that is settings: {exc}") from exc
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file}:1: the settings should be a JSON object, as in {{...}}")
    return content


def line_of(file: Path, text: str, key: str) -> str:
    """FILE:LINE of a JSON key; FILE alone where the key is there more than once, or not at all."""
    places = list(re.finditer(rf'"{re.escape(key)}"\s*:', text))
    return f"{file}:{text.count(chr(10), 0, places[0].start()) + 1}" if len(places) == 1 else str(file)


def place(settings: Path, named: str) -> tuple[Path, str]:
    """Where a path that a settings file names lies, seen from that file, and a note if it was looked for.

    Settings written for a container name its mounts, like /models/resnet. If that is not there and something of the
    same last name lies beside the settings, that is what they mean.

    Raises:
        ConfigurationError: it is nowhere, or not on this machine at all.
    """
    if remote := REMOTE.fullmatch(named):
        if remote[1] != "file":
            raise ConfigurationError(
                f"{settings}: {named} is not on this machine: copy it here and name its folder"
            )
        named = remote[2]
    folder = settings.parent
    path = Path(os.path.normpath(folder / named))
    if path.exists():
        return path, ""
    beside = folder / path.name
    if Path(named).is_absolute() and path.name and beside.exists():
        return beside, f"{named} is not there: {beside} beside {settings.name} is served in its place"
    raise ConfigurationError(f"{settings}: {path} is not there")
