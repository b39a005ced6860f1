"""A skill's own code: what it may do, and that what it does wrong is said in its own terms."""

from textwrap import dedent

import msgspec
import numpy as np
import pytest

from headrace.backends.base import DescribesItself, ItemErrors
from headrace.errors import InferenceFailed, InvalidItem, LoadFailed
from headrace.messages import Datatype
from headrace.model_config import ModelConfig
from headrace.transforms.backend import ITEM, TransformBackend
from headrace.transforms.steps import decode_tensors, encode_after, encode_before
from headrace.transforms.user import Transform

VALUES = {"text": "text", "data": "bytes", "amount": "number", "more": "json"}


@pytest.fixture
def backend(tmp_path):
    """Opens a backend on the text of a transform.py."""

    def opened(text, values=VALUES, **flags):
        path = tmp_path / "transform.py"
        path.write_text(dedent(text))
        steps = {
            "inputs": {name: {"kind": "value", "value": value} for name, value in values.items()},
            "transform": {"path": str(path), **flags},
        }
        made = TransformBackend()
        made.load(tmp_path, 1, ModelConfig(steps=steps))
        return made

    return opened


def run(backend, *blobs):
    items = np.empty(len(blobs), object)
    items[:] = blobs
    (results,) = backend.run({ITEM: items}, [ITEM])
    return results


def error(backend, blob):
    """The error of the first of two items; the second one has none."""
    with pytest.raises(ItemErrors) as raised:
        run(backend, blob)
    return raised.value.errors[0]


ITEMS = encode_before({"text": "naïve".encode(), "data": b"\0\1", "amount": 2.5, "more": b'{"a": [1]}'})
NOTHING = encode_before({})


def tensors(blob):
    return {name: (datatype, shape) for name, (datatype, shape, _) in decode_tensors(blob).items()}


def test_an_item_comes_in_as_python_has_it(backend):
    code = """
    class Transform:
        def before(self, item):
            assert item == {"text": "naïve", "data": b"\\0\\1", "amount": 2.5, "more": {"a": [1]}}, item
            return {"x": [item["amount"]]}
    """
    assert tensors(run(backend(code), ITEMS)[0]) == {"x": (Datatype.FP64, (1,))}


def test_every_kind_of_array_goes_out(backend):
    code = """
    import numpy as np
    class Transform:
        def before(self, item):
            return {"f": np.zeros((2, 3), "f4"), "i": [[1, 2]], "s": ["a", "ü"], "b": np.array(True), "t": "one",
                    "big": np.arange(3, dtype=">i4"), "slice": np.arange(6).reshape(2, 3)[:, 1]}
    """
    decoded = decode_tensors(run(backend(code, {"text": "text"}), ITEMS)[0])
    assert tensors(run(backend(code, {"text": "text"}), ITEMS)[0]) == {
        "f": (Datatype.FP32, (2, 3)),
        "i": (Datatype.INT64, (1, 2)),
        "s": (Datatype.BYTES, (2,)),
        "b": (Datatype.BOOL, ()),
        "t": (Datatype.BYTES, ()),
        "big": (Datatype.INT32, (3,)),
        "slice": (Datatype.INT64, (2,)),
    }
    assert decoded["big"][2] == np.arange(3, dtype="<i4").tobytes()
    assert decoded["s"][2] == b"\1\0\0\0a\2\0\0\0\xc3\xbc"


def test_after_gives_json_of_what_numpy_gives(backend):
    code = """
    import numpy as np
    class Transform:
        def after(self, outputs):
            return {"best": outputs["y"].argmax(), "all": outputs["y"], "names": [n.decode() for n in outputs["n"]]}
    """
    names = np.array([b"a", b"b"], object)
    blob = encode_after({"y": np.array([1, 3], "f4"), "n": names}, {"y": Datatype.FP32, "n": Datatype.BYTES})
    answer = msgspec.json.decode(run(backend(code, {}), blob)[0])
    assert answer == {"best": 1, "all": [1.0, 3.0], "names": ["a", "b"]}


def test_what_the_class_reads_at_first_lies_beside_it(backend, tmp_path):
    (tmp_path / "words.txt").write_text("seven")
    (tmp_path / "beside_it.py").write_text("VALUE = 7")
    code = """
    import beside_it
    class Transform:
        def load(self, folder):
            self.words = (folder / "words.txt").read_text()
        def after(self, outputs):
            return [self.words, beside_it.VALUE]
    """
    assert run(backend(code, {}), encode_after({}, {}))[0] == b'["seven",7]'


def test_the_base_class_may_be_derived_from(backend):
    code = """
    import headrace
    class Transform(headrace.Transform):
        def after(self, outputs):
            return 1
    """
    assert run(backend(code, {}, after=True, before=False), encode_after({}, {}))[0] == b"1"
    with pytest.raises(LoadFailed, match="has no method before"):
        backend(code, {}, before=True)


def test_the_base_class_can_be_tested_without_a_server():
    class Doubles(Transform):
        def after(self, outputs):
            return outputs["y"] * 2

    assert Doubles().after({"y": np.array([1.0])}).tolist() == [2.0]


def test_an_item_that_the_class_refuses_is_the_senders_fault(backend):
    code = """
    import headrace
    class Transform:
        def before(self, item):
            raise headrace.InvalidItem("no such parcel")
    """
    refused = error(backend(code), ITEMS)
    assert (type(refused), str(refused)) == (InvalidItem, "no such parcel")


