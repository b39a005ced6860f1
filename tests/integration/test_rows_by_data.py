"""A model whose rows come out as its data has it: no probe can see that, and still nobody gets another's rows."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.wire import Wire, tensor

pytestmark = pytest.mark.integration

CLIENTS, REQUESTS = 12, 20


def wrong_answers(server: RunningServer, client: int) -> list[object]:
    """What one client, whose rows nobody else sends, was answered wrongly."""
    wrong: list[object] = []
    with Wire(server.host, server.port) as wire:
        for turn in range(REQUESTS):
            value = float(1000 * (client + 1) + turn) if (turn + client) % 3 else -1000.0
            answer = wire.infer("filtering", {"inputs": [tensor("x", "FP32", [1, 2], [value, value])]})
            expected = [] if value < 0 else [value, value]
            if answer.status != 200 or answer.json()["outputs"][0]["data"] != expected:
                wrong.append((expected, answer.status, answer.body))
    return wrong


def test_nobody_gets_the_rows_of_another(tmp_path: Path, profiles: Path) -> None:
    graphs.filtering(tmp_path / "filtering.onnx")
    with (
        run_server([tmp_path], profile_dir=profiles, instances=1) as server,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        found = list(pool.map(lambda client: wrong_answers(server, client), range(CLIENTS)))
        spec = server.server.catalog.versions("filtering")[0].snapshot().spec
    assert found == [[]] * CLIENTS
    assert not spec.joins_requests
    assert "other rows than went in" in spec.notes[-1]
