"""`headrace demo`: skills that need nothing, served and asked."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from headrace.cli.demo import command
from headrace.repository.find import find_sources

pytestmark = pytest.mark.integration


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_demo_serves_its_skills_and_shows_their_answers(tmp_path):
    done = demo("--keep", str(tmp_path / "skills"))
    assert done.returncode == 0, done.stderr
    for shown in (
        '"label": "English"',
        '"label": "French"',
        "no letters",
        '{"price": 7.88}',
        "curl -s http://",
    ):
        assert shown in done.stdout


def test_what_the_demo_leaves_can_be_served(tmp_path):
    folder = tmp_path / "skills"
    demo("--keep", str(folder))
    sources = find_sources([folder])
    assert [source.name for source in sources] == ["language", "parcel"]
    assert not [source.problem for source in sources if source.problem]
    assert not list(folder.rglob("__init__.py"))


def test_the_demo_writes_over_nothing(tmp_path):
    (tmp_path / "mine.txt").touch()
    result = CliRunner().invoke(command, ["--keep", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty: name a new folder" in result.output