def test_an_exception_costs_its_own_item_and_says_where_it_was_raised(backend):
    code = """
    class Transform:
        def before(self, item):
            return {"x": self.part(item)}
        def part(self, item):
            return 1 / item["amount"]
    """
    made = backend(code, {"amount": "number"})
    with pytest.raises(ItemErrors) as raised:
        run(made, encode_before({"amount": 0.0}), encode_before({"amount": 2.0}))
    assert {row: (type(why), str(why)) for row, why in raised.value.errors.items()} == {
        0: (
            InferenceFailed,
            "before failed at transform.py, line 6: ZeroDivisionError: float division by zero",
        )
    }
    assert tensors(raised.value.outputs[0][1]) == {"x": (Datatype.FP64, ())}


def test_code_that_ends_the_process_politely_costs_its_item(backend):
    code = """
    import sys
    class Transform:
        def before(self, item):
            sys.exit("enough")
    """
    assert "line 5: SystemExit: enough" in str(error(backend(code), ITEMS))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("None", "before in transform.py gave None, and must give a dict"),
        ("[1]", "gave a list, and must give a dict"),
        ("{'x': None}", "gave no array for 'x': it holds None"),
        ("{'x': [[1], [1, 2]]}", "gave no array for 'x'"),
        ("{'x': {1}}", "gave no array for 'x': it holds a set"),
        (r"{'x': '\ud800'}", "gave no array for 'x': 'utf-8' codec can't encode"),
        ("{'x': Elsewhere()}", "gave no array for 'x': it is on another device"),
        ("{'x': 1j}", "gave complex128 for 'x', which cannot be sent"),
    ],
    ids=["none", "list", "none inside", "ragged", "set", "surrogate", "elsewhere", "complex"],
)
def test_what_before_may_not_give_is_named(backend, given, reason):
    code = f"""
    class Elsewhere:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("it is on another device")

    class Transform:
        def before(self, item):
            return {given}
    """
    wrong = error(backend(code), ITEMS)
    assert isinstance(wrong, InferenceFailed)
    assert reason in str(wrong)


def test_an_answer_that_json_does_not_have_is_named(backend):
    code = """
    class Transform:
        def after(self, outputs):
            return {"x": object()}
    """
    assert "after in transform.py gave what JSON does not have: a object cannot" in str(
        error(backend(code, {}), encode_after({}, {}))
    )


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"text": b"\xff"}, "'text' is not UTF-8"),
        ({"text": b"a", "data": b"", "amount": 1.0, "more": b"{"}, "'more' is no JSON"),
        ({}, "'text' is missing"),
    ],
    ids=["text", "json", "missing"],
)
def test_values_that_are_not_what_is_declared_are_refused(backend, item, reason):
    refused = error(backend("class Transform:\n    def before(self, item): return {}"), encode_before(item))
    assert isinstance(refused, InvalidItem)
    assert reason in str(refused)


@pytest.mark.parametrize(
    "blob", [b"", b"\2", b"\0\xc1", b"\1\x01"], ids=["empty", "operation", "item", "tensors"]
)
def test_what_no_gateway_sends_is_refused(backend, blob):
    error(backend("class Transform:\n    def before(self, item): return {}"), blob)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class Transform:\n    def before(self item): return {}", "transform.py, line 2: SyntaxError"),
        ("x = 1\ny = x / 0", "transform.py, line 2: ZeroDivisionError: division by zero"),
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("import sys\nsys.exit()", "line 2: SystemExit"),
        ("def before(item): return {}", "has no class Transform: write `class Transform:`"),
        ("class Transform:\n    def __init__(self, x): pass", "TypeError: .*missing 1 required positional"),
        ("class Transform:\n    def before(self): return {}", r"line 2: write `def before\(self, item\)`"),
        ("class Transform:\n    async def before(self, item): return {}", "is async"),
        ("class Transform:\n    before = 1", "is a int and no method"),
        ("class Transform:\n    def after(self, outputs): return 1", "write transform.py with .* before"),
        ("class Transform:\n    def load(self, folder): open(folder / 'no')", "line 2: FileNotFoundError"),
    ],
    ids=[
        "syntax", "import", "module", "exit", "class", "arguments", "signature", "async", "method", "before", "load",
    ],
)  # fmt: skip
def test_code_that_cannot_be_used_is_refused_at_load_with_its_line(backend, text, reason):
    with pytest.raises(LoadFailed, match=reason):
        backend(text)


def test_a_file_that_is_not_there_is_refused_at_load(tmp_path):
    steps = {"transform": {"path": str(tmp_path / "transform.py")}}
    with pytest.raises(LoadFailed, match="cannot be read: No such file"):
        TransformBackend().load(tmp_path, 1, ModelConfig(steps=steps))


def test_its_spec_is_believed_and_its_rows_share_runs():
    made = TransformBackend()
    assert isinstance(made, DescribesItself)
    spec = made.describe("skill", "1")
    assert (spec.joins_requests, spec.inputs[0].datatype) == (True, Datatype.BYTES)


def test_each_instance_has_an_object_of_its_own(backend):
    code = """
    class Transform:
        def load(self, folder):
            self.calls = 0
        def after(self, outputs):
            self.calls += 1
            return self.calls
    """
    made = backend(code, {})
    other = made.clone()
    blob = encode_after({}, {})
    assert [run(each, blob)[0] for each in (made, made, other)] == [b"1", b"2", b"1"]
