"""What can be served from the given paths: walks them, sees whose layout each folder has, and has its reader read it.

Reads names and settings, opens no model. What is wrong with one model is the `problem` of its source: it is refused by
name, and everything beside it is served. Layouts, in the order in which a folder is held against them:

1. skill.yaml: a skill (skill.py)
2. config.pbtxt: a model of Triton's (triton.py)
3. model-settings.json: a model of MLServer's, looked for at any depth (mlserver.py)
4. config.json or models.config that lists models: OpenVINO Model Server, TensorFlow Serving (ovms.py, tfserving.py)
5. version folders, or a model file (plain.py)
6. none of these: a repository, whose folders are looked at in the same way
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from headrace.backends.registry import BACKENDS
from headrace.config import Settings
from headrace.errors import ConfigurationError
from headrace.repository import mlserver, ovms, plain, skill, tfserving, triton
from headrace.repository.source import Source

MODEL_LEVELS = 2
"""A model's folder may lie so far below a given path: a repository, or a folder of repositories."""
SETTINGS_LEVELS = 6
"""MLServer's settings may lie so far below it; deeper trees are something else given by mistake."""
MOST_LISTED = 20
"""Names of models in a sentence."""

READERS: dict[str, tuple[str, Callable[[Path], list[Source]]]] = {
    "skill.yaml": ("skill", skill.read),
    triton.CONFIG: ("Triton", triton.read),
}
"""File that tells a model's folder → layout, and who reads the folder."""
READERS_OF_GIVEN = {triton.CONFIG: triton.read_given}
"""Those that read a folder otherwise if it was given itself."""
LISTS = (
    (ovms.CONFIG, "OpenVINO Model Server", ovms.is_config, ovms.read),
    (tfserving.CONFIG, "TensorFlow Serving", tfserving.is_config, tfserving.read),
)
"""File that lists models, layout, whether it really does, and who reads it."""

BY_NAME = attrgetter("name")
LIST_SUFFIXES = {Path(name).suffix for name, *_ in LISTS}

Above = tuple[tuple[int, int], ...]
"""Device and inode of each folder from the given one down: a link back to one of them would never end."""


def find_sources(
    paths: Iterable[Path], model_name: str | None = None, *, may_be_empty: bool = False
) -> list[Source]:
    """All versions under the paths; a name that comes from two places can be served from neither.

    Args:
        paths: files and folders of any layout.
        model_name: what the only model there is to be called; None for its own name.
        may_be_empty: no models at all are no error.

    Raises:
        ConfigurationError: a path is not there, nothing under the paths looks like a model, or one name is given to
            several.
    """
    paths = list(paths)
    if missing := [path for path in paths if not os.path.exists(path)]:  # noqa: PTH110 - Path's own raises
        are = "is" if len(missing) == 1 else "are"
        raise ConfigurationError(
            f"{', '.join(map(str, missing))} {are} not there: give a model file or a folder of models"
        )
    found: dict[str, dict[Path, list[Source]]] = {}
    for path in paths:
        for place, sources in Walk().look(Path(os.path.abspath(path))):  # noqa: PTH100 - symlinks are names
            for name, versions in groupby(sorted(sources, key=BY_NAME), BY_NAME):
                found.setdefault(name, {}).setdefault(place, list(versions))
    if not found:
        if may_be_empty:
            return []
        looked = ", ".join(map(str, paths))
        suffixes = ", ".join(suffix for suffix, _ in BACKENDS.values() if suffix == ".onnx")
        raise ConfigurationError(
            f"no models in {looked}: there should be {suffixes} files, or folders like NAME/1/model.onnx"
        )
    return renamed([source for name in sorted(found) for source in merged(name, found[name])], model_name)


def refuse_unknown(settings: Settings, known: set[str]) -> None:
    """Settings that name models hold for those alone, so a name that none has is a slip.

    Raises:
        ConfigurationError: there is one, with the names there are.
    """
    for what, names in (
        ("padding is declared", settings.pads),
        ("a weight is given", settings.weights),
        ("--pin is given", settings.pin),
        ("--preload is given", settings.preload),
    ):
        if unknown := sorted(set(names) - known):
            raise ConfigurationError(f"{what} for {', '.join(unknown)}, and the models are {listed(known)}")


