"""`headrace models`: what a server would find out of models, or why it could not load them. Listens nowhere."""

from pathlib import Path
from typing import Any

import click

from headrace.cli.options import make_settings, some_settings_options
from headrace.errors import ConfigurationError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@some_settings_options(
    "pads", "instances", "threads", "max_batch_size", "profile_dir", "load_timeout_s", "model_name"
)
def command(paths: tuple[Path, ...], *, as_json: bool, **options: Any) -> None:
    """Show what is inferred of models, and why one cannot be loaded.

    PATHS are as for `headrace serve`. Each model is loaded, run and measured in a process of its own, exactly as the
    server does it, and what was measured is kept for the server's next start. The exit status is 1 if any of them
    cannot be loaded.
    """
    import asyncio
    import json

    from headrace.cli.survey import survey
    from headrace.cli.tree import print_tree
    from headrace.repository.find import find_sources

    settings = make_settings(options)
    try:
        sources = find_sources(paths, settings.model_name)
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc
    found = asyncio.run(survey(settings, sources))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        print_tree(found)
    if any(each["state"] != "READY" for each in found):
        raise SystemExit(1)
