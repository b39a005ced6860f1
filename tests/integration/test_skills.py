"""The skills API against real skills: a small text classifier, records, files, photos, a skill with code of its own."""

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from onnx import helper
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.wire import Answer, Wire, chunked, message

pytestmark = pytest.mark.integration

WORDS = ["[UNK]", "good", "bad", "film"]
SKILLS = {
    "mood": """
        description: whether a review is content
        objective: {latency_p99_ms: 50, priority: high}
        share: {weight: 2, priorities: {1: 0.5, 2: null}}
        inputs:
          text: {tokenizer: tokenizer.json, max_tokens: 8}
        outputs:
          label: {from: logits, softmax: true, labels: labels.txt}
          both: {from: logits, softmax: true, labels: labels.txt, top_k: 2, threshold: 0.2, otherwise: neither}
          tags: {from: logits, sigmoid: true, labels: [happy, angry], threshold: 0.6}
          raw: {from: logits}
        variants:
          plain: {}
          again: {model: model.onnx, instances: 1}
        padding: {input_ids: 0, attention_mask: 0}
        examples:
          - {input: {text: a good film}, answer: {label: good}}
        """,
    "loans": """
        inputs:
          applicant: {record: {amount: number, purpose: [car, house], age: {number: {default: 30}}}, to: x}
        """,
    "photos": """
        inputs:
          photo: {to: x, image: {size: [2, 2], resize: stretch, layout: NHWC, scale: 1, max_pixels: 10000}}
        """,
    "own": """
        inputs: {words: {value: text}, factor: {value: number}, extra: {value: json}}
        outputs: {y: {}}
        """,
}
OWN = """
import numpy as np

from headrace import InvalidItem


class Transform:
    def before(self, item):
        if not item["words"]:
            raise InvalidItem("say something")
        return {"x": np.array([len(item["words"]) * item["factor"], len(item["extra"])], np.float32)}

    def after(self, outputs):
        return {"doubled": outputs["y"].tolist()}
"""


def classifier(path: Path) -> None:
    """input_ids, attention_mask [rows, n] → logits [rows, 2]: 2 for each good and each bad."""
    graphs.save(
        path,
        [
            helper.make_node("Gather", ["table", "input_ids"], ["each"]),
            helper.make_node("Cast", ["attention_mask"], ["weights"], to=1),
            helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
            helper.make_node("Mul", ["each", "column"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "tokens"], ["logits"], keepdims=0),
        ],
        [("input_ids", "INT64", ["rows", "n"]), ("attention_mask", "INT64", ["rows", "n"])],
        [("logits", "FP32", ["rows", 2])],
        table=np.array([[0, 0], [2, 0], [0, 2], [0, 0]], "f4"),
        last=np.array([2]),
        tokens=np.array([1]),
    )


def same(path: Path, *axes: int) -> None:
    """x [rows, ...] → y, the same."""
    shape = ["rows", *axes]
    graphs.save(
        path, [helper.make_node("Identity", ["x"], ["y"])], [("x", "FP32", shape)], [("y", "FP32", shape)]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("skills")
    for name, text in SKILLS.items():
        (place / name).mkdir()
        (place / name / "skill.yaml").write_text(dedent(text))
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(place / "mood" / "tokenizer.json"))
    (place / "mood" / "labels.txt").write_text("good\nbad\n")
    (place / "own" / "transform.py").write_text(OWN)
    classifier(place / "mood" / "model.onnx")
    same(place / "loans" / "model.onnx", 3)
    same(place / "photos" / "model.onnx", 2, 2, 3)
    same(place / "own" / "model.onnx", 2)
    graphs.mlp(place / "mlp.onnx")
    graphs.identity(place / "texts.onnx", "BYTES")
    (place / "broken").mkdir()
    (place / "broken" / "skill.yaml").write_text("inptus: {}\nformat: 7\n")
    return place


@pytest.fixture(scope="module")
def served(folder: Path, profiles: Path) -> Iterator[RunningServer]:
    with run_server([folder], profile_dir=profiles, http_max_input_size=1 << 20) as running:
        yield running


@pytest.fixture
def wire(served: RunningServer) -> Iterator[Wire]:
    with Wire(served.host, served.port) as connection:
        yield connection


def ask(wire: Wire, skill: str, content: object, content_type: str = "application/json") -> Answer:
    return wire.post(f"/v1/skills/{skill}", content, {"Content-Type": content_type})


