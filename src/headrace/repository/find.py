"""What can be served from a path: files, folders of models, folders of versions. Reads names only, opens nothing."""

import os
from collections.abc import Iterable
from pathlib import Path

from headrace.backends.registry import BACKENDS, backend_for
from headrace.errors import ConfigurationError
from headrace.repository.source import Source

FOREIGN = {".pb": "TensorFlow", ".pt": "PyTorch", ".pt2": "PyTorch", ".plan": "TensorRT", ".xml": "OpenVINO"}


def find_sources(paths: Iterable[Path]) -> list[Source]:
    """All versions under the paths; a name that comes from two places can be served from neither.

    Raises:
        ConfigurationError: a path is not there, or nothing under the paths looks like a model.
    """
    found: dict[str, list[tuple[Path, list[Source]]]] = {}
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path} is not there: give a model file or a folder of models")
        for place, sources in models_in(Path(os.path.abspath(path))):  # noqa: PTH100 - symlinks are names
            places = found.setdefault(sources[0].name, [])
            if place not in [each for each, _ in places]:
                places.append((place, sources))
    if not found:
        looked = ", ".join(map(str, paths))
        suffixes = ", ".join(suffix for suffix, _ in BACKENDS.values() if suffix == ".onnx")
        raise ConfigurationError(
            f"no models in {looked}: there should be {suffixes} files, or folders like NAME/1/model.onnx"
        )
    return [source for name in sorted(found) for source in merged(name, found[name])]


def merged(name: str, places: list[tuple[Path, list[Source]]]) -> list[Source]:
    if len(places) == 1:
        return places[0][1]
    where = " and ".join(str(place) for place, _ in places)
    problem = f"model '{name}' appears in two or more repositories: {where}; rename one"
    first = places[0][1][0]
    return [Source(name, first.version, first.path, first.backend, problem)]


def models_in(path: Path) -> list[tuple[Path, list[Source]]]:
    """Where each model lies, and its versions."""
    if not path.is_dir():
        return [(path, [file_source(path)])]
    if versions := version_folders(path):
        return [(path, versions)]
    models: list[tuple[Path, list[Source]]] = []
    for child in sorted(path.iterdir()):
        if not child.is_dir() and backend_for(child):  # a link to nowhere too: loading it says so
            models.append((child, [file_source(child)]))
        elif child.is_dir() and not child.name.startswith("."):
            if versions := version_folders(child):
                models.append((child, versions))
            elif (file := only_model(child)) is not None:
                models.append((child, [Source(child.name, "1", file, backend_for(file) or "")]))
            elif files := [each.name for each in sorted(child.iterdir()) if backend_for(each)]:
                problem = (
                    f"{child} has {', '.join(files)}: call the one to serve model{Path(files[0]).suffix}"
                )
                models.append((child, [Source(child.name, "1", child, "", problem)]))
    return models


def file_source(path: Path) -> Source:
    backend = backend_for(path)
    if path.exists() and not path.is_file():
        return Source(path.stem, "1", path, "", f"{path} is neither a file nor a folder")
    if backend is None:
        kind = FOREIGN.get(path.suffix)
        problem = (
            f"{path.name} is a {kind} model: convert it to ONNX" if kind else f"{path.name} is no .onnx file"
        )
        return Source(path.stem, "1", path, "", problem)
    return Source(path.stem, "1", path, backend)


def version_folders(path: Path) -> list[Source]:
    """The numbered folders of a model, lowest first; numbers with a leading zero are no versions."""
    numbered = [
        child
        for child in path.iterdir()
        if child.is_dir() and child.name.isascii() and child.name.isdigit() and child.name[0] != "0"
    ]
    return [version_source(path.name, child) for child in sorted(numbered, key=lambda each: int(each.name))]


def version_source(name: str, folder: Path) -> Source:
    file = only_model(folder)
    if file is not None:
        return Source(name, folder.name, file, backend_for(file) or "")
    others = sorted(child.name for child in folder.iterdir())
    seen = f"it has {', '.join(others[:5])}" if others else "it is empty"
    return Source(name, folder.name, folder, "", f"no model.onnx in {folder}: {seen}")


def only_model(folder: Path) -> Path | None:
    """The model of a folder: a file called model.*, else the only file a backend opens."""
    files = [
        child for child in sorted(folder.iterdir()) if backend_for(child) and not child.name.startswith(".")
    ]
    named = [child for child in files if child.stem == "model"]
    chosen = named or files
    if len(chosen) != 1:
        return None
    # Triton lets a model with external data be a folder called model.onnx with the file inside.
    return chosen[0] / "model.onnx" if chosen[0].is_dir() else chosen[0]
