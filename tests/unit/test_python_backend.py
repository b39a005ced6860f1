import sys
from pathlib import Path

import numpy as np
import pytest

from headrace.backends.base import Declared, DescribesItself, ItemErrors
from headrace.backends.python import PythonBackend
from headrace.errors import InferenceFailed, InvalidItem, LoadFailed
from headrace.messages import Datatype
from headrace.model_config import DeclaredTensor, ModelConfig

DOUBLES = """
import numpy as np
from headrace import InvalidItem, PythonModel, Tensor

class Model(PythonModel):
    inputs = [Tensor("x", "FP32", [-1, 2])]
    outputs = [Tensor("y", "FP32", [-1, 2])]

    def infer(self, inputs):
        x = inputs["x"]
        {body}
"""
ROWS = {"x": np.array([[1, 2], [3, 4], [5, 6]], "<f4")}


@pytest.fixture(autouse=True)
def _imports_stay_as_they_were(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    monkeypatch.delitem(sys.modules, "model", raising=False)


def load(folder: Path, source: str, **config) -> PythonBackend:
    file = folder / "model.py"
    file.write_text(source)
    backend = PythonBackend()
    backend.load(file, 3, ModelConfig(**config))
    return backend


def run(folder: Path, body: str) -> list[np.ndarray]:
    return load(folder, DOUBLES.format(body=body)).run(ROWS, ["y"])


def test_a_class_declares_its_tensors_and_answers_batches(tmp_path):
    backend = load(tmp_path, DOUBLES.format(body='return {"y": 2 * x}'))
    assert backend.inputs == (Declared("x", Datatype.FP32, ("batch", 2)),)
    assert backend.outputs == (Declared("y", Datatype.FP32, ("batch", 2)),)
    (y,) = backend.run(ROWS, ["y"])
    assert y.tolist() == (2 * ROWS["x"]).tolist()


def test_a_class_needs_no_base_and_is_told_where_it_lies(tmp_path):
    (tmp_path / "beside.py").write_text("FACTOR = 7")
    source = """
from beside import FACTOR

class Model:
    inputs = outputs = [("x", "INT64", (-1,))]

    def load(self, context):
        self.added = int(context.parameters["added"]) + context.threads + len(list(context.folder.glob("*.py")))

    def infer(self, inputs):
        return {"x": FACTOR * inputs["x"] + self.added}
"""
    backend = load(tmp_path, source, parameters={"added": "100"})
    sys.modules.pop("beside")
    assert backend.run({"x": np.array([1, 2])}, ["x"])[0].tolist() == [7 + 105, 14 + 105]
    assert not (tmp_path / "__pycache__").exists()


def test_a_clone_is_another_object_of_the_class(tmp_path):
    backend = load(tmp_path, DOUBLES.format(body='return {"y": x}'))
    assert backend.clone()._model is not backend._model


def test_the_configuration_declares_where_the_class_does_not(tmp_path):
    tensor = DeclaredTensor("x", Datatype.FP32, (2,))
    source = "class Model:\n    def infer(self, inputs):\n        return inputs"
    backend = load(tmp_path, source, inputs=(tensor,), outputs=(tensor,), max_batch_size=8)
    assert backend.inputs == (Declared("x", Datatype.FP32, ("batch", 2)),)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1\nclass Model\n", r"model\.py:2: SyntaxError: expected ':'"),
        ("import no_such_package", r"model\.py:1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1", r"has no class Model: write 'class Model\(headrace\.PythonModel\):'"),
        ("Model = 3", "has no class Model"),
        ("import sys\n\nsys.exit(3)", r"model\.py:3: SystemExit: 3"),
        ("import headrace\nclass Model(headrace.PythonModel):\n    pass", r"has no infer: write 'def infer"),
        (
            "class Model:\n    def infer(self, inputs): ...",
            r'declares no inputs: write for example inputs = \[\("x"',
        ),
        (
            'class Model:\n    inputs = [("x", "float", [1])]\n    def infer(self, inputs): ...',
            "'x' has datatype 'float', and there are BOOL, UINT8",
        ),
        (
            'class Model:\n    inputs = ["x"]\n    def infer(self, inputs): ...',
            "inputs of Model in .*; write for",
        ),
        (
            'class Model:\n    inputs = [("x", "FP32", [-2])]\n    def infer(self, inputs): ...',
            "a size is -1 for any",
        ),
        (
            (
                'class Model:\n    inputs = outputs = [("x", "FP32", [-1])]\n'
                '    def load(self, context):\n        raise OSError("no weights")\n    def infer(self, inputs): ...'
            ),
            r"model\.py:4: OSError: no weights",
        ),
        (
            "class Model:\n    def __init__(self):\n        self.x = 1 / 0\n    def infer(self, inputs): ...",
            r"model\.py:3: ZeroDivisionError",
        ),
    ],
)
def test_what_cannot_be_loaded_says_where_and_what_to_write(tmp_path, source, reason):
    with pytest.raises(LoadFailed, match=reason):
        load(tmp_path, source)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return x", "infer returned ndarray: return a dict of arrays by the outputs' names"),
        ('return {"z": x}', "infer returned z, and the outputs are y"),
        ("return {}", "infer did not return y"),
        (
            'return {"y": x.astype("f8")}',
            r"'y' is float64, and FP32 is declared: return it with .astype\('float32'\)",
        ),
        ('return {"y": x[0]}', r"'y' has shape \[2\], and \[-1, 2\] is declared"),
        ('return {"y": x[:, :1]}', r"'y' has shape \[3, 1\], and \[-1, 2\] is declared"),
        ("raise KeyError(3)", r"model\.py:11: KeyError: 3"),
        ("raise SystemExit", r"model\.py:11: SystemExit"),
        ('return {"y": x}, {3: InvalidItem("a")}', "row 3 failed, and 3 went in"),
        ('return {"y": x}, {True: InvalidItem("a")}', "row True failed, and 3 went in"),
        ('return {"y": x}, {"1": InvalidItem("a")}', "row '1' failed, and 3 went in"),
        ('return {"y": x}, {1: "a"}', "a dict of exceptions by the row"),
        ('return {"y": x}, [InvalidItem("a")]', "a dict of exceptions by the row"),
        ("return x, x, x", "returned a tuple of 3: return a dict of arrays"),
        ('return {}, {1: InvalidItem("a")}', "infer did not return y"),
    ],
)
def test_what_is_not_as_declared_is_said_by_name(tmp_path, body, reason):
    with pytest.raises(InferenceFailed, match=reason):
        run(tmp_path, body)


