"""Small ONNX models made on the spot, each for one thing a model can be."""

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

FEATURES, CLASSES = 64, 10
ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}
Axes = list[int | str | None]
Value = tuple[str, str, Axes]


def save(
    path: Path, nodes: list[NodeProto], inputs: list[Value], outputs: list[Value], **weights: np.ndarray
) -> Path:
    """Write a model. Weights by name, with `_` where the graph has none."""
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, ELEMENT_TYPES[kind], axes) for name, kind, axes in inputs],
        [helper.make_tensor_value_info(name, ELEMENT_TYPES[kind], axes) for name, kind, axes in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def mlp(path: Path, seed: int = 0) -> Path:
    """x [rows, 64] → y [rows, 10], the everyday model."""
    rng = np.random.default_rng(seed)
    return save(
        path,
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w2"], ["y"]),
        ],
        [("x", "FP32", ["rows", FEATURES])],
        [("y", "FP32", ["rows", CLASSES])],
        w1=rng.standard_normal((FEATURES, 32)).astype("f4") / 8,
        w2=rng.standard_normal((32, CLASSES)).astype("f4") / 8,
    )


def identity(path: Path, datatype: str) -> Path:
    """x [rows, 4] → y, the same."""
    return save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", datatype, ["rows", 4])],
        [("y", datatype, ["rows", 4])],
    )


def ragged(path: Path) -> Path:
    """x [rows, n] → y, the same, any n; nothing says that it may be padded."""
    return save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", "FP32", ["rows", "n"])],
        [("y", "FP32", ["rows", "n"])],
    )


def two_inputs(path: Path) -> Path:
    """a [rows, 3], b [rows, 3] → total = a + b, gap = a - b."""
    return save(
        path,
        [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Sub", ["a", "b"], ["gap"])],
        [("a", "FP32", ["rows", 3]), ("b", "FP32", ["rows", 3])],
        [("total", "FP32", ["rows", 3]), ("gap", "FP32", ["rows", 3])],
    )


def times(path: Path, factor: float) -> Path:
    """x [rows, 2] → y = factor * x, to tell versions apart."""
    return save(
        path,
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        [("x", "FP32", ["rows", 2])],
        [("y", "FP32", ["rows", 2])],
        k=np.array(factor, "f4"),
    )


def doubled(path: Path) -> Path:
    """x [rows, 4] → y = 2 * x."""
    return save(
        path,
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [("x", "FP32", ["rows", 4])],
        [("y", "FP32", ["rows", 4])],
    )


def pixel_sum(path: Path) -> Path:
    """pixels [rows, 2, 2, 3] of UINT8 → sum [rows] of all numbers of a picture."""
    return save(
        path,
        [
            helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["floats", "axes"], ["sum"], keepdims=0),
        ],
        [("pixels", "UINT8", ["rows", 2, 2, 3])],
        [("sum", "FP32", ["rows"])],
        axes=np.array([1, 2, 3], "i8"),
    )


def batch_mean(path: Path) -> Path:
    """x [rows, 2] → y = x minus the mean over the rows: rows may not be joined with strangers'."""
    return save(
        path,
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
        [("x", "FP32", ["rows", 2])],
        [("y", "FP32", ["rows", 2])],
    )


def external(path: Path) -> Path:
    """The everyday model with its weights in a file beside it."""
    mlp(path)
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=0,
    )
    return path


def filtering(path: Path) -> Path:
    """Leaves out the rows that begin below -100: how many come out is known only when it has run."""
    return save(
        path,
        [
            helper.make_node("Gather", ["x", "first"], ["heads"], axis=1),
            helper.make_node("Greater", ["heads", "least"], ["kept"]),
            helper.make_node("Compress", ["x", "kept"], ["y"], axis=0),
        ],
        [("x", "FP32", ["rows", 2])],
        [("y", "FP32", ["left", 2])],
        first=np.array(0, "i8"),
        least=np.array(-100, "f4"),
    )
