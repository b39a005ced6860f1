"""A skill.yaml's `fallback` held against its variants, its outputs and the files beside it, and as a version's settings."""

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from headrace.model_config import Fallback, FallbackStep
from headrace.repository.fallback_yaml import FallbackSection, StaleStep, StaticStep, Step, VariantStep
from headrace.repository.plain import not_there
from headrace.repository.skill_examples import Wrong, below, there_are
from headrace.repository.skill_mistakes import CHAIN
from headrace.repository.skill_yaml import Output, SkillFile
from headrace.repository.static_answer import read_answer, read_labels
from headrace.repository.yaml_tree import Path


def fallback_mistakes(
    folder: FilePath,
    skill: SkillFile,
    variants: list[str] | None,
    outputs: Mapping[str, Output] | None,
    left_out: set[Path],
) -> Iterator[Wrong]:
    """What of the chain cannot be.

    Args:
        folder: the skill's.
        skill: without what is wrong in its form.
        variants: names of all that are written down, the one that answers first at the beginning; None if nobody can tell.
        outputs: all the skill has; None if they are known only once its model is loaded.
        left_out: the entries that were left out of `skill`.
    """
    given = skill.fallback
    if given is None:
        return
    if skill.degrade == "none":
        yield ("degrade",), "is none, and there is a fallback: leave one of them out"
    if twice := [each for at, each in enumerate(given.on) if each in given.on[:at]]:
        yield ("fallback", "on"), f"has {twice[0]} twice"
    steps = {at: step for at, step in enumerate(given.chain) if (*CHAIN, at) not in left_out}
    yield from below(CHAIN, order_mistakes(steps))
    for at, step in steps.items():
        if isinstance(step, VariantStep) and variants is not None:
            yield from below((*CHAIN, at, "variant"), variant_mistakes(step.variant, variants))
        elif isinstance(step, StaticStep):
            yield from below((*CHAIN, at, "static"), static_mistakes(folder / step.static, outputs))


def order_mistakes(steps: Mapping[int, Step]) -> Iterator[Wrong]:
    """Steps that are never reached, as what is before them answers whenever they would."""
    before: list[Step] = []
    for at, step in steps.items():
        if isinstance(step, VariantStep) and step in before:
            yield (at, "variant"), f"is {step.variant}, which is tried before: name each variant once"
        elif any(isinstance(each, StaticStep) for each in before):
            yield (at,), "is never reached, since a static answer before it is always there: put that last"
        elif isinstance(step, StaleStep) and any(
            isinstance(each, StaleStep) and each.stale >= step.stale for each in before
        ):
            yield (at, "stale"), "is never reached, since older answers will do before: leave it out"
        before.append(step)


def variant_mistakes(name: str, variants: list[str]) -> Iterator[Wrong]:
    if not variants:
        yield (
            (),
            f"is {name}, and the skill has no variants: add them, as in variants: {{large: {{}}, {name}: {{}}}}",
        )
    elif name == variants[0]:
        yield (), f"is {name}, which answers first, so it is what has failed: leave it out"
    elif name not in variants:
        others = there_are(name, variants[1:]) if variants[1:] else "add it under variants"
        yield (), f"is {name}, and there is no such variant; {others}"


def static_mistakes(file: FilePath, outputs: Mapping[str, Output] | None) -> Iterator[Wrong]:
    if not file.is_file():
        yield (), not_there(file)
        return
    try:
        answer = read_answer(file)
    except ValueError as exc:
        yield (), str(exc)
        return
    if outputs is None:
        return
    if unknown := [name for name in answer if name not in outputs]:
        for name in unknown:
            yield (), f"{file.name} has {name}, which is no output; {there_are(name, list(outputs))}"
        return
    for name, output in outputs.items():
        if name not in answer:
            yield (), f"{file.name} lacks {name}, which callers read: add it"
        elif output.labels is not None:
            yield from below((), labels_mistakes(f"{file.name}: {name}", answer[name]))


def labels_mistakes(name: str, value: Any) -> Iterator[Wrong]:
    try:
        read_labels(value)
    except ValueError as exc:
        yield (), f"{name} {exc}"


def fallback_of(folder: FilePath, given: FallbackSection | None) -> Fallback:
    """As a version's settings have it."""
    if given is None:
        return Fallback()
    return Fallback(tuple(given.on), tuple(step_of(folder, each) for each in given.chain))


def step_of(folder: FilePath, step: Step) -> FallbackStep:
    if isinstance(step, VariantStep):
        return FallbackStep(variant=step.variant)
    if isinstance(step, StaleStep):
        return FallbackStep(stale_s=step.stale)
    return FallbackStep(static=str(folder / step.static))
