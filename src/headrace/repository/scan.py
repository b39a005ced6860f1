"""What lies under the paths now, and the stamps that show when it is something else.

Reading every configuration again is work, so first only names and stamps are looked at; while they are as before, so is
everything else. Blocking: whoever has a loop calls this aside.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from headrace.backends.registry import backend_for
from headrace.errors import HeadraceError
from headrace.execution.stamps import Stamp, changed, stamp_of
from headrace.model_config import NOTHING_SAID
from headrace.repository.find import find_sources, printable
from headrace.repository.source import Source

Key = tuple[str, str]
"""Model and version."""

DEEPEST = 6
"""Folders below a path that are looked at; no layout lays its models deeper."""
MOST_STAMPS = 200
"""Files a version is held against; they travel to its worker in one message."""
SETTINGS = frozenset({"config.pbtxt", "skill.yaml", "model-settings.json"})
"""Files whose meaning is in a source's configuration, so that a comment in them reloads nothing."""
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """A source, and its files as they were when it was found. Equal to another if nothing that matters changed.

    Attributes:
        private: the folder that was made for it alone, to be removed with it; None if its files are somebody's.
    """

    source: Source
    stamps: tuple[Stamp, ...] = ()
    private: Path | None = None

    @property
    def key(self) -> Key:
        return self.source.name, self.source.version


@dataclass(frozen=True, slots=True)
class Scan:
    """One look at all paths.

    Attributes:
        found: what could be served.
        missing: paths that are not there; what was found under them before is still in `found`.
        problem: why the paths could not be read; `found` is then what it was before.
        tree: everything that was seen there.
    """

    found: dict[Key, Found] = field(default_factory=dict)
    missing: tuple[Path, ...] = ()
    problem: str = ""
    tree: tuple[Stamp, ...] = ()


def scan(paths: Sequence[Path], model_name: str | None, before: Scan | None = None) -> Scan:
    """Look again. What cannot be read is said in the result, never raised."""
    missing = tuple(path for path in paths if not os.path.exists(path))  # noqa: PTH110 - Path's own raises
    present = [path for path in paths if path not in missing]
    known = before.found if before is not None else {}
    try:
        tree = tuple(tree_of(present))
        if before is not None and is_same(before, missing, tree):
            return before
        sources = find_sources(present, model_name, may_be_empty=True) if present else []
    except (HeadraceError, OSError) as exc:
        return Scan(known, missing, str(exc))
    apart = static_answers(sources)
    found = {each.key: each for each in (found_of(source, apart) for source in sources)}
    kept = known if missing else hidden(known, found)
    return Scan(kept | found, missing, "", tree)


def hidden(known: Mapping[Key, Found], found: Mapping[Key, Found]) -> dict[Key, Found]:
    """What is still there, and not found only because what says how to serve it cannot be read now, or contradicts itself.

    A mistake in the settings of several versions or models is told by one source with a problem, in the place of all.
    """
    problems = [each.source for each in found.values() if each.source.problem]
    return {
        key: each
        for key, each in known.items()
        if key not in found
        and any(map(partial(hides, each.source), problems))
        and not is_gone(each.source.path)
    }


def hides(source: Source, problem: Source) -> bool:
    """Whether the source may have been one of those in whose place the problem is told."""
    lies_in = {source.origin, *source.origin.parents, *source.path.parents}
    return problem.name == source.name or (not source.problem and problem.origin in lies_in)


def is_gone(path: Path) -> bool:
    """Surely so, and not only out of reach."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_same(before: Scan, missing: tuple[Path, ...], tree: tuple[Stamp, ...]) -> bool:
    """Whether nothing has changed, neither under the paths nor where models have files elsewhere."""
    if before.problem or before.missing != missing or before.tree != tree:
        return False
    seen = {each.path for each in tree}
    others = (stamp for each in before.found.values() for stamp in each.stamps if stamp.path not in seen)
    return changed(others) is None


def found_of(source: Source, apart: frozenset[str] = NONE) -> Found:
    return Found(source, tuple(map(stamp_of, files_of(source, apart))))


def static_answers(sources: Iterable[Source]) -> frozenset[str]:
    """Files that are read again while they are served: a change of one reloads nothing, whoever's folder it lies in."""
    return frozenset(step.static for each in sources for step in each.config.fallback.chain if step.static)


def files_of(source: Source, apart: frozenset[str] = NONE) -> list[str]:
    """What a version is made of, its model first: with it, what lies beside it for it, and what its settings name.

    Files that are `apart` are no part of it, unless its settings name them for something else than its fallback.
    """
    if source.problem:
        return []
    model = source.path
    files = {os.fspath(model): None}
    files |= dict.fromkeys(each for each in map(os.fspath, beside(source)) if each not in apart)
    config = replace(source.config, fallback=NOTHING_SAID.fallback)
    for name in sorted(set(paths_in(msgspec.to_builtins(config)))):
        path = Path(name)
        files[name] = None
        if path.suffix == ".py" and path.parent.is_dir():  # what it imports lies there too
            files |= dict.fromkeys(os.fspath(each) for each in sorted(path.parent.glob("*.py")))
    return list(files)[:MOST_STAMPS]


def beside(source: Source) -> Iterator[Path]:
    """External data has any name, so all files of a folder that is the version's own count; else those named alike.

    What is no text is no name that a model or its settings could give.
    """
    model = source.path
    folder = model if model.is_dir() else model.parent
    if not folder.is_dir():
        return
    is_own = folder.name in {source.version, source.name, model.name}
    for each in sorted(folder.iterdir()):
        is_text = printable(each.name) == each.name
        is_other = not is_text or each.name in SETTINGS or each.name.startswith(".") or each.suffix == ".md"
        is_its = is_own or each.name.startswith((f"{model.name}.", f"{model.name}_", f"{model.stem}."))
        if is_its and not is_other and each != model and backend_for(each) is None and each.is_file():
            yield each


def paths_in(content: Any) -> Iterator[str]:
    """Names of files anywhere in a configuration: they are absolute there."""
    if isinstance(content, str):
        if content.startswith("/") and is_file(Path(content)):
            yield content
    elif isinstance(content, dict):
        for each in content.values():
            yield from paths_in(each)
    elif isinstance(content, list | tuple):
        for each in content:
            yield from paths_in(each)


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def tree_of(paths: Iterable[Path]) -> Iterator[Stamp]:
    """Every file under the paths, and every folder by its name; hidden ones belong to somebody else."""
    for path in paths:
        if path.is_dir():
            yield from folder_tree(os.fspath(path), 0)
        else:
            yield stamp_of(path)


def folder_tree(folder: str, depth: int) -> Iterator[Stamp]:
    with os.scandir(folder) as entries:
        names = sorted((each.name, is_folder(each)) for each in entries)
    for name, is_deeper in names:
        if name.startswith("."):
            continue
        path = f"{folder}/{name}"
        if not is_deeper:
            yield stamp_of(path)
            continue
        yield Stamp(path)
        if depth < DEEPEST:
            yield from unless_gone(path, depth + 1)


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """A link that never ends leads to none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def unless_gone(folder: str, depth: int) -> list[Stamp]:
    """A folder may go while it is looked at, or not be ours to read: then it has nothing."""
    try:
        return list(folder_tree(folder, depth))
    except OSError:
        return []
