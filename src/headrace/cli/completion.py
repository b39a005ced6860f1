"""`headrace completion`: what makes a shell complete commands, options and paths."""

import click
from click.shell_completion import get_completion_class

SHELLS = ["bash", "zsh", "fish"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete headrace's commands and options.

    \b
    bash: eval "$(headrace completion bash)"      in ~/.bashrc
    zsh:  eval "$(headrace completion zsh)"       in ~/.zshrc
    fish: headrace completion fish > ~/.config/fish/completions/headrace.fish
    """  # noqa: D301 - the character with which click keeps lines apart
    kind = get_completion_class(shell)
    assert kind is not None, "click knows all that may be chosen"
    click.echo(kind(context.find_root().command, {}, "headrace", "_HEADRACE_COMPLETE").source())
