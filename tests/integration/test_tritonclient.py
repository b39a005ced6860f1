"""Triton's own Python clients, unmodified: the blocking one and the asyncio one."""

from collections.abc import AsyncIterator, Iterator

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as blocking
import tritonclient.http.aio as asynchronous
from tritonclient.utils import InferenceServerException

from headrace.testing import RunningServer

pytestmark = pytest.mark.integration

RNG = np.random.default_rng(5)
ARRAYS: dict[str, np.ndarray] = {
    "BOOL": RNG.integers(0, 2, (3, 4)).astype("?"),
    **{
        datatype: RNG.integers(np.iinfo(kind).min, np.iinfo(kind).max, (3, 4), kind, endpoint=True)
        for datatype, kind in (
            *(("UINT8", np.uint8), ("UINT16", np.uint16), ("UINT32", np.uint32), ("UINT64", np.uint64)),
            *(("INT8", np.int8), ("INT16", np.int16), ("INT32", np.int32), ("INT64", np.int64)),
        )
    },
    "FP16": RNG.standard_normal((3, 4)).astype(np.float16),
    "FP32": RNG.standard_normal((3, 4)).astype(np.float32),
    "FP64": RNG.standard_normal((3, 4)),
    "BF16": RNG.standard_normal((3, 4)).astype(ml_dtypes.bfloat16),
    "BYTES": np.array([["a", "bc", "", "é"]] * 3, object),
}
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def client(server: RunningServer) -> Iterator[blocking.InferenceServerClient]:
    with blocking.InferenceServerClient(server.address) as each:
        yield each


@pytest.fixture
async def aio(server: RunningServer) -> AsyncIterator[asynchronous.InferenceServerClient]:
    async with asynchronous.InferenceServerClient(server.address) as each:
        yield each


def given(name: str, array: np.ndarray, datatype: str, *, binary: bool = True) -> blocking.InferInput:
    tensor = blocking.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def assert_same(answer: np.ndarray, sent: np.ndarray) -> None:
    if sent.dtype == object:
        assert [each.decode() for each in answer.ravel()] == sent.ravel().tolist()
        assert answer.shape == sent.shape
    else:
        assert answer.dtype == sent.dtype
        np.testing.assert_array_equal(answer, sent)


