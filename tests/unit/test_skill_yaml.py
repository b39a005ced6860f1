from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from headrace.model_config import Residence
from headrace.repository import skill
from headrace.repository.skill_yaml import json_schema
from headrace.repository.yaml_tree import read_tree

CODE = "class Transform:\n    def before(self, item):\n        return item\n"
WHOLE = """
format: 1
description: whether a customer is content
objective: {latency_p99_ms: 60, priority: high}
share: {weight: 2, priorities: {"1": 0.5, "2": 0.3, "3": null}, default_priority: 2}
memory: {preload: false, idle: 10m}
inputs:
  text: {tokenizer: tokenizer.json, max_tokens: 128, too_long: cut, tensors: {ids: tokens}}
  photo: {image: {size: [224, 224], crop: center, mean: [0.5, 0.5, 0.5], std: 0.5, scale: 1e-3}, to: pixels}
  file: {bytes: {head: 4, tail: 4, pad: 256, strip: true}, to: content}
  person: {record: {age: number, job: [no, yes, on], income: {number: {default: 1}}, home: {categories: [own, rent], default: own}}}
  note: {value: text}
  raw: {tensor: true}
outputs:
  label: {from: logits, softmax: true, labels: labels.txt, top_k: 2, threshold: 0.4, otherwise: unknown}
  tags: {from: logits, sigmoid: true, labels: [a, b]}
  vector: {from: hidden, pool: mean, normalize: true}
  score: {from: p}
variants:
  small: {}
  large: {model: large.onnx, instances: 1, threads: 2, max_batch_size: 16}
padding: {tokens: 0}
examples:
  - input: {text: hello, photo: a.png, file: a.png, person: {age: 3, job: yes}, note: x, raw: [[1]]}
    answer: {label: good}
transform: {timeout_ms: 250}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A skill's folder with all files that a skill.yaml may name, and no skill.yaml."""
    place = tmp_path / "mood"
    place.mkdir()
    for name in ("model.onnx", "large.onnx", "tokenizer.json", "a.png"):
        (place / name).touch()
    (place / "labels.txt").write_text("good\nbad\n")
    return place


def sources(folder: Path, text: str) -> list[skill.Source]:
    (folder / "skill.yaml").write_text(text)
    return skill.read(folder)


def problems(folder: Path, text: str) -> list[str]:
    """What is said of a skill.yaml, without the file's name."""
    (source,) = sources(folder, text)
    assert source.problem
    return [line.partition("skill.yaml:")[2] for line in source.problem.splitlines()]


def test_every_key_of_the_format_arrives_where_the_workers_read_it(folder):
    (folder / "transform.py").write_text(CODE)
    first, second = sources(folder, WHOLE)
    assert not first.problem
    assert (first.name, first.version, first.path, first.backend) == (
        "mood",
        "1",
        folder / "model.onnx",
        "onnxruntime",
    )
    assert (second.name, second.path) == ("mood.large", folder / "large.onnx")
    config = second.config
    assert (config.instances, config.threads, config.max_batch_size) == (1, 2, 16)
    assert (config.variants, config.variant, first.config.variant) == (("small", "large"), "large", "small")
    assert (config.latency_p99_s, config.priority, config.pads) == (0.06, 1, {"tokens": 0})
    assert (config.weight, config.default_level) == (2, 2)
    assert config.residence == first.config.residence == Residence(is_preloaded=False, idle_s=600.0)
    assert {level: policy.share for level, policy in config.levels.items()} == {1: 0.5, 2: 0.3, 3: None}
    assert config.examples[0]["input"]["photo"] == str(folder / "a.png")
    assert config.examples[0]["answer"] == {"label": "good"}
    assert config.steps["transform"] == {
        "path": str(folder / "transform.py"),
        "timeout_s": 0.25,
        "before": True,
        "after": False,
    }
    assert config.steps["inputs"]["text"] == {
        "kind": "text",
        "tokenizer": str(folder / "tokenizer.json"),
        "max_tokens": 128,
        "too_long": "cut",
        "tensors": {"ids": "tokens"},
    }
    assert config.steps["inputs"]["photo"]["to"] == "pixels"
    assert config.steps["inputs"]["photo"]["image"]["scale"] == 0.001
    assert config.steps["inputs"]["person"]["record"] == {
        "age": {"number": {}},
        "job": {"categories": ["no", "yes", "on"]},
        "income": {"number": {"default": 1}},
        "home": {"categories": ["own", "rent"], "default": "own"},
    }
    assert config.steps["inputs"]["raw"] == {"kind": "tensor"}
    assert config.steps["outputs"] == {
        "label": {
            "kind": "labels",
            "from": "logits",
            "labels": ["good", "bad"],
            "softmax": True,
            "sigmoid": False,
            "top_k": 2,
            "threshold": 0.4,
            "otherwise": "unknown",
        },
        "tags": {"kind": "labels", "from": "logits", "labels": ["a", "b"], "softmax": False, "sigmoid": True},
        "vector": {"kind": "embedding", "from": "hidden", "pool": "mean", "normalize": True},
        "score": {"kind": "raw", "from": "p"},
    }


