"""openapi.json and the server say the same: every path is described, and every answer is as described."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.routing import Route

from headrace.frontends.docs import VERBS, read_description
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.wire import Wire

pytestmark = pytest.mark.integration

SPEC = read_description()
HERE = Path(__file__).parent
GOES_ON_ALONE = {"html", "meta", "link", "br"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    """A server of its own: what is sent at random may unload models."""
    folder = tmp_path_factory.mktemp("described")
    graphs.mlp(folder / "mlp.onnx")
    (folder / "swift.fake").write_text("{}")
    with run_server([folder], profile_dir=profiles) as running:
        yield running


def plain(path: str) -> str:
    """A route's path without the kinds of its parameters."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def test_every_route_is_described_with_its_verbs(server: RunningServer) -> None:
    described = {
        path: {verb.upper() for verb in VERBS if verb in item} for path, item in SPEC["paths"].items()
    }
    for route in server.server.app.routes:
        assert isinstance(route, Route)
        assert described.get(plain(route.path)) == (route.methods or set()) - {"HEAD"}, route.path


def test_every_operation_has_an_id_and_says_what_it_is_for() -> None:
    operations = [item[verb] for item in SPEC["paths"].values() for verb in VERBS if verb in item]
    assert len({each["operationId"] for each in operations}) == len(operations)
    tags = {each["name"] for each in SPEC["tags"]}
    for each in operations:
        assert each["summary"]
        assert set(each["tags"]) <= tags


def test_both_are_served(wire: Wire) -> None:
    answer = wire.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == SPEC
    page = wire.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path in SPEC["paths"]:
        assert f"<code>{path}</code>" in page.body.decode()


class Page(HTMLParser):
    """What a page opens without closing, what it refers to, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in GOES_ON_ALONE:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src"}:
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in GOES_ON_ALONE:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(wire: Wire) -> None:
    answer = wire.get("/docs")
    page = Page()
    page.feed(answer.body.decode())
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link == "openapi.json" or link.removeprefix("#") in page.ids
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_answers_to_everything_are_as_described(own: RunningServer, tmp_path: Path) -> None:
    """Right and wrong requests of all kinds, the same in every run."""
    (tmp_path / "openapi.json").write_text(json.dumps(SPEC))
    shutil.copy(HERE / "schemathesis.toml", tmp_path)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
            *("run", "openapi.json", "--url", own.url, "--checks", "all"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--seed", "7"),
            *("--generation-database", "none", "--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
