"""One version of a model as it lies on disk."""

from dataclasses import dataclass, field
from pathlib import Path

from headrace.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Source:
    """One version of a model on disk. `problem` says why it cannot even be tried.

    Attributes:
        path: the file or folder that the backend opens.
        config: what its repository says of it.
        layout: whose form the repository has, in words for the operator; find.py fills it in.
        origin: the folder that was read to find it, or the file and its name there; find.py fills it in.
    """

    name: str
    version: str
    path: Path
    backend: str
    problem: str = ""
    config: ModelConfig = field(default_factory=ModelConfig)
    layout: str = ""
    origin: Path = Path()