def answered(wire: Wire, skill: str, content: object, content_type: str = "application/json") -> dict:
    answer = ask(wire, skill, content, content_type)
    assert answer.status == 200, answer.body
    return answer.json()["answer"]


def picture() -> bytes:
    content = BytesIO()
    Image.new("RGB", (4, 4), (10, 20, 30)).save(content, "PNG")
    return content.getvalue()


def form(**parts: bytes) -> tuple[bytes, str]:
    body = b"".join(
        b'--X\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\n\r\n%b\r\n'
        % (name.encode(), content)
        for name, content in parts.items()
    )
    return body + b"--X--\r\n", "multipart/form-data; boundary=X"


def test_a_sentence_becomes_a_label(wire):
    answer = ask(wire, "mood", {"text": "a good film"}).json()
    assert {key: answer[key] for key in ("skill", "variant", "version")} == {
        "skill": "mood",
        "variant": "plain",
        "version": "1",
    }
    said = answer["answer"]
    assert said["label"] == {"label": "good", "score": pytest.approx(np.exp(2) / (np.exp(2) + 1), abs=1e-5)}
    assert said["raw"] == [2.0, 0.0]


def test_several_labels_are_listed_best_first_without_those_below_the_threshold(wire):
    said = answered(wire, "mood", {"text": "good bad"})
    assert [each["label"] for each in said["both"]["top"]] == ["good", "bad"]
    assert [each["label"] for each in answered(wire, "mood", {"text": "good"})["both"]["top"]] == ["good"]
    assert {each["label"] for each in said["tags"]["top"]} == {"happy", "angry"}
    assert answered(wire, "mood", {"text": "film"})["tags"] == {"label": None, "score": None, "top": []}


def test_many_items_are_answered_in_their_order_and_fail_one_by_one(wire):
    items = [{"text": "good"}, {"text": 3}, {"text": "bad"}, {}, {"text": "good " * 9}, {"txt": "good"}]
    answer = ask(wire, "mood", {"items": items})
    assert answer.status == 200
    first, second, third, fourth, fifth, sixth = answer.json()["answers"]
    assert (first["label"]["label"], third["label"]["label"]) == ("good", "bad")
    assert second["error"] == {"code": "invalid_request", "message": "input 'text' should be text, and is 3"}
    assert "input 'text' is missing" in fourth["error"]["message"]
    assert "8 are the limit" in fifth["error"]["message"]
    assert "there is no input 'txt'" in sixth["error"]["message"]


def test_where_all_items_fail_the_first_error_is_the_answers(wire):
    answer = ask(wire, "mood", {"items": [{"text": 1}, {}]})
    assert answer.status == 400
    assert answer.error == "input 'text' should be text, and is 1"
    assert ask(wire, "mood", {"items": []}).json()["answers"] == []


def test_everything_wrong_with_an_item_is_said_at_once(wire):
    error = ask(wire, "own", {"words": 1, "factor": "x", "extr": 3}).error
    for part in (
        "input 'words' should be text, and is 1",
        "input 'factor' should be a number, and is text",
        "input 'extra' is missing",
        "there is no input 'extr'",
        "the skill takes words (text), factor (a number), extra (any JSON)",
    ):
        assert part in error


def test_a_variant_is_asked_for_by_name(wire):
    answer = wire.post("/v1/skills/mood?variant=again", {"text": "bad"}).json()
    assert (answer["skill"], answer["variant"], answer["answer"]["label"]["label"]) == (
        "mood",
        "again",
        "bad",
    )
    assert wire.post("/v1/skills/mood.again?version=1", {"text": "bad"}).json()["variant"] == "again"
    refused = wire.post("/v1/skills/mood?variant=other", {"text": "bad"})
    assert (refused.status, refused.error) == (
        404,
        "skill 'mood' has no variant 'other'; it has plain, again",
    )
    assert wire.post("/v1/skills/mood?version=2", {"text": "bad"}).status == 404


def test_a_variant_is_asked_for_by_its_name_beside_another_ones(wire):
    for name in ("plain", "again"):
        answer = wire.post(f"/v1/skills/mood.again?variant={name}", {"text": "bad"}).json()
        assert (answer["skill"], answer["variant"]) == ("mood", name)
    refused = wire.post("/v1/skills/mood.again?variant=other", {"text": "bad"})
    assert refused.error == "skill 'mood' has no variant 'other'; it has plain, again"


