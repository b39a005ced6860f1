"""A variant that misbehaves for a while: its breaker opens, golden inputs try it out, no user does, and it closes by itself."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import journal
import pytest

from headrace.events import BreakerChanged, Event
from headrace.testing import RunningServer, run_server
from tests.integration.faults.scene import callers
from tests.integration.process import eventually

pytestmark = pytest.mark.integration

SKILL = "ranker"
YAML = """format: 1
finite_outputs: true
variants: {full: {model: full.fake}, small: {model: small.fake}}
"""
CHAIN = "fallback: {chain: [{variant: small}]}\n"


@dataclass
class Stage:
    """A served skill, the switch that makes its first variant misbehave, and what that one has run."""

    server: RunningServer
    switch: Path
    ran: Path
    states: list[str] = field(default_factory=list)
    runs_on_trial: list[journal.Ran] = field(default_factory=list)
    _seen: int = 0

    def hear(self, event: Event) -> None:
        """Runs begun since the breaker was found half open, and until it is not any more, are trials."""
        if not isinstance(event, BreakerChanged) or event.model != SKILL:
            return
        runs = journal.read(self.ran)
        if self.states and self.states[-1] == "half_open":
            self.runs_on_trial += runs[self._seen :]
        self._seen = len(runs)
        self.states.append(event.state)


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Its parameter is what the skill falls back on."""
    folder, switch, ran = tmp_path / SKILL, tmp_path / "switch.json", tmp_path / "ran.jsonl"
    folder.mkdir()
    (folder / "skill.yaml").write_text(YAML + request.param)
    (folder / "full.fake").write_text(json.dumps({"switch": str(switch), "journal": str(ran)}))
    (folder / "small.fake").write_text("{}")
    with run_server([folder], profile_dir=tmp_path / "profiles", instances=1) as server:
        made = Stage(server, switch, ran)
        server.server._observers.append(made.hear)
        yield made


@pytest.mark.parametrize(
    ("stage", "kind"),
    [("", "raise"), (CHAIN, "nan")],
    ids=["raises", "NaN, with a chain"],
    indirect=["stage"],
)
def test_no_user_is_run_to_find_out_whether_it_works_again(stage: Stage, kind: str) -> None:
    with callers(stage.server, SKILL, SKILL) as asking:
        stage.switch.write_text(json.dumps({"fault": kind}))
        eventually(lambda: "open" in stage.states, "its breaker is open")
        eventually(lambda: stage.states[-2:] == ["half_open", "open"], "it was tried out in vain")
        stage.switch.unlink()
        eventually(lambda: stage.states[-1] == "closed", "its breaker has closed")
        answered = [each.statuses[200] for each in asking]
        eventually(
            lambda: all(each.statuses[200] > had for each, had in zip(asking, answered, strict=True)),
            "it answers",
        )
    users = range(100_000, 1_000_000)
    assert stage.runs_on_trial, "it was tried out"
    assert not [run for run in stage.runs_on_trial if any(number in users for number in run.numbers)]
