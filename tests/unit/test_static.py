import json
import os

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from headrace.frontends.skill_answers import AnswerWriter
from headrace.messages import Datatype, Group, InferRequest, ModelSpec, TensorSpec, Wanted
from headrace.protocol.response import ResponseEncoder
from headrace.repository.static_answer import MOST_BYTES
from headrace.routing.staged import ANSWER
from headrace.routing.static import NoStaticAnswer, StaticAnswers

LABELS = {"outputs": {"mood": {"kind": "labels", "labels": ["good", "bad", "dull"], "otherwise": "dull"}}}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "popular.json"


def spec_of(*outputs):
    return ModelSpec("m", "1", "fake", (), outputs, max_batch_size=8, joins_requests=True)


def labels_spec(width):
    return spec_of(
        TensorSpec("mood", Datatype.BYTES, (-1, width), batch_axis=0),
        TensorSpec("mood_scores", Datatype.FP32, (-1, width), batch_axis=0),
    )


def everything(spec):
    return Wanted(tuple(range(len(spec.outputs))), (False,) * len(spec.outputs))


def arrays(answers, spec, rows=1, now=0.0):
    """All outputs of a request, by name."""
    part = answers.part(spec, everything(spec), rows, now)
    return {each.name: part.outputs.array(at, part) for at, each in enumerate(spec.outputs)}


def rewrite(file, text):
    file.with_name("beside").write_text(text)
    file.with_name("beside").replace(file)


def test_the_answer_is_the_files_object_without_its_spaces(file):
    file.write_text('{\n  "y": [1, 2.5],\n  "é": null\n}\n')
    assert StaticAnswers(file, {}).json(0.0) == '{"y":[1,2.5],"é":null}'.encode()


def test_a_file_that_changes_is_read_again_but_looked_at_once_a_second_only(file):
    rewrite(file, '{"y": 1}')
    answers = StaticAnswers(file, {})
    assert answers.json(5.0) == b'{"y":1}'
    rewrite(file, '{"y": 2}')
    assert answers.json(5.9) == b'{"y":1}'
    assert answers.json(6.0) == b'{"y":2}'


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("{", "popular.json is not JSON"),
        ("[]", "popular.json is no JSON object"),
        ('{"y": NaN}', "popular.json is not JSON"),
        ('{"y": "' + "x" * MOST_BYTES + '"}', "popular.json has more than 1048576 bytes"),
    ],
)
def test_what_cannot_be_used_leaves_the_answer_before_and_is_said_once(file, broken, reason):
    rewrite(file, '{"y": 1}')
    answers = StaticAnswers(file, {})
    answers.json(0.0)
    rewrite(file, broken)
    with capture_logs() as logs:
        assert {answers.json(float(now)) for now in range(1, 5)} == {b'{"y":1}'}
    (said,) = logs
    assert said["event"] == "static_answer_unusable"
    assert said["reason"].startswith(reason)
    assert said["given"] == "the one read before"
    rewrite(file, '{"y": 3}')
    assert answers.json(5.0) == b'{"y":3}'


def test_a_file_that_goes_leaves_its_answer(file):
    file.write_text('{"y": 1}')
    answers = StaticAnswers(file, {})
    answers.json(0.0)
    file.unlink()
    assert answers.json(1.0) == b'{"y":1}'


def test_a_file_that_never_could_be_read_answers_nothing_until_it_can(file):
    answers = StaticAnswers(file, {})
    for ask in (answers.json, lambda now: arrays(answers, spec_of(), now=now)):
        with pytest.raises(NoStaticAnswer, match=r"there is no file popular\.json"):
            ask(0.0)
    file.write_text('{"y": 1}')
    assert answers.json(1.0) == b'{"y":1}'


def test_a_file_that_could_not_be_read_is_tried_again_although_it_looks_the_same(file):
    file.write_text('{"y": 1')
    os.utime(file, ns=(1, 1))
    answers = StaticAnswers(file, {})
    with pytest.raises(NoStaticAnswer):
        answers.json(0.0)
    file.write_text('{"y":1}')
    os.utime(file, ns=(1, 1))
    assert answers.json(1.0) == b'{"y":1}'


