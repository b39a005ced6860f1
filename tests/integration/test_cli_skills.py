"""`headrace infer` in callers' words, against the skills of test_skills.py's kind."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from onnx import helper

from headrace.cli.main import main
from headrace.testing import RunningServer, run_server
from tests.integration import graphs

pytestmark = pytest.mark.integration

OWN = """
import numpy as np

from headrace import InvalidItem


class Transform:
    def before(self, item):
        if "text" in item and not item["text"].isascii():
            raise InvalidItem("ASCII only")
        return {"x": np.array([len(each) for each in item.values()][:1] * 2, np.float32)}

    def after(self, outputs):
        return {"length": {"label": f"{outputs['y'][0]:g}", "score": 0.5}}
"""
SKILLS = {
    "echo": "inputs: {text: {value: text}}\nvariants: {one: {}, two: {}}",
    "size": "inputs: {file: {value: bytes}}",
    "loans": "inputs: {applicant: {record: {amount: number, purpose: [car, house]}, to: x}}",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("skills")
    for name, text in SKILLS.items():
        axes = ["rows", 2]
        graphs.save(
            folder / name / "model.onnx",
            [helper.make_node("Identity", ["x"], ["y"])],
            [("x", "FP32", axes)],
            [("y", "FP32", axes)],
        )
        (folder / name / "skill.yaml").write_text(text)
    for name in ("echo", "size"):
        (folder / name / "transform.py").write_text(OWN)
    with run_server([folder], profile_dir=profiles) as running:
        yield running


def infer(server: RunningServer, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["infer", "--url", server.url, *arguments], input=stdin)


def test_a_text_is_answered_readably(served):
    result = infer(served, "echo", "--text", "four")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first.startswith("echo (one) version 1 answered in ")
    assert second == "length  4 0.500"


def test_a_variant_may_be_asked_for_and_json_is_the_servers_own(served):
    result = infer(served, "echo", "--text", "four", "--variant", "two", "--json")
    assert json.loads(result.stdout) == {
        "skill": "echo",
        "variant": "two",
        "version": "1",
        "answer": {"length": {"label": "4", "score": 0.5}},
    }


def test_a_file_goes_to_the_input_that_takes_one(served, tmp_path):
    (tmp_path / "a=b.bin").write_bytes(b"\xff" * 5)
    for given in (f"{tmp_path}/a=b.bin", f"file={tmp_path}/a=b.bin"):
        result = infer(served, "size", "--file", given)
        assert result.stdout.splitlines()[1] == "length  5 0.500", result.output


@pytest.mark.parametrize(
    "data", ['{"amount": 3, "purpose": "house"}', '{"applicant": {"amount": 3, "purpose": "house"}}']
)
def test_a_record_may_come_by_itself_or_by_its_inputs_name(served, data):
    result = infer(served, "loans", "--data", data)
    assert result.stdout.splitlines()[1] == "y  [3.0, 1.0]", result.output


def test_each_line_of_standard_input_gets_a_line(served):
    lines = "\n".join(["a" * n for n in range(1, 71)])
    result = infer(served, "echo", stdin=lines)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [f"{n} 0.500" for n in range(1, 71)]


def test_a_line_that_fails_is_told_in_its_place_and_the_exit_status_says_so(served):
    result = infer(served, "echo", "--json", stdin='one\nzwölf\n\n{"text": "three"}\n')
    assert result.exit_code == 1
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert (first["length"]["label"], third["length"]["label"]) == ("3", "5")
    assert second["error"]["code"] == "invalid_item"
    assert infer(served, "echo", stdin="ü\nö\n").stdout.count("ASCII only") == 2


MISTAKES = {
    "skill": (["nobody", "--text", "x"], "has no skill 'nobody'; it has: echo, "),
    "variant": (["echo", "--text", "x", "--variant", "three"], "has no variant 'three'; it has one, two"),
    "version": (["echo", "--text", "x", "--version", "9"], "'echo' version 9 is not found"),
    "no text": (["loans", "--text", "x"], "'loans' takes applicant (a record) and no text"),
    "no file": (["echo", "--file", "x"], "'echo' takes text (text) and no file"),
    "not there": (["size", "--file", "/nowhere"], "/nowhere cannot be read: No such file"),
    "no JSON": (["loans", "--data", "x"], "it is no JSON"),
    "a feature": (["loans", "--data", '{"amount": 3, "purpose": "boat"}'], "boat"),
    "both": (["echo", "--text", "x", "--input", "x=1"], "do not go with --input or --request"),
}


@pytest.mark.parametrize(("arguments", "message"), list(MISTAKES.values()), ids=list(MISTAKES))
def test_mistakes_are_explained(served, arguments, message):
    result = infer(served, *arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    assert message in result.stderr


def test_the_schema_is_printed_as_json():
    result = CliRunner().invoke(main, ["schema"])
    assert json.loads(result.stdout)["title"] == "skill.yaml"
