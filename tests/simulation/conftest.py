"""Every simulation's clock is its event loop's, and the loop's time is virtual: hours pass in no time."""

import asyncio

import pytest
import pytest_asyncio
import traffic
from fakes import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "simulation" in item.path.parts:
            item.add_marker(pytest.mark.looptime(start=0))


@pytest_asyncio.fixture
async def path():
    """A pipeline without a worker yet."""
    made = Path(asyncio.get_running_loop().time)
    yield made
    made.close()


@pytest_asyncio.fixture
async def serve():
    """Serves models of a law, as traffic.serve does."""
    made = []

    def begin(law, **more):
        made.append(traffic.serve(law, **more))
        return made[-1]

    yield begin
    for served in made:
        served.close()
