"""`headrace models`: what a server would find out of models, or why it could not load them. Listens nowhere.

With --url it asks a server that runs how its models fare.
"""

from pathlib import Path
from typing import Any

import click

from headrace.cli.options import make_settings, some_settings_options
from headrace.errors import ConfigurationError

TIMEOUT_S = 10.0
"""For a server's answer."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--url", help="Ask the server there how its models fare; PATHS are then names, none for all.")
@click.option(
    "--memory",
    "is_memory",
    is_flag=True,
    help="Show what each model holds of the memory and what is left; without --url, what a server would load at its "
    "start, by what was measured before. Loads nothing.",
)
@click.option(
    "--profile",
    multiple=True,
    metavar="NAME",
    help="Show of the model of that name at PATHS how fast runs of more and more rows are and what they take, and which "
    "batch is worth it: its golden point. Measured now, for some seconds, if it was not before. Repeat for each model.",
)
@click.option("--again", is_flag=True, help="With --profile: measure now, whatever was measured before.")
@click.option(
    "--latency-p99-ms",
    type=click.FloatRange(0, min_open=True),
    help="With --profile: what is promised, in place of what the skill's skill.yaml says.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="With --profile: draw it, with its limits.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@some_settings_options(
    *(
        "pads",
        "instances",
        "threads",
        "max_batch_size",
        "max_rows",
        "profile_dir",
        "load_timeout_s",
        "model_name",
    ),
    *("memory_budget", "pin", "preload"),
)
def command(
    paths: tuple[Path, ...], url: str | None, *, is_memory: bool, as_json: bool, **options: Any
) -> None:
    """Show what is inferred of models, and why one cannot be loaded.

    PATHS are as for `headrace serve`. Each model is loaded, run and measured in a process of its own, exactly as the
    server does it, and what was measured is kept for the server's next start. Of one that crashes while it is loaded
    it is shown where. The exit status is 1 if any of them cannot be loaded, or with --url is not ready.

    \b
    headrace models models/
    headrace models --url http://127.0.0.1:8000
    headrace models --url http://127.0.0.1:8000 sentiment
    headrace models --profile sentiment models/ --latency-p99-ms 50
    headrace models --memory models/ --memory-budget 4GiB
    """  # noqa: D301 - click's mark for lines that stay as they are
    import json

    from headrace.cli.tree import print_tree, print_versions

    if show_profile(paths, url, options, is_memory=is_memory, as_json=as_json):
        return
    if is_memory:
        show_memory(paths, url, options, as_json=as_json)
        return
    found = surveyed(paths, options) if url is None else asked(url, [str(path) for path in paths])
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif url is None:
        print_tree(found)
    else:
        print_versions(found)
    fine = {"READY"} if url is None else {"READY", "ABSENT"}
    if any(each["state"] not in fine for each in found):
        raise SystemExit(1)


def show_profile(
    paths: tuple[Path, ...], url: str | None, options: dict[str, Any], *, is_memory: bool, as_json: bool
) -> bool:
    """Show the golden point of each model that one is asked of; False, and nothing is done, if none is. Takes its own options out.

    Raises:
        click.ClickException: a model cannot be measured, or the options do not go together.
    """
    from headrace.cli.profile import Asked, show_profiles

    asked = Asked(*(options.pop(name) for name in ("profile", "latency_p99_ms", "again", "plot")))
    if not asked.names:
        if asked != Asked((), None, is_again=False, plot=None):
            raise click.UsageError("--latency-p99-ms, --again and --plot go with --profile NAME")
        return False
    if is_memory:
        raise click.UsageError("--profile and --memory are two different looks: give one of them")
    if url is not None:
        raise click.UsageError("--profile measures on this machine: give PATHS, and no --url")
    if not paths:
        raise click.UsageError("name a PATH where the models of --profile lie")
    show_profiles(asked, make_settings(options), paths, as_json=as_json)
    return True


def show_memory(paths: tuple[Path, ...], url: str | None, options: dict[str, Any], *, as_json: bool) -> None:
    """What a server's models hold of its memory, or would hold of this machine's.

    Raises:
        click.ClickException: nobody answers, or there is nothing to load.
        SystemExit: it cannot be as the settings say.
    """
    from headrace.cli.memory import show_foreseen, show_served

    if url is not None:
        show_served(url, [str(path) for path in paths], as_json=as_json)
        return
    named(paths)
    settings = make_settings(options)
    try:
        can_be = show_foreseen(settings, paths, as_json=as_json)
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc
    if not can_be:
        raise SystemExit(1)


def named(paths: tuple[Path, ...]) -> None:
    """Somebody has to say of what.

    Raises:
        click.UsageError: nobody does.
    """
    if not paths:
        raise click.UsageError("name a PATH as for `headrace serve`, or a server with --url")


def surveyed(paths: tuple[Path, ...], options: dict[str, Any]) -> list[dict[str, Any]]:
    """The models at the paths, loaded here.

    Raises:
        click.ClickException: there is nothing to load, or the settings cannot work.
    """
    import asyncio

    from headrace.cli.survey import survey
    from headrace.repository.find import find_sources

    named(paths)
    settings = make_settings(options)
    try:
        sources = find_sources(paths, settings.model_name)
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc
    return asyncio.run(survey(settings, sources))


def asked(url: str, names: list[str]) -> list[dict[str, Any]]:
    """The versions of a server's models, of all of them if none is named.

    Raises:
        click.ClickException: it does not answer, or has no such model.
    """
    from urllib.parse import quote

    from headrace.cli.client import Client

    client = Client(url, TIMEOUT_S)
    if not names:
        return list(client.get("/v1/versions")["versions"])
    found = [client.get(f"/v1/versions/{quote(name, safe='')}")["versions"] for name in names]
    return [version for versions in found for version in versions]
