"""Runs in kserve's environment: its REST client against a running server. Arguments: URL, file with what to expect."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import InferOutput, InferResponse, RequestedOutput

TOLERANCE = 1e-5


async def check(url: str, expected: dict[str, Any]) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "mlp")
    assert not await client.is_model_ready(url, "nobody")
    print("kserve: health of server and models")

    x, y = np.array(expected["x"], np.float32), np.array(expected["y"], np.float32)
    for binary_in in (False, True):
        for binary_out in (False, True):
            tensor = InferInput("x", list(x.shape), "FP32")
            tensor.set_data_from_numpy(x, binary_data=binary_in)
            request = InferRequest(
                "mlp",
                [tensor],
                request_id="42",
                request_outputs=[RequestedOutput("y", {"binary_data": binary_out})],
            )
            answer = await client.infer(url, request, model_name="mlp")
            assert isinstance(answer, InferResponse)
            output: InferOutput = answer.outputs[0]
            assert (answer.id, answer.model_name, output.name) == ("42", "mlp", "y")
            np.testing.assert_allclose(output.as_numpy().reshape(y.shape), y, atol=TOLERANCE)
    print("kserve: infer in JSON and binary, each way")

    request = InferRequest("mlp", [tensor], parameters={"binary_data_output": True})
    answer = await client.infer(url, request, model_name="mlp")
    np.testing.assert_allclose(answer.outputs[0].as_numpy().reshape(y.shape), y, atol=TOLERANCE)
    plain = {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.tolist()}]}
    answer = await client.infer(url, plain, model_name="mlp")
    np.testing.assert_allclose(answer.outputs[0].as_numpy().reshape(y.shape), y, atol=TOLERANCE)
    print("kserve: infer with binary_data_output, and from a plain dict")

    for model, data, expected_status, expected_text in (
        ("nobody", plain, 404, "Request for unknown model: 'nobody' is not found"),
        ("mlp", {"inputs": []}, 400, "expected 1 inputs but got 0 inputs for model 'mlp'"),
    ):
        status, text = await refusal(client, url, model, data)
        assert (status, expected_text in text) == (expected_status, True), text
    print("kserve: errors by status and sentence")

    answers = await asyncio.gather(*(client.infer(url, plain, model_name="mlp") for _ in range(100)))
    for each in answers:
        np.testing.assert_allclose(each.outputs[0].as_numpy().reshape(y.shape), y, atol=TOLERANCE)
    print("kserve: a hundred requests at once")
    await client.close()


async def refusal(client: InferenceRESTClient, url: str, model: str, data: dict[str, Any]) -> tuple[int, str]:
    """Status and text of the client's error; it takes the sentence out of the body by itself."""
    try:
        await client.infer(url, data, model_name=model)
    except httpx.HTTPStatusError as exc:
        return exc.response.status_code, str(exc)
    return 200, "it was answered"


if __name__ == "__main__":
    asyncio.run(check(sys.argv[1], json.loads(Path(sys.argv[2]).read_text())))