def test_the_transforms_read_the_steps_as_they_are_written(folder):
    kinds = pytest.importorskip("headrace.transforms.kinds")
    (folder / "transform.py").write_text(CODE)
    steps = kinds.parse_steps(sources(folder, WHOLE)[0].config.steps)
    assert list(steps.inputs) == ["text", "photo", "file", "person", "note", "raw"]
    assert steps.transform.timeout_s == 0.25


def test_an_empty_skill_is_its_model_as_it_is(folder):
    (source,) = sources(folder, "")
    assert not source.problem
    assert (source.name, source.config.steps, source.config.variants) == ("mood", {}, ())


def test_version_folders_are_versions_of_every_variant_that_is_in_them(folder):
    for version in ("1", "2", "10"):
        (folder / version).mkdir()
        (folder / version / "model.onnx").touch()
    (folder / "10" / "large.onnx").touch()
    found = sources(folder, "variants: {small: {model: model.onnx}, large: {model: large.onnx}}")
    assert [(each.name, each.version) for each in found] == [
        ("mood", "1"),
        ("mood", "2"),
        ("mood", "10"),
        ("mood.large", "10"),
    ]


MISTAKES = {
    "a key that is unknown": (
        "inputs:\n  text: {tokenizer: tokenizer.json, max_token: 3}",
        "2: inputs.text.max_token: unknown key; did you mean max_tokens?",
    ),
    "a key like no other": (
        "zzz: 1",
        "1: zzz: unknown key; there are format, description, objective, share, memory, inputs, outputs, variants, padding, examples, transform",
    ),
    "a format of the future": (
        "format: 2",
        "1: format: should be 1, the only version of the format there is, and is 2",
    ),
    "a priority": (
        "objective: {priority: hihg}",
        "1: objective.priority: should be high, normal or low, and is hihg; did you mean high?",
    ),
    "a bound": (
        "objective: {latency_p99_ms: 0}",
        "1: objective.latency_p99_ms: should be above 0, and is 0",
    ),
    "a weight of nothing": ("share: {weight: 0}", "1: share.weight: should be above 0, and is 0"),
    "a weight that is no number": (
        "share: {weight: .nan}",
        "1: share.weight: should be a finite number, and is NaN",
    ),
    "a share of nothing": (
        "share:\n  priorities: {1: 0.5, 2: 0}",
        "2: share.priorities.2: should be above 0, and is 0",
    ),
    "a share in percent": (
        "share:\n  priorities:\n    1: 50\n    2: null",
        "3: share.priorities.1: should be below 1, and is 50",
    ),
    "shares of more than there is": (
        "share: {priorities: {1: 0.5, 2: 0.4, 3: 0.3}}",
        "1: share.priorities: promise 1.2 of the device time in all, and there is 1: lower them",
    ),
    "shares that leave nothing": (
        "share: {priorities: {1: 0.9, 2: 0.1, 3: null}}",
        "1: share.priorities: promise all of the device time, and leave nothing for levels with null",
    ),
    "a level that is none": (
        "share: {priorities: {0: 0.5, 1: 0.2}}",
        "1: share.priorities.0: is no priority level: they are counted from 1, as in {1: 0.5, 2: null}",
    ),
    "a level left out": ("share: {priorities: {1: 0.5, 3: 0.2}}", "1: share.priorities: lacks level 2: "),
    "one level": ("share: {priorities: {1: 0.5}}", "1: share.priorities: has one level only, "),
    "a default that is no level": (
        "share: {priorities: {1: 0.5, 2: 0.2}, default_priority: 3}",
        "1: share.default_priority: is 3, and the levels are 1, 2",
    ),
    "a default of nothing": (
        "share: {default_priority: 1}",
        "1: share.default_priority: goes with priorities",
    ),
    "a pinned skill that leaves": (
        "memory:\n  pin: true\n  idle: 10m",
        "3: memory.idle: is for what may leave, and pin is true: leave one of them out",
    ),
    "a pinned skill that waits to be asked": (
        "memory: {pin: true, preload: false}",
        "1: memory.preload: is false, and what is pinned is loaded at start: leave one of them out",
    ),
    "an idle time in no unit": (
        "memory:\n  idle: 10 min",
        "2: memory.idle: should be a duration, as in 500ms, 30s, 10m, 6h or 7d, and is 10 min",
    ),
    "an idle time of nothing": (
        "memory: {idle: 0}",
        "1: memory.idle: should be above 0 and at most 365d, and is 0",
    ),
    "a pin in words": ("memory: {pin: always}", "1: memory.pin: should be true or false, and is always"),
    "a key of memory": ("memory: {pinned: true}", "1: memory.pinned: unknown key; did you mean pin?"),
    "a key of a share": ("share: {weihgt: 2}", "1: share.weihgt: unknown key; did you mean weight?"),
    "a word for a number": (
        "padding: {x: null}",
        "1: padding.x: should be a number, and is empty",
    ),
    "a number in quotes": (
        "padding: {x: '0'}",
        "1: padding.x: should be a number, and is 0 in quotes: leave them out",
    ),
    "a number for a label": (
        "outputs: {l: {labels: [a, 1]}}",
        "1: outputs.l.labels[1]: should be text, and is 1: put it in quotes, '1'",
    ),
    "a fraction": (
        "variants: {a: {threads: 1.5}}",
        "1: variants.a.threads: should be a whole number, and is 1.5",
    ),
    "a size of one": (
        "inputs: {p: {image: {size: [224]}}}",
        "1: inputs.p.image.size: should be height and width, as in [224, 224]",
    ),
    "no size": (
        "inputs: {p: {image: {}}}",
        "1: inputs.p.image: lacks the size: write it as in size: [224, 224], or resize: none",
    ),
    "channels": (
        "inputs: {p: {image: {size: [2, 2], mean: [1, 2]}}}",
        "1: inputs.p.image.mean: has 2 numbers, and RGB has 3 channels",
    ),
    "two kinds": (
        "inputs: {p: {image: {size: [2, 2]}, value: text}}",
        "1: inputs.p: has image and value, and an input is one of them: make them two inputs",
    ),
    "no kind": (
        "inputs: {p: {tokeniser: t}}",
        "1: inputs.p: should have one of tokenizer, image, bytes, record, value, tensor; did you mean tokenizer?",
    ),
    "text for an input": (
        "inputs: {p: text}",
        "1: inputs.p: should say what callers send, as in {value: text}, and is text",
    ),
    "a feature": (
        "inputs: {r: {record: {age: 4}}}",
        "1: inputs.r.record.age: should be number, a list of categories, {number: …} or {categories: …}, and is 4",
    ),
    "a default of none": (
        "inputs: {r: {record: {home: {categories: [a, b], default: c}}}}",
        "1: inputs.r.record.home.default: is c, which is not among a, b",
    ),
    "a category twice": ("inputs: {r: {record: {home: [a, a]}}}", "1: inputs.r.record.home: has a twice"),
    "no bytes": (
        "inputs: {f: {bytes: {pad: 1}}}",
        "1: inputs.f.bytes: takes no bytes: say how many, as in {head: 1024}",
    ),
    "one target twice": (
        "inputs: {a: {bytes: {head: 1}, to: x}, b: {bytes: {head: 1}, to: x}}",
        "1: inputs.b: fills the model's 'x', which a fills already",
    ),
    "a file that is not there": (
        "inputs: {t: {tokenizer: tokeniser.json}}",
        "1: inputs.t.tokenizer: there is no tokeniser.json in mood; did you mean tokenizer.json?",
    ),
    "labels that are not there": (
        "outputs: {l: {labels: good}}",
        "1: outputs.l.labels: there is no good in mood; a list of labels is written as [a, b]",
    ),
    "no labels": ("outputs: {l: {labels: []}}", "1: outputs.l.labels: is empty"),
    "labels that are empty": (
        "outputs: {l: {labels: a.png}}",
        "1: outputs.l.labels: a.png is empty: it has one label a line",
    ),
    "more than there are": (
        "outputs: {l: {labels: [a, b], top_k: 3}}",
        "1: outputs.l.top_k: is 3, and there are 2 labels",
    ),
    "what goes with labels": (
        "outputs: {l: {softmax: true}}",
        "1: outputs.l.softmax: goes with labels: add labels, as a file or a list",
    ),
    "softmax and sigmoid": (
        "outputs: {l: {labels: [a], softmax: true, sigmoid: true}}",
        "1: outputs.l.sigmoid: excludes softmax: one label is right with softmax, any number with sigmoid",
    ),
    "an embedding with labels": (
        "outputs: {l: {labels: [a], pool: mean}}",
        "1: outputs.l.pool: is for embeddings, and labels are not: make them two outputs",
    ),
    "otherwise without a threshold": (
        "outputs: {l: {labels: [a], otherwise: b}}",
        "1: outputs.l.otherwise: is never used without a threshold: add one, as in threshold: 0.5",
    ),
    "a value without code": (
        "inputs: {v: {value: text}}",
        "1: inputs.v.value: is for before() in transform.py, and there is none beside skill.yaml: write one",
    ),
    "limits without code": (
        "transform: {timeout_ms: 3}",
        "1: transform: there is no transform.py beside skill.yaml",
    ),
    "a backend": (
        "variants: {a: {backend: onnx}}",
        "1: variants.a.backend: there is no backend onnx; there are ",
    ),
    "a model": (
        "variants: {a: {model: larg.onnx}}",
        "1: variants.a.model: there is no larg.onnx in mood; did you mean large.onnx?",
    ),
    "a model of another kind": (
        "variants: {a: {model: a.png}}",
        "1: variants.a.model: a.png is no .onnx file: name its backend",
    ),
    "a variant twice": (
        "variants:\n  a: {}\n  a: {}",
        "3: variants.a: given twice, first in line 2: keep one",
    ),
    "an example without its input": (
        "inputs: {f: {bytes: {head: 1}}}\nexamples:\n - input: {}",
        "3: examples[0].input: lacks f, which every caller has to send",
    ),
    "an example with another": (
        "inputs: {f: {bytes: {head: 1}}}\nexamples:\n - input: {f: a.png, g: 3}",
        "3: examples[0].input.g: is no input; there are f",
    ),
    "an example's file": (
        "inputs: {f: {bytes: {head: 1}}}\nexamples: [{input: {f: b.png}}]",
        "2: examples[0].input.f: should be a file beside skill.yaml, and there is no b.png",
    ),
    "an example's feature": (
        "inputs: {r: {record: {age: number, home: [own]}}}\nexamples: [{input: {r: {age: x, home: rent}}}]",
        "2: examples[0].input.r.age: should be a number",
    ),
    "an answer that is no label": (
        "outputs: {l: {labels: [good, bad]}}\nexamples: [{input: {x: [1]}, answer: {l: god}}]",
        "2: examples[0].answer.l: is god, which is no label; did you mean good?",
    ),
    "a key like no name": (
        "'|text': 1\n'[key]': 2",
        "2: [key]: unknown key; there are format, ",
    ),
    "a tab": ("inputs:\n\ttext: 1", "2: a tab cannot indent YAML: use spaces"),
    "broken YAML": ("a: [1", "1: this is not YAML: "),
    "two colons": ("a: b: c", "1: this is not YAML: a second ': ' in one line"),
    "a list": ("- 1", "1: a skill.yaml is a mapping of keys to values, and this is the list [1]"),
    "a circle": ("a: &x [*x]", "1: a: too many values or levels: write them out without aliases"),
    "a tag": ("description: !!python/name:os.system x", "1: description: the tag !!python/name:os.system"),
}


