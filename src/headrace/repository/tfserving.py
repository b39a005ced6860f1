"""TensorFlow Serving's models.config: protobuf text that lists models by name and base path, and which versions.

The messages are built here, in a pool of their own, with the fields that text may have: whoever imports TensorFlow's
own in the same process is not in the way.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from headrace.errors import ConfigurationError
from headrace.repository import plain
from headrace.repository.listed import EVERY, Chosen, listed_sources
from headrace.repository.settings_files import read_text
from headrace.repository.source import Source

CONFIG = "models.config"
LISTS = re.compile(r"^\s*(model_config_list|custom_model_config)\b", re.MULTILINE)
CUSTOM = re.compile(r"^\s*custom_model_config\b", re.MULTILINE)
PACKAGE = "headrace.tfserving"
Field = descriptor_pb2.FieldDescriptorProto

MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Server": {"model_config_list": (1, "Models")},
    "Models": {"config": (1, "Model*")},
    "Model": {
        "name": (1, "string"),
        "base_path": (2, "string"),
        "model_type": (3, "int32"),
        "model_platform": (4, "string"),
        "logging_config": (6, "Logging"),
        "model_version_policy": (7, "Policy"),
        "version_labels": (8, "Label*"),
        "logging_configs": (10, "Logging*"),
    },
    "Policy": {"latest": (100, "Latest"), "all": (101, "All"), "specific": (102, "Specific")},
    "Latest": {"num_versions": (1, "uint32")},
    "All": {},
    "Specific": {"versions": (1, "int64*")},
    "Label": {"key": (1, "string"), "value": (2, "int64")},
    "Logging": {
        "log_collector_config": (1, "Collector"),
        "sampling_config": (2, "Sampling"),
        "signature_name": (3, "string*"),
    },
    "Collector": {"type": (1, "string"), "filename_prefix": (2, "string")},
    "Sampling": {"sampling_rate": (1, "double")},
}
"""Message → field → number and type, `*` where it is repeated."""
SCALARS = {
    "double": Field.TYPE_DOUBLE,
    "string": Field.TYPE_STRING,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
}
NOTED = {
    "model_platform": "the file's kind says what runs it",
    "model_type": "the file's kind says what runs it",
    "version_labels": "a request names a version by its number",
    "logging_config": "requests are not logged",
    "logging_configs": "requests are not logged",
}


def is_config(file: Path) -> bool:
    """Whether it lists models."""
    return file.is_file() and LISTS.search(read_text(file)) is not None


def read(file: Path) -> list[list[Source]]:
    """The versions of each listed model; a mistake in one costs only that one.

    Raises:
        ConfigurationError: the file as a whole is none of these settings.
        OSError: it cannot be read.
    """
    text = read_text(file)
    if CUSTOM.search(text):
        raise ConfigurationError(
            f"{file}: custom_model_config is a plug-in of TensorFlow Serving: list the models in a model_config_list"
        )
    listed = parse(file, text).model_config_list.config
    return [model(file, each, at) for at, each in enumerate(listed)]


def model(file: Path, settings: Any, at: int) -> list[Source]:
    try:
        if not settings.name or not settings.base_path:
            raise ConfigurationError(f"{file}: config {at + 1} needs a name and a base_path")
        chosen = chosen_versions(file, settings)
        return listed_sources(file, settings.name, settings.base_path, chosen, tuple(notes(settings)))
    except ConfigurationError as exc:
        problem = str(exc)
    except OSError as exc:
        problem = plain.unreadable(file, exc)
    return [Source(settings.name or f"{file.parent.name}.{at + 1}", "1", file, "", problem)]


def chosen_versions(file: Path, settings: Any) -> Chosen:
    """As TensorFlow Serving has it: the latest one unless it says otherwise."""
    policy = settings.model_version_policy
    if policy.HasField("all"):
        return EVERY
    if policy.HasField("specific"):
        numbers = tuple(sorted(set(policy.specific.versions)))
        if not numbers or numbers[0] < 1:
            raise ConfigurationError(
                f"{file}: '{settings.name}' asks for specific versions and names none above 0: "
                "specific { versions: 1 }"
            )
        return Chosen(numbers=numbers)
    return Chosen(latest=policy.latest.num_versions or 1)


def notes(settings: Any) -> Iterator[str]:
    for field, value in settings.ListFields():
        if field.name in NOTED:
            shown = f" {value}" if isinstance(value, str) else ""
            yield f"{field.name}{shown} is not used: {NOTED[field.name]}"


def parse(file: Path, text: str) -> Any:
    """The settings as a message.

    Raises:
        ConfigurationError: it is no such text; with the line.
    """
    try:
        return text_format.Parse(text, server_message()())
    except text_format.ParseError as exc:
        line = exc.GetLine()
        said = re.sub(r"^\d+:\d+ : ", "", str(exc)).replace(f"{PACKAGE}.", "")
        raise ConfigurationError(f"{file}{f':{line}' if line else ''}: {said}") from exc


@cache
def server_message() -> type[Any]:
    """The message class of the whole file."""
    proto = descriptor_pb2.FileDescriptorProto(name="models_config.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = proto.message_type.add(name=name)
        for each, (number, kind) in fields.items():
            add_field(message, each, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Server"))


def add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    kind = kind.removesuffix("*")
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type, field.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
