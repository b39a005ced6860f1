"""Servers that many tests share, started once: one with small models of every kind, one with real models."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.testing import RunningServer, run_server
from tests.integration import graphs, packages
from tests.integration.wire import Wire

FAKES = {
    "doubler": '{"seconds": 0.03}',
    "swift": "{}",
    "failing": '{"error_value": 13}',
    "sums": '{"sums_rows": true}',
}
Connect = Callable[[RunningServer], Wire]


@pytest.fixture(scope="session")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where servers of this run keep their measurements: none from before, and none for after."""
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small models, as somebody would lay it out."""
    folder = tmp_path_factory.mktemp("models")
    graphs.mlp(folder / "mlp.onnx")
    graphs.two_inputs(folder / "pair.onnx")
    graphs.ragged(folder / "ragged.onnx")
    graphs.batch_mean(folder / "mean.onnx")
    graphs.mlp(folder / "white space.onnx")
    for datatype in graphs.ELEMENT_TYPES:
        graphs.identity(folder / f"same_{datatype}.onnx", datatype)
    for version, factor in ((1, 10.0), (2, 20.0), (10, 100.0)):
        graphs.times(folder / "times" / str(version) / "model.onnx", factor)
    for name, script in FAKES.items():
        (folder / f"{name}.fake").write_text(script)
    return folder


@pytest.fixture(scope="session")
def server(models: Path, profiles: Path) -> Iterator[RunningServer]:
    """The small models, served."""
    with run_server([models], profile_dir=profiles, measure_memory=False) as running:
        yield running


@pytest.fixture(scope="session")
def real(profiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Real models out of packages, served; nothing is asked here about deadlines."""
    folder = tmp_path_factory.mktemp("real")
    for name in packages.MODELS:
        (folder / f"{name}.onnx").symlink_to(packages.model_file(name))
    with run_server([folder], profile_dir=profiles, deadline_s=60.0, measure_memory=False) as running:
        yield running


@pytest.fixture
def wire(server: RunningServer) -> Iterator[Wire]:
    """One connection to the small models."""
    with Wire(server.host, server.port) as connection:
        yield connection
