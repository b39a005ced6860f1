"""From a model's metadata to whole HTTP requests, for any server of the Open Inference Protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.loadtest.plan import Caller
from headrace.messages import Datatype, Shape

Json = dict[str, Any]


@dataclass(frozen=True)
class Tensor:
    """An input in a model's metadata; -1 in the shape where any size may come."""

    name: str
    datatype: Datatype
    shape: Shape


@dataclass(frozen=True)
class Metadata:
    """What a server says of a model, as far as a request needs it. `version` is empty for whichever the server takes."""

    name: str
    inputs: tuple[Tensor, ...]
    version: str = ""


@dataclass(frozen=True)
class Body:
    """What a request carries. header_length is set where binary tensors follow its JSON."""

    content: bytes
    header_length: int | None = None


def parse_metadata(document: Json, version: str = "") -> Metadata:
    """What GET /v2/models/NAME answered.

    Raises:
        ConfigurationError: it is no model's metadata.
    """
    raise NotImplementedError


def read_metadata(url: str, model: str, version: str = "", *, timeout_s: float = 10.0) -> Metadata:
    """Ask a server what a model takes.

    Raises:
        ConfigurationError: nothing answers there, or not with a model's metadata; with what to do.
    """
    raise NotImplementedError


def random_inputs(
    metadata: Metadata, count: int, seed: int, *, lengths: Sequence[int] = (), binary: bool = False
) -> list[Body]:
    """That many different bodies of random tensors of the declared shapes, one row each.

    Args:
        metadata: of the model.
        count: of bodies, one a key.
        seed: of the draw.
        lengths: what axes of any size get, except the first: one drawn for each body; 1 if none are given.
        binary: tensors as bytes behind the JSON, and the answer's likewise.
    """
    raise NotImplementedError


def read_inputs(path: Path) -> list[Body]:
    """Bodies of infer requests from a file: a JSON object a line (.jsonl), or one whole body, with binary tensors or without.

    Raises:
        ConfigurationError: it cannot be read, is empty, or a line is no JSON object with inputs; with the line.
    """
    raise NotImplementedError


def build(
    metadata: Metadata, host: str, callers: Sequence[Caller], inputs: Sequence[Body]
) -> list[list[bytes]]:
    """By caller and key the whole request; `host` is what the Host header says.

    A caller's deadline goes into x-request-timeout-seconds if it sends it, its tenant into x-tenant, its priority into
    the parameters of the body.
    """
    raise NotImplementedError
