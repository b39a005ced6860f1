"""MLServer's repositories: a model-settings.json beside each model or version, at any depth.

Two files of one name are two versions of one model. What only MLServer's own runtimes can run is refused by name.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from headrace.errors import ConfigurationError
from headrace.messages import Datatype
from headrace.model_config import DeclaredTensor, ModelConfig
from headrace.repository import plain
from headrace.repository.settings_files import line_of, parse_object, place, read_text
from headrace.repository.source import Source

SETTINGS = "model-settings.json"
RUNS_ONNX = ("onnx", "headrace")
"""An implementation whose name has one of these runs what we run."""
RUNTIMES = {
    "mlserver_sklearn": "export the model with skl2onnx",
    "mlserver_xgboost": "export the model with onnxmltools",
    "mlserver_lightgbm": "export the model with onnxmltools",
    "mlserver_catboost": "export the model with its save_model(..., format='onnx')",
    "mlserver_huggingface": "export the model with optimum's onnx exporter",
    "mlserver_mlflow": "log the model as ONNX and take its model.onnx",
}
LONGEST_SHOWN = 80
TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "implementation": (str,),
    "parameters": (dict,),
    "inputs": (list,),
    "outputs": (list,),
    "max_batch_size": (int,),
    "max_batch_time": (int, float),
}
PARAMETER_TYPES: dict[str, tuple[type, ...]] = {"uri": (str,), "version": (int, str), "extra": (dict,)}
JSON_TYPES = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}
NOTED = {
    "platform": "metadata tell the backend's own",
    "versions": "metadata tell the versions that are there",
    "max_batch_time": "nothing waits for a batch to fill",
    "parallel_workers": "instances are measured; --instances fixes them",
    "warm_workers": "models always run once before they are ready",
    "cache_enabled": "answers are not cached",
}
PARAMETERS_NOTED = {
    "format": "the file's suffix says what it is",
    "content_type": "datatypes say what callers send",
    "environment_path": "the runtime is the server's own",
    "environment_tarball": "the runtime is the server's own",
    "inference_pool_gid": "each version has a process of its own",
    "autogenerate_inference_pool_gid": "each version has a process of its own",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """One file: what it holds, and where in it a key stands."""

    file: Path
    text: str
    content: dict[str, Any]

    def at(self, key: str) -> str:
        return line_of(self.file, self.text, key)

    @property
    def parameters(self) -> dict[str, Any]:
        return self.content.get("parameters") or {}


def read(files: Iterable[Path]) -> list[tuple[Path, list[Source]]]:
    """The models that settings files describe: where the first of its files lies, and its versions, lowest first."""
    models: dict[str, list[tuple[Path, Source]]] = {}
    for file in files:
        for source in model(file):
            models.setdefault(source.name, []).append((file.parent, source))
    return [
        (places[0][0], numbered([source for _, source in places], [place for place, _ in places]))
        for places in models.values()
    ]


def numbered(sources: list[Source], places: list[Path]) -> list[Source]:
    """Versions by number; names like v0.1.0, which have no place in the protocol's URLs, are counted in their order."""
    numbers = [each.version for each in sources]
    if all(each.isdecimal() for each in numbers):
        if len(set(numbers)) == len(numbers):
            return sorted(sources, key=lambda each: int(each.version))
        where = " and ".join(map(str, places))
        problem = f"two settings files describe version {numbers[0]} of '{sources[0].name}': {where}"
        return [replace(sources[0], problem=f"{problem}; give them different parameters.version")]
    ordered = sorted(sources, key=lambda each: natural(each.version))
    return [
        replace(
            each,
            version=str(at),
            config=noted(
                each.config, f"version '{each.version}' is no whole number: it is served as version {at}"
            ),
        )
        for at, each in enumerate(ordered, 1)
    ]


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """v0.10 comes after v0.9."""
    parts = "".join(char if char.isdecimal() else f"\0{char}\0" for char in text).split("\0")
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in parts if part)


def noted(config: ModelConfig, note: str) -> ModelConfig:
    return structs.replace(config, notes=(*config.notes, note))


def model(file: Path) -> list[Source]:
    """What one file describes; a mistake in it is its model's problem."""
    name, version = file.parent.name, "1"
    try:
        settings = parse(file)
        name = settings.content.get("name") or name
        version = version_of(settings)
        check_implementation(settings)
        path, note = file.parent, ""
        if uri := settings.parameters.get("uri"):
            path, note = place(file, uri)
        config = configured(settings, note)
        return [replace(each, name=name, config=config) for each in sources(path, version)]
    except ConfigurationError as exc:
        problem = str(exc)
    except OSError as exc:
        problem = plain.unreadable(file, exc)
    return [Source(name, version, file, "", problem)]