def test_health_metadata_config_and_index(client: blocking.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mlp")
    assert client.is_model_ready("times", "10")
    assert not client.is_model_ready("times", "3")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "headrace"
    assert client.get_model_metadata("mlp")["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 64]}
    ]
    assert client.get_model_config("mlp")["input"][0]["dims"] == [64]
    assert {"name": "mlp", "version": "1", "state": "READY", "reason": ""} in (
        client.get_model_repository_index()
    )


async def test_health_metadata_config_and_index_by_asyncio(
    aio: asynchronous.InferenceServerClient,
) -> None:
    assert await aio.is_server_live()
    assert await aio.is_server_ready()
    assert await aio.is_model_ready("mlp")
    assert not await aio.is_model_ready("nobody")
    assert (await aio.get_server_metadata())["name"] == "headrace"
    assert (await aio.get_model_metadata("times", "2"))["versions"] == ["1", "2", "10"]
    assert (await aio.get_model_config("mlp"))["max_batch_size"] > 0
    assert "mlp" in {each["name"] for each in await aio.get_model_repository_index()}
    assert (await aio.get_inference_statistics("mlp"))["model_stats"][0]["name"] == "mlp"


def test_statistics_count_what_was_asked(client: blocking.InferenceServerClient) -> None:
    def successes() -> int:
        count: int = client.get_inference_statistics("pair")["model_stats"][0]["inference_stats"]["success"][
            "count"
        ]
        return count

    before = successes()
    client.infer("pair", [given("a", ROWS, "FP32"), given("b", ROWS, "FP32")])
    assert successes() == before + 1
    assert len(client.get_inference_statistics()["model_stats"]) > 10


@pytest.mark.parametrize("datatype", ARRAYS)
def test_every_datatype_in_binary(client: blocking.InferenceServerClient, datatype: str) -> None:
    array = ARRAYS[datatype]
    answer = client.infer(f"same_{datatype}", [given("x", array, datatype)], request_id="7")
    assert answer.get_response()["id"] == "7"
    assert_same(answer.as_numpy("y"), array)


@pytest.mark.parametrize("datatype", sorted({*ARRAYS} - {"FP16", "BF16"}))
def test_every_datatype_with_a_json_form_in_json(
    client: blocking.InferenceServerClient, datatype: str
) -> None:
    array = ARRAYS[datatype]
    answer = client.infer(
        f"same_{datatype}",
        [given("x", array, datatype, binary=False)],
        outputs=[blocking.InferRequestedOutput("y", binary_data=False)],
    )
    assert "data" in answer.get_output("y")
    if array.dtype == object:
        assert answer.get_output("y")["data"] == array.ravel().tolist()
    else:
        assert_same(answer.as_numpy("y"), array)


@pytest.mark.parametrize("datatype", ARRAYS)
async def test_every_datatype_in_binary_by_asyncio(
    aio: asynchronous.InferenceServerClient, datatype: str
) -> None:
    array = ARRAYS[datatype]
    answer = await aio.infer(f"same_{datatype}", [given("x", array, datatype)])
    assert_same(answer.as_numpy("y"), array)


@pytest.mark.parametrize("binary", [True, False])
def test_requested_outputs_come_alone_and_in_order(
    client: blocking.InferenceServerClient, binary: bool
) -> None:
    inputs = [given("a", ROWS, "FP32"), given("b", ROWS[::-1].copy(), "FP32", binary=False)]
    answer = client.infer("pair", inputs, outputs=[blocking.InferRequestedOutput("gap", binary)])
    assert [each["name"] for each in answer.get_response()["outputs"]] == ["gap"]
    np.testing.assert_array_equal(answer.as_numpy("gap"), ROWS - ROWS[::-1])
    both = client.infer(
        "pair",
        inputs,
        outputs=[blocking.InferRequestedOutput(name, binary) for name in ("gap", "total")],
    )
    assert [each["name"] for each in both.get_response()["outputs"]] == ["gap", "total"]
    np.testing.assert_array_equal(both.as_numpy("total"), ROWS + ROWS[::-1])


def test_versions_are_chosen_by_name_or_the_highest(client: blocking.InferenceServerClient) -> None:
    array = np.ones((1, 2), np.float32)
    for version, factor in (("", 100), ("1", 10), ("2", 20), ("10", 100)):
        answer = client.infer("times", [given("x", array, "FP32")], model_version=version)
        np.testing.assert_array_equal(answer.as_numpy("y"), array * factor)
        assert answer.get_response()["model_version"] == (version or "10")


def test_a_name_that_has_to_be_quoted(client: blocking.InferenceServerClient) -> None:
    array = np.ones((1, 64), np.float32)
    assert client.is_model_ready("white space")
    assert client.infer("white space", [given("x", array, "FP32")]).as_numpy("y").shape == (1, 10)


def test_large_tensors_by_json_and_binary_agree(client: blocking.InferenceServerClient) -> None:
    array = RNG.standard_normal((2, 30_000)).astype(np.float32)
    as_json = client.infer(
        "ragged",
        [given("x", array, "FP32", binary=False)],
        outputs=[blocking.InferRequestedOutput("y", binary_data=False)],
    )
    in_binary = client.infer("ragged", [given("x", array, "FP32")])
    np.testing.assert_array_equal(as_json.as_numpy("y"), array)
    np.testing.assert_array_equal(in_binary.as_numpy("y"), array)


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (("nobody", "", "x", (1, 64)), "404", "Request for unknown model: 'nobody' is not found"),
        (("times", "7", "x", (1, 2)), "404", "Request for unknown model: 'times' version 7 is not found"),
        (("mlp", "", "x", (1, 63)), "400", "unexpected shape for input 'x' for model 'mlp'"),
        (("mlp", "", "z", (1, 64)), "400", "unexpected inference input 'z' for model 'mlp'"),
        (("mlp", "", "x", (1025, 64)), "400", "inference request batch-size must be <= 1024 for 'mlp'"),
        (("pair", "", "a", (1, 3)), "400", "expected 2 inputs but got 1 inputs for model 'pair'"),
        (("failing", "", "x", (1, 4)), "422", "told to fail"),
    ],
)
async def test_errors_reach_both_clients_with_text_and_code(
    client: blocking.InferenceServerClient,
    aio: asynchronous.InferenceServerClient,
    call: tuple[str, str, str, tuple[int, ...]],
    status: str,
    text: str,
) -> None:
    model, version, name, shape = call
    inputs = [given(name, np.full(shape, 13, np.float32), "FP32")]
    with pytest.raises(InferenceServerException) as by_one:
        client.infer(model, inputs, model_version=version)
    with pytest.raises(InferenceServerException) as by_other:
        await aio.infer(model, inputs, model_version=version)
    for each in (by_one.value, by_other.value):
        assert each.status() == status
        assert text in each.message()
    with pytest.raises(InferenceServerException, match="is not found"):
        client.get_model_metadata("nobody")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("rows", [1, 700], ids=["on the loop", "in the worker"])
async def test_bodies_are_compressed_both_ways(
    client: blocking.InferenceServerClient,
    aio: asynchronous.InferenceServerClient,
    algorithm: str,
    rows: int,
) -> None:
    x = np.arange(rows * 64, dtype=np.float32).reshape(rows, 64) % 7
    inputs, plain = [given("x", x, "FP32")], client.infer("mlp", [given("x", x, "FP32")]).as_numpy("y")
    way = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    np.testing.assert_array_equal(client.infer("mlp", inputs, **way).as_numpy("y"), plain)
    np.testing.assert_array_equal((await aio.infer("mlp", inputs, **way)).as_numpy("y"), plain)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "JSON"])
def test_classes_are_asked_for_as_image_client_does(
    client: blocking.InferenceServerClient, is_binary: bool
) -> None:
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    inputs = [given("x", x, "FP32")]
    scores = client.infer("mlp", inputs).as_numpy("y")
    wanted = blocking.InferRequestedOutput("y", binary_data=is_binary, class_count=2)
    answer = client.infer("mlp", inputs, outputs=[wanted])
    assert answer.get_output("y")["datatype"] == "BYTES"
    classes = answer.as_numpy("y")
    assert classes.shape == (3, 2)
    for row, texts in zip(scores, classes, strict=True):
        best = np.argsort(-row, kind="stable")[:2]
        found = [each.decode() if isinstance(each, bytes) else each for each in texts]
        assert found == [f"{row[at]:f}:{at}" for at in best]
