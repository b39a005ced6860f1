"""What Triton's clients call beside inference: logging, tracing, shared memory; and ids of requests everywhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.http as blocking
from tritonclient.utils import InferenceServerException

from headrace.testing import RunningServer
from tests.integration.process import serving
from tests.integration.wire import Wire, tensor

pytestmark = pytest.mark.integration


@pytest.fixture
def client(server: RunningServer) -> Iterator[blocking.InferenceServerClient]:
    with blocking.InferenceServerClient(server.address) as each:
        yield each


def test_log_settings_are_shown_changed_and_refused(client: blocking.InferenceServerClient) -> None:
    before = client.get_log_settings()
    assert before["log_file"] == ""
    assert before["log_format"] == "default"
    try:
        changed = client.update_log_settings({"log_warning": False, "log_verbose_level": 1})
        assert changed == before | {"log_warning": False, "log_verbose_level": 1}
        assert client.get_log_settings() == changed
    finally:
        client.update_log_settings({"log_warning": True, "log_verbose_level": 0})
    with pytest.raises(InferenceServerException, match="log file location can not be updated") as caught:
        client.update_log_settings({"log_file": "x.log"})
    assert caught.value.status() == "501"
    with pytest.raises(InferenceServerException, match="'log_info' has to be true or false"):
        client.update_log_settings({"log_info": 3})


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b" " * (2 << 20)])
def test_log_settings_that_are_no_object_are_refused(wire: Wire, body: bytes) -> None:
    answer = wire.post("/v2/logging", body)
    assert answer.status == 400
    assert answer.error


def test_what_is_switched_on_is_written_from_then_on(models: Path, profiles: Path) -> None:
    with serving([models / "swift.fake"], profiles, "--drain-delay-s", "0") as running:
        with running.connect() as wire:
            before = wire.get("/v2/logging").json()
            assert (before["log_info"], before["log_error"]) == (False, True)
            assert wire.post("/v2/logging", {"log_info": True, "log_format": "ISO8601"}).status == 200
        running.process.terminate()
        assert running.process.stderr is not None
        written = running.process.stderr.read().decode()
    assert "server_listening" not in written
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z .*server_draining", written, re.MULTILINE)


def test_tracing_is_said_not_to_be_there(client: blocking.InferenceServerClient, wire: Wire) -> None:
    for call in (client.get_trace_settings, client.update_trace_settings):
        with pytest.raises(InferenceServerException, match="the server does not support tracing") as caught:
            call()
        assert caught.value.status() == "503"
    assert wire.get("/v2/models/mlp/trace/setting").status == 503


def test_there_is_no_shared_memory_and_letting_go_of_it_works(client: blocking.InferenceServerClient) -> None:
    assert client.get_system_shared_memory_status() == []
    assert client.get_cuda_shared_memory_status() == []
    client.unregister_system_shared_memory()
    client.unregister_system_shared_memory("r")
    client.unregister_cuda_shared_memory()
    client.unregister_cuda_shared_memory("r")
    with pytest.raises(InferenceServerException, match="Unable to find system shared memory region: 'r'"):
        client.get_system_shared_memory_status("r")


def test_registering_shared_memory_is_refused(client: blocking.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="does not offer shared memory") as caught:
        client.register_system_shared_memory("r", "/r", 64)
    assert caught.value.status() == "501"
    text = "failed to register CUDA shared memory region: 'r', GPUs not supported"
    with pytest.raises(InferenceServerException, match=text) as caught:
        client.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 64)
    assert caught.value.status() == "400"


@pytest.mark.parametrize("path", ["/v2", "/v2/models/nobody", "/nowhere", "/v2/health/live", "/metrics"])
def test_a_request_id_comes_back_from_everywhere(wire: Wire, path: str) -> None:
    answer = wire.request("GET", path, headers={"X-Request-Id": "a-1"})
    assert answer.headers["x-request-id"] == "a-1"
    assert "x-request-id" not in wire.request("GET", path, headers={"X-Request-Id": "a b"}).headers
    assert "x-request-id" not in wire.get(path).headers


def test_an_error_names_the_request_id_it_came_with(wire: Wire) -> None:
    x = {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]}
    named = wire.infer("nobody", x, {"X-Request-Id": "a-1"})
    assert named.json()["request_id"] == "a-1"
    assert "request_id" not in wire.infer("nobody", x).json()
    good = wire.infer("swift", {**x, "id": "body"}, {"X-Request-Id": "a-1"})
    assert (good.json()["id"], good.headers["x-request-id"]) == ("body", "a-1")
