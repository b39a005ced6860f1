"""The models that faults happen to. Each gives back the number it was sent, times a factor of its own."""

from pathlib import Path

import models
import numpy as np
from asking import Asked
from onnx import helper, load, numpy_helper, save

WIDTH = 64
ECHO = "echo"
LIGHT, HEAVY, TINY = "light", "heavy", "tiny"
FACTORS = {LIGHT: 2.0, HEAVY: 3.0, TINY: 1.5}
LIGHT_WIDTHS, HEAVY_WIDTHS, TINY_WIDTHS = (WIDTH, 256, 128, 1), models.HEAVY, (WIDTH, 1)


def make(path: Path, widths: tuple[int, ...], factor: float) -> Path:
    """An MLP as in models.py, with one output more: the row's first element times the factor."""
    models.save_dense(path, widths)
    model = load(path)
    graph = model.graph
    pick = np.zeros((widths[0], 1), "f4")
    pick[0, 0] = factor
    graph.initializer.append(numpy_helper.from_array(pick, "pick"))
    graph.node.append(helper.make_node("MatMul", ["input", "pick"], [ECHO]))
    graph.output.append(helper.make_tensor_value_info(ECHO, models.FLOAT, ["n", 1]))
    save(model, path)
    return path


def asked(name: str, rate: float, deadline_s: float) -> Asked:
    """A model of `make`, by its name."""
    return Asked(name, "input", ECHO, WIDTH, rate, deadline_s, {"": FACTORS[name]}, {})