def sources(path: Path, version: str) -> list[Source]:
    """The artifact that the settings are about, or what is wrong with it."""
    if not path.is_dir():
        return [replace(plain.file_source(path), version=version)]
    if found := plain.folder_source(path):
        return [replace(each, version=version) for each in found]
    problem = f"no model.onnx in {path}: {plain.instead(path)}; parameters.uri can name the file"
    return plain.versions(path) or [Source(path.name, version, path, "", problem)]


def parse(file: Path) -> Settings:
    """The file with the types of what is used checked."""
    text = read_text(file)
    settings = Settings(file, text, parse_object(file, text))
    check_types(settings, settings.content, TYPES, "")
    check_types(settings, settings.parameters, PARAMETER_TYPES, "parameters.")
    return settings


def check_types(
    settings: Settings, content: dict[str, Any], expected: dict[str, tuple[type, ...]], where: str
) -> None:
    for key, types in expected.items():
        value = content.get(key)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            raise ConfigurationError(
                f"{settings.at(key)}: {where}{key} is {shown(value)}; it should be {JSON_TYPES[types[-1]]}"
            )


def version_of(settings: Settings) -> str:
    version = settings.parameters.get("version")
    if version is None or version == "":
        return "1"
    if len(str(version)) > LONGEST_SHOWN:
        raise ConfigurationError(
            f"{settings.at('version')}: parameters.version is {shown(version)}: that is too long"
        )
    if str(version).isascii() and str(version).isdigit():
        return str(int(version))
    return str(version)


def check_implementation(settings: Settings) -> None:
    named = settings.content.get("implementation")
    if not named or any(each in named.lower() for each in RUNS_ONNX):
        return
    advice = RUNTIMES.get(
        named.partition(".")[0], "export the model to ONNX, or write it as a skill with a python backend"
    )
    raise ConfigurationError(
        f"{settings.at('implementation')}: implementation {named} is not run here: {advice}, and leave implementation out"
    )


def configured(settings: Settings, note: str) -> ModelConfig:
    content = settings.content
    batch = content.get("max_batch_size")
    if batch is not None and batch < 0:
        raise ConfigurationError(
            f"{settings.at('max_batch_size')}: max_batch_size is {batch}; 0 is no batching"
        )
    # MLServer batches only from 2 on: 0 and 1 both say that requests are not to share a run.
    batch = 0 if batch == 1 else batch
    notes = [note] if note else []
    inputs, outputs = (
        tuple(
            tensor(settings, key, each, is_batched=bool(batch), notes=notes)
            for each in content.get(key) or ()
        )
        for key in ("inputs", "outputs")
    )
    extra = settings.parameters.get("extra") or {}
    return ModelConfig(
        max_batch_size=batch,
        inputs=inputs,
        outputs=outputs,
        parameters={
            key: value if isinstance(value, str) else json.dumps(value) for key, value in extra.items()
        },
        notes=(*notes, *not_honoured(content, NOTED, TYPES), *parameters_not_honoured(settings.parameters)),
    )


def tensor(
    settings: Settings, key: str, described: Any, *, is_batched: bool, notes: list[str]
) -> DeclaredTensor:
    """A described input or output; its shape counts where it begins with -1, since only then it says where rows are."""
    match described:
        case {"name": str(name), "datatype": str(datatype), "shape": [*shape]} if datatype in set(Datatype):
            if not all(type(size) is int and size >= -1 for size in shape):
                raise ConfigurationError(
                    f"{settings.at(key)}: the shape of '{name}' is {shape}; it should be whole numbers, "
                    "with -1 for any size"
                )
            if others := sorted(described.keys() - {"name", "datatype", "shape"}):
                notes.append(f"{', '.join(others)} of '{name}' is not used")
            if shape[:1] != [-1]:
                notes.append(
                    f"the shape of '{name}', {shape}, does not begin with -1 for the rows: the model's is used"
                )
                return DeclaredTensor(name, Datatype(datatype))
            return DeclaredTensor(name, Datatype(datatype), tuple(shape[1:] if is_batched else shape))
        case _:
            raise ConfigurationError(
                f"{settings.at(key)}: {key} has {shown(described)}; each should be like "
                '{"name": "x", "datatype": "FP32", "shape": [-1, 4]}, with a datatype of '
                + ", ".join(Datatype)
            )


def not_honoured(content: dict[str, Any], noted: dict[str, str], used: Iterable[str]) -> Iterator[str]:
    for key, value in content.items():
        if key in noted:
            yield f"{key} {shown(value)} is not used: {noted[key]}"
        elif key not in used:
            yield f"{key} is not known here and not used"


def parameters_not_honoured(parameters: dict[str, Any]) -> Iterator[str]:
    for note in not_honoured(parameters, PARAMETERS_NOTED, PARAMETER_TYPES):
        yield f"parameters.{note}"


def shown(value: Any) -> str:
    """JSON, cut where it would hide the sentence it stands in."""
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
