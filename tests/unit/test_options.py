import pickle

import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from headrace.cli.main import main
from headrace.cli.options import OPTIONS_APART, field_texts, make_settings, parse_pads, settings_options
from headrace.cli.serve import command as serve
from headrace.config import Settings, Tenant

FIELDS = sorted(set(Settings.model_fields) - set(OPTIONS_APART))
OPTIONS = {option.name: option for option in serve.params if isinstance(option, click.Option)}


def settings_of(*arguments):
    """What the settings become for a command line."""
    seen = []

    @click.command()
    @settings_options
    def command(**options):
        seen.append(make_settings(options))

    result = CliRunner().invoke(command, arguments)
    return seen[0] if seen else result.output


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_an_option_with_the_help_below_its_field(name):
    option = OPTIONS[name]
    assert option.opts == [f"--{name.replace('_', '-')}"]
    assert option.secondary_opts == ([f"--no-{option.opts[0][2:]}"] if option.default is True else [])
    assert option.help == field_texts()[name]
    assert option.default == Settings.model_fields[name].default


@pytest.mark.parametrize(("name", "option"), [("pads", "pad"), ("weights", "weight"), ("tenants", "tenants")])
def test_a_setting_of_many_values_has_an_option_that_is_written_otherwise(name, option):
    assert name in OPTIONS_APART
    assert len(OPTIONS_APART) == 3
    assert OPTIONS[option].help


def test_without_options_the_settings_are_the_defaults():
    assert settings_of() == Settings()


def test_options_are_read_as_their_fields_kind():
    settings = settings_of(
        *("--http-port", "0", "--deadline-s", "0.5", "--instances", "2"),
        *("--profile-dir", "here", "--log-json", "--host", "::1"),
    )
    assert (settings.http_port, settings.deadline_s, settings.instances) == (0, 0.5, 2)
    assert (settings.profile_dir.name, settings.log_json, settings.host) == ("here", True, "::1")


@pytest.mark.parametrize("field", ["pin", "preload"])
def test_models_are_named_one_by_one(field):
    settings = settings_of(f"--{field}", "a", f"--{field}", "b.large")
    assert getattr(settings, field) == {"a", "b.large"}


def test_a_memory_budget_is_an_amount_in_words():
    assert settings_of("--memory-budget", "600MiB").memory_budget == 600 << 20


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ("4 gigs", "should be bytes, as in 600MiB, 4GiB, 2.5g or 1000000, not 4 gigs"),
        ("-1", "should be bytes"),
        ("0", "should be greater than 0, not 0"),
    ],
)
def test_an_amount_that_cannot_be_is_named_with_how_it_is_written(given, because):
    said = " ".join(settings_of("--memory-budget", given).split())
    assert "'--memory-budget'" in said
    assert because in said


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


def test_weights_are_read_by_model():
    settings = settings_of("--weight", "bert=2", "--weight", "mood.large=.5", "--weight", "a=b=1")
    assert settings.weights == {"bert": 2, "mood.large": 0.5, "a=b": 1}


@pytest.mark.parametrize(
    "weight", ["bert", "bert=", "=2", "bert=0", "bert=-1", "bert=nan", "bert=inf", "bert=x"]
)
def test_a_weight_that_is_none_says_how_one_looks(weight):
    output = settings_of("--weight", weight)
    assert "--weight" in output
    assert "bert=2" in output


def test_a_model_has_one_weight():
    assert "has two" in settings_of("--weight", "bert=1", "--weight", "bert=2")


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_settings_refuse_weights_that_cannot_be(weight):
    with pytest.raises(ValidationError):
        Settings(weights={"bert": weight})
    with pytest.raises(ValidationError):
        Tenant(weight=weight)


def test_a_choice_of_numbers_is_a_number():
    assert settings_of("--refuse-with", "429").refuse_with == 429
    assert "503" in settings_of("--refuse-with", "500")


def test_tenants_come_from_a_file(tmp_path):
    file = tmp_path / "tenants.yaml"
    file.write_text("acme: {weight: 3, keys: [secret]}\nnightly:\n")
    settings = settings_of("--tenants", str(file), "--tenant-header", "X-Team")
    assert {name: each.weight for name, each in settings.tenants.items()} == {"acme": 3, "nightly": 1}
    assert settings.tenant_header == "X-Team"
    assert "secret" not in repr(settings)
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_a_file_of_tenants_with_mistakes_is_a_sentence_and_no_trace(tmp_path):
    file = tmp_path / "tenants.yaml"
    file.write_text("acme: {weight: 0}\n")
    assert (
        settings_of("--tenants", str(file))
        == f"Error: {file}:1: acme.weight: should be a number above 0, and is 0\n"
    )
    assert "gone.yaml" in settings_of("--tenants", str(tmp_path / "gone.yaml"))


def test_two_tenants_do_not_share_a_key():
    with pytest.raises(ValidationError, match="a and b have the same key") as caught:
        Settings(tenants={"a": Tenant(keys=("secret",)), "b": Tenant(keys=("secret",))})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a\nb", "ä", "x" * 65, " a"])
def test_a_tenants_name_is_what_a_header_can_say(name):
    with pytest.raises(ValidationError):
        Settings(tenants={name: Tenant()})


def test_a_path_that_is_not_there_is_a_sentence_and_no_trace(tmp_path):
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "gone.onnx")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "gone.onnx is not there" in result.output


def test_a_command_that_is_none_is_a_usage_error():
    assert CliRunner().invoke(main, ["sevre"]).exit_code == 2
