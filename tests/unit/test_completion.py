import pytest
from click.testing import CliRunner

from headrace.cli.main import COMMANDS, main


def completed(*words: str) -> list[str]:
    """What bash is offered for the last word."""
    environment = {
        "_HEADRACE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["headrace", *words]),
        "COMP_CWORD": str(len(words)),
    }
    lines = CliRunner(env=environment).invoke(main, prog_name="headrace").output.split()
    return [line.partition(",")[2] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_told_how_to_complete(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_HEADRACE_COMPLETE" in result.output


def test_another_shell_is_told_which_there_are():
    result = CliRunner().invoke(main, ["completion", "tcsh"])
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.output


def test_commands_are_completed():
    assert set(completed("")) == set(COMMANDS)
    assert completed("se") == ["serve"]


def test_options_are_completed():
    assert completed("serve", "--http-p") == ["--http-port"]
