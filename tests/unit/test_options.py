import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from headrace.cli.main import main
from headrace.cli.options import HIDDEN, field_texts, make_settings, parse_pads, settings_options
from headrace.cli.serve import command as serve
from headrace.config import Settings

FIELDS = sorted(set(Settings.model_fields) - HIDDEN)
OPTIONS = {option.name: option for option in serve.params if isinstance(option, click.Option)}


def settings_of(*arguments):
    """What the settings become for a command line."""
    seen = []

    @click.command()
    @settings_options
    def command(**options):
        seen.append(make_settings(options, ()))

    result = CliRunner().invoke(command, arguments)
    return seen[0] if seen else result.output


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_an_option_with_the_help_below_its_field(name):
    option = OPTIONS[name]
    assert option.opts == [f"--{name.replace('_', '-')}"]
    assert option.secondary_opts == ([f"--no-{option.opts[0][2:]}"] if option.default is True else [])
    assert option.help == field_texts()[name]
    assert option.default == Settings.model_fields[name].default


def test_the_one_hidden_setting_has_an_option_of_its_own():
    assert {"pads"} == HIDDEN
    assert OPTIONS["pad"].help


def test_without_options_the_settings_are_the_defaults():
    assert settings_of() == Settings()


def test_options_are_read_as_their_fields_kind():
    settings = settings_of(
        *("--http-port", "0", "--deadline-s", "0.5", "--instances", "2"),
        *("--profile-dir", "here", "--log-json", "--host", "::1"),
    )
    assert (settings.http_port, settings.deadline_s, settings.instances) == (0, 0.5, 2)
    assert (settings.profile_dir.name, settings.log_json, settings.host) == ("here", True, "::1")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--http-port", "70000"),
        ("--http-port", "x"),
        ("--deadline-s", "0"),
        ("--instances", "0"),
        ("--log-level", "loud"),
    ],
    ids=" ".join,
)
def test_a_value_outside_what_its_field_allows_is_a_usage_error_naming_the_option(arguments):
    assert arguments[0] in settings_of(*arguments)


def test_settings_refuse_names_nobody_knows():
    with pytest.raises(ValidationError):
        Settings(http_prot=8000)


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        Settings().host = "0.0.0.0"


def test_pads_are_read_by_model_and_input():
    assert parse_pads(("bert:input_ids=0", "bert:mask=-1.5", "m.1:a.b=2")) == {
        "bert": {"input_ids": 0, "mask": -1.5},
        "m.1": {"a.b": 2},
    }


@pytest.mark.parametrize(
    "pad", ["", "bert", "bert:ids", "bert:ids=", "bert=0", ":ids=0", "bert:=0", "bert:ids=x"]
)
def test_a_pad_that_is_none_says_how_one_looks(pad):
    with pytest.raises(click.BadParameter, match="bert:input_ids=0"):
        parse_pads((pad,))


def test_the_group_lists_its_commands_without_importing_them():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "serve" in result.output


def test_a_path_that_is_not_there_is_a_sentence_and_no_trace(tmp_path):
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "gone.onnx")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "gone.onnx is not there" in result.output


def test_a_command_that_is_none_is_a_usage_error():
    assert CliRunner().invoke(main, ["sevre"]).exit_code == 2
