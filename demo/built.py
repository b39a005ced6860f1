"""The folder of skills: built once, and again when what it is built from has changed."""

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from case import HOME, Skill
from parcels import DATA, FOLDER, fetch
from rich.console import Console

SKILLS = FOLDER / "skills"
STAMP = FOLDER / "built"


def folder_of(skills: Sequence[Skill], console: Console) -> Path:
    """The folder to serve.

    Raises:
        Failure: something that it is made of cannot be had.
    """
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    source = digest()
    with console.status("downloading the data of two skills"):
        fetch()
    if STAMP.exists() and STAMP.read_text() == source:
        return SKILLS
    STAMP.unlink(missing_ok=True)
    shutil.rmtree(SKILLS, ignore_errors=True)
    for skill in skills:
        started = time.perf_counter()
        with console.status(f"building {skill.name}"):
            shutil.copytree(HOME / skill.name, SKILLS / skill.name)
            skill.build(SKILLS / skill.name)
        console.print(f"built {skill.name} in {time.perf_counter() - started:.1f} s", style="dim")
    STAMP.write_text(source)
    return SKILLS


def digest() -> str:
    """Of everything that decides what is built, but the tools' own versions."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), *sorted(HOME.rglob("*.*")), DATA, here / "models.txt"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
