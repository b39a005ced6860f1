"""Real models out of packages, each for something a model can be, against the bare runtime.

Requests of different rows and lengths come at once over many connections, so that they share runs wherever the server
finds that they may. Each answer is compared with onnxruntime's own for that request alone. The tolerance is TOLERANCE of
the largest element: kernels sum in another order when there are more rows or padding.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from tritonclient.utils import np_to_triton_dtype

from headrace.batching.latency import LatencyModel
from headrace.testing import RunningServer
from tests.integration.graphs import CLASSES, FEATURES
from tests.integration.packages import model_file
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, binary, dumps, split_binary, tensor

pytestmark = pytest.mark.integration

TOLERANCE = 2e-5
CONNECTIONS, EACH = 8, 3
MOST_ROUNDS = 20
NUMPY = {"FP32": "<f4", "INT64": "<i8", "INT32": "<i4"}

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(11)


def bytes_of_a_file(rows: int) -> Arrays:
    return {"bytes": RNG.integers(0, 257, (rows, 2048)).astype(np.int32)}


def photo(rows: int) -> Arrays:
    return {"input:0": RNG.uniform(-120, 130, (rows, 224, 224, 3)).astype(np.float32)}


def sentence(rows: int) -> Arrays:
    length = int(RNG.integers(3, 50))
    mask = np.ones((rows, length), np.int64)
    mask[0, int(RNG.integers(2, length + 1)) :] = 0
    return {"input_ids": RNG.integers(1000, 30000, (rows, length)), "attention_mask": mask}


def captcha(rows: int) -> Arrays:
    return {"image": RNG.uniform(0, 1, (rows, 3, 60, 160)).astype(np.float32)}


def speech(rows: int) -> Arrays:
    return {
        "input": RNG.uniform(-1, 1, (rows, 576)).astype(np.float32),
        "state": RNG.uniform(-1, 1, (2, rows, 128)).astype(np.float32),
        "sr": np.array(16000, np.int64),
    }


def line(rows: int) -> Arrays:
    """The model takes one row, whatever is asked for."""
    return {"input1": RNG.uniform(-1, 1, (1, 1, 64, int(RNG.integers(60, 200)))).astype(np.float32)}


def text_box(rows: int) -> Arrays:
    return {"x": RNG.uniform(-1, 1, (rows, 3, 80, 160)).astype(np.float32)}


MADE: dict[str, Callable[[int], Arrays]] = {
    "magika": bytes_of_a_file,
    "nsfw": photo,
    "minilm": sentence,
    "captcha": captcha,
    "silero": speech,
    "dddd": line,
    "ocrspine": text_box,
}


class Bare:
    """The runtime without a server."""

    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        return dict(zip(self._names, self._session.run(None, inputs), strict=True))


def ask(wire: Wire, model: str, inputs: Arrays) -> Answer:
    described = [
        (name, np_to_triton_dtype(array.dtype), list(array.shape), array.tobytes())
        for name, array in inputs.items()
    ]
    body, headers = binary(described, parameters={"binary_data_output": True})
    return wire.infer(model, body, headers)


def answered(answer: Answer) -> Arrays:
    assert answer.status == 200, answer.body[:500]
    head, tensors = split_binary(answer)
    return {
        each["name"]: np.frombuffer(tensors[each["name"]], NUMPY[each["datatype"]]).reshape(each["shape"])
        for each in head["outputs"]
    }


def all_at_once(server: RunningServer, model: str, requests: list[Arrays]) -> list[Arrays]:
    """Ask over several connections; answers in the order of the requests."""

    def one_connection(mine: list[Arrays]) -> list[Arrays]:
        with Wire(server.host, server.port) as wire:
            return [answered(ask(wire, model, inputs)) for inputs in mine]

    shares = [requests[at::CONNECTIONS] for at in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = list(pool.map(one_connection, shares))
    return [answers[at % CONNECTIONS][at // CONNECTIONS] for at in range(len(requests))]


def assert_close(ours: Arrays, expected: Arrays) -> None:
    assert ours.keys() == expected.keys()
    for name, array in expected.items():
        assert ours[name].dtype == array.dtype
        largest = float(np.abs(array).max()) if array.size else 0.0
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=TOLERANCE * largest, err_msg=name)


def counts(server: RunningServer, model: str) -> tuple[int, int]:
    """Requests answered and runs so far."""
    with Wire(server.host, server.port) as wire:
        stats: dict[str, Any] = wire.get(f"/v2/models/{model}/stats").json()["model_stats"][0]
    return stats["inference_stats"]["success"]["count"], stats["execution_count"]


@pytest.mark.parametrize("model", MADE)
def test_concurrent_answers_are_the_bare_runtimes(real: RunningServer, model: str) -> None:
    bare = Bare(str(model_file(model)))
    requests = [MADE[model](1 + at % 3) for at in range(CONNECTIONS * EACH)]
    for inputs, ours in zip(requests, all_at_once(real, model, requests), strict=True):
        assert_close(ours, bare.run(inputs))


@pytest.mark.parametrize("model", ["magika", "minilm", "captcha", "silero"])
def test_rows_of_different_requests_share_runs(real: RunningServer, model: str) -> None:
    requests = [MADE[model](1) for _ in range(CONNECTIONS * EACH)]
    for _ in range(MOST_ROUNDS):
        # Nothing measured: that a bigger batch is no faster on this machine is not what is asked here.
        real.server.catalog.versions(model)[0].pipeline.latency = LatencyModel()
        requests_before, runs_before = counts(real, model)
        all_at_once(real, model, requests)
        requests_after, runs_after = counts(real, model)
        assert requests_after - requests_before == len(requests)
        if runs_after - runs_before < len(requests):
            return
    pytest.fail("no two requests ever shared a run")


@pytest.mark.parametrize("model", ["dddd", "mean"])
def test_rows_that_may_not_share_a_run_do_not(real: RunningServer, server: RunningServer, model: str) -> None:
    where = server if model == "mean" else real
    requests = [
        line(1) if model == "dddd" else {"x": RNG.standard_normal((2, 2)).astype(np.float32)}
        for _ in range(CONNECTIONS)
    ]
    before = counts(where, model)
    answers = all_at_once(where, model, requests)
    after = counts(where, model)
    assert (after[0] - before[0], after[1] - before[1]) == (len(requests), len(requests))
    if model == "mean":
        for inputs, ours in zip(requests, answers, strict=True):
            np.testing.assert_allclose(ours["y"], inputs["x"] - inputs["x"].mean(0), atol=1e-6)


def test_requests_that_wait_travel_together(server: RunningServer) -> None:
    """While the fake runs one request, the others queue up behind it; all but a few then share a run."""
    requests = [{"x": np.full((1, 4), at, np.float32)} for at in range(CONNECTIONS * EACH)]
    before = counts(server, "doubler")
    answers = all_at_once(server, "doubler", requests)
    after = counts(server, "doubler")
    for inputs, ours in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(ours["y"], inputs["x"] * 2)
    assert after[0] - before[0] == len(requests)
    assert after[1] - before[1] < len(requests)


def test_states_of_different_streams_do_not_mix(real: RunningServer) -> None:
    """Silero's state goes out and in again with each request: streams fed at once stay apart."""
    bare = Bare(str(model_file("silero")))
    streams = [[speech(1) for _ in range(4)] for _ in range(CONNECTIONS)]
    ours = [np.zeros((2, 1, 128), np.float32)] * CONNECTIONS
    theirs = list(ours)
    for step in range(4):
        requests = [{**stream[step], "state": state} for stream, state in zip(streams, ours, strict=True)]
        answers = all_at_once(real, "silero", requests)
        ours = [answer["stateN"] for answer in answers]
        for at, stream in enumerate(streams):
            expected = bare.run({**stream[step], "state": theirs[at]})
            theirs[at] = expected["stateN"]
            assert_close(answers[at], expected)