def test_a_pipe_that_nobody_writes_to_holds_nobody_up(file):
    os.mkfifo(file)
    with pytest.raises(NoStaticAnswer, match="there is no file"):
        StaticAnswers(file, {}).json(0.0)


PLAIN = spec_of(
    TensorSpec("score", Datatype.FP32, (-1,), batch_axis=0),
    TensorSpec("vector", Datatype.FP64, (-1, 3), batch_axis=0),
    TensorSpec("any", Datatype.INT64, (-1, -1), batch_axis=0),
    TensorSpec("across", Datatype.UINT8, (2, -1), batch_axis=1),
    TensorSpec("one_for_all", Datatype.BOOL, (2,)),
    TensorSpec("words", Datatype.BYTES, (-1, 2), batch_axis=0),
    TensorSpec("half", Datatype.BF16, (-1, 1), batch_axis=0),
)
ANSWER_OF_PLAIN = {
    "score": 0.5,
    "vector": [1, 2, 3.5],
    "any": [7, -7],
    "across": [1, 255],
    "one_for_all": [True, False],
    "words": ["é", {"b64": "/w=="}],
    "half": [1.5],
}


def test_each_row_of_a_request_gets_the_row_in_the_file_in_the_outputs_datatype(file):
    file.write_text(json.dumps(ANSWER_OF_PLAIN))
    found = arrays(StaticAnswers(file, {}), PLAIN, rows=2)
    assert {name: (str(each.dtype), each.tolist()) for name, each in found.items()} == {
        "score": ("float32", [0.5, 0.5]),
        "vector": ("float64", [[1, 2, 3.5]] * 2),
        "any": ("int64", [[7, -7]] * 2),
        "across": ("uint8", [[1, 1], [255, 255]]),
        "one_for_all": ("bool", [True, False]),
        "words": ("object", [["é".encode(), b"\xff"]] * 2),
        "half": ("uint16", [[0x3FC0]] * 2),
    }


def test_a_row_is_what_the_skills_api_would_write_of_it(file):
    file.write_text(json.dumps(ANSWER_OF_PLAIN))
    part = StaticAnswers(file, {}).part(PLAIN, everything(PLAIN), 1, 0.0)
    assert json.loads(AnswerWriter(PLAIN, {}).write(part)) == ANSWER_OF_PLAIN


def test_only_what_is_wanted_has_to_be_there(file):
    file.write_text('{"score": 1}')
    answers = StaticAnswers(file, {})
    part = answers.part(PLAIN, Wanted((0,), (False,)), 3, 0.0)
    assert part.outputs.values(0, part) == ((3,), [1.0, 1.0, 1.0])
    with pytest.raises(
        NoStaticAnswer, match=r"popular.json: output 'vector' is asked for, and there is no vec"
    ):
        answers.part(PLAIN, Wanted((0, 1), (False, False)), 3, 0.0)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"score": "high"}, "it has something other than numbers"),
        ({"score": [1]}, r"has the shape \[1\] in the file, and \[\] in the model"),
        ({"vector": [1, 2]}, r"has the shape \[2\] in the file, and \[3\] in the model"),
        ({"any": [1.5]}, "it has floats, and is to be INT64"),
        ({"any": [[1], [2, 3]]}, "its lists are not all of one length"),
        ({"across": [1, 256]}, "it has elements that do not fit UINT8"),
        ({"words": ["a", 1]}, "it has something other than text"),
        ({"words": ["a", {"b64": "é"}]}, "has what is no base64"),
        ({"score": {"label": "good"}}, "it has something other than numbers"),
        ({"score": None}, "it has something other than numbers"),
    ],
)
def test_what_does_not_fit_the_model_is_no_answer_and_is_said_once(file, wrong, reason):
    file.write_text(json.dumps(ANSWER_OF_PLAIN | wrong))
    answers = StaticAnswers(file, {})
    with capture_logs() as logs:
        for now in range(3):
            with pytest.raises(NoStaticAnswer, match=reason):
                arrays(answers, PLAIN, now=float(now))
    assert [each["event"] for each in logs] == ["static_answer_does_not_fit"]