def listed(names: Iterable[str]) -> str:
    """For people, who do not read hundreds."""
    first = sorted(names)
    more = len(first) - MOST_LISTED
    return ", ".join(first[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def merged(name: str, places: dict[Path, list[Source]]) -> list[Source]:
    """One model's versions, if it is one."""
    sources = next(iter(places.values()))
    problem = ""
    if len(places) > 1:
        where = " and ".join(map(str, places))
        problem = f"model '{name}' appears in two or more repositories: {where}; rename one"
    elif "/" in name:
        problem = f"'{name}' cannot be asked for: a name is a part of a URL and has no slash"
    if not problem:
        return sources
    first = sources[0]
    return [replace(first, name=name, problem=problem)]


def renamed(sources: list[Source], model_name: str | None) -> list[Source]:
    """With the name that was asked for; a skill's variants go with it."""
    if model_name is None:
        return sources
    names = sorted({source.name for source in sources})
    if "/" in model_name:
        raise ConfigurationError(f"--model-name {model_name}: a name is a part of a URL and has no slash")
    if any(each != names[0] and not each.startswith(f"{names[0]}.") for each in names):
        raise ConfigurationError(
            f"--model-name {model_name} is for one model, and there are {len(names)}: {', '.join(names)}; "
            "leave it out, or give the path of one"
        )
    return [replace(each, name=model_name + each.name.removeprefix(names[0])) for each in sources]


class Walk:
    """A look at one given path."""

    def __init__(self) -> None:
        # The mutable state: models found so far with where they lie, and MLServer's settings, read at the end since
        # several files may describe one model.
        self._found: list[tuple[Path, list[Source]]] = []
        self._settings: list[Path] = []

    def look(self, path: Path) -> list[tuple[Path, list[Source]]]:
        """Where each model lies, and its versions."""
        with self._refusing(path):
            if path.is_dir():
                self._folder(path, ())
            else:
                self._file(path)
        described = mlserver.read(self._settings)
        taken = {source.path for _, sources in described for source in sources}
        # A folder of weights that settings elsewhere point to is not a model of its own as well.
        self._found = [each for each in self._found if each[1][0].path not in taken]
        for place, sources in described:
            self._add(place, "MLServer", sources)
        return self._found

    def _file(self, path: Path) -> None:
        """A file that was given itself: settings or a model."""
        if path.name in READERS:
            self._folder(path.parent, ())
        elif path.name == mlserver.SETTINGS:
            self._settings.append(path)
        elif path.suffix not in LIST_SUFFIXES or not self._is_list(path):
            self._add(path, "file", [plain.file_source(path)])

    def _folder(self, folder: Path, above: Above, *, is_described: bool = False) -> None:
        """A folder of any kind. `is_described`: settings above say what it is, so only more settings count in it."""
        with self._refusing(folder):
            status = folder.stat()
            if (status.st_dev, status.st_ino) in above:
                raise ConfigurationError(
                    f"{folder} is a link back to a folder that holds it: remove the link"
                )
            above = (*above, (status.st_dev, status.st_ino))
            children = plain.visible(folder)
            names = {child.name for child in children}
            if mlserver.SETTINGS in names:
                self._settings.append(folder / mlserver.SETTINGS)
                is_described = True
            is_settings_only = is_described or len(above) > MODEL_LEVELS + 1
            if is_settings_only or not self._is_model(folder, names, is_given=len(above) == 1):
                self._repository(folder, children, above, is_described=is_settings_only)

    def _is_model(self, folder: Path, names: set[str], *, is_given: bool) -> bool:
        for name, (layout, read) in READERS.items():
            if name in names:
                self._add(folder, layout, (READERS_OF_GIVEN.get(name, read) if is_given else read)(folder))
                return True
        if any(name in names and self._is_list(folder / name) for name, *_ in LISTS):
            return True
        if versions := plain.versions(folder):
            self._add(folder, "version folders", versions)
            return True
        # A given folder may hold any number of model files; below it, a folder with files is one model's.
        if not is_given and (sources := plain.folder_source(folder)):
            self._add(folder, "folder", sources)
            return True
        return False

    def _is_list(self, file: Path) -> bool:
        for name, layout, is_config, read in LISTS:
            if Path(name).suffix == file.suffix and is_config(file):
                for sources in read(file):
                    self._add(sources[0].path, layout, sources, origin=file / sources[0].name)
                return True
        return False

    def _repository(self, folder: Path, children: list[Path], above: Above, *, is_described: bool) -> None:
        """What lies in a folder that is no model itself, or that settings describe."""
        is_given = len(above) == 1
        if not is_given and not is_described and (refused := misnamed(folder, children)):
            self._add(folder, "version folders", refused)
            return
        for child in children:
            if child.is_dir():
                if len(above) <= SETTINGS_LEVELS:
                    self._folder(child, above, is_described=is_described)
            elif not is_described:
                self._child_file(child, is_given=is_given)

    def _child_file(self, child: Path, *, is_given: bool) -> None:
        if is_given and plain.is_model(child):
            self._add(child, "file", [plain.file_source(child)])
        elif child.is_symlink() and not child.suffix and not child.exists():
            problem = f"{child} is a link to {child.readlink()}, which is not there"
            self._add(child, "", [Source(child.name, "1", child, "", problem)])

    def _add(self, place: Path, layout: str, sources: list[Source], origin: Path | None = None) -> None:
        if sources:
            whence = place if origin is None else origin
            named = [replace(as_text(each), layout=each.layout or layout, origin=whence) for each in sources]
            self._found.append((place, named))

    @contextmanager
    def _refusing(self, path: Path) -> Iterator[None]:
        """What cannot be read costs the model it would have been, and nothing beside it."""
        try:
            yield
        except ConfigurationError as exc:
            problem = str(exc)
        except (OSError, ValueError) as exc:  # a name that no file can have is no OSError
            problem = plain.unreadable(path, exc)
        else:
            return
        self._add(path, "", [Source(path.name, "1", path, "", problem)])


def as_text(source: Source) -> Source:
    """A source whose name, path and problem can be written down; file systems take bytes that are no text."""
    name, path, problem = map(printable, (source.name, str(source.path), source.problem))
    if not problem and (name != source.name or path != str(source.path)):
        problem = f"{path} is to be served as '{name}': names have to be UTF-8 text, so rename it"
    return replace(source, name=name, problem=problem)


def printable(text: str) -> str:
    """With escapes where it is no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def misnamed(folder: Path, children: list[Path]) -> list[Source]:
    """What is refused where version folders are called v1; MLServer's may be called so, its settings give the number."""
    if any((child / mlserver.SETTINGS).exists() for child in children):
        return []
    return plain.misnamed_versions(folder)
