from pathlib import Path

import jsonschema_rs
import pytest

from headrace.model_config import FALLBACK_REASONS, Fallback, FallbackStep
from headrace.repository import skill
from headrace.repository.skill_yaml import json_schema
from headrace.repository.static_answer import MOST_BYTES
from headrace.repository.yaml_tree import read_tree

VARIANTS = "variants: {large: {model: large.onnx}, small: {}, tiny: {}}\n"
WHOLE = f"""{VARIANTS}
outputs: {{mood: {{labels: [good, bad]}}, vector: {{from: hidden}}}}
fallback:
  on: [overload, breaker]
  chain:
    - {{variant: small}}
    - {{stale: 1.5h}}
    - {{variant: tiny}}
    - {{stale: 7d}}
    - {{static: popular.json}}
idempotent: false
finite_outputs: true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A skill's folder with all files that a skill.yaml may name, and no skill.yaml."""
    place = tmp_path / "mood"
    place.mkdir()
    for name in ("model.onnx", "large.onnx"):
        (place / name).touch()
    (place / "popular.json").write_text('{"mood": {"label": "good", "score": 0.5}, "vector": [0, 1]}')
    (place / "list.json").write_text("[1]")
    (place / "broken.json").write_text("{")
    (place / "large.json").write_text('{"mood": "' + "x" * MOST_BYTES + '"}')
    (place / "text.json").write_text('{"mood": "good", "vector": []}')
    return place


def sources(folder: Path, text: str) -> list[skill.Source]:
    (folder / "skill.yaml").write_text(text)
    return skill.read(folder)


def problems(folder: Path, text: str) -> list[str]:
    """What is said of a skill.yaml, without the file's name."""
    found = sources(folder, text)
    return [line.partition("skill.yaml:")[2] for each in found for line in each.problem.splitlines()]


def test_what_is_asked_for_by_the_skills_own_name_has_the_chain_and_no_other_variant(folder):
    first, *others = sources(folder, WHOLE)
    assert not first.problem
    assert first.config.fallback == Fallback(
        ("overload", "breaker"),
        (
            FallbackStep(variant="small"),
            FallbackStep(stale_s=5400.0),
            FallbackStep(variant="tiny"),
            FallbackStep(stale_s=604800.0),
            FallbackStep(static=str(folder / "popular.json")),
        ),
    )
    assert [each.config.fallback for each in others] == [Fallback(), Fallback()]
    assert {(each.config.is_idempotent, each.config.finite_outputs) for each in (first, *others)} == {
        (False, True)
    }


def test_a_chain_is_for_every_reason_unless_it_says_which(folder):
    (source,) = sources(folder, "fallback: {chain: [{stale: 30}]}")
    assert source.config.fallback == Fallback(FALLBACK_REASONS, (FallbackStep(stale_s=30.0),))


def test_every_reason_there_is_can_be_written_down():
    schema = json_schema()["$defs"]["FallbackSection"]["properties"]["on"]
    assert tuple(schema["items"]["enum"]) == tuple(schema["default"]) == FALLBACK_REASONS


def test_a_skill_that_says_nothing_falls_back_to_nothing(folder):
    config = sources(folder, "")[0].config
    assert (config.fallback, config.may_degrade, config.is_idempotent, config.finite_outputs) == (
        Fallback(),
        True,
        True,
        False,
    )


def test_a_skill_may_forbid_lesser_answers(folder):
    (source,) = sources(folder, "degrade: none")
    assert (source.problem, source.config.may_degrade) == ("", False)


def test_a_static_answer_of_code_or_of_a_model_as_it_is_may_have_any_names(folder):
    (folder / "any.json").write_text('{"anything": 1}')
    text = "fallback: {chain: [{static: any.json}]}"
    assert problems(folder, text) == []
    (folder / "transform.py").write_text("class Transform:\n    def after(self, outputs): ...\n")
    assert problems(folder, f"outputs: {{y: {{}}}}\n{text}") == []


