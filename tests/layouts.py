"""Repositories written as dictionaries: path → text, bytes, JSON, a link to somewhere, or an empty file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.repository.find import find_sources


@dataclass(frozen=True)
class Link:
    """A symbolic link, as it is written on disk."""

    to: str


def lay_out(root: Path, files: dict[str, Any]) -> Path:
    """Make the files below a folder, a folder where a name ends in a slash; None is an empty file."""
    for name, content in files.items():
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            continue
        if isinstance(content, Link):
            path.symlink_to(content.to)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(
                "" if content is None else content if isinstance(content, str) else json.dumps(content)
            )
    return root


def seen(*paths: Path, model_name: str | None = None) -> dict[str, str]:
    """NAME/VERSION → what is served as seen from the first path, or REFUSED and why."""
    return {
        f"{each.name}/{each.version}": f"REFUSED {each.problem}"
        if each.problem
        else str(each.path.relative_to(paths[0]))
        for each in find_sources(paths, model_name)
    }


def assert_seen(found: dict[str, str], expected: dict[str, str]) -> None:
    """The same models, and each refusal has the expected words."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if value.startswith("REFUSED "):
            assert found[key].startswith("REFUSED "), found[key]
            assert value.removeprefix("REFUSED ") in found[key]
        else:
            assert found[key] == value
