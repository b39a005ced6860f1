"""From a skill's output tensors to what its callers read: labels with scores, embeddings, nested lists."""

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.errors import InferenceFailed
from headrace.messages import Datatype, ModelSpec, TensorSpec
from headrace.parts import Part

MOST_ELEMENTS = 1 << 17
"""Of one answer: to write more as JSON would hold up the loop."""
SCORES = "_scores"
"""What follows a labels output's name in the name of the output with their scores."""

Json = dict[str, Any]
Writer = Callable[[Part], Any]

_encode = msgspec.json.Encoder().encode  # writes NaN and infinite numbers as null, since JSON has neither


class AnswerWriter:
    """Writes the answers of one version. What can be worked out once is worked out here."""

    def __init__(self, spec: ModelSpec, steps: dict[str, Any]) -> None:
        self._outputs = len(spec.outputs)
        places = {each.name: (at, each) for at, each in enumerate(spec.outputs)}
        declared = steps.get("outputs", {})
        # With `after`, its own JSON is the whole answer, and there is nothing to write.
        self._whole = bool(steps.get("transform", {}).get("after"))
        self._writers: list[tuple[str, Writer]] = []
        for name, (at, each) in places.items():
            step = declared.get(name, {})
            if step.get("kind") == "labels" and name + SCORES in places:
                self._writers.append((name, label_writer(at, places[name + SCORES][0], each, step)))
            elif not is_scores(name, declared, places):
                self._writers.append((name, array_writer(at, each)))

    def write(self, part: Part) -> bytes:
        """The answer's JSON.

        Raises:
            InferenceFailed: it is too large for JSON, or what `after` gave is none.
        """
        if self._whole:
            (content,) = part.outputs.array(0, part).ravel().tolist()
            return bytes(content)
        elements = sum(part.outputs.elements(at, part) for at in range(self._outputs))
        if elements > MOST_ELEMENTS:
            raise InferenceFailed(
                f"the answer has {elements} elements, and at most {MOST_ELEMENTS} are sent as JSON: ask "
                "/v2/models/.../infer for binary tensors"
            )
        return _encode({name: write(part) for name, write in self._writers})


def is_scores(name: str, declared: dict[str, Any], places: dict[str, Any]) -> bool:
    labels = name.removesuffix(SCORES)
    return labels != name and labels in places and declared.get(labels, {}).get("kind") == "labels"


def label_writer(labels_at: int, scores_at: int, spec: TensorSpec, step: dict[str, Any]) -> Writer:
    """{"label", "score"}, and "top" where several are told; the label is null where a threshold left none."""
    otherwise: str | None = step.get("otherwise")
    width = spec.shape[-1] if len(spec.shape) > 1 else 1
    is_list = width != 1 or bool(step.get("sigmoid"))

    def write(part: Part) -> Json:
        names = [each.decode() for each in part.outputs.array(labels_at, part).ravel().tolist()]
        scores = part.outputs.array(scores_at, part).ravel().tolist()
        answer: Json = {"label": None, "score": None}
        if names and names[0]:
            is_none = names[0] == otherwise and scores[0] == 0
            answer = {"label": names[0], "score": None if is_none else scores[0]}
        if is_list:
            answer["top"] = [
                {"label": name, "score": score}
                for name, score in zip(names, scores, strict=True)
                if name and not (name == otherwise and score == 0)
            ]
        return answer

    return write


def array_writer(at: int, spec: TensorSpec) -> Writer:
    """Nested lists without the batch axis; text where it is UTF-8, else {"b64": ...}."""

    def write(part: Part) -> Any:
        array, axis = part.outputs.array(at, part), spec.batch_axis
        if spec.datatype is Datatype.BF16:
            array = (array.astype("<u4") << 16).view("<f4")
        if axis is not None and array.shape[axis] == 1:
            array = array.reshape(array.shape[:axis] + array.shape[axis + 1 :])
        values = array.tolist()
        return texts(values) if array.dtype == object else values

    return write


def texts(values: Any) -> Any:
    return [texts(each) for each in values] if isinstance(values, list) else text_or_bytes(values)


def text_or_bytes(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": value}  # which is how bytes are written
