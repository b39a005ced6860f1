"""`headrace demo`: two small skills, served and asked, to see how it goes before one has a model of one's own.

They need no download: both are models in Python, which lie in starter/ as anybody would write them.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

STARTER = Path(__file__).with_name("starter")
NOT_COPIED = ignore_patterns("__init__.py", "__pycache__")
READY_S, STOP_S, ASK_S, POLL_S = 60.0, 15.0, 30.0, 0.05
TOGETHER = 64


class Question(NamedTuple):
    """A request, and what to look at in its answer."""

    text: str
    skill: str
    body: dict[str, Any]


QUESTIONS = (
    Question("A text in, a label out.", "language", {"text": "Where is my parcel?"}),
    Question(
        "Several in one request. One that is wrong costs nobody else an answer.",
        "language",
        {"items": [{"text": "Où est mon colis ?"}, {"text": "12345"}, {"text": "¿Dónde está mi paquete?"}]},
    ),
    Question(
        "A record in, a number out.",
        "parcel",
        {"parcel": {"weight_kg": 2.5, "distance_km": 300, "speed": "express"}},
    ),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the skills to this folder and leave them there, as something to begin with.",
)
def command(keep: Path | None) -> None:
    """Serve two small skills and ask them.

    Nothing is downloaded. On a terminal the server stays until Ctrl-C, so that you can ask it yourself; elsewhere it
    ends with the demo.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing stays behind
    with written(keep) as folder, contextlib.suppress(KeyboardInterrupt):
        show_files(folder)
        with served(folder) as (process, address):
            for each in QUESTIONS:
                show(each, address)
            show_batching(address)
            show_next(keep, folder)
            if sys.stdout.isatty():
                click.echo(f"\nIt listens on http://{address} until Ctrl-C.")
                process.wait()


@contextlib.contextmanager
def written(keep: Path | None) -> Iterator[Path]:
    """The folder of skills; a temporary one unless it is to be kept."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="headrace-demo-") as temporary:
            folder = Path(temporary) / "skills"
            copytree(STARTER, folder, ignore=NOT_COPIED)
            yield folder
        return
    if keep.exists() and any(keep.iterdir()):
        raise click.BadParameter(f"{keep} is not empty: name a new folder", param_hint="'--keep'")
    copytree(STARTER, keep, ignore=NOT_COPIED, dirs_exist_ok=True)
    yield keep


def show_files(folder: Path) -> None:
    click.secho(f"A folder of skills, {folder}", bold=True)
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        click.echo(f"  {file.relative_to(folder)}")
    file = folder / "language" / "skill.yaml"
    click.secho(f"\n{file.relative_to(folder)}", bold=True)
    click.echo("".join(f"  {line}\n" for line in file.read_text("utf-8").splitlines()))


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """`headrace serve` with the folder, ready, and gone afterwards.

    Raises:
        click.ClickException: it does not get ready.
    """
    click.secho(f"$ headrace serve {shlex.quote(str(folder))}", bold=True)
    arguments = [sys.executable, "-m", "headrace", "serve", str(folder), "--http-port", "0", "--log-json"]
    with tempfile.TemporaryDirectory(prefix="headrace-demo-") as place:
        log = Path(place) / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - this very program
                [*arguments, "--profile-dir", str(Path(place) / "profiles")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the server
            )
        try:
            yield process, wait_ready(process, log)
        finally:
            stop(process)


def wait_ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where it listens, once all its skills are loaded."""
    started = time.monotonic()
    while process.poll() is None and (seconds := time.monotonic() - started) < READY_S:
        address = listens_at(log.read_text("utf-8"))
        if address is not None and is_ready(address):
            click.echo(f"  ready after {seconds:.1f} s on http://{address}\n")
            return address
        time.sleep(POLL_S)  # noqa: TID251 - no loop is held up: the demo has nothing else to do
    raise click.ClickException(f"the server did not get ready:\n{log.read_text('utf-8')[-2000:]}")


def listens_at(log: str) -> str | None:
    """The address in the server's log, once it is there."""
    for line in log.splitlines():
        if "server_listening" in line:
            url: str = json.loads(line)["url"]
            return urlsplit(url).netloc
    return None


def is_ready(address: str) -> bool:
    """Whether all skills are.

    Raises:
        click.ClickException: one cannot be loaded.
    """
    index = ask(address, "POST", "/v2/repository/index", {})
    for each in index:
        if each["state"] == "UNAVAILABLE" and each.get("reason"):
            raise click.ClickException(f"{each['name']} cannot be loaded: {each['reason']}")
    return all(each["state"] == "READY" for each in index)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C would; it ends its workers."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask(address: str, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON of an answer.

    Raises:
        click.ClickException: it is an error.
    """
    connection = HTTPConnection(address, timeout=ASK_S)
    content = None if body is None else json.dumps(body)
    connection.request(verb, path, content, {"Content-Type": "application/json"})
    response = connection.getresponse()
    received = response.read()
    connection.close()
    if response.status != HTTPStatus.OK:
        raise click.ClickException(f"{path} is answered with {response.status}: {received[:500]!r}")
    return json.loads(received)


def show(question: Question, address: str) -> None:
    """A request as the line that sends it, and its answer."""
    path = f"/v1/skills/{question.skill}"
    body = json.dumps(question.body, ensure_ascii=False)
    started = time.perf_counter()
    answer = ask(address, "POST", path, question.body)
    milliseconds = 1000 * (time.perf_counter() - started)
    click.secho(question.text, bold=True)
    click.echo("$ " + shlex.join(["curl", "-s", f"http://{address}{path}", "-d", body]))
    for name in ("answer", "answers"):
        if name in answer:
            found = answer[name] if isinstance(answer[name], list) else [answer[name]]
            click.echo("".join(f"  {json.dumps(each, ensure_ascii=False)}\n" for each in found), nl=False)
    click.echo(click.style(f"  {milliseconds:.1f} ms\n", dim=True))


def show_batching(address: str) -> None:
    """How many runs it takes to answer many at once."""
    items = [{"text": f"Where is my parcel number {number}?"} for number in range(TOGETHER)]
    before = runs(address)
    ask(address, "POST", "/v1/skills/language", {"items": items})
    click.secho(f"{TOGETHER} texts at the same time", bold=True)
    count = runs(address) - before
    times = "one run" if count == 1 else f"{count} runs"
    click.echo(f"  were answered in {times} of the model: headrace batches by itself.\n")


def runs(address: str) -> int:
    stats = ask(address, "GET", "/v2/models/language/stats")
    count: int = stats["model_stats"][0]["execution_count"]
    return count


def show_next(keep: Path | None, folder: Path) -> None:
    click.secho("What next", bold=True)
    if keep is None:
        click.echo("  headrace demo --keep my-skills        writes these files where you can change them")
    else:
        where = shlex.quote(os.path.relpath(folder))
        click.echo(f"  headrace check {where}   says what is understood of them")
        click.echo(f"  headrace serve {where}   serves them, at http://127.0.0.1:8000")
    click.echo("  headrace serve model.onnx             serves a model of yours")
    click.echo("  headrace schema > skill.schema.json   lets an editor complete skill.yaml")
