"""GET /v1/skills and /v1/skills/NAME: what there is, in callers' terms."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response as StarletteResponse

from headrace.errors import UnknownVersion
from headrace.frontends.routes import respond
from headrace.frontends.skill_desk import SkillDesk, is_first
from headrace.messages import ModelSpec

PRIORITIES = {1: "high", 2: "normal", 3: "low"}
MILLISECONDS = 1e3


class SkillList:
    """GET /v1/skills and /v1/skills/NAME: what there is, in callers' terms."""

    def __init__(self, skills: SkillDesk) -> None:
        self._skills = skills

    async def all(self, _: Request) -> StarletteResponse:
        catalog = self._skills.desk.catalog
        names = dict.fromkeys(each.source.name for each in catalog if is_first(each))
        return respond({"skills": [self._described(name) for name in names]})

    async def one(self, request: Request) -> StarletteResponse:
        return respond(self._described(request.path_params["name"]))

    def _described(self, name: str) -> dict[str, Any]:
        """A skill and its variants; what it takes and gives is known once a version of it is ready."""
        versions = self._skills.desk.catalog.versions(name)
        if not versions:
            raise UnknownVersion(name, None)
        shown = next((each for each in reversed(versions) if each.accepts), versions[-1])
        config = shown.source.config
        described: dict[str, Any] = {
            "name": name,
            "description": config.description,
            "ready": any(each.is_within_reach for each in versions),
            "versions": [each.source.version for each in versions],
            "variants": list(config.variants) if is_first(shown) else [],
            "objective": {
                "latency_p99_ms": None
                if config.latency_p99_s is None
                else round(config.latency_p99_s * MILLISECONDS, 6),
                "priority": PRIORITIES.get(config.priority, "normal"),
            },
            "share": {
                "weight": self._skills.desk.settings.weights.get(name, config.weight),
                "priorities": {str(level): policy.share for level, policy in config.levels.items()},
                "default_priority": config.default_level or None,
            },
        }
        if not shown.accepts:
            return {**described, "reason": shown.reason, "inputs": [], "outputs": []}
        codec = self._skills.codec(shown)
        described["inputs"] = [
            {"name": each.name, "kind": each.kind, "send": each.wants, "required": not each.is_optional}
            | input_details(config.steps.get("inputs", {}).get(each.name, {}))
            for each in codec.reader.readers.values()
        ]
        described["outputs"] = outputs_described(codec.spec, config.steps)
        return described


def input_details(step: dict[str, Any]) -> dict[str, Any]:
    """What a caller should know of an input's declaration."""
    keys = ("max_tokens", "too_long", "record")
    return {key: step[key] for key in keys if key in step}


def outputs_described(spec: ModelSpec, steps: dict[str, Any]) -> list[dict[str, Any]]:
    declared = steps.get("outputs", {})
    if steps.get("transform", {}).get("after"):
        return [{"name": name, "kind": "json"} for name in declared] or [{"name": "answer", "kind": "json"}]
    described = []
    for each in spec.outputs:
        step = declared.get(each.name)
        labels = declared.get(each.name.removesuffix("_scores"), {})
        if step is None and labels.get("kind") == "labels":
            continue  # the scores are told with their labels
        axis = each.batch_axis
        shape = each.shape if axis is None else each.shape[:axis] + each.shape[axis + 1 :]
        details = {"labels": step["labels"]} if step and "labels" in step else {"shape": list(shape)}
        described.append({"name": each.name, "kind": (step or {}).get("kind", "raw"), **details})
    return described
