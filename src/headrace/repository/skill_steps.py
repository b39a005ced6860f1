"""A skill's transforms as the workers read them: JSON values, with labels instead of their file and whole file names.

{"inputs": {name: {"kind": …, …}}, "outputs": {name: {"kind": …, …}}, "transform": {…}}. Beside the kind stand the keys
of skill.yaml with their defaults; what was left out and has no default is not there.

    text       tokenizer, max_tokens, too_long, tensors {ids, mask, types: those that were named}
    image      image {…}, to
    bytes      bytes {head, tail, pad, strip, block}, to
    record     record {feature: {"number": {"default": …}} | {"categories": […], "default": …}}, to
    value      value
    tensor     nothing more
    labels     from, labels […], softmax, sigmoid, top_k, threshold, otherwise
    embedding  from, pool, normalize
    raw        from
    transform  path, timeout_s, before, after: whether its class has them; only where there is a transform.py
"""

from pathlib import Path
from typing import Any

from headrace.repository.skill_checks import TRANSFORM, SkillFolder
from headrace.repository.skill_yaml import (
    CategoryFeature,
    Feature,
    Input,
    NumberFeature,
    Output,
    RecordInput,
    TextInput,
    Transform,
)

MILLISECONDS = 1e-3


def steps_of(place: SkillFolder) -> dict[str, Any]:
    """The steps around the model; empty if callers send its tensors and get its tensors."""
    skill, code = place.skill, place.code
    steps: dict[str, Any] = {}
    if skill.inputs or skill.outputs or code is not None:
        steps["inputs"] = {name: input_step(place.folder, each) for name, each in skill.inputs.items()}
        steps["outputs"] = {
            name: output_step(each, place.labels.get(name)) for name, each in skill.outputs.items()
        }
    if code is not None:
        limits = skill.transform or Transform()
        steps["transform"] = {
            "path": str(place.folder / TRANSFORM),
            "timeout_s": limits.timeout_ms * MILLISECONDS,
            "before": code.before,
            "after": code.after,
        }
    return steps


def input_step(folder: Path, given: Input) -> dict[str, Any]:
    # Features are written down by themselves: pydantic tells their kinds apart in a file's values, not in its own.
    step = given.model_dump(exclude_none=True, exclude={"record"})
    if isinstance(given, TextInput):
        return {"kind": "text", **step, "tokenizer": str(folder / given.tokenizer)}
    if isinstance(given, RecordInput):
        step["record"] = {name: feature_step(each) for name, each in given.record.items()}
    kind = next(key for key in ("image", "bytes", "record", "value", "tensor") if key in step)
    if kind == "tensor":
        return {"kind": "tensor"}
    return {"kind": kind, **step}


def feature_step(feature: Feature) -> dict[str, Any]:
    """A feature's long form."""
    if isinstance(feature, CategoryFeature | NumberFeature):
        return feature.model_dump(exclude_none=True)
    return {"categories": feature} if isinstance(feature, list) else {"number": {}}


def output_step(given: Output, labels: list[str] | None) -> dict[str, Any]:
    step: dict[str, Any] = {} if given.source is None else {"from": given.source}
    if labels is not None:
        step |= {"kind": "labels", "labels": labels, "softmax": given.softmax, "sigmoid": given.sigmoid}
        step |= {
            key: value
            for key, value in (
                ("top_k", given.top_k),
                ("threshold", given.threshold),
                ("otherwise", given.otherwise),
            )
            if value is not None
        }
        return step
    if given.pool is not None or given.normalize:
        step |= {"kind": "embedding", "normalize": given.normalize}
        return step if given.pool is None else {**step, "pool": given.pool}
    return {"kind": "raw", **step}