@pytest.mark.parametrize(("text", "expected"), list(MISTAKES.values()), ids=list(MISTAKES))
def test_a_mistake_is_told_with_its_line_and_what_to_write(folder, text, expected):
    said = problems(folder, text)
    assert any(line.startswith(expected) for line in said), said


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(folder):
    said = problems(
        folder,
        "descripton: x\nobjective: {priority: urgent}\ninputs:\n  a: {value: txt}\n  b: {tokenizer: t.json}\n"
        "outputs:\n  l: {labels: [a], top_k: 2}\n",
    )
    assert [line.partition(":")[0] for line in said] == ["1", "2", "4", "5", "7"]


def test_of_a_skill_that_says_nothing_of_memory_the_server_decides(folder):
    (source,) = sources(folder, "")
    assert source.config.residence == Residence()


def test_a_pinned_skill_s_variants_are_pinned_each(folder):
    found = sources(folder, "memory: {pin: true}\nvariants: {small: {}, large: {model: large.onnx}}")
    assert [each.config.residence for each in found] == [Residence(is_pinned=True)] * 2


def test_shares_may_be_all_there_is_and_the_last_level_is_that_of_requests_that_name_none(folder):
    (source,) = sources(folder, "share: {priorities: {3: 0.7, 2: 0.2, 1: 0.1}}")
    assert not source.problem
    assert (list(source.config.levels), source.config.default_level) == ([1, 2, 3], 3)
    assert source.config.has_policies


