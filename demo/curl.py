"""`curl` lines that work when they are pasted: request bodies in files, and each line run once before it is shown."""

import json
import os
import shlex
import shutil
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from served import Failure
from skills import Skill

HEADER_LENGTH = "Inference-Header-Content-Length"
POOLED = "461"
"""The model's own mean over its hidden states: as a line's answer, short enough to look at."""


class Line(NamedTuple):
    """One request: its body in a file, and the line that sends it."""

    url: str
    body: Path
    headers: dict[str, str]
    output: str

    @property
    def arguments(self) -> list[str]:
        headers = [part for name, value in self.headers.items() for part in ("-H", f"{name}: {value}")]
        return ["curl", "-s", *headers, "--data-binary", f"@{os.path.relpath(self.body)}", self.url]

    @property
    def command(self) -> str:
        return shlex.join(self.arguments)


def lines(skills: list[Skill], url: str, folder: Path) -> list[Line]:
    """A file and a sentence in JSON, a photo in binary."""
    by_name = {skill.name: skill for skill in skills}
    return [
        json_line(by_name["file-type"], 2, url, folder, "target_label"),
        binary_line(by_name["photo-moderation"], 1, url, folder, "outputs"),
        json_line(by_name["sentence-embedding"], 0, url, folder, POOLED),
    ]


def json_line(skill: Skill, sample: int, url: str, folder: Path, output: str) -> Line:
    inputs = [
        entry(name, array.shape, array.dtype.itemsize) | {"data": array.ravel().tolist()}
        for name, array in skill.samples[sample].inputs.items()
    ]
    body = folder / f"{skill.name}.json"
    body.write_text(json.dumps({"inputs": inputs, "outputs": [{"name": output}]}))
    return Line(f"{url}/v2/models/{skill.name}/infer", body, {}, output)


def binary_line(skill: Skill, sample: int, url: str, folder: Path, output: str) -> Line:
    ((name, array),) = skill.samples[sample].inputs.items()
    tensor = {"name": name, "shape": array.shape, "datatype": "FP32"}
    header = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": array.nbytes}}]}).encode()
    body = folder / f"{skill.name}.bin"
    body.write_bytes(header + array.tobytes())
    return Line(f"{url}/v2/models/{skill.name}/infer", body, {HEADER_LENGTH: str(len(header))}, output)


def entry(name: str, shape: tuple[int, ...], itemsize: int) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": f"INT{8 * itemsize}"}


def verify(line: Line) -> None:
    """Run it, or where there is no curl send the same request.

    Raises:
        Failure: it is not answered with the output it asks for.
    """
    if shutil.which("curl"):
        answer = subprocess.run(line.arguments, capture_output=True, check=False, timeout=60).stdout
    else:
        parts = urlsplit(line.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        connection.request("POST", parts.path, line.body.read_bytes(), line.headers)
        answer = connection.getresponse().read()
        connection.close()
    try:
        names = [each["name"] for each in json.loads(answer)["outputs"]]
    except (ValueError, KeyError) as exc:
        raise Failure(f"this line does not work: {line.command}\n{answer[:500]!r}") from exc
    if names != [line.output]:
        raise Failure(f"this line is answered with {names} and not with {line.output}: {line.command}")