def test_rows_may_fail_beside_the_outputs_of_the_others(tmp_path):
    with pytest.raises(ItemErrors) as caught:
        run(tmp_path, 'return {"y": 2 * x}, {1: InvalidItem("three"), 2: KeyError(5)}')
    assert caught.value.outputs[0][0].tolist() == [2, 4]
    assert {row: type(error) for row, error in caught.value.errors.items()} == {1: InvalidItem, 2: KeyError}


def test_a_row_that_failed_may_be_a_number_of_numpys(tmp_path):
    body = 'return {"y": x}, {row: InvalidItem("odd") for row in np.flatnonzero(x[:, 0] == 3)}'
    with pytest.raises(ItemErrors) as caught:
        run(tmp_path, body)
    assert list(map(repr, caught.value.errors)) == ["1"]


def test_where_every_row_failed_there_need_be_no_outputs(tmp_path):
    with pytest.raises(ItemErrors) as caught:
        run(tmp_path, 'return {}, {row: InvalidItem("all") for row in range(len(x))}')
    assert (caught.value.outputs, sorted(caught.value.errors)) == ([], [0, 1, 2])


def test_an_invalid_item_that_is_raised_goes_on_as_it_is(tmp_path):
    with pytest.raises(InvalidItem, match="told so"):
        run(tmp_path, 'raise InvalidItem("told so")')


def test_strings_come_back_as_bytes_whatever_they_were(tmp_path):
    source = """
import numpy as np
class Model:
    inputs = [("x", "BYTES", [-1])]
    outputs = [("a", "BYTES", [-1]), ("b", "BYTES", [-1]), ("c", "BYTES", [-1])]
    def infer(self, inputs):
        texts = [each.decode() for each in inputs["x"]]
        return {"a": texts, "b": np.array(texts, object), "c": inputs["x"]}
"""
    x = np.array(["é".encode(), b"bc"], object)
    for array in load(tmp_path, source).run({"x": x}, ["a", "b", "c"]):
        assert (array.dtype, array.tolist()) == (np.dtype(object), x.tolist())


def test_strings_that_are_none_are_named(tmp_path):
    source = "class Model:\n    inputs = outputs = [('x', 'BYTES', [-1])]\n    def infer(self, i):\n        return {'x': [1]}"
    with pytest.raises(InferenceFailed, match="'x' has a int in it"):
        load(tmp_path, source).run({"x": np.array([b""], object)}, ["x"])


def test_only_a_class_that_says_whether_it_is_batched_describes_itself(tmp_path):
    body = 'return {"y": x}'
    assert not isinstance(load(tmp_path, DOUBLES.format(body=body)), DescribesItself)
    says = DOUBLES.format(body=body).replace(
        "inputs =", "batched = True\n    max_batch_size = 9\n    inputs =", 1
    )
    backend = load(tmp_path, says)
    assert isinstance(backend, DescribesItself)
    spec = backend.describe("m", "2")
    assert (spec.joins_requests, spec.max_batch_size, spec.inputs[0].batch_axis) == (True, 9, 0)
    spec = load(tmp_path, says.replace("batched = True", "batched = False")).describe("m", "2")
    assert (spec.joins_requests, spec.max_batch_size, spec.inputs[0].batch_axis) == (False, 0, None)


def test_a_class_that_says_it_is_batched_returns_a_row_for_each(tmp_path):
    says = DOUBLES.format(body='return {"y": x[:2]}').replace("inputs =", "batched = True\n    inputs =", 1)
    with pytest.raises(InferenceFailed, match="'y' has 2 rows, and 3 went in"):
        load(tmp_path, says).run(ROWS, ["y"])
