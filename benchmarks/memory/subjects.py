"""Many models of one size that differ in their content: convolutions, each of which also gives back the number it was sent, times its own factor.

They are of one graph and one set of weights of about 24 MB; the factor, an initializer, makes the content of each its own, and
its answers too: an answer by another model, or to another request, is found out.
"""

from pathlib import Path

import models
import numpy as np
from asking import Asked
from onnx import ModelProto, helper, numpy_helper, save

SIDE, CHANNELS, LAYERS, CLASSES = 8, 256, 10, 8
WIDTH = SIDE * SIDE
ECHO, FACTOR = "echo", "factor"
FIRST_FACTOR = 2
"""Of the first model; each further one's is one more, so that no two are alike."""


def make_all(folder: Path, count: int) -> list[Path]:
    """The files, made where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name(at)}.onnx" for at in range(count)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        model = body()
        for at, path in enumerate(paths):
            if path in missing:
                write(model, path, FIRST_FACTOR + at)
    return paths


def name(at: int) -> str:
    return f"m{at:03d}"


def asked(at: int, calls: int, seconds: float, deadline_s: float) -> Asked:
    """The model of that place, so many times."""
    factors = {"": float(FIRST_FACTOR + at)}
    return Asked(name(at), "input", ECHO, WIDTH, calls / seconds, deadline_s, factors, {})


def write(model: ModelProto, path: Path, factor: float) -> None:
    """One of them, renamed when it is whole."""
    pick = np.zeros((WIDTH, 1), "f4")
    pick[0, 0] = factor
    place = next(at for at, each in enumerate(model.graph.initializer) if each.name == FACTOR)
    model.graph.initializer[place].CopyFrom(numpy_helper.from_array(pick, FACTOR))
    beside = path.with_suffix(".part")
    save(model, beside)
    beside.rename(path)


def body() -> ModelProto:
    """[n, 64] → an 8 x 8 picture → ten convolutions of 256 channels with ReLU → 8 scores; about 0.75 GFLOP a row."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(np.array([0, 1, SIDE, SIDE]), "shape"),
        numpy_helper.from_array(np.zeros((WIDTH, 1), "f4"), FACTOR),
        numpy_helper.from_array(
            (rng.standard_normal((CHANNELS, CLASSES)) / CHANNELS**0.5).astype("f4"), "head"
        ),
    ]
    nodes = [helper.make_node("Reshape", ["input", "shape"], ["r0"])]
    for at in range(LAYERS + 1):
        wide = CHANNELS if at else 1
        kernel = rng.standard_normal((CHANNELS, wide, 3, 3)) * (2 / (9 * wide)) ** 0.5
        weights.append(numpy_helper.from_array(kernel.astype("f4"), f"w{at}"))
        nodes += [
            helper.make_node(
                "Conv", [f"r{at}", f"w{at}"], [f"c{at}"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]
            ),
            helper.make_node("Relu", [f"c{at}"], [f"r{at + 1}"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"r{LAYERS + 1}"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["output"]),
        helper.make_node("MatMul", ["input", FACTOR], [ECHO]),
    ]
    graph = helper.make_graph(
        nodes,
        "many",
        [helper.make_tensor_value_info("input", models.FLOAT, ["n", WIDTH])],
        [
            helper.make_tensor_value_info("output", models.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info(ECHO, models.FLOAT, ["n", 1]),
        ],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