def test_another_spec_and_another_answer_are_held_against_each_other_anew(file):
    rewrite(file, '{"y": [1, 2]}')
    answers = StaticAnswers(file, {})
    narrow = spec_of(TensorSpec("y", Datatype.FP32, (-1, 2), batch_axis=0))
    wide = spec_of(TensorSpec("y", Datatype.FP32, (-1, 3), batch_axis=0))
    assert arrays(answers, narrow)["y"].tolist() == [[1, 2]]
    with pytest.raises(NoStaticAnswer):
        arrays(answers, wide)
    rewrite(file, '{"y": [1, 2, 3]}')
    assert arrays(answers, wide, now=1.0)["y"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("value", "width", "names", "scores"),
    [
        ({"label": "good", "score": 0.75}, 1, ["good"], [0.75]),
        ({"label": "good", "score": 0.75}, 2, ["good", ""], [0.75, 0]),
        (
            {
                "label": "good",
                "score": 0.75,
                "top": [{"label": "good", "score": 0.75}, {"label": "bad", "score": 0.25}],
            },
            3,
            ["good", "bad", ""],
            [0.75, 0.25, 0],
        ),
        ({"label": None, "score": None}, 1, [""], [0]),
        ({"label": "dull", "score": None}, 1, ["dull"], [0]),
        ({"label": None, "score": None, "top": []}, 2, ["", ""], [0, 0]),
        ({"label": "good"}, -1, ["good"], [0]),
    ],
)
def test_labels_become_their_names_and_their_scores(file, value, width, names, scores):
    file.write_text(json.dumps({"mood": value}))
    found = arrays(StaticAnswers(file, LABELS), labels_spec(width), rows=2)
    assert found["mood"].tolist() == [[name.encode() for name in names]] * 2
    assert found["mood_scores"].tolist() == [scores] * 2


@pytest.mark.parametrize("width", [1, 2, 3])
def test_labels_are_told_as_the_model_would(file, width):
    best = {"label": "good", "score": 0.75}
    answer = {"mood": best if width == 1 else best | {"top": [best, {"label": "bad", "score": 0.25}]}}
    file.write_text(json.dumps(answer))
    spec = labels_spec(width)
    part = StaticAnswers(file, LABELS).part(spec, everything(spec), 1, 0.0)
    assert json.loads(AnswerWriter(spec, LABELS).write(part)) == answer


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("good", r"output 'mood' should have labels, as in \{\"label\": \"good\""),
        ({"label": "good", "scroe": 1}, "scroe"),
        (
            {"label": "a", "top": [{"label": "a"}, {"label": "b"}]},
            "has 2 labels in the file, and 1 in the model",
        ),
    ],
)
def test_what_is_no_label_is_no_answer(file, value, reason):
    file.write_text(json.dumps({"mood": value}))
    with pytest.raises(NoStaticAnswer, match=reason):
        arrays(StaticAnswers(file, LABELS), labels_spec(1))


def test_what_stands_for_the_answer_of_code_is_the_whole_file(file):
    file.write_text('{"is_fraud": false}')
    steps = {"outputs": {}, "transform": {"after": True}}
    spec = spec_of(ANSWER)
    part = StaticAnswers(file, steps).part(spec, everything(spec), 1, 0.0)
    assert AnswerWriter(spec, steps).write(part) == b'{"is_fraud":false}'


@pytest.mark.parametrize("is_binary", [False, True])
def test_an_answer_of_the_protocol_can_be_written_of_it(file, is_binary):
    file.write_text('{"y": [1, 2], "word": "a"}')
    spec = spec_of(
        TensorSpec("y", Datatype.FP32, (-1, 2), batch_axis=0),
        TensorSpec("word", Datatype.BYTES, (-1,), batch_axis=0),
    )
    wanted = Wanted((0, 1), (is_binary, is_binary))
    request = InferRequest("", (), (), 2, Group(1), wanted, 0)
    content, header_length = ResponseEncoder(spec).encode(
        request, StaticAnswers(file, {}).part(spec, wanted, 2, 0.0)
    )
    outputs = msgspec.json.decode(content[:header_length])["outputs"]
    assert [each["shape"] for each in outputs] == [[2, 2], [2]]
    if is_binary:
        assert content[header_length:] == np.float32([1, 2, 1, 2]).tobytes() + b"\1\0\0\0a" * 2
    else:
        assert [each["data"] for each in outputs] == [[1, 2, 1, 2], ["a", "a"]]
