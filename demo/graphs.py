"""Writes what was trained, and what goes before and after a model, into ONNX graphs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], inputs: list, outputs: list, constants: dict[str, np.ndarray]
) -> None:
    """A graph of its own, checked."""
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(list(nodes), path.parent.name, inputs, outputs, initializers)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="headrace demo",
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def sentence_classifier(
    path: Path, encoder: Path, hidden: str, weights: np.ndarray, bias: np.ndarray
) -> None:
    """An encoder with a linear head: hidden states → their mean over a sentence's tokens → `logits`.

    Args:
        path: where to write it.
        encoder: an ONNX file that takes input_ids and attention_mask, both [batch, tokens].
        hidden: its output [batch, tokens, width]; whatever leads to its other outputs only is left out.
        weights: [width, labels].
        bias: [labels].
    """
    whole = onnx.load(encoder)
    model = onnx.utils.Extractor(whole).extract_model(["input_ids", "attention_mask"], [hidden])
    graph = model.graph
    constants = {"head.axis": np.array([1]), "head.last": np.array([-1])}
    constants |= {"head.weights": weights.astype(np.float32), "head.bias": bias.astype(np.float32)}
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    graph.node.extend(
        [
            helper.make_node("Cast", ["attention_mask"], ["head.mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["head.mask", "head.last"], ["head.column"]),
            helper.make_node("Mul", [hidden, "head.column"], ["head.kept"]),
            helper.make_node("ReduceSum", ["head.kept", "head.axis"], ["head.sum"], keepdims=0),
            helper.make_node("ReduceSum", ["head.mask", "head.axis"], ["head.count"], keepdims=1),
            helper.make_node("Div", ["head.sum", "head.count"], ["head.mean"]),
            helper.make_node("Gemm", ["head.mean", "head.weights", "head.bias"], ["logits"]),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", len(bias)]))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def cropped(path: Path, original: Path, name: str, whole: int, middle: int) -> None:
    """A model of images [batch, side, side, 3] that takes larger ones and looks at their middle.

    Args:
        path: where to write it; its input is called `pixels`.
        original: the model, and `name` its input.
        whole, middle: pixels of a side, before and after.
    """
    model = onnx.load(original)
    graph = model.graph
    kept = [each for each in graph.input if each.name != name]  # of an old format: its weights are inputs too
    margin = (whole - middle) // 2
    opset = next(each.version for each in model.opset_import if not each.domain)
    if opset >= 10:
        raise ValueError(f"Slice takes its bounds as attributes up to opset 9, and {original} has {opset}")
    ends = [margin + middle] * 2
    slice_node = helper.make_node("Slice", ["pixels"], [name], axes=[1, 2], starts=[margin] * 2, ends=ends)
    graph.node.insert(0, slice_node)
    del graph.input[:]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", whole, whole, 3])
    graph.input.extend([pixels, *kept])
    onnx.checker.check_model(model)
    onnx.save(model, path)


def scorecard(
    path: Path,
    order: Sequence[str],
    numbers: dict[str, tuple[float, float]],
    points: dict[str, np.ndarray],
    base: float,
) -> None:
    """A logistic regression that gives its reasons.

    A category's index looks up its points, which is what multiplying a one-hot vector with weights comes to.
    `contributions` [batch, features] are what each feature adds to the average applicant's log-odds, in `order`;
    `probability` [batch] is of the second label, `probabilities` [batch, 2] of both.

    Args:
        path: where to write it.
        order: the features, as they stand in the input `x` [batch, features].
        numbers: feature → points for each unit, and the average that has none.
        points: feature → points of each category; every feature is here or in `numbers`.
        base: the average applicant's log-odds.
    """
    tables = np.concatenate(list(points.values()))
    sizes = np.array([len(each) for each in points.values()])
    arranged = [*numbers, *points]
    constants = {
        "numbers": np.array([order.index(each) for each in numbers]),
        "slopes": np.array([slope for slope, _ in numbers.values()], np.float32),
        "averages": np.array([average for _, average in numbers.values()], np.float32),
        "categories": np.array([order.index(each) for each in points]),
        "first": np.zeros(len(points), np.int64),
        "last": sizes - 1,
        "tables": tables.astype(np.float32),
        "offsets": np.concatenate([[0], np.cumsum(sizes)[:-1]]),
        "arrangement": np.array([arranged.index(each) for each in order]),
        "base": np.array(base, np.float32),
        "one": np.array(1, np.float32),
        "axis": np.array([1]),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["x", "numbers"], ["amounts"], axis=1),
        node("Sub", ["amounts", "averages"], ["above"]),
        node("Mul", ["above", "slopes"], ["of_numbers"]),
        node("Gather", ["x", "categories"], ["chosen"], axis=1),
        node("Cast", ["chosen"], ["index"], to=TensorProto.INT64),
        # An index beyond a feature's categories must not read the next feature's points.
        node("Max", ["index", "first"], ["not_below"]),
        node("Min", ["not_below", "last"], ["bounded"]),
        node("Add", ["bounded", "offsets"], ["places"]),
        node("Gather", ["tables", "places"], ["of_categories"]),
        node("Concat", ["of_numbers", "of_categories"], ["arranged"], axis=1),
        node("Gather", ["arranged", "arrangement"], ["contributions"], axis=1),
        node("ReduceSum", ["contributions", "axis"], ["total"], keepdims=1),
        node("Add", ["total", "base"], ["log_odds"]),
        node("Sigmoid", ["log_odds"], ["bad"]),
        node("Sub", ["one", "bad"], ["good"]),
        node("Concat", ["good", "bad"], ["probabilities"], axis=1),
        node("Squeeze", ["bad", "axis"], ["probability"]),
    ]
    tensor = helper.make_tensor_value_info
    outputs = [
        tensor("probabilities", TensorProto.FLOAT, ["batch", 2]),
        tensor("probability", TensorProto.FLOAT, ["batch"]),
        tensor("contributions", TensorProto.FLOAT, ["batch", len(order)]),
    ]
    save(path, nodes, [tensor("x", TensorProto.FLOAT, ["batch", len(order)])], outputs, constants)
