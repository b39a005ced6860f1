"""What a server does with the bytes that its runs may take: the rows of its batches, and requests that can never be run."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from headrace.execution.footprint import Footprint
from headrace.execution.profiles import ProfileStore
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, tensor

pytestmark = pytest.mark.integration

MIB = 1 << 20
ROW, RESIDENT = 16 * MIB, 40 * MIB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A model of which it was measured, so it is told, that a row takes 16 MiB; and a budget of 256 MiB."""
    folder = tmp_path_factory.mktemp("bound")
    graphs.mlp(folder / "models" / "mlp.onnx")
    paths, profiles = [folder / "models"], folder / "profiles"
    with run_server(paths, profile_dir=profiles):
        pass
    (kept,) = profiles.glob("*.json")
    store = ProfileStore(profiles)
    peaks = {graphs.FEATURES: {rows: rows * ROW for rows in (1, 2, 4, 8, 16, 32, 64)}}
    known = store.read(kept.stem)
    assert known is not None
    store.write(kept.stem, replace(known, footprint=Footprint(RESIDENT, 0, peaks)))
    with run_server(paths, profile_dir=profiles, memory_budget=256 * MIB) as running:
        yield running


def asked(server: RunningServer, rows: int) -> Answer:
    with Wire(server.host, server.port) as wire:
        values = [0.0] * graphs.FEATURES * rows
        return wire.infer("mlp", {"inputs": [tensor("x", "FP32", [rows, graphs.FEATURES], values)]})


def rows_shown(server: RunningServer) -> int:
    (shown,) = server.server.catalog.residency.view().models
    return shown.cap


def test_the_rows_that_memory_allows_are_shown(server):
    eventually(lambda: 0 < rows_shown(server) < 16, "the budget bounds batches")


def test_a_request_that_can_never_fit_gets_413_with_the_arithmetic(server):
    eventually(lambda: rows_shown(server) > 0, "the budget bounds batches")
    refused = asked(server, 60)
    assert refused.status == 413
    said = refused.json()["error"]
    assert "a run of 60 such rows takes about 1006.6 MB" in said
    assert "send at most" in said
    assert "--memory-budget" in said


def test_a_request_that_fits_is_answered_beside_it(server):
    assert asked(server, 2).status == 200
