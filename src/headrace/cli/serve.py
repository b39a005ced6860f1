"""`headrace serve`: the server."""

from pathlib import Path
from typing import Any

import click

from headrace.cli.options import make_settings, settings_options
from headrace.errors import ConfigurationError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_options
def command(paths: tuple[Path, ...], **options: Any) -> None:
    """Serve skills and models over HTTP: the skills API, and the Open Inference Protocol.

    PATHS are folders of skills (skill.yaml), .onnx files, folders like NAME/1/model.onnx with a folder for each version,
    and repositories of Triton, TensorFlow Serving, OpenVINO Model Server, MLServer and KServe as they are. `headrace check
    PATH` says beforehand what will be served.
    """
    from headrace.server import Server
    from headrace.telemetry import logs

    settings = make_settings(options)
    log_settings = logs.set_up(settings.log_level, as_json=settings.log_json)
    try:
        server = Server(settings, paths, log_settings)
        server.run()
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc
