"""What the demo builds: graphs that answer as the models they were made of. Nothing here is downloaded."""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import yaml

from headrace.testing import run_server

DEMO = Path(__file__).parents[2] / "demo"
sys.path.append(str(DEMO))  # the demo is a folder of scripts, not a package

import ask  # noqa: E402
import case  # noqa: E402
import credit_risk  # noqa: E402
import graphs  # noqa: E402
import judge  # noqa: E402
import photo_moderation  # noqa: E402
import sentiment  # noqa: E402
import upload_guard  # noqa: E402

pytestmark = pytest.mark.integration

FEATURES = {"amount": None, "housing": ["own", "rent", "free"], "age": None, "job": ["none", "some"]}


def loans(count: int) -> list[dict[str, float | str]]:
    rng = np.random.default_rng(7)
    return [
        {
            "amount": float(rng.integers(100, 9000)),
            "housing": FEATURES["housing"][rng.integers(2)],  # nobody lives for free
            "age": float(rng.integers(18, 80)),
            "job": FEATURES["job"][rng.integers(2)],
        }
        for _ in range(count)
    ]


def vectors(items: list[dict[str, float | str]]) -> np.ndarray:
    rows = [
        [item[name] if known is None else known.index(item[name]) for name, known in FEATURES.items()]
        for item in items
    ]
    return np.array(rows, np.float32)


@pytest.fixture(scope="module")
def scorecard(tmp_path_factory):
    """The trained model and the graph that was written of it."""
    items = loans(200)
    are_bad = [item["amount"] > 5000 or item["job"] == "none" for item in items]
    model = credit_risk.trained(items, are_bad)
    path = tmp_path_factory.mktemp("credit") / "model.onnx"
    graphs.scorecard(path, list(FEATURES), *credit_risk.points_of(FEATURES, model))
    return model, ort.InferenceSession(path)


def test_the_scorecard_gives_the_probabilities_of_scikit_learn(scorecard):
    model, session = scorecard
    both, bad = session.run(["probabilities", "probability"], {"x": vectors(loans(50))})
    expected = model.predict_proba(loans(50))
    np.testing.assert_allclose(both, expected, atol=1e-6)
    np.testing.assert_array_equal(bad, both[:, 1])


def test_contributions_add_up_from_the_average_applicant_to_the_log_odds(scorecard):
    model, session = scorecard
    (contributions,) = session.run(["contributions"], {"x": vectors(loans(200))})
    np.testing.assert_allclose(
        contributions.mean(axis=0), 0, atol=1e-5
    )  # loans(200) is what it was trained on
    base = model.steps[-1][1].intercept_[0]
    np.testing.assert_allclose(
        base + contributions.sum(axis=1), model.decision_function(loans(200)), atol=1e-5
    )


def test_an_index_beyond_a_features_categories_is_its_last_category(scorecard):
    _, session = scorecard
    rows = np.array([[1000, 2, 30, 0], [1000, 7, 30, 0]], np.float32)
    (contributions,) = session.run(["contributions"], {"x": rows})
    np.testing.assert_array_equal(contributions[0], contributions[1])


def test_a_sentences_label_is_that_of_its_mean_hidden_state(tmp_path):
    skill, rng = sentiment.Sentiment(), np.random.default_rng(3)
    weights, bias = rng.standard_normal((384, 2)), np.array([0.5, -0.5])
    path = tmp_path / "model.onnx"
    graphs.sentence_classifier(path, skill._encoder, sentiment.HIDDEN, weights, bias)
    ids = np.array([[101, 2307, 2614, 102, 0, 0], [101, 2009, 3631, 2044, 2048, 102]])
    feed = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}
    (logits,) = ort.InferenceSession(path).run(None, feed)
    (hidden,) = ort.InferenceSession(skill._encoder).run([sentiment.HIDDEN], feed)
    means = [hidden[0, :4].mean(axis=0), hidden[1].mean(axis=0)]
    np.testing.assert_allclose(logits, means @ weights + bias, atol=1e-4)


def test_the_moderator_of_larger_photos_looks_at_their_middle(tmp_path):
    skill = photo_moderation.PhotoModeration()
    skill.build(tmp_path)
    whole = np.random.default_rng(5).uniform(-120, 120, (2, 256, 256, 3)).astype(np.float32)
    (shares,) = ort.InferenceSession(tmp_path / "model.onnx").run(None, {"pixels": whole})
    original = ort.InferenceSession(skill._original)
    (expected,) = original.run(["outputs"], {"input:0": whole[:, 16:240, 16:240]})
    np.testing.assert_array_equal(shares, expected)


def test_every_category_of_the_loans_is_one_that_callers_can_send():
    described = yaml.safe_load((DEMO / "skills/credit-risk/skill.yaml").read_text())
    record = described["inputs"]["applicant"]["record"]
    assert set(credit_risk.COLUMNS.values()) == set(record)
    for feature, names in credit_risk.CATEGORIES.items():
        said = record[feature]
        assert set(names.values()) <= set(said["categories"] if isinstance(said, dict) else said), feature


@pytest.fixture(scope="module")
def served(tmp_path_factory, profiles):
    """The two skills that nothing has to be downloaded for."""
    folder = tmp_path_factory.mktemp("skills")
    for skill in (photo_moderation.PhotoModeration(), upload_guard.UploadGuard()):
        shutil.copytree(case.HOME / skill.name, folder / skill.name)
        skill.build(folder / skill.name)
    with run_server([folder], profile_dir=profiles) as running:
        yield f"{running.host}:{running.port}"


def held_against_the_model_by_itself(address: str, skill: case.Skill, cases: list[case.Case]):
    caller = ask.Caller(address)
    verdicts = [judge.verdict(skill, answer) for answer in caller.answers(skill.name, cases)]
    caller.close()
    return judge.compare(skill, cases, verdicts, skill.bare(cases))


def test_photos_are_answered_as_by_the_model_and_pillow(served):
    skill = photo_moderation.PhotoModeration()
    comparison = held_against_the_model_by_itself(served, skill, skill.cases()[:6])
    assert comparison.is_equal, comparison


def test_files_are_answered_as_by_magikas_own_package(served):
    skill = upload_guard.UploadGuard()
    files = [*sorted(DEMO.glob("*.*")), photo_moderation.photo("rocket.jpg"), Path(sys.executable)]
    comparison = held_against_the_model_by_itself(
        served, skill, [case.Case({"file": each}) for each in files]
    )
    assert comparison.is_equal, comparison
