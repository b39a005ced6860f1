"""One request makes every run fail that it is part of: it is found in few runs, the others get their answers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil, log2
from pathlib import Path

import journal
import pytest

from headrace.testing import RunningServer, run_server
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

POISON, BUSY = 66.0, 999.0
BATCH = 32
LEARNING = 5
"""Rounds after which it is known that a batch takes no longer than a row."""
TRIES = 4
LONG = {"x-request-timeout-seconds": "30"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poison") / "ran.jsonl"


@pytest.fixture(scope="module")
def server(ran: Path) -> Iterator[RunningServer]:
    script = {"seconds": 0.08, "error_value": POISON, "journal": str(ran)}
    (ran.parent / "fake.fake").write_text(json.dumps(script))
    options = {"profile_dir": ran.parent / "profiles", "instances": 1, "max_rows": BATCH}
    with run_server([ran.parent / "fake.fake"], **options) as running:
        for number in range(LEARNING):
            together(running, ran, [BUSY] * BATCH, number)
        yield running


def test_thirty_one_of_thirty_two_are_answered_and_few_runs_find_the_other(
    server: RunningServer, ran: Path
) -> None:
    for number in range(TRIES):
        numbers = [1000.0 * (number + 1) + each for each in range(BATCH)]
        numbers[7 * (number + 1)] = POISON
        before = len(journal.read(ran))
        answers = together(server, ran, numbers, number)
        runs = journal.with_any(journal.read(ran)[before:], numbers)
        for each, answer in zip(numbers, answers, strict=True):
            assert answer.status == (422 if each == POISON else 200), answer.body
            assert each == POISON or answer.json()["outputs"][0]["data"][0] == 2 * each
        if len(runs[0].numbers) == BATCH:
            assert len(runs) - 1 <= 2 * ceil(log2(BATCH))
            break
    else:
        raise AssertionError("they never travelled together")
    before = len(journal.read(ran))
    assert ask(server, POISON, number).status == 422, "known by now"
    assert not journal.with_any(journal.read(ran)[before:], [POISON]), "and not run again"


def together(server: RunningServer, ran: Path, numbers: list[float], salt: int) -> list[Answer]:
    """A connection each, all while another request is run."""
    before = len(journal.read(ran))
    with ThreadPoolExecutor(len(numbers) + 1) as pool:
        busy = pool.submit(ask, server, BUSY, salt)
        eventually(lambda: len(journal.read(ran)) > before, "it runs")
        answers = list(pool.map(lambda number: ask(server, number, salt), numbers))
        busy.result()
    return answers


def ask(server: RunningServer, number: float, salt: int) -> Answer:
    """`salt` makes it another request than one with the same number."""
    with Wire(server.host, server.port) as wire:
        return wire.infer("fake", {"inputs": [tensor("x", "FP32", [1, 4], [number, salt, 2, 3])]}, LONG)
