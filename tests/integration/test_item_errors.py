"""A row that its model cannot answer costs its own request only, and nobody is run again for it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

INVALID = 13.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("picky")
    (folder / "picky.fake").write_text(json.dumps({"invalid_value": INVALID, "seconds": 0.01}))
    with run_server([folder], profile_dir=profiles, instances=1) as running:
        yield running


def infer(server: RunningServer, values: list[float]) -> Answer:
    data = [[value, 1.0, 2.0, 3.0] for value in values]
    with Wire(server.host, server.port) as wire:
        return wire.infer("picky", {"inputs": [tensor("x", "FP32", [len(values), 4], data)]})


def test_only_the_request_with_the_invalid_row_fails(server: RunningServer) -> None:
    values = [[1.0], [INVALID], [2.0, 3.0], [4.0], [5.0, INVALID, 6.0], [7.0]]
    with ThreadPoolExecutor(len(values)) as pool:
        answers = list(pool.map(lambda each: infer(server, each), values))
    for sent, answer in zip(values, answers, strict=True):
        if INVALID not in sent:
            assert answer.status == 200
            assert answer.json()["outputs"][0]["data"][::4] == [2 * value for value in sent]
            continue
        where = "row 1: " if len(sent) > 1 else ""
        assert (answer.status, answer.error) == (422, f"{where}told to be invalid")
        assert answer.json()["code"] == "invalid_item"


def test_failed_rows_are_counted_as_failures_and_the_others_as_answers(server: RunningServer) -> None:
    def counts() -> tuple[int, int]:
        with Wire(server.host, server.port) as wire:
            stats = wire.get("/v2/models/picky/stats").json()["model_stats"][0]["inference_stats"]
        return stats["success"]["count"], stats["fail"]["count"]

    success, fail = counts()
    infer(server, [1.0])
    infer(server, [INVALID])
    assert counts() == (success + 1, fail + 1)


def test_more_invalid_rows_than_a_message_holds_are_still_the_senders(server: RunningServer) -> None:
    answer = infer(server, [INVALID] * 1000)
    assert (answer.status, answer.error) == (422, "told to be invalid")
    assert infer(server, [1.0]).status == 200
