"""`headrace check`: what a server would make of models' files and settings. Listens nowhere and loads nothing."""

from pathlib import Path
from typing import Any

import click

from headrace.cli.options import make_settings, some_settings_options
from headrace.errors import ConfigurationError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@some_settings_options("model_name", "weights", "tenants", "memory_budget", "pin", "preload", "profile_dir")
def command(paths: tuple[Path, ...], *, as_json: bool, **options: Any) -> None:
    """Validate models and skills without serving them.

    PATHS are as for `headrace serve`. For each version it is shown what is understood of its settings, what of them is
    ignored, and why it is refused if it is. No model is opened: `headrace models` does that. The exit status is 1 if
    anything is refused, the file of tenants has mistakes, or memory is promised on this machine that there is not.
    """
    import json

    from headrace.cli.checklist import kept, print_checklist, print_tenants, understood, weighted
    from headrace.cli.memory import mistakes_here
    from headrace.repository.find import find_sources, refuse_unknown

    settings = make_settings(options)
    try:
        sources = find_sources(paths, settings.model_name)
        refuse_unknown(settings, {each.name for each in sources})
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc
    mistakes = mistakes_here(settings, sources)
    sources = [kept(weighted(each, settings.weights), settings) for each in sources]
    if as_json:
        click.echo(json.dumps([understood(each) for each in sources], indent=2))
    else:
        print_checklist(sources)
        print_tenants(settings.tenants)
    for each in mistakes:
        click.echo(each, err=True)
    if mistakes or any(each.problem for each in sources):
        raise SystemExit(1)