def test_lists_of_numbers_too_long_for_json_are_refused_whole(wire):
    assert "binary tensors" in ask(wire, "mlp", {"items": [{"x": [0.123456789] * 64}] * 512}).error


def test_a_record_is_read_by_its_features(wire):
    assert answered(wire, "loans", {"applicant": {"amount": 5, "purpose": "house"}}) == {
        "y": [5.0, 1.0, 30.0]
    }
    assert "boat" in ask(wire, "loans", {"applicant": {"amount": 5, "purpose": "boat"}}).error
    assert "should be a record" in ask(wire, "loans", {"applicant": [5]}).error


def test_a_photo_comes_by_itself_in_a_form_or_in_json(wire):
    body, kind = form(photo=picture())
    seen = [
        answered(wire, "photos", picture(), "image/png"),
        answered(wire, "photos", body, kind),
        answered(wire, "photos", {"photo": {"b64": base64.b64encode(picture()).decode()}}),
    ]
    assert all(each == {"y": [[[10.0, 20.0, 30.0]] * 2] * 2} for each in seen)


def test_a_file_that_is_no_photo_is_refused_in_words(wire):
    assert 400 <= ask(wire, "photos", b"no photo", "image/jpeg").status < 500
    assert "base64" in ask(wire, "photos", {"photo": {"b64": "%%%"}}).error
    assert 'as {"b64": "..."} in JSON, and is text' in ask(wire, "photos", {"photo": "x.png"}).error


def test_a_body_of_a_kind_that_is_not_taken_is_told_what_is(wire):
    answer = ask(wire, "loans", b"x", "image/png")
    assert (answer.status, answer.json()["code"]) == (415, "unsupported_media_type")
    assert "send application/json or multipart/form-data" in answer.error
    assert "text/plain" in ask(wire, "mood", b"x", "image/png").error


def test_plain_text_is_the_only_text_there_is(wire):
    assert answered(wire, "mood", b"a bad film", "text/plain; charset=utf-8")["label"]["label"] == "bad"
    assert "UTF-8" in ask(wire, "mood", b"\xff", "text/plain").error


def test_forms_carry_text_numbers_and_json(wire):
    body, kind = form(words=b"four", factor=b"2", extra=b"[1, 2, 3]")
    assert answered(wire, "own", body, kind) == {"doubled": [8.0, 3.0]}
    body, kind = form(words=b"four", factor=b"two", extra=b"{")
    error = ask(wire, "own", body, kind).error
    assert "input 'factor' should be a number" in error
    assert "input 'extra' should be JSON" in error


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", "multipart/form-data", "names no boundary"),
        (b"--Y\r\n\r\nx\r\n--Y--", "multipart/form-data; boundary=X", "the form cannot be read"),
        (
            form(text=b"x")[0].removesuffix(b"--\r\n") + b"\r\n" + form(text=b"y")[0][5:],
            "multipart/form-data; boundary=X",
            "the form has 'text' twice",
        ),
        (
            b"--X\r\nContent-Disposition: form-data\r\n\r\nx\r\n--X--",
            "multipart/form-data; boundary=X",
            "no name",
        ),
        (form(text=b"x")[0][:40], "multipart/form-data; boundary=X", "the form ends within its first part"),
    ],
    ids=["no boundary", "another", "twice", "no name", "cut"],
)
def test_a_form_that_cannot_be_read_is_refused(wire, body, kind, said):
    answer = ask(wire, "mood", body, kind)
    assert answer.status == 400
    assert said in answer.error


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"[]", b"3", b'{"items": 3}', b'{"items": [3]}', b'{"items": [], "text": "x"}', b"[" * 5000],
)
def test_a_body_that_is_no_item_is_refused(wire, body):
    answer = ask(wire, "mood", body)
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(wire):
    answer = ask(wire, "mood", b'{"text": "' + b"x" * (1 << 20) + b'"}')
    assert (answer.status, answer.json()["code"]) == (400, "too_large")


def test_a_body_may_come_in_chunks(served):
    with Wire(served.host, served.port) as wire:
        headers = {"Transfer-Encoding": "chunked"}
        wire.send(message("POST", "/v1/skills/mood", chunked(b'{"text": "good"}', 4), headers))
        assert wire.receive().status == 200


