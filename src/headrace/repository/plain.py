"""Files and version folders: the layout that needs no settings. Reads names only, opens nothing.

NAME.onnx, NAME/model.onnx, NAME/1/model.onnx: other layouts lay their settings beside the same folders, so their readers
use what is here to find the files.
"""

import errno
import os
import re
import stat
from difflib import get_close_matches
from pathlib import Path

from headrace.backends.registry import backend_for
from headrace.repository.source import Source

FOREIGN = {
    ".pb": "TensorFlow",
    ".savedmodel": "TensorFlow",
    ".graphdef": "TensorFlow",
    ".tflite": "TensorFlow Lite",
    ".pt": "PyTorch",
    ".pt2": "PyTorch",
    ".pth": "PyTorch",
    ".plan": "TensorRT",
    ".xml": "OpenVINO",
    ".pdmodel": "PaddlePaddle",
    ".joblib": "scikit-learn",
    ".bst": "XGBoost",
    ".cbm": "CatBoost",
}
SAVED_MODEL = "saved_model.pb"
MOST_NAMED = 5
"""Files that a problem lists; more would hide the sentence."""
NEARLY_A_VERSION = re.compile(r"[vV]?[0-9]+([._-][0-9]+)*")


def file_source(path: Path) -> Source:
    """A model that is one file, version 1 of its stem."""
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


def folder_source(folder: Path) -> list[Source]:
    """A folder without version folders: its only model as version 1. Empty if it holds none at all."""
    name = folder.stem if backend_for(folder) else folder.name
    if (file := only_model(folder)) is not None:
        return [Source(name, "1", file, backend_for(file) or "")]
    if files := [each.name for each in visible(folder) if is_model(each)]:
        problem = f"{folder} has {', '.join(files[:MOST_NAMED])}: call the one to serve model{Path(files[0]).suffix}"
        return [Source(name, "1", folder, "", problem)]
    if SAVED_MODEL in {each.name for each in visible(folder)}:
        return [Source(name, "1", folder, "", f"no model.onnx in {folder}: {instead(folder)}")]
    return []


def versions(folder: Path, name: str = "") -> list[Source]:
    """The numbered folders of a model, lowest first; empty if it has none.

    Args:
        folder: the model's.
        name: what it is served as; the folder's own if empty.
    """
    return [version_source(name or folder.name, each) for each in version_folders(folder)]


def version_folders(folder: Path) -> list[Path]:
    """Folders whose names are whole numbers; with a leading zero they are no versions."""
    numbered = [
        child
        for child in folder.iterdir()
        if child.name.isascii() and child.name.isdigit() and child.name[0] != "0" and child.is_dir()
    ]
    return sorted(numbered, key=lambda each: int(each.name))


def version_source(name: str, folder: Path) -> Source:
    """One version; a folder that cannot be listed costs only itself."""
    try:
        if (file := only_model(folder)) is not None:
            return Source(name, folder.name, file, backend_for(file) or "")
        problem = f"no model.onnx in {folder}: {instead(folder)}"
    except OSError as exc:
        problem = unreadable(folder, exc)
    return Source(name, folder.name, folder, "", problem)


def misnamed_versions(folder: Path) -> list[Source]:
    """What is refused where a model's version folders are called v1, 01 or 1.0; empty where that is not so."""
    names = [
        child.name
        for child in visible(folder)
        if NEARLY_A_VERSION.fullmatch(child.name) and child.is_dir() and only_model(child) is not None
    ]
    if not names:
        return []
    problem = (
        f"{folder} has {', '.join(names[:MOST_NAMED])}, and a version's folder is called by a whole number from 1 on: "
        "rename them 1, 2, ..."
    )
    return [Source(folder.name, "1", folder, "", problem)]


def only_model(folder: Path) -> Path | None:
    """The model of a folder: a file called model.*, else the only file a backend opens."""
    files = [child for child in visible(folder) if is_model(child)]
    named = [child for child in files if child.stem == "model"]
    # What made model.onnx may lie beside it as model.py.
    chosen = [child for child in named if child.suffix != ".py"] or named or files
    if len(chosen) != 1:
        return None
    # Triton lets a model with external data be a folder called model.onnx with the file inside.
    return chosen[0] / "model.onnx" if chosen[0].is_dir() else chosen[0]


def is_model(path: Path) -> bool:
    """Whether a backend opens it, going by its name; of Python's files only model.py, since any folder may have others."""
    return backend_for(path) is not None and (path.suffix != ".py" or path.name == "model.py")


def instead(folder: Path) -> str:
    """What a folder without a model has in its place, and what to do if that is known."""
    names = [child.name for child in visible(folder)]
    if not names:
        return "it is empty"
    seen = f"it has {', '.join(names[:MOST_NAMED])}"
    if SAVED_MODEL in names:
        return (
            f"{seen}, a TensorFlow SavedModel: convert it with "
            f"'python -m tf2onnx.convert --saved-model {folder} --output {folder / 'model.onnx'}'"
        )
    kinds = sorted({FOREIGN[suffix] for name in names if (suffix := Path(name).suffix) in FOREIGN})
    return f"{seen}; convert the {' or '.join(kinds)} model to ONNX" if kinds else seen


def visible(folder: Path) -> list[Path]:
    """What is in a folder, in order of names. Hidden names are skipped: Kubernetes mounts its own behind `..data`.

    Raises:
        OSError: the folder cannot be listed.
    """
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def read_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """As the path's own, but of files only: nobody need ever write to a pipe, and a device has no end.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path.read_text(encoding, errors)


def unreadable(path: Path, exc: OSError | ValueError) -> str:
    """The problem of what the file system would not show."""
    if isinstance(exc, OSError):
        return f"{exc.filename or path} cannot be read: {exc.strerror or exc}"
    return f"{path} cannot be read: {exc}"


def not_there(file: Path) -> str:
    """A file that is missing, and perhaps the one that was meant; or what lies there is none."""
    folder = file.parent.name or file.parent
    if os.path.lexists(file):
        return f"{file.name} in {folder} is no file, or a link to none"
    names = [each.name for each in file.parent.iterdir()] if file.parent.is_dir() else []
    close = get_close_matches(file.name, names, 1)
    perhaps = f"; did you mean {close[0]}?" if close else ""
    return f"there is no {file.name} in {folder}{perhaps}"
