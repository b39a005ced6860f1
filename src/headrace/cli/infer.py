"""`headrace infer`: one request to a running server, from what a person can type."""

from typing import Any, BinaryIO

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the server listens.")
@click.option("--version", metavar="N", help="Version of the model; the server's choice if not given.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input: JSON as in x=[[1,2]], or @FILE where FILE is .npy, .json, or else the tensor's bytes. Shape and "
    "datatype are the model's own; a single row may come without its batch axis. Repeat for each input.",
)
@click.option(
    "--output", "outputs", multiple=True, metavar="NAME", help="Ask for this output only. Repeatable."
)
@click.option(
    "--request",
    type=click.File("rb"),
    help="A whole request body from a file, or - for stdin, in place of inputs.",
)
@click.option(
    "--binary", "is_binary", is_flag=True, help="Send and receive tensors as bytes instead of JSON."
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as the protocol's JSON.")
@click.option("--timeout-s", default=60.0, show_default=True, help="Seconds to wait for the server.")
def command(
    model: str, url: str, request: BinaryIO | None, *, as_json: bool, timeout_s: float, **options: Any
) -> None:
    """Ask a running server for an inference.

    \b
    headrace infer mlp --input x=[[1,2,3,4]]
    headrace infer classifier --input pixels=@photo.npy --binary
    headrace infer classifier --request body.json --json
    """  # noqa: D301 - click's mark for lines that stay as they are
    from headrace.cli.answers import print_json, print_readably
    from headrace.cli.client import Client
    from headrace.cli.query import Query

    query = Query(model, **options)
    if (request is None) == (not query.inputs):
        raise click.UsageError("give either --input NAME=VALUE for each input or --request FILE")
    client = Client(url, timeout_s)
    answer = client.infer(query) if request is None else client.send(query, request.read())
    (print_json if as_json else print_readably)(answer)
