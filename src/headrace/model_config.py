"""What a repository says of a model, whatever its layout: the one form they are all read into.

Everything may be left unsaid; what is unsaid is inferred from the artifact or measured.
"""

from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from headrace.messages import Datatype, Shape


class DeclaredTensor(msgspec.Struct, frozen=True):
    """An input or output as the repository declares it, to be held against the artifact.

    Attributes:
        datatype: None if it does not say.
        dims: None if it does not say; else without the batch axis where ModelConfig.max_batch_size is above 0. -1 is
            any size.
        reshape: what the artifact takes or gives in place of `dims`; None if the same.
        labels: of a classification, by index; where `label_file` names them.
    """

    name: str
    datatype: Datatype | None = None
    dims: Shape | None = None
    reshape: Shape | None = None
    is_optional: bool = False
    labels: tuple[str, ...] = ()
    label_file: str = ""


class QueuePolicy(msgspec.Struct, frozen=True):
    """How requests of one priority level wait.

    Attributes:
        max_queue_size: requests that may wait; 0 is no bound.
        default_timeout_s: seconds they may wait, None for the server's deadline.
        allow_timeout_override: whether a request's own timeout counts if it is shorter.
        on_timeout: whether what waited too long is refused, or served after everything else.
        share: of the model's device time within which this level goes before those after it, above 0 and below 1; None
            for nearly all of it. What is left is the others'.
    """

    max_queue_size: int = 0
    default_timeout_s: float | None = None
    allow_timeout_override: bool = True
    on_timeout: Literal["reject", "delay"] = "reject"
    share: float | None = None


FALLBACK_REASONS = ("overload", "deadline", "breaker", "loading", "error")
"""Why what was asked may not answer, so that something else may."""


class FallbackStep(msgspec.Struct, frozen=True):
    """One lesser answer; exactly one of these is set.

    Attributes:
        variant: name of another variant of the skill.
        stale_s: the skill's own answer to the same request, no older than so many seconds.
        static: absolute name of a JSON file with the answer, by output name as callers of the skills API read it.
    """

    variant: str = ""
    stale_s: float | None = None
    static: str = ""


class Fallback(msgspec.Struct, frozen=True):
    """What answers where a skill cannot, tried in turn. `on`: of FALLBACK_REASONS."""

    on: tuple[str, ...] = ()
    chain: tuple[FallbackStep, ...] = ()


class WarmupInput(msgspec.Struct, frozen=True):
    """One input of a warm-up request. `file` is absolute and holds tensor bytes; only where fill is "file"."""

    name: str
    datatype: Datatype
    dims: Shape
    fill: Literal["zero", "random", "file"] = "zero"
    file: str = ""


class Warmup(msgspec.Struct, frozen=True):
    """Requests to run before a version is ready; one that fails, fails the load.

    Attributes:
        batch_size: rows; 0 where the model has no batch axis.
        count: how often.
    """

    name: str
    inputs: tuple[WarmupInput, ...]
    batch_size: int = 0
    count: int = 1


class Residence(msgspec.Struct, frozen=True):
    """When a model is in memory, where there is not enough for all.

    Attributes:
        is_pinned: loaded at start, and never made to leave for others.
        is_preloaded: loaded at start; None to have it loaded if there is room.
        idle_s: seconds without a request after which it leaves; None as the server has it.
    """

    is_pinned: bool = False
    is_preloaded: bool | None = None
    idle_s: float | None = None


class ModelConfig(msgspec.Struct, frozen=True):
    """What a repository says of one version of a model.

    Attributes:
        max_batch_size: rows a run may have; 0 if rows must not be joined, None if it does not say.
        instances, threads: sessions at once and threads of each; None to have them measured.
        pads: input → value its lengths may be padded with, if a run confirms it.
        levels: priority level (1 is served first) → how its requests wait; empty if all are alike, under `queue`.
        default_level: of a request that names no priority.
        options: of the backend, by the backend's own names.
        steps: of the transforms around the model, as transforms/ reads them; empty if callers send its tensors.
        parameters: free text for whoever asks for the configuration, and for python models.
        described: the configuration in Triton's own field names, where it was written so.
        notes: what was said and is not honoured, in sentences for the operator.
        description: what the skill is for, in its author's words.
        variants: names of a skill's variants, the one that answers first; empty if it has none.
        variant: which of them this is; all but the first are served as SKILL.VARIANT.
        latency_p99_s: seconds within which 99 of 100 requests should be answered, None if nothing is promised.
        priority: 1 goes before 2, and 2 before 3, where skills compete.
        weight: its part of the device beside other models, in relation to theirs.
        examples: golden inputs as callers send them, each {"input": {...}} and maybe {"answer": {...}}.
        fallback: lesser answers where this one fails; nothing in it if there are none.
        may_degrade: false where the skill forbids lesser answers; then there is no fallback.
        is_idempotent: a request may be run once more if nobody knows how far its first run came.
        finite_outputs: NaN or an infinite number in an output is a failure of that row.
        residence: when it is in memory.
    """

    max_batch_size: int | None = None
    instances: int | None = None
    threads: int | None = None
    inputs: tuple[DeclaredTensor, ...] = ()
    outputs: tuple[DeclaredTensor, ...] = ()
    pads: dict[str, float] = {}
    queue: QueuePolicy = QueuePolicy()
    levels: dict[int, QueuePolicy] = {}
    default_level: int = 0
    warmups: tuple[Warmup, ...] = ()
    options: dict[str, str] = {}
    steps: dict[str, Any] = {}
    parameters: dict[str, str] = {}
    described: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    description: str = ""
    variants: tuple[str, ...] = ()
    variant: str = ""
    latency_p99_s: float | None = None
    priority: int = 2
    weight: float = 1.0
    examples: tuple[dict[str, Any], ...] = ()
    fallback: Fallback = Fallback()
    may_degrade: bool = True
    is_idempotent: bool = True
    finite_outputs: bool = False
    residence: Residence = Residence()

    @property
    def has_policies(self) -> bool:
        """Whether anything is said of how requests wait."""
        return bool(self.levels) or self.queue != QueuePolicy()

    @property
    def of_worker(self) -> "ModelConfig":
        """Without what the gateway alone looks at: how requests wait, and what the model gets beside others."""
        return replace(
            self,
            queue=QueuePolicy(),
            levels={},
            default_level=0,
            description="",
            latency_p99_s=None,
            priority=NOTHING_SAID.priority,
            weight=NOTHING_SAID.weight,
            fallback=Fallback(),
            may_degrade=True,
            is_idempotent=True,
            residence=Residence(),
        )

    def level(self, priority: int) -> int:
        """The level of a request of that priority (0: it names none); one that does not exist is the default."""
        return priority if priority in self.levels else self.default_level

    def policy(self, level: int) -> QueuePolicy:
        """How requests of the level wait."""
        return self.levels.get(level, self.queue)


NOTHING_SAID = ModelConfig()
