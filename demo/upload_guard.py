"""Uploads: magika, which tells a file's type from its first and last bytes, and files of this installation.

The files' suffixes say what is right. The model without headrace is magika's own package, asked for what its model says.
"""

import json
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import parcels
from case import HOME, Case, Verdict
from magika import Magika

TYPES = {
    ".py": "python",
    ".json": "json",
    ".html": "html",
    ".css": "css",
    ".js": "javascript",
    ".md": "markdown",
    ".rst": "rst",
    ".toml": "toml",
    ".c": "c",
    ".xml": "xml",
    ".svg": "svg",
    ".sh": "shell",
    ".png": "png",
    ".jpg": "jpeg",
    ".gif": "gif",
    ".zip": "zip",
    ".gz": "gzip",
    ".so": "elf",
    ".pyc": "pythonbytecode",
    ".onnx": "onnx",
    ".exe": "pebin",
    ".npy": "npy",
}
"""Suffix → what magika calls the type; suffixes that mean one thing only."""
EACH = 12
SMALLEST, LARGEST = 64, 256 << 10


class UploadGuard:
    """What type a file has."""

    name, output = "upload-guard", "type"
    judged_on = "installed files, by suffix"

    def build(self, folder: Path) -> None:
        (folder / "model.onnx").write_bytes(self._original.read_bytes())
        labels = json.loads(self._original.with_name("config.min.json").read_text())["target_labels_space"]
        (folder / "labels.txt").write_text("".join(f"{each}\n" for each in labels))

    def shown(self) -> list[Case]:
        files = [HOME / self.name / "example.html", Path(sys.executable).resolve()]
        return [Case({"file": each}) for each in files]

    def cases(self) -> list[Case]:
        """Up to a dozen of each type, spread over all there are."""
        found = defaultdict(list)
        for folder in sorted({sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")}):
            for file in sorted(Path(folder).rglob("*")):
                if file.suffix in TYPES and file.is_file() and SMALLEST <= file.stat().st_size <= LARGEST:
                    found[file.suffix].append(file)
        chosen = [file for suffix in TYPES for file in spread(found[suffix])]
        return [Case({"file": each}, TYPES[each.suffix]) for each in chosen]

    def bare(self, cases: Sequence[Case]) -> list[Verdict]:
        results = [self._magika.identify_bytes(case.item["file"].read_bytes()) for case in cases]
        return [Verdict(str(each.prediction.dl.label), each.score) for each in results]

    @cached_property
    def _magika(self) -> Magika:
        return Magika()

    @property
    def _original(self) -> Path:
        return parcels.packaged("magika", "standard_v3_3/model.onnx")


def spread(files: list[Path]) -> list[Path]:
    return files[:: max(len(files) // EACH, 1)][:EACH]
