"""`headrace explain`: what became of a request, or of the last ones, as a running server remembers it."""

from typing import Any

import click

ALIKE = frozenset({"at_ms", "what"})
WORDS = {
    "read": "body read",
    "asked": "asked to be taken in",
    "sent": "sent to be run",
    "ran": "run ended",
    "failed": "run failed",
    "expired": "deadline passed while it ran",
    "left": "client went away",
}
"""What is noted → how it is said, where that is not the same word."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("request_id", required=False)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the server listens.")
@click.option("--model", metavar="NAME", help="Of the last requests, only those for this skill or model.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How many of the last requests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--timeout-s", default=10.0, show_default=True, help="Seconds to wait for the server.")
def command(
    request_id: str | None, url: str, model: str | None, limit: int, *, as_json: bool, timeout_s: float
) -> None:
    """Show what became of a request: when it came, what it waited for, its batch, and why it was refused or degraded.

    REQUEST_ID is what the request was sent with, in an x-request-id header or as the id in its body. Without it the last
    requests are listed.

    \b
    headrace explain 7f3a
    headrace explain --model sentiment
    """  # noqa: D301 - click's mark for lines that stay as they are
    import json
    from urllib.parse import quote

    from headrace.cli.client import Client

    client = Client(url, timeout_s)
    if request_id is not None:
        found = client.get(f"/v1/requests/{quote(request_id, safe='')}")
    else:
        wanted = f"&model={quote(model, safe='')}" if model is not None else ""
        found = client.get(f"/v1/requests?limit={limit}{wanted}")["requests"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif request_id is not None:
        print_one(found)
    elif found:
        print_list(found)
    else:
        click.echo("no request with an id has come yet: send an x-request-id header, or an id in the body")


def print_one(found: dict[str, Any]) -> None:
    """The sentence that sums it up, and a line a note."""
    from headrace.cli.tables import printable

    click.secho(printable(found["summary"]), bold=True)
    click.secho(
        f"{printable(found['id'])} for {printable(found['model'])}, came at {time_of(found['came'])}",
        dim=True,
    )
    notes = found["notes"]
    offsets = [f"{each['at_ms']:.1f} ms" for each in notes]
    width = max(map(len, offsets), default=0)
    said: dict[str, Any] = {}
    for offset, each in zip(offsets, notes, strict=True):
        is_end = each["what"] == "answered"  # whose reason was noted before by whoever had it
        new = {name: value for name, value in each.items() if not (is_end and said.get(name) == value)}
        click.echo(f"{offset:>{width}}  {printable(sentence({'what': each['what'], **new}))}")
        said = each


def sentence(note: dict[str, Any]) -> str:
    """A note in words."""
    details = ", ".join(detail(name, value) for name, value in note.items() if name not in ALIKE)
    what = WORDS.get(note["what"], note["what"])
    return f"{what}: {details}" if details else what


def detail(name: str, value: Any) -> str:
    """A number with its unit, a text with its name."""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    for unit in ("ms", "s"):
        if name.endswith(f"_{unit}"):
            return f"{name.removesuffix(f'_{unit}').replace('_', ' ')} {value:g} {unit}"
    return f"{name.replace('_', ' ')} {value}"


def print_list(found: list[dict[str, Any]]) -> None:
    """A line a request, the newest first."""
    from headrace.cli.tables import print_table
    from headrace.telemetry.explain import shown

    rows = []
    for each in found:
        is_over = each["status"] is not None
        status = str(each["status"]) if is_over else ""
        took = shown(each["total_ms"]) if is_over else ""
        rows.append((time_of(each["came"]), each["id"], each["model"], status, took, each["summary"]))
    print_table(("came", "id", "model", "status", "took", "what became of it"), rows)


def time_of(seconds: float) -> str:
    """The time of day here, to the millisecond."""
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "milliseconds")[11:23]
