"""A worker is killed at random moments while it and its neighbour are asked: every answer is its asker's."""

import json
import random
from collections.abc import Iterator

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration.faults.scene import (
    assert_nothing_left,
    callers,
    held,
    kill_workers,
    version_of,
    wait_whole,
)
from tests.integration.process import eventually

pytestmark = pytest.mark.integration

VICTIM, OTHER = "victim", "other"
KILLS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("kills")
    (folder / f"{VICTIM}.fake").write_text("{}")
    (folder / f"{OTHER}.fake").write_text(json.dumps({"seconds": 0.01}))
    with run_server([folder], profile_dir=folder / "profiles", instances=1) as running:
        yield running


def test_everybody_is_answered_through_kills_at_random_moments(server: RunningServer) -> None:
    wait_whole(server)
    before = held(server)
    moments = random.Random(1)
    with callers(server, VICTIM, VICTIM, VICTIM, OTHER, OTHER) as asking:
        for _ in range(KILLS):
            # Some while it runs, some while the next one is being started.
            asked, more = sum(asking[0].statuses.values()), moments.choice((0, 0, 1, 3))
            eventually(
                lambda asked=asked, more=more: sum(asking[0].statuses.values()) >= asked + more,  # type: ignore[misc]
                "somebody was answered",
            )
            eventually(lambda: kill_workers(version_of(server, VICTIM)), "there was one to kill")
        answered = asking[0].statuses[200]
        eventually(lambda: asking[0].statuses[200] > answered, "it answers again")
    assert {status for each in asking[3:] for status in each.statuses} == {200}, "neighbours notice nothing"
    wait_whole(server)
    assert_nothing_left(server, before)