def test_metadata_tell_the_shapes_that_were_found_out(real: RunningServer) -> None:
    def is_probed() -> bool:
        return all(version.snapshot().spec.joins_requests for version in real.server.catalog.versions("nsfw"))

    eventually(is_probed, "the slow model was probed beside its service")
    with Wire(real.host, real.port) as wire:
        metadata = {name: wire.get(f"/v2/models/{name}").json() for name in MADE}
    shapes = {
        name: tuple([each["shape"] for each in content[side]] for side in ("inputs", "outputs"))
        for name, content in metadata.items()
    }
    assert shapes["magika"] == ([[-1, 2048]], [[-1, 214]])
    assert shapes["nsfw"] == ([[-1, 224, 224, 3]], [[-1, 2]])
    assert shapes["captcha"] == ([[-1, 3, 60, 160]], [[20, -1, 37]])
    assert shapes["silero"][0] == [[-1, -1], [2, -1, 128], []]
    assert shapes["dddd"][0] == [[1, 1, 64, -1]]
    assert shapes["ocrspine"] == ([[-1, 3, 80, 160]], [[-1, 2]])
    assert shapes["minilm"][0] == [[-1, -1], [-1, -1]]


def test_a_shape_that_the_model_does_not_have_is_refused(real: RunningServer) -> None:
    with Wire(real.host, real.port) as wire:
        for inputs, text in (
            ({"image": np.zeros((1, 3, 60, 161), np.float32)}, "unexpected shape for input 'image'"),
            ({"image": np.zeros((3, 60, 160), np.float32)}, "unexpected shape for input 'image'"),
        ):
            answer = ask(wire, "captcha", inputs)
            assert answer.status == 400
            assert text in answer.error


def test_inputs_have_to_bring_equally_many_rows(real: RunningServer) -> None:
    mixed = {**speech(2), "state": speech(1)["state"]}
    with Wire(real.host, real.port) as wire:
        answer = ask(wire, "silero", mixed)
    assert answer.status == 400
    assert "brings 1 rows and another input 2" in answer.error


def test_the_everyday_model_by_json(server: RunningServer, models: Any) -> None:
    bare = Bare(str(models / "mlp.onnx"))

    def one(rows: int) -> None:
        x = RNG.standard_normal((rows, FEATURES)).astype(np.float32)
        with Wire(server.host, server.port) as wire:
            answer = wire.infer("mlp", dumps({"inputs": [tensor("x", "FP32", [*x.shape], x.tolist())]}))
        output = answer.json()["outputs"][0]
        assert output["shape"] == [rows, CLASSES]
        ours = np.array(output["data"], np.float32).reshape(rows, CLASSES)
        assert_close({"y": ours}, bare.run({"x": x}))

    for rows in (1, 2, 5, 64, 300):
        one(rows)
