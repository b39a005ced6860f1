"""`headrace`: the group of commands. Each is imported when it is called, so that starting stays quick."""

from importlib import import_module

import click

COMMANDS = {
    "serve": "Serve skills and models over HTTP.",
    "check": "Validate models and skills without serving them.",
    "models": "Show what is inferred of models, and why one cannot be loaded.",
    "infer": "Ask a running server for an inference.",
    "explain": "Show what became of a request, with the numbers that decided.",
    "breaker": "Show circuit breakers, and open or close one by hand.",
    "bench": "Load a running server, and report what it keeps of its promise.",
    "demo": "Serve two small skills and ask them, to see how it goes.",
    "completion": "Print what makes a shell complete commands and options.",
    "schema": "Print the JSON Schema of skill.yaml, for editors.",
}


class LazyGroup(click.Group):
    """Lists all commands and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"headrace.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headrace")
def main() -> None:
    """Serve AI skills in real time: batched by themselves, isolated from each other, measured.

    \b
    headrace demo                     two small skills, to see how it goes
    headrace serve skills/            a folder of skills or models, or a file
    """  # noqa: D301 - the character with which click keeps lines apart
