"""OpenVINO Model Server's config.json: models by name and base path, and which versions.

Whatever tunes OpenVINO itself is noted and not honoured; what changes the model's meaning for callers is refused.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from headrace.errors import ConfigurationError
from headrace.repository.listed import EVERY, Chosen, listed_sources
from headrace.repository.settings_files import line_of, parse_object, read_text
from headrace.repository.source import Source

CONFIG = "config.json"
MAPPING = "mapping_config.json"
MODELS = "model_config_list"
REFUSED = {
    "pipeline_config_list": "a pipeline of models, which is not served for now; its models are",
    "mediapipe_config_list": "a MediaPipe graph, which is not served; the ONNX models in it are if they are listed",
}
NOTED = {
    "batch_size": "which rows share a run is found out",
    "shape": "the model's own shapes are served",
    "layout": "the model's own axes are served",
    "precision": "the model's own datatypes are served",
    "mean": "callers send what the model takes",
    "scale": "callers send what the model takes",
    "color_format": "callers send what the model takes",
    "nireq": "how many instances are worth it is measured; --instances fixes it",
    "plugin_config": "threads and instances are measured; --threads and --instances fix them",
    "target_device": "it runs on the CPU",
    "allow_cache": "OpenVINO's cache is not used",
    "custom_loader_options": "models are files here",
    "idle_sequence_cleanup": "there are no sequences",
    "max_sequence_number": "there are no sequences",
    "low_latency_transformation": "there are no sequences",
}


def is_config(file: Path) -> bool:
    """Whether it lists models: other programs call their files config.json too."""
    if not file.is_file():
        return False
    text = read_text(file)
    return any(f'"{key}"' in text for key in (MODELS, *REFUSED))


def read(file: Path) -> list[list[Source]]:
    """The versions of each listed model; a mistake in one costs only that one.

    Raises:
        ConfigurationError: the file as a whole is none of these settings.
        OSError: it cannot be read.
    """
    text = read_text(file)
    content = parse_object(file, text)
    models = []
    for at, item in enumerate(entries(file, text, content, MODELS)):
        settings = item.get("config")
        if not isinstance(settings, dict):
            raise ConfigurationError(
                f"{line_of(file, text, MODELS)}: entry {at + 1} of {MODELS} should be "
                '{"config": {"name": ..., "base_path": ...}}'
            )
        models.append(model(file, text, settings, at))
    for key, what in REFUSED.items():
        for item in entries(file, text, content, key):
            name = str(item.get("name", "")) or key
            models.append([Source(name, "1", file, "", f"{line_of(file, text, key)}: '{name}' is {what}")])
    return models


def entries(file: Path, text: str, content: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    listed = content.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ConfigurationError(f"{line_of(file, text, key)}: {key} should be a list of objects")
    yield from listed


def model(file: Path, text: str, settings: dict[str, Any], at: int) -> list[Source]:
    name, base = settings.get("name"), settings.get("base_path")
    shown = name if isinstance(name, str) and name else f"{file.parent.name}.{at + 1}"
    try:
        if not isinstance(name, str) or not name or not isinstance(base, str) or not base:
            raise ConfigurationError(
                f"{line_of(file, text, MODELS)}: entry {at + 1} of {MODELS} needs texts for name and base_path"
            )
        if settings.get("stateful") is True:
            raise ConfigurationError(
                f"{line_of(file, text, 'stateful')}: '{name}' keeps a state between requests (stateful), "
                "which is not served for now"
            )
        chosen = chosen_versions(line_of(file, text, "model_version_policy"), settings)
        sources = listed_sources(file, name, base, chosen, tuple(notes(settings)))
        return [with_own_names(each) for each in sources]
    except ConfigurationError as exc:
        return [Source(shown, "1", file, "", str(exc))]
    except OSError as exc:
        return [Source(shown, "1", file, "", f"{exc.filename} cannot be read: {exc.strerror}")]


def with_own_names(source: Source) -> Source:
    """A version beside which a file renames inputs and outputs: it is said that they keep their names."""
    if not (source.path.parent / MAPPING).exists():
        return source
    note = f"{MAPPING} is not used: callers name inputs and outputs as the model does"
    return replace(source, config=structs.replace(source.config, notes=(*source.config.notes, note)))


def chosen_versions(where: str, settings: dict[str, Any]) -> Chosen:
    """As OpenVINO Model Server has it: the latest one unless it says otherwise."""
    match settings.get("model_version_policy"):
        case None:
            return Chosen()
        case {"all": _}:
            return EVERY
        case {"latest": {"num_versions": int(count)}} if count > 0:
            return Chosen(latest=count)
        case {"specific": {"versions": [*numbers]}} if numbers and all(is_version(each) for each in numbers):
            return Chosen(numbers=tuple(sorted(set(numbers))))
        case other:
            raise ConfigurationError(
                f"{where}: model_version_policy is {other}; it should be "
                '{"latest": {"num_versions": 1}}, {"specific": {"versions": [1, 2]}} or {"all": {}}'
            )


def is_version(number: object) -> bool:
    return type(number) is int and number > 0


def notes(settings: dict[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if key in NOTED:
            yield f"{key} {value} is not used: {NOTED[key]}"
        elif key not in {"name", "base_path", "model_version_policy", "stateful"}:
            yield f"{key} is not known here and not used"