MISTAKES = {
    "no such variant": (
        f"{VARIANTS}fallback:\n  chain:\n    - {{variant: smal}}",
        "4: fallback.chain[0].variant: is smal, and there is no such variant; did you mean small?",
    ),
    "no variants": (
        "fallback: {chain: [{variant: small}]}",
        "1: fallback.chain[0].variant: is small, and the skill has no variants: add them, as in variants: ",
    ),
    "the only variant": (
        "variants: {large: {}}\nfallback: {chain: [{variant: small}]}",
        "2: fallback.chain[0].variant: is small, and there is no such variant; add it under variants",
    ),
    "a circle": (
        f"{VARIANTS}fallback: {{chain: [{{variant: large}}]}}",
        "2: fallback.chain[0].variant: is large, which answers first, so it is what has failed: leave it out",
    ),
    "a variant twice": (
        f"{VARIANTS}fallback:\n  chain:\n    - variant: small\n    - stale: 1h\n    - variant: small",
        "6: fallback.chain[2].variant: is small, which is tried before: name each variant once",
    ),
    "what follows a static answer": (
        "fallback: {chain: [{static: popular.json}, {stale: 1h}]}",
        "1: fallback.chain[1]: is never reached, since a static answer before it is always there: put that last",
    ),
    "a static answer twice": (
        "fallback: {chain: [{static: popular.json}, {static: popular.json}]}",
        "1: fallback.chain[1]: is never reached, ",
    ),
    "a younger answer after an older one": (
        "fallback: {chain: [{stale: 1h}, {stale: 60m}]}",
        "1: fallback.chain[1].stale: is never reached, since older answers will do before: leave it out",
    ),
    "a chain that is forbidden": (
        "degrade: none\nfallback: {chain: [{stale: 1h}]}",
        "1: degrade: is none, and there is a fallback: leave one of them out",
    ),
    "degrade in another word": (
        "degrade: never",
        "1: degrade: should be allowed or none, and is never",
    ),
    "no chain": (
        "fallback: {on: [error]}",
        "1: fallback.chain: is missing; write it as in chain: [{variant: small}, {static: popular.json}]",
    ),
    "an empty chain": ("fallback: {chain: []}", "1: fallback.chain: is empty"),
    "no reasons": ("fallback: {on: [], chain: [{stale: 1h}]}", "1: fallback.on: is empty"),
    "a reason twice": (
        "fallback: {on: [error, loading, error], chain: [{stale: 1h}]}",
        "1: fallback.on: has error twice",
    ),
    "a reason that is none": (
        "fallback: {on: [overlod], chain: [{stale: 1h}]}",
        "1: fallback.on[0]: should be overload, deadline, breaker, loading or error, and is overlod; did you mean overload?",
    ),
    "two in one step": (
        "fallback:\n  chain:\n    - {stale: 1h, static: popular.json}",
        "3: fallback.chain[0]: has stale and static, and a step is one of them: make them 2 steps",
    ),
    "an empty step": (
        "fallback: {chain: [{}]}",
        "1: fallback.chain[0]: should be a step, {variant: NAME}, {stale: 6h} or {static: FILE}, and is an empty mapping",
    ),
    "a step of another name": (
        "fallback: {chain: [{varient: small}]}",
        "1: fallback.chain[0]: should be a step, {variant: NAME}, {stale: 6h} or {static: FILE}, and is a mapping; did you mean variant?",
    ),
    "a word for a step": (
        "fallback: {chain: [small]}",
        "1: fallback.chain[0]: should be a step, {variant: NAME}, {stale: 6h} or {static: FILE}, and is small",
    ),
    "a key beside a step": (
        "fallback: {chain: [{stale: 1h, max: 3}]}",
        "1: fallback.chain[0].max: unknown key; there are stale",
    ),
    "a key of the fallback": (
        "fallback: {chian: [], chain: [{stale: 1h}]}",
        "1: fallback.chian: unknown key; did you mean chain?",
    ),
    "no duration": (
        "fallback: {chain: [{stale: soon}]}",
        "1: fallback.chain[0].stale: should be a duration, as in 500ms, 30s, 10m, 6h or 7d, and is soon",
    ),
    "a list for a duration": (
        "fallback: {chain: [{stale: [1]}]}",
        "1: fallback.chain[0].stale: should be a duration, as in 500ms, 30s, 10m, 6h, 7d, or a number of seconds",
    ),
    "a duration of nothing": (
        "fallback: {chain: [{stale: 0s}]}",
        "1: fallback.chain[0].stale: should be above 0 and at most 365d, and is 0s",
    ),
    "a duration before now": (
        "fallback: {chain: [{stale: -5}]}",
        "1: fallback.chain[0].stale: should be above 0 and at most 365d, and is -5",
    ),
    "a duration that never ends": (
        "fallback: {chain: [{stale: .inf}]}",
        "1: fallback.chain[0].stale: should be above 0 and at most 365d, and is inf",
    ),
    "a file that is not there": (
        "fallback: {chain: [{static: populr.json}]}",
        "1: fallback.chain[0].static: there is no populr.json in mood; did you mean popular.json?",
    ),
    "a file that is not JSON": (
        "fallback: {chain: [{static: broken.json}]}",
        "1: fallback.chain[0].static: broken.json is not JSON: ",
    ),
    "a file with a list": (
        "fallback: {chain: [{static: list.json}]}",
        "1: fallback.chain[0].static: list.json is no JSON object: write the answer by output name",
    ),
    "a file that is too large": (
        "fallback: {chain: [{static: large.json}]}",
        f"1: fallback.chain[0].static: large.json has more than {MOST_BYTES} bytes: ",
    ),
    "an output that is none": (
        "outputs: {moood: {labels: [good]}, vector: {}}\nfallback: {chain: [{static: popular.json}]}",
        "2: fallback.chain[0].static: popular.json has mood, which is no output; did you mean moood?",
    ),
    "an output that is left out": (
        "outputs: {mood: {labels: [good]}, vector: {}, more: {}}\nfallback: {chain: [{static: popular.json}]}",
        "2: fallback.chain[0].static: popular.json lacks more, which callers read: add it",
    ),
    "a word for a label": (
        "outputs: {mood: {labels: [good]}, vector: {}}\nfallback: {chain: [{static: text.json}]}",
        '2: fallback.chain[0].static: text.json: mood should have labels, as in {"label": "good", "score": 0.9}: ',
    ),
    "idempotent as a word": (
        "idempotent: never",
        "1: idempotent: should be true or false, and is never",
    ),
}


