"""The file of --tenants: who shares the device, with what weight and by which API keys.

No sentence repeats what stands where a key should.

acme: {weight: 3, keys: ["sha256:2bb8…", "a key as it is"]}
nightly: {weight: 0.2}
"""

import math
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any

from headrace.config import TENANT_NAME, Tenant, hidden_key
from headrace.errors import ConfigurationError
from headrace.repository.settings_files import read_text
from headrace.repository.yaml_tree import Mistake, Path, Tree, read_tree

FIELDS = tuple(Tenant.model_fields)
Owners = dict[str, Path]
"""Digest of a key → where it stands."""


def read_tenants(file: FilePath) -> dict[str, Tenant]:
    """The tenants in the file, their keys as digests.

    Raises:
        ConfigurationError: all that is wrong with it, a line each that begins with FILE:LINE.
    """
    try:
        tree = read_tree(read_text(file))
    except OSError as exc:
        raise ConfigurationError(f"{file} cannot be read: {exc.strerror}") from exc
    data = {} if tree.data is None else tree.data
    mistakes = list(tree.mistakes)
    owners: Owners = {}
    if isinstance(data, dict):
        for name, said in data.items():
            mistakes += [
                Mistake(tree.line(path), path, text)
                for path, text in (*wrong_tenant(name, said), *wrong_keys(tree, name, said, owners))
            ]
    else:
        mistakes.append(Mistake(1, (), "this should map tenants to what they get, as in acme: {weight: 2}"))
    if mistakes:
        ordered = sorted(mistakes, key=lambda each: each.line)
        raise ConfigurationError("\n".join(each.shown(str(file)) for each in ordered))
    return {
        name: Tenant(**{**(said or {}), "keys": tuple((said or {}).get("keys", ()))})
        for name, said in data.items()
    }


def wrong_tenant(name: str, said: Any) -> Iterator[tuple[Path, str]]:
    """All that is wrong with a tenant but its keys; one of which nothing is said is like any other."""
    if not re.fullmatch(TENANT_NAME, name):
        yield (name,), "a tenant's name is 1 to 64 printable ASCII characters"
    if said is None:
        return
    if not isinstance(said, dict):
        yield (name,), "should say its weight, its keys or both, as in {weight: 2}"
        return
    for key in said:
        if key not in FIELDS:
            close = get_close_matches(key, FIELDS, 1)
            perhaps = f"did you mean {close[0]}?" if close else f"there are {' and '.join(FIELDS)}"
            yield (name, key), f"unknown key; {perhaps}"
    weight = said.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        yield (name, "weight"), "should be a number above 0, as in weight: 2"
    elif not 0 < weight < math.inf:
        yield (name, "weight"), f"should be a number above 0, and is {weight:g}"


def wrong_keys(tree: Tree, name: str, said: Any, owners: Owners) -> Iterator[tuple[Path, str]]:
    """What is wrong with a tenant's keys; those that are right are entered into `owners`."""
    keys = said.get("keys", []) if isinstance(said, dict) else []
    if not isinstance(keys, list):
        yield (name, "keys"), 'should be a list, as in keys: ["sha256:…"]'
        return
    for at, key in enumerate(keys):
        path: Path = (name, "keys", at)
        if not isinstance(key, str):
            yield path, "should be text: put it in quotes"
            continue
        try:
            digest = hidden_key(key)
        except ValueError as exc:
            yield path, str(exc)
            continue
        first = owners.setdefault(digest, path)
        if first != path:
            yield path, f"is the same key as in line {tree.line(first)}, of {first[0]}: keep one"