def test_levels_alone_say_the_order(folder):
    (source,) = sources(folder, "share: {priorities: {1: null, 2: null}}")
    assert (source.problem, source.config.level(1), source.config.level(0)) == ("", 1, 2)


def test_code_that_no_input_is_for_is_a_mistake(folder):
    (folder / "transform.py").write_text(CODE)
    assert problems(folder, "outputs: {s: {from: p}}") == [
        "1: inputs: transform.py has before(), and no input is for it: declare what callers send, as in text: {value: text}"
    ]


def test_code_without_before_takes_no_values(folder):
    (folder / "transform.py").write_text(
        "class Transform:\n    def after(self, outputs):\n        return {}\n"
    )
    assert problems(folder, "inputs: {v: {value: text}}") == [
        "1: inputs.v.value: is for before(), which transform.py does not have"
    ]


def test_a_folder_without_a_model_says_where_to_put_one(tmp_path):
    assert problems(tmp_path, "format: 1") == [
        f"1: there is no model: put model.onnx beside skill.yaml, or into {tmp_path.name}/1"
    ]


def test_what_is_no_text_is_refused(folder):
    (folder / "skill.yaml").write_bytes(b"\xff\xfe")
    (source,) = skill.read(folder)
    assert "is not UTF-8 text" in source.problem


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "1_000", "0x10", "12:30", "2024-01-01", "none"])
def test_words_stay_words(text):
    assert read_tree(f"a: {text}").data == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("true", True), ("~", None), ("-7", -7), (".5", 0.5)]
)
def test_scalars_are_those_of_json(text, value):
    assert read_tree(f"a: {text}").data == {"a": value}


