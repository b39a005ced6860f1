"""`headrace infer`: a request to a running server, from what a person can type: for a skill, or tensors for its model."""

from typing import Any, BinaryIO

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("skill")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the server listens.")
@click.option("--version", metavar="N", help="Version of the model; the server's choice if not given.")
@click.option("--variant", metavar="NAME", help="Variant of the skill; the one that answers if not given.")
@click.option("--text", metavar="TEXT", help="The text for a skill that takes one.")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="[NAME=]PATH",
    help="The file for a skill that takes one; with the input's name where it takes several.",
)
@click.option(
    "--data",
    metavar="JSON",
    help='An item as the skill takes it: {"input": value, ...}, or the record by itself.',
)
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
def command(skill: str, url: str, *, as_json: bool, timeout_s: float, **options: Any) -> None:
    """Ask a running server for an inference. Without options, each line of standard input is an item, text or JSON.

    \b
    headrace infer sentiment --text "I love it"
    headrace infer photo-moderation --file photo.jpg
    headrace infer credit-risk --data '{"duration": 12, "purpose": "car"}'
    headrace infer sentiment --json < messages.txt
    headrace infer mlp --input x=[[1,2,3,4]]
    headrace infer classifier --input pixels=@photo.npy --binary
    headrace infer classifier --request body.json --json
    """  # noqa: D301 - click's mark for lines that stay as they are
    from headrace.cli.client import Client
    from headrace.cli.skill import Asked, ask

    client = Client(url, timeout_s)
    tensors = {name: options.pop(name) for name in ("inputs", "outputs", "request", "is_binary")}
    asked = Asked(skill, **options)
    if asked.is_item and any(tensors.values()):
        raise click.UsageError(
            "--text, --file and --data are for skills, and do not go with --input or --request"
        )
    if any(tensors.values()):
        infer_tensors(client, asked, as_json=as_json, **tensors)
    else:
        ask(client, asked, as_json=as_json)


def infer_tensors(
    client: Any, asked: Any, *, as_json: bool, request: BinaryIO | None, **options: Any
) -> None:
    """Ask for tensors, by the Open Inference Protocol."""
    from headrace.cli.answers import print_json, print_readably
    from headrace.cli.query import Query
    from headrace.cli.skill import TENSORS

    model = f"{asked.skill}.{asked.variant}" if asked.variant else asked.skill
    query = Query(model, asked.version, **options)
    if (request is None) == (not query.inputs):
        raise click.UsageError(TENSORS)
    answer = client.infer(query) if request is None else client.send(query, request.read())
    (print_json if as_json else print_readably)(answer)
