"""Whatever a skill.yaml says of lesser answers, it is understood or told line by line, and ends no look."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model_config import FALLBACK_REASONS
from headrace.repository import skill

LINE = re.compile(r".*skill\.yaml:\d+: \S.*")
WORDS = st.sampled_from(
    [
        "large",
        "small",
        "right.json",
        "wrong.json",
        "x\0y",
        "",
        ".",
        "..",
        "/",
        "6h",
        "0s",
        "none",
        "|stale",
        "[key]",
    ]
)
KEYS = st.sampled_from(["variant", "stale", "static", "on", "chain", "|variant", "[key]", "model"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
RIGHT_STEPS = st.sampled_from(
    [{"variant": "small"}, {"stale": "6h"}, {"stale": 30}, {"static": "right.json"}]
)
STEPS = RIGHT_STEPS | st.one_of(
    st.dictionaries(st.just(key), WORDS, min_size=1) for key in ("variant", "stale", "static")
)
REASONS = st.lists(st.sampled_from(FALLBACK_REASONS), min_size=1, max_size=3)
RIGHT_SKILLS = st.fixed_dictionaries(
    {"variants": st.just({"large": {}, "small": {}})},
    optional={
        "fallback": st.fixed_dictionaries(
            {"chain": st.lists(RIGHT_STEPS, min_size=1, max_size=3)}, optional={"on": REASONS}
        ),
        "outputs": st.just({"y": {"labels": ["a"]}}),
        "degrade": st.sampled_from(["none", "allowed"]),
    },
)
ANY_SKILLS = st.fixed_dictionaries(
    {
        "fallback": VALUES
        | st.fixed_dictionaries(
            {"chain": VALUES | st.lists(VALUES | STEPS, max_size=4)},
            optional={"on": VALUES | REASONS, "|x": VALUES},
        )
    },
    optional={
        "variants": VALUES | st.dictionaries(WORDS, st.just({}), max_size=3),
        "degrade": VALUES,
        "outputs": st.just({"y": {}}),
        "idempotent": VALUES,
        "|x": VALUES,
    },
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "m"
        folder.mkdir()
        (folder / "model.onnx").touch()
        (folder / "right.json").write_text('{"y": {"label": "a"}}')
        (folder / "wrong.json").write_text("[")
        yield folder


@given(RIGHT_SKILLS | ANY_SKILLS)
def test_every_skill_is_understood_or_its_mistakes_are_told_with_their_lines(folder, content):
    found = skill.read_text(folder, json.dumps(content, ensure_ascii=False))
    assert found
    problem = found[0].problem
    assert all(LINE.fullmatch(line) for line in problem.splitlines())
    if not problem:
        chain = found[0].config.fallback.chain
        assert all(
            sum((bool(each.variant), each.stale_s is not None, bool(each.static))) == 1 for each in chain
        )
        assert {each.variant for each in chain if each.variant} <= set(found[0].config.variants[1:])
        assert not any(each.static for each in chain[:-1])
