"""Triton's repositories: NAME/config.pbtxt beside version folders, and whatever files it names.

What Triton would load is loaded and what it would refuse is refused, each model by itself; what is honoured of a
configuration, and what is not, is one table: triton_fields.py. A folder without a config.pbtxt is no different from any
other folder of versions (plain.py): what a configuration would say is then read from the model.
"""

import re
from pathlib import Path

from msgspec.structs import replace

from headrace.errors import LoadFailed
from headrace.model_config import ModelConfig
from headrace.repository import model_config_proto as proto
from headrace.repository import plain, triton_config, triton_rules
from headrace.repository.model_config_proto import Message
from headrace.repository.source import Source

CONFIG = "config.pbtxt"
CUSTOM_CONFIGS = "configs"
BACKENDS = {"onnxruntime": ("onnxruntime_onnx", "model.onnx"), "python": ("", "model.py")}
"""Triton's backends that are ours as well → platform and file of a model."""
TRITON_MODEL = re.compile(r"^class\s+TritonPythonModel\b", re.MULTILINE)
MOST_SHOWN = 5


def read(folder: Path, *, is_given: bool = False, config_json: str | None = None) -> list[Source]:
    """The versions of the model in a folder that are to be served; one with a problem if none can be.

    Args:
        folder: the model's.
        is_given: it was named by the operator, and not found in a repository: its own name then counts for nothing.
        config_json: the configuration to use in place of config.pbtxt, in protobuf's JSON.
    """
    name = folder.name
    try:
        message = parse(folder, config_json)
        if is_given and message.name:
            name = message.name
        return sources(folder, name, message)
    except LoadFailed as exc:
        reason = str(exc)
    except OSError as exc:
        reason = plain.unreadable(folder, exc)
    return [Source(name, newest(folder), folder, "", f"failed to load '{name}', {reason}")]


def newest(folder: Path) -> str:
    """The version that callers would have got of a model that is refused as a whole."""
    try:
        versions = plain.version_folders(folder)
    except OSError:
        return "1"
    return versions[-1].name if versions else "1"


def read_given(folder: Path) -> list[Source]:
    """The same for a folder that was given itself: wherever it was mounted, its model has the name that it says."""
    return read(folder, is_given=True)


def parse(folder: Path, config_json: str | None) -> Message:
    if config_json is not None:
        try:
            return proto.parse_json(config_json)
        except LoadFailed as exc:
            raise LoadFailed(f"the configuration given for it is none: {exc}") from exc
    path = folder / CONFIG
    try:
        return proto.parse_text(plain.read_text(path))
    except UnicodeDecodeError as exc:
        raise LoadFailed(f"{path} is not UTF-8 at byte {exc.start}: it has to be text") from exc
    except LoadFailed as exc:
        raise LoadFailed(f"{path}, {exc}") from exc


def sources(folder: Path, name: str, message: Message) -> list[Source]:
    if message.name not in {"", name}:
        raise LoadFailed(
            f"unexpected directory name '{name}' for model '{message.name}', directory name must equal model name"
        )
    versions = plain.version_folders(folder)
    complete(message, name, versions)
    triton_rules.check(message, name)
    if message.backend not in BACKENDS and versions:
        raise LoadFailed(unknown_backend(message, name, versions))
    if message.backend == "onnxruntime" and message.platform != BACKENDS["onnxruntime"][0]:
        raise LoadFailed(
            f"unexpected 'platform' and 'backend' pair, got:{message.platform}, {message.backend}: leave platform out"
        )
    chosen, missing = chosen_versions(message.version_policy, versions)
    if not chosen:
        raise LoadFailed(
            f"at least one version must be available under the version policy of model '{name}': "
            f"{folder} has {listed(versions) or 'no version folder'}"
        )
    config = triton_config.to_config(message, folder)
    config = replace(config, notes=(*config.notes, *missing, *unread_configs(folder)))
    return [version_source(name, each, message, config) for each in chosen]


