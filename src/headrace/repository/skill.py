"""A skill's folder: skill.yaml, and beside it its models, labels, tokenizer, transform.py and examples.

skill_yaml.py has the format, skill_mistakes.py and skill_checks.py find what is wrong with a file, all of it at once, and
skill_steps.py writes down for the workers what is to be done with requests. Here a folder becomes sources:

    sentiment/skill.yaml, model.onnx                  version 1
    sentiment/skill.yaml, 1/model.onnx, 2/model.onnx  two versions
    with variants: {small: ..., large: ...}           sentiment is the small one, sentiment.large the other
"""

import os
from pathlib import Path
from typing import NamedTuple

from headrace.backends.registry import BACKENDS, backend_for
from headrace.model_config import ModelConfig, QueuePolicy, Residence
from headrace.repository import plain
from headrace.repository.plain import not_there
from headrace.repository.skill_checks import SkillFolder, find_mistakes
from headrace.repository.skill_examples import golden_inputs
from headrace.repository.skill_fallback import fallback_of
from headrace.repository.skill_mistakes import validated
from headrace.repository.skill_steps import MILLISECONDS, steps_of
from headrace.repository.skill_yaml import PRIORITIES, Variant
from headrace.repository.source import Source
from headrace.repository.yaml_tree import Mistake, read_tree
from headrace.repository.yaml_tree import Path as KeyPath

FILE = "skill.yaml"
MOST_BYTES = 1 << 20
"""Of a skill.yaml: more is something else by mistake."""
INTERNAL = frozenset({"transcoder", "transform"})
"""Backends that are not for models."""


class Model(NamedTuple):
    """A file that serves a version of a variant."""

    version: str
    path: Path
    backend: str


class NoModel(Exception):
    """A variant has no model; the text says what to write or where to put it, `key` which key is wrong."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def read(folder: Path) -> list[Source]:
    """All versions of a skill and its variants; one source with all that is wrong, if anything is."""
    file = folder / FILE
    try:
        if file.stat().st_size > MOST_BYTES:
            return refused(folder, f"{shown(file)} has more than {MOST_BYTES} bytes: that is no skill.yaml")
        text = plain.read_text(file, "utf-8-sig")
        return read_text(folder, text)
    except UnicodeDecodeError:
        return refused(folder, f"{shown(file)} is not UTF-8 text: save it as UTF-8")
    except OSError as exc:
        return refused(folder, plain.unreadable(file, exc))


def read_text(folder: Path, text: str) -> list[Source]:
    """`read`, with the content of skill.yaml given."""
    tree = read_tree(text)
    if tree.data is None and tree.mistakes:
        return refused(folder, listed(folder, tree.mistakes))
    skill, malformed, left_out = validated(tree)
    place = SkillFolder(folder, skill, tree, left_out)
    mistakes = [*tree.mistakes, *malformed, *find_mistakes(place)]
    models: dict[str, list[Model]] = {}
    for name, variant in (skill.variants or {"": Variant()}).items():
        try:
            models[name] = models_of(folder, variant)
        except NoModel as exc:
            path: KeyPath = ("variants", name, exc.key)[: 3 if exc.key else 2] if name else ()
            if name or ("variants",) not in {each[:1] for each in left_out}:
                mistakes.append(Mistake(tree.line(path), path, str(exc)))
    mistakes += [
        Mistake(tree.line(path), path, "a name has no slash: it is part of a URL")
        for name in skill.variants
        if "/" in name and (path := ("variants", name))
    ]
    if mistakes:
        return refused(folder, listed(folder, mistakes))
    return [
        Source(name, model.version, model.path, model.backend, config=config)
        for name, config, found in served(place, models)
        for model in found
    ]


def served(place: SkillFolder, models: dict[str, list[Model]]) -> list[tuple[str, ModelConfig, list[Model]]]:
    """What the skill is served as: the first variant under the skill's own name."""
    name = place.folder.name
    return [
        (f"{name}.{variant}" if at else name, config_of(place, variant, is_first=not at), found)
        for at, (variant, found) in enumerate(models.items())
    ]


def config_of(place: SkillFolder, name: str, *, is_first: bool) -> ModelConfig:
    """What is said of a variant; of the skill, if its name is empty. What is asked for may fall back, and that is the first."""
    skill = place.skill
    variant = skill.variants.get(name, Variant())
    p99_ms, share, memory = skill.objective.latency_p99_ms, skill.share, skill.memory
    levels = {int(level): QueuePolicy(share=part) for level, part in share.priorities.items()}
    return ModelConfig(
        max_batch_size=variant.max_batch_size,
        instances=variant.instances,
        threads=variant.threads,
        pads=skill.padding,
        levels=dict(sorted(levels.items())),
        default_level=share.default_priority or max(levels, default=0),
        steps=steps_of(place),
        description=skill.description,
        variants=tuple(skill.variants),
        variant=name,
        latency_p99_s=None if p99_ms is None else p99_ms * MILLISECONDS,
        priority=PRIORITIES[skill.objective.priority],
        weight=share.weight,
        examples=golden_inputs(place.folder, skill),
        fallback=fallback_of(place.folder, skill.fallback if is_first else None),
        may_degrade=skill.degrade != "none",
        is_idempotent=skill.idempotent,
        finite_outputs=skill.finite_outputs,
        residence=Residence(memory.pin, memory.preload, memory.idle),
    )


def models_of(folder: Path, variant: Variant) -> list[Model]:
    """A variant's versions, lowest first.

    Raises:
        NoModel: there is none, or no backend opens it.
    """
    if variant.backend is not None and variant.backend not in known_backends():
        raise NoModel(
            "backend", f"there is no backend {variant.backend}; there are {', '.join(known_backends())}"
        )
    numbered = plain.version_folders(folder)
    if variant.model is not None:
        found = [(each.name, each / variant.model) for each in numbered if (each / variant.model).exists()]
        if not found:
            if not (folder / variant.model).exists():
                raise NoModel("model", not_there(folder / variant.model))
            found = [("1", folder / variant.model)]
    else:
        found = [(each.name, model) for each in numbered if (model := plain.only_model(each)) is not None]
        if not found and (model := plain.only_model(folder)) is not None:
            found = [("1", model)]
    if not found:
        raise NoModel("", f"there is no model: put model.onnx beside skill.yaml, or into {folder.name}/1")
    return [Model(version, path, backend_of(variant, path)) for version, path in found]


def backend_of(variant: Variant, path: Path) -> str:
    backend = variant.backend or backend_for(path)
    if backend is None:
        kind = plain.FOREIGN.get(path.suffix)
        is_what = f"is a {kind} model: convert it to ONNX" if kind else "is no .onnx file: name its backend"
        raise NoModel("model", f"{path.name} {is_what}")
    return backend


def known_backends() -> list[str]:
    """Those that are for models."""
    return sorted(set(BACKENDS) - INTERNAL)


def listed(folder: Path, mistakes: list[Mistake]) -> str:
    """All mistakes, in the order of the file."""
    file = shown(folder / FILE)
    ordered = sorted(dict.fromkeys(mistakes), key=lambda each: each.line)
    return "\n".join(each.shown(file) for each in ordered)


def shown(file: Path) -> str:
    """As somebody would type it from where they are."""
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative


def refused(folder: Path, problem: str) -> list[Source]:
    return [Source(folder.name, "1", folder, "", problem)]