def test_code_of_a_skill_answers_and_refuses_for_itself(wire):
    asked = {"words": "abc", "factor": 0.5, "extra": {"a": 1}}
    assert answered(wire, "own", asked) == {"doubled": [1.5, 1.0]}
    answer = ask(wire, "own", {**asked, "words": ""})
    assert (answer.status, answer.json()["code"]) == (422, "invalid_item")
    assert "say something" in answer.error
    answers = ask(wire, "own", {"items": [asked, {**asked, "words": ""}, asked]}).json()["answers"]
    assert ["error" in each for each in answers] == [False, True, False]


def test_every_model_is_a_skill(wire):
    row = np.linspace(0, 1, 64).tolist()
    flat = wire.infer(
        "mlp", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "data": row}]}
    ).json()
    assert answered(wire, "mlp", {"x": row}) == {"y": pytest.approx(flat["outputs"][0]["data"])}
    assert answered(wire, "texts", {"x": ["a", "b", "c", "ü"]}) == {"y": ["a", "b", "c", "ü"]}
    assert ask(wire, "mlp", {"x": row[1:]}).error == "input 'x' should be a list of 64 numbers, and is 63"
    assert ask(wire, "mlp", {"x": [row]}).error == "input 'x' should be a list of 64 numbers, and is 1 x 64"
    ragged = [[1], *row[1:]]
    assert ask(wire, "mlp", {"x": ragged}).status == 400


def test_what_there_is_is_listed_in_callers_words(wire):
    skills = {each["name"]: each for each in wire.get("/v1/skills").json()["skills"]}
    assert set(skills) == {"mood", "loans", "photos", "own", "mlp", "texts", "broken"}
    mood = skills["mood"]
    assert mood == wire.get("/v1/skills/mood").json()
    assert (mood["description"], mood["ready"]) == ("whether a review is content", True)
    assert mood["variants"] == ["plain", "again"]
    assert mood["objective"] == {"latency_p99_ms": 50, "priority": "high"}
    assert mood["share"] == {"weight": 2, "priorities": {"1": 0.5, "2": None}, "default_priority": 2}
    assert skills["mlp"]["share"] == {"weight": 1, "priorities": {}, "default_priority": None}
    assert [(each["name"], each["kind"]) for each in mood["inputs"]] == [("text", "text")]
    assert [(each["name"], each["kind"]) for each in mood["outputs"]] == [
        ("label", "labels"),
        ("both", "labels"),
        ("tags", "labels"),
        ("raw", "raw"),
    ]
    assert mood["outputs"][0]["labels"] == ["good", "bad"]
    assert wire.get("/v1/skills/none").status == 404


def test_a_skill_with_mistakes_is_refused_by_name_and_the_others_serve(wire):
    broken = wire.get("/v1/skills/broken").json()
    assert broken["ready"] is False
    assert "broken/skill.yaml:1: inptus: unknown key; did you mean inputs?" in broken["reason"]
    assert "skill.yaml:2: format: should be 1" in broken["reason"]
    assert ask(wire, "broken", {}).status == 503


def test_the_same_skill_speaks_the_protocol(wire):
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["good", "bad bad"]}]}
    outputs = {each["name"]: each for each in wire.infer("mood", body).json()["outputs"]}
    assert outputs["label"]["data"] == ["good", "bad"]
    assert answered(wire, "mood", {"text": "bad bad"})["label"]["score"] == pytest.approx(
        outputs["label_scores"]["data"][1]
    )


def test_deadlines_ids_and_compression_are_those_of_the_protocol(wire):
    headers = {"X-Request-Id": "abc", "Accept-Encoding": "gzip"}
    answer = wire.post("/v1/skills/mood", {"text": "good"}, headers)
    assert answer.headers["x-request-id"] == "abc"
    refused = wire.post("/v1/skills/mood", {"text": "good"}, {"X-Request-Timeout-Seconds": "0.000000001"})
    assert (refused.status, refused.json()["code"]) == (504, "deadline_exceeded")


def test_another_verb_is_told_which_there_are(wire):
    answer = wire.request("DELETE", "/v1/skills/mood")
    assert answer.status == 405
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


def test_numbers_json_does_not_have_are_null(wire):
    assert (
        json.loads(ask(wire, "loans", {"applicant": {"amount": 1e38, "purpose": "car"}}).body)["answer"]["y"][
            0
        ]
        > 0
    )
    answer = ask(wire, "own", {"words": "a" * 10, "factor": 1e38, "extra": []})
    assert answer.status == 200
    assert answer.json()["answer"]["doubled"][0] is None