def complete(message: Message, name: str, versions: list[Path]) -> None:
    """Fill in what Triton fills in: what a configuration that is given back would show."""
    message.name = name
    if not message.backend:
        message.backend = guessed_backend(message, versions)
    if message.backend in BACKENDS:
        platform, file = BACKENDS[message.backend]
        message.platform = message.platform or platform
        message.default_model_filename = message.default_model_filename or file
    if message.version_policy.WhichOneof("policy_choice") is None:
        message.version_policy.latest.num_versions = 1
    for at, group in enumerate(message.instance_group):
        group.name = group.name or f"{name}_{at}"
        if not group.kind:
            group.kind = group.Kind.Value("KIND_CPU")


def guessed_backend(message: Message, versions: list[Path]) -> str:
    """By the platform, else by the file it names, else by the file that is there."""
    if message.platform:
        return next((each for each, (platform, _) in BACKENDS.items() if platform == message.platform), "")
    for backend, (_, file) in BACKENDS.items():
        named = message.default_model_filename
        if named == file or (not named and versions and (versions[0] / file).exists()):
            return backend
    return ""


def unknown_backend(message: Message, name: str, versions: list[Path]) -> str:
    """Why a model has no backend here."""
    if message.backend or message.platform:
        what = f"backend '{message.backend}'" if message.backend else f"platform '{message.platform}'"
        return f"{what} is not one of {', '.join(BACKENDS)}: convert the model to ONNX"
    found = f"; {versions[0]}: {plain.instead(versions[0])}" if versions else ""
    return f"unexpected platform type '' for {name}: it must specify 'platform' or 'backend'{found}"


def chosen_versions(policy: Message, versions: list[Path]) -> tuple[list[Path], list[str]]:
    """The version folders a policy chooses, and notes of those it asks for in vain."""
    match policy.WhichOneof("policy_choice"):
        case "specific":
            wanted = {str(each) for each in policy.specific.versions}
            missing = sorted(wanted - {each.name for each in versions})
            notes = [f"version {each} is asked for and has no folder" for each in missing]
            return [each for each in versions if each.name in wanted], notes
        case "latest":
            return versions[len(versions) - min(len(versions), policy.latest.num_versions) :], []
    return versions, []


def version_source(name: str, folder: Path, message: Message, config: ModelConfig) -> Source:
    try:
        path = triton_config.inside(folder, message.default_model_filename, "default_model_filename")
        return Source(name, folder.name, model_file(path), message.backend, config=config)
    except LoadFailed as exc:
        reason = str(exc)
    except OSError as exc:
        reason = plain.unreadable(folder, exc)
    problem = f"failed to load '{name}' version {folder.name}, {reason}"
    return Source(name, folder.name, folder, message.backend, problem, config)


def model_file(path: Path) -> Path:
    """The file to open, once it is sure to be there.

    Raises:
        LoadFailed: it is not, or is written for what only Triton has.
    """
    if path.is_dir():
        # A model with external data may be a folder, with the file inside.
        path /= "model.onnx"
    if not path.exists():
        raise LoadFailed(f"unable to find '{path}': {plain.instead(path.parent)}")
    if path.suffix == ".py" and TRITON_MODEL.search(plain.read_text(path, errors="replace")):
        raise LoadFailed(
            f"{path} is written for Triton's own Python backend (class TritonPythonModel), which is not spoken here: "
            "write its execute as infer of a class Model, which takes and returns arrays"
        )
    return path


def unread_configs(folder: Path) -> list[str]:
    """Triton can be told to use another configuration by its name; the one beside the versions is used here."""
    custom = folder / CUSTOM_CONFIGS
    if not custom.is_dir():
        return []
    files = [each for each in plain.visible(custom) if each.suffix == ".pbtxt"]
    return [f"{listed(files)} in {CUSTOM_CONFIGS}/ is not read: {CONFIG} is"] if files else []


def listed(paths: list[Path]) -> str:
    return ", ".join(each.name for each in paths[:MOST_SHOWN])
