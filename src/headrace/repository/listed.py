"""Models that a settings file lists by name and base path, for TensorFlow Serving's form and OpenVINO's alike."""

from dataclasses import dataclass, replace
from pathlib import Path

from headrace.model_config import ModelConfig
from headrace.repository import plain
from headrace.repository.settings_files import place
from headrace.repository.source import Source


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which versions of a model are served: the highest `latest`, or the `numbers`; all where both are unsaid."""

    latest: int | None = 1
    numbers: tuple[int, ...] = ()

    def of(self, folders: list[Path]) -> list[Path]:
        """The folders that are chosen, out of all versions with the lowest first."""
        if self.numbers:
            return [each for each in folders if int(each.name) in self.numbers]
        return folders if self.latest is None else folders[-self.latest :]


EVERY = Chosen(latest=None)


def listed_sources(
    settings: Path, name: str, base: str, chosen: Chosen, notes: tuple[str, ...]
) -> list[Source]:
    """The versions of a listed model.

    Args:
        settings: the file that lists it.
        name: what it is served as.
        base: its folder as it stands there.
        chosen: which of its versions.
        notes: what the file says of it that is not honoured.

    Raises:
        ConfigurationError: the base path is nowhere.
        OSError: it cannot be listed.
    """
    path, note = place(settings, base)
    config = ModelConfig(notes=(*notes, *([note] if note else [])))
    return [replace(each, name=name, config=config) for each in found(path, name, chosen)]


def found(path: Path, name: str, chosen: Chosen) -> list[Source]:
    if not path.is_dir():
        return [plain.file_source(path)]
    folders = plain.version_folders(path)
    if not folders:
        problem = f"{path} has no version folders: there should be folders like {path / '1' / 'model.onnx'}"
        return plain.folder_source(path) or [Source(name, "1", path, "", problem)]
    sources = [plain.version_source(name, each) for each in chosen.of(folders)]
    there = ", ".join(each.name for each in folders)
    return sources + [
        Source(name, str(number), path, "", f"version {number} is asked for, and {path} has {there}")
        for number in chosen.numbers
        if str(number) not in {each.name for each in folders}
    ]
