"""`headrace schema`: the JSON Schema of skill.yaml, for editors."""

import json

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Print the JSON Schema of skill.yaml.

    Editors check and complete by it: keep it as skill.schema.json and begin a skill.yaml with

    \b
    # yaml-language-server: $schema=skill.schema.json
    """  # noqa: D301 - click's mark for lines that stay as they are
    from headrace.repository.skill_yaml import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
