"""What a load request sends in place of what lies on disk: a configuration, or that and the files too.

Files come with a configuration always, and never with code: they are weights and labels, in a folder made for them alone.
"""

import base64
import binascii
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.errors import InvalidRequest, LoadFailed
from headrace.repository import triton
from headrace.repository.plain import visible
from headrace.repository.scan import Found, found_of
from headrace.repository.source import Source

FILE = "file:"
PLACE = re.compile(r"([1-9][0-9]*)/([^/\\\0]+(?:/[^/\\\0]+)?)")
"""Version and file; the file may lie in one folder more, as a model with external data does."""
VERSION = re.compile(r"[1-9][0-9]*")
CODE = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".pkl", ".pickle", ".joblib", ".sh"})
CODE_BACKENDS = frozenset({"python", "transform"})


@dataclass(frozen=True, slots=True)
class Override:
    """What is to be loaded instead.

    Attributes:
        config: a model configuration in protobuf's JSON.
        files: place below the model's folder → content.
    """

    config: str
    files: Mapping[str, bytes]


def read_override(parameters: Mapping[str, object]) -> Override | None:
    """What a load request's parameters say; None if they say nothing.

    Raises:
        InvalidRequest: they cannot be honoured.
    """
    config = parameters.get("config")
    files = {name.removeprefix(FILE): each for name, each in parameters.items() if name.startswith(FILE)}
    if unknown := sorted(set(parameters) - {"config"} - {FILE + name for name in files}):
        raise InvalidRequest(
            f"unknown parameter '{unknown[0]}': there are config, and file:<version>/<name> beside it"
        )
    if config is None:
        if files:
            raise InvalidRequest(
                "files are loaded with a configuration only: send it as the parameter 'config'"
            )
        return None
    if not isinstance(config, str):
        raise InvalidRequest("parameter 'config' has to be a string that holds the configuration's JSON")
    return Override(config, {name: content(name, each) for name, each in files.items()})


def content(name: str, encoded: object) -> bytes:
    match = PLACE.fullmatch(name)
    if match is None or any(part.startswith(".") for part in name.split("/")):
        raise InvalidRequest(f"'{FILE}{name}' is no place for a file: it has to be {FILE}<version>/<name>")
    if any(suffix.lower() in CODE for suffix in Path(name).suffixes):
        raise InvalidRequest(f"'{FILE}{name}' is code, which is loaded from the server's own disk only")
    if not isinstance(encoded, str):
        raise InvalidRequest(f"'{FILE}{name}' has to be a string of base64")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest(f"'{FILE}{name}' is no base64: {exc}") from exc


def overridden(name: str, on_disk: list[Found], override: Override) -> list[Found]:
    """The versions to load. Blocking: writes files.

    Args:
        name: of the model.
        on_disk: its versions there, which are what the configuration is for where no files come with it.
        override: what was sent.

    Raises:
        InvalidRequest: it would run code.
        LoadFailed: there is nothing to configure, or no model for the configuration.
    """
    if not override.files and not on_disk:
        raise LoadFailed(f"failed to load '{name}', failed to poll from model repository")
    private = Path(tempfile.mkdtemp(prefix="headrace-model-"))
    try:
        folder = private / name
        if override.files:
            for place, data in override.files.items():
                path = folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        else:
            for each in on_disk:
                link(each.source, folder / each.source.version)
                link_named(each.source.origin, folder)
        sources = triton.read(folder, config_json=override.config)
        if any(each.backend in CODE_BACKENDS for each in sources):
            raise InvalidRequest(
                f"failed to load '{name}', its configuration names a backend that runs code: "
                "that is configured on the server's own disk only"
            )
        if problem := next((each.problem for each in sources if each.problem), ""):
            raise LoadFailed(problem)
        return [replace(found_of(each), private=private) for each in sources]
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise


def link_named(origin: Path, folder: Path) -> None:
    """Let what a configuration names in the model's folder, labels and samples, be there too."""
    for each in visible(origin) if origin.is_dir() else []:
        if not (folder / each.name).is_symlink() and not VERSION.fullmatch(each.name):
            (folder / each.name).symlink_to(each)


def link(source: Source, version: Path) -> None:
    """Let a version of the private folder be the one on disk."""
    version.parent.mkdir(parents=True, exist_ok=True)
    model = source.path
    if model.parent.name == source.version:
        version.symlink_to(model.parent, target_is_directory=True)
        return
    version.mkdir()
    for each in model.parent.iterdir() if model.parent.is_dir() else []:
        if each == model:
            (version / f"model{model.suffix}").symlink_to(each)
        elif each.name.startswith(f"{model.name}."):
            (version / each.name).symlink_to(each)
