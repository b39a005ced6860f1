"""`headrace breaker`: the circuit breakers of a running server, and a hand on one of them."""

from typing import Any

import click

COLOURS = {"open": "red", "forced_open": "red", "half_open": "yellow", "forced_closed": "yellow"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.argument("state", required=False, type=click.Choice(["open", "closed", "auto"]))
@click.option("--variant", metavar="NAME", help="Of the skill's variants this one; the first if not given.")
@click.option("--version", metavar="N", help="Only this version; all of them if not given.")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the server listens.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--timeout-s", default=10.0, show_default=True, help="Seconds to wait for the server.")
def command(
    name: str | None, state: str | None, url: str, *, as_json: bool, timeout_s: float, **chosen: str | None
) -> None:
    """Show circuit breakers, or those of NAME; with a STATE, open or close them by hand.

    While one is open nothing is run: callers get a lesser answer of the skill's fallback, or 503 with the reason. What is
    forced stays so until `auto`, which lets the breaker decide by itself again, or until the model is loaded again.

    \b
    headrace breaker
    headrace breaker sentiment open
    headrace breaker sentiment auto
    """  # noqa: D301 - click's mark for lines that stay as they are
    import json
    from urllib.parse import quote

    from headrace.cli.client import Client

    wish = {key: value for key, value in chosen.items() if value is not None}
    if wish and state is None:
        raise click.UsageError(
            "--variant and --version say whose breaker is to be told something: add a state"
        )
    client = Client(url, timeout_s)
    if state is not None:
        assert name is not None, "click fills arguments in order"
        found = client.post(f"/v1/breakers/{quote(name, safe='')}", {"state": state, **wish})
    else:
        found = client.get(f"/v1/versions/{quote(name, safe='')}" if name is not None else "/v1/versions")
    if as_json:
        click.echo(json.dumps(found["versions"], indent=2))
    else:
        print_breakers(found["versions"])


def print_breakers(versions: list[dict[str, Any]]) -> None:
    """A line a version."""
    from rich.text import Text

    from headrace.cli.tables import print_table

    rows = []
    for each in versions:
        breaker = each["breaker"] or {"state": "none", "reason": ""}
        state = Text(breaker["state"].replace("_", " "), COLOURS.get(breaker["state"], ""))
        counts = runs(breaker) if each["breaker"] else ""
        rows.append(
            (each["name"], each["version"], each["state"], state, counts, breaker["reason"] or each["reason"])
        )
    print_table(("model", "version", "state", "breaker", "runs", "why"), rows)


def runs(breaker: dict[str, Any]) -> str:
    """Those that it counts now."""
    return ", ".join(f"{breaker[kind]} {kind}" for kind in ("ok", "slow", "failed"))