def test_the_json_schema_takes_what_is_right_and_nothing_else():
    schema = json_schema()
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.validator_for(schema)
    # yaml's own words for true and false are quoted, since editors read 1.2.
    whole = yaml.safe_load(
        WHOLE.replace("[no, yes, on]", "['no', 'yes', 'on']").replace("job: yes", "job: 'yes'")
    )
    whole["inputs"]["photo"]["image"]["scale"] = 0.001
    assert [error.message for error in validator.iter_errors(whole)] == []
    for wrong in (
        {"formt": 1},
        {"inputs": {"a": {"value": "txt"}}},
        {"outputs": {"l": {"top_k": 0}}},
        {"format": 2},
        {"share": {"weight": 0}},
        {"share": {"priorities": {"0": 0.5}}},
        {"share": {"priorities": {"1": 1}}},
    ):
        assert not validator.is_valid(wrong)


def test_every_key_is_explained_in_the_schema():
    def unexplained(node: object, path: str = "") -> list[str]:
        if not isinstance(node, dict):
            return []
        found = [
            f"{path}.{name}"
            for name, each in node.get("properties", {}).items()
            if "description" not in each and "properties" in node
        ]
        return found + [each for key, value in node.items() for each in unexplained(value, f"{path}.{key}")]

    assert unexplained(json_schema()) == []