@pytest.mark.parametrize(("text", "expected"), list(MISTAKES.values()), ids=list(MISTAKES))
def test_a_mistake_is_told_with_its_line_and_what_to_write(folder, text, expected):
    said = problems(folder, text)
    assert [line for line in said if line.startswith(expected)] == said, said


def test_all_mistakes_are_told_at_once_each_in_its_line(folder):
    said = problems(
        folder,
        "degrade: none\n"
        "variants: {large: {model: large.onnx}, small: {threads: no}}\n"
        "fallback:\n"
        "  on: [errr]\n"
        "  chain:\n"
        "    - {stale: ever}\n"
        "    - {variant: small}\n"
        "    - {variant: large}\n"
        "    - {variant: medium}\n"
        "    - {static: list.json}\n"
        "    - {stale: 3s, variant: small}\n"
        "    - {stale: 1h}\n",
    )
    assert [line.partition(":")[0] for line in said] == ["1", "2", "4", "6", "8", "9", "10", "11", "12"], said


RIGHT = (
    "fallback: {chain: [{variant: small}, {stale: 6h}, {static: popular.json}]}",
    "fallback: {on: [loading], chain: [{stale: 500ms}]}",
    "fallback: {chain: [{stale: 0.5}]}",
    "{degrade: none, idempotent: false, finite_outputs: true}",
)
WRONG = (
    "fallback: {}",
    "fallback: {chain: []}",
    "fallback: {on: [never], chain: [{stale: 1h}]}",
    "fallback: {on: [], chain: [{stale: 1h}]}",
    "fallback: {chain: [{stale: 1h, variant: small}]}",
    "fallback: {chain: [{}]}",
    "fallback: {chain: [{stale: 6 hours}]}",
    "fallback: {chain: [{stale: 0}]}",
    "fallback: {chain: [{stale: true}]}",
    "fallback: {chain: [{static: ''}]}",
    "degrade: sometimes",
)


def test_the_json_schema_takes_what_is_right_and_nothing_else():
    schema = json_schema()
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.validator_for(schema)
    for text in RIGHT:
        assert [error.message for error in validator.iter_errors(read_tree(text).data)] == []
    for text in WRONG:
        assert not validator.is_valid(read_tree(text).data), text


@pytest.mark.parametrize("name", ["folder", "loop"])
def test_what_is_there_and_is_no_file_is_not_said_to_be_missing(folder, name):
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (problem,) = problems(folder, f"fallback: {{chain: [{{static: {name}}}]}}\n")
    assert problem == f"1: fallback.chain[0].static: {name} in mood is no file, or a link to none"
