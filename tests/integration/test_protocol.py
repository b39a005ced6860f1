"""What the protocol's clients rely on, letter by letter: status codes, bodies, content types, error texts."""

import json
import math
import re
import struct

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from headrace.testing import RunningServer
from tests.integration.wire import Answer, Wire, binary, split_binary, tensor

pytestmark = pytest.mark.integration

X = tensor("x", "FP32", [1, 4], [1, 2, 3, 4])
PAIR = [tensor("a", "FP32", [1, 3], [1, 2, 3]), tensor("b", "FP32", [1, 3], [10, 20, 30])]
UNKNOWN = "Request for unknown model: 'nobody' is not found"


def assert_plain_json(answer: Answer) -> None:
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/mlp/ready", {"name": "mlp", "ready": True}),
        ("/v2/models/times/versions/2/ready", {"name": "times", "ready": True}),
    ],
)
def test_health_has_a_body_that_says_so(wire: Wire, path: str, expected: object) -> None:
    answer = wire.get(path)
    assert answer.status == 200
    assert answer.json() == expected
    assert_plain_json(answer)


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata_lists_only_what_works(wire: Wire, path: str) -> None:
    content = wire.get(path).json()
    assert content["name"] == "headrace"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", content["version"])
    assert "statistics" in content["extensions"]
    assert "binary_tensor_data" in content["extensions"]
    assert "classification" in content["extensions"]
    assert "logging" in content["extensions"]
    for missing in ("system_shared_memory", "cuda_shared_memory", "sequence", "trace"):
        assert missing not in content["extensions"]


def test_model_metadata_shows_shapes_with_their_batch_axis(wire: Wire) -> None:
    assert wire.get("/v2/models/mlp").json() == {
        "name": "mlp",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}],
    }
    assert wire.get("/v2/models/times/versions/2").json()["versions"] == ["1", "2", "10"]


def test_the_models_are_listed_once_each(wire: Wire, server: RunningServer) -> None:
    names = wire.get("/v2/models").json()["models"]
    assert sorted(names) == sorted({each.source.name for each in server.server.catalog})


def test_model_config_leaves_the_batch_axis_out(wire: Wire) -> None:
    config = wire.get("/v2/models/mlp/config").json()
    assert config["name"] == "mlp"
    assert config["max_batch_size"] > 0
    assert config["input"][0]["dims"] == [64]
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert "dynamic_batching" in config
    assert config["model_transaction_policy"] == {"decoupled": False}
    unjoined = wire.get("/v2/models/mean/config").json()
    assert unjoined["max_batch_size"] == 0
    assert unjoined["input"][0]["dims"] == [-1, 2]
    assert "dynamic_batching" not in unjoined
    assert wire.get("/v2/models/same_BYTES/config").json()["input"][0]["data_type"] == "TYPE_STRING"


def test_the_index_tells_every_version_and_its_state(wire: Wire) -> None:
    answer = wire.post("/v2/repository/index")
    assert_plain_json(answer)
    entries = answer.json()
    assert {"name": "mlp", "version": "1", "state": "READY", "reason": ""} in entries
    assert [each["version"] for each in entries if each["name"] == "times"] == ["1", "2", "10"]
    assert wire.post("/v2/repository/any/index").json() == entries
    assert wire.post("/v2/repository/index", {"ready": True}).json() == entries
    assert wire.post("/v2/repository/index", b"  ").json() == entries


@pytest.mark.parametrize(
    "body", [{"ready": 1}, {"ready": "yes"}, [], b"{", b'{"ready":' + b"[" * 250_000 + b"]" * 250_000 + b"}"]
)
def test_the_index_refuses_an_absurd_ready(wire: Wire, body: object) -> None:
    answer = wire.post("/v2/repository/index", body)
    assert answer.status == 400
    assert answer.error.startswith("Invalid value for 'ready': expected a boolean")


def test_statistics_have_every_key_that_is_dereferenced(wire: Wire) -> None:
    wire.infer("swift", {"inputs": [X]})
    before = wire.get("/v2/models/swift/stats").json()["model_stats"][0]
    x = tensor("x", "FP32", [3, 4], list(range(12)))
    wire.infer("swift", {"inputs": [x]})
    after = wire.get("/v2/models/swift/versions/1/stats").json()["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["last_inference"] > 1_600_000_000_000
    stats = after["inference_stats"]
    assert set(stats) == {
        *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
        *("cache_hit", "cache_miss"),
    }
    assert all(set(each) == {"count", "ns"} for each in stats.values())
    assert stats["success"]["count"] - before["inference_stats"]["success"]["count"] == 1
    steps = stats["compute_input"]["ns"] + stats["compute_infer"]["ns"] + stats["compute_output"]["ns"]
    assert stats["success"]["ns"] >= steps
    batch = next(each for each in after["batch_stats"] if each["batch_size"] == 3)
    assert set(batch) == {"batch_size", "compute_input", "compute_infer", "compute_output"}
    assert after["response_stats"] == {}
    assert after["memory_usage"] == []


def test_a_failed_request_counts_as_failed(wire: Wire) -> None:
    def failures() -> int:
        count: int = wire.get("/v2/models/failing/stats").json()["model_stats"][0]["inference_stats"]["fail"][
            "count"
        ]
        return count

    before = failures()
    assert wire.infer("failing", {"inputs": [tensor("x", "FP32", [1, 4], [13, 0, 0, 0])]}).status == 422
    assert failures() == before + 1


def test_all_statistics_come_from_one_place(wire: Wire, server: RunningServer) -> None:
    entries = wire.get("/v2/models/stats").json()["model_stats"]
    assert {(each["name"], each["version"]) for each in entries} == {
        (each.source.name, each.source.version) for each in server.server.catalog
    }


def test_metrics_are_prometheus_text(wire: Wire) -> None:
    wire.infer("swift", {"inputs": [X]})
    answer = wire.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    for name in ("latency_seconds", "queue_seconds", "compute_seconds", "batch_size"):
        assert re.search(rf'^inference_{name}_count{{skill="swift",version="1"}} [1-9]', text, re.MULTILINE)
    assert 'model_ready{skill="swift",version="1"} 1.0' in text


def test_metrics_have_tritons_names_too(wire: Wire) -> None:
    wire.infer("swift", {"inputs": [X]})
    text = wire.get("/metrics").body.decode()
    assert re.search(
        r'^nv_inference_request_success\{model="swift",version="1"\} [0-9]+$', text, re.MULTILINE
    )
    assert 'nv_inference_pending_request_count{model="mlp",version="1"} 0\n' in text


def test_metrics_are_openmetrics_for_who_prefers_that(wire: Wire) -> None:
    wanted = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"}
    answer = wire.request("GET", "/metrics", headers=wanted)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert answer.body.endswith(b"# EOF\n")
    assert {"nv_inference_request_success", "inference_requests", "model_ready"} <= {
        each.name for each in families
    }


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v1", "/v2/health", "/v2/health/live/", "/v2/models/", "/v2/models/mlp/", "/v2x"),
        *("/v2/models/mlp/versions/one", "/v2/models/mlp/versions/1.0/ready", "/v2/models/mlp/versions/-1"),
        *("/v2/models/mlp/versions/", "/v2/models/mlp/versions", "/v2/models/mlp/infer/", "/v2/models/a/b"),
        *("/v2/models/mlp/versions/x/infer", "/v2//health/live", "/metrics/", "/%2e%2e/etc/passwd", "/%FF"),
    ],
)
@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_an_odd_path_is_not_found(wire: Wire, verb: str, path: str) -> None:
    answer = wire.request(verb, path)
    assert (answer.status, answer.json()) == (404, {"error": "Not Found"})
    assert_plain_json(answer)


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("POST", "/v2", "GET"),
        ("POST", "/v2/health/live", "GET"),
        ("DELETE", "/v2/models/mlp", "GET"),
        ("POST", "/v2/models/mlp/ready", "GET"),
        ("POST", "/v2/models/mlp/config", "GET"),
        ("POST", "/v2/models/stats", "GET"),
        ("POST", "/v2/models", "GET"),
        ("PUT", "/v2/logging", "GET"),
        ("DELETE", "/v2/logging", "POST"),
        ("GET", "/v2/systemsharedmemory/unregister", "POST"),
        ("GET", "/v2/models/mlp/infer", "POST"),
        ("PUT", "/v2/models/mlp/versions/1/infer", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("POST", "/metrics", "GET"),
    ],
)
def test_a_wrong_verb_is_told_the_right_one(wire: Wire, verb: str, path: str, allowed: str) -> None:
    answer = wire.request(verb, path)
    assert (answer.status, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert allowed in answer.headers["allow"].split(", ")
    assert_plain_json(answer)


@pytest.mark.parametrize("path", ["", "/ready", "/config", "/stats", "/infer"])
def test_unknown_models_and_versions_are_named(wire: Wire, path: str) -> None:
    verb = "POST" if path == "/infer" else "GET"
    unknown = wire.request(verb, f"/v2/models/nobody{path}")
    assert (unknown.status, unknown.error) == (404, UNKNOWN)
    for version in ("99", "0", "01", "9" * 5000):
        answer = wire.request(verb, f"/v2/models/times/versions/{version}{path}")
        assert answer.status == 404
        assert answer.error.startswith("Request for unknown model: 'times' version ")
        assert answer.error.endswith(" is not found")


def test_the_highest_version_answers_where_none_is_named(wire: Wire) -> None:
    x = {"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}
    chosen = wire.infer("times", x).json()
    assert (chosen["model_version"], chosen["outputs"][0]["data"]) == ("10", [100, 200])
    named = wire.post("/v2/models/times/versions/1/infer", x).json()
    assert (named["model_version"], named["outputs"][0]["data"]) == ("1", [10, 20])


def test_an_answer_has_what_the_protocol_says_and_no_more(wire: Wire) -> None:
    assert wire.infer("swift", {"inputs": [X]}).json() == {
        "model_name": "swift",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [2, 4, 6, 8]}],
    }
    assert wire.infer("swift", {"id": "", "inputs": [X]}).json().keys() == {
        *("model_name", "model_version", "outputs")
    }
    assert wire.infer("swift", {"id": "abc", "inputs": [X]}).json()["id"] == "abc"


def test_unknown_keys_are_ignored(wire: Wire) -> None:
    answer = wire.infer("swift", {"inputs": [{**X, "odd": 1}], "model_name": "else", "z": {"y": [1]}})
    assert answer.status == 200


@pytest.mark.parametrize("outputs", [None, []])
def test_no_outputs_listed_means_all(wire: Wire, outputs: object) -> None:
    answer = wire.infer("pair", {"inputs": PAIR, "outputs": outputs}).json()
    assert [each["name"] for each in answer["outputs"]] == ["total", "gap"]


def test_a_listed_output_is_binary_only_if_it_says_so_itself(wire: Wire) -> None:
    listed = [{"name": "gap", "parameters": {"binary_data": False}}, {"name": "total"}]
    answer = wire.infer(
        "pair", {"inputs": PAIR, "parameters": {"binary_data_output": True}, "outputs": listed}
    )
    assert answer.headers["content-type"] == "application/json"
    assert [each["data"] for each in answer.json()["outputs"]] == [[-9, -18, -27], [11, 22, 33]]
    assert all("parameters" not in each for each in answer.json()["outputs"])


def test_a_binary_output_follows_the_json(wire: Wire) -> None:
    listed = [{"name": "gap", "parameters": {"binary_data": True}}, {"name": "total"}]
    answer = wire.infer("pair", {"inputs": PAIR, "outputs": listed})
    assert answer.headers["content-type"] == "application/octet-stream"
    head, tensors = split_binary(answer)
    assert struct.unpack("<3f", tensors["gap"]) == (-9, -18, -27)
    assert head["outputs"][0] == {
        "name": "gap",
        "datatype": "FP32",
        "shape": [1, 3],
        "parameters": {"binary_data_size": 12},
    }
    assert head["outputs"][1] == {"name": "total", "datatype": "FP32", "shape": [1, 3], "data": [11, 22, 33]}


def test_json_and_binary_inputs_go_together(wire: Wire) -> None:
    body, headers = binary([("a", "FP32", [1, 3], struct.pack("<3f", 1, 2, 3))])
    length = int(headers["Inference-Header-Content-Length"])
    head = json.loads(body[:length])
    head["inputs"].insert(0, PAIR[1])
    mixed = json.dumps(head).encode()
    answer = wire.infer("pair", mixed + body[length:], {"Inference-Header-Content-Length": str(len(mixed))})
    assert answer.json()["outputs"][0]["data"] == [11, 22, 33]


def test_an_empty_tensor_in_binary_is_answered(wire: Wire) -> None:
    body, headers = binary([("x", "FP32", [0, 4], b"")], parameters={"binary_data_output": True})
    answer = wire.infer("swift", body, headers)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json", "nothing binary follows"
    content = answer.json()["outputs"][0]
    assert content["shape"] == [0, 4]


def test_a_header_with_only_json_is_taken_too(wire: Wire) -> None:
    body = json.dumps({"inputs": [X]}).encode()
    answer = wire.infer("swift", body, {"Inference-Header-Content-Length": str(len(body))})
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6, 8]


def test_nan_and_infinity_travel_as_bare_tokens(wire: Wire) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,4],"data":[[NaN,Infinity,-Infinity,0],[1,2,3,4]]}]}'
    answer = wire.infer("same_FP32", body)
    assert b'"data":[NaN,Infinity,-Infinity,0.0,' in answer.body
    values = answer.json()["outputs"][0]["data"]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("datatype", ["INT32", "UINT8", "BOOL"])
def test_nan_is_refused_where_there_are_no_floats(wire: Wire, datatype: str, token: str) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"%s","shape":[1,4],"data":[1,1,1,%s]}]}'
    answer = wire.infer(f"same_{datatype}", body % (datatype.encode(), token.encode()))
    assert answer.status == 400
    assert "input 'x'" in answer.error


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_are_refused_as_json(wire: Wire, datatype: str) -> None:
    came = wire.infer(f"same_{datatype}", {"inputs": [tensor("x", datatype, [1, 4], [1, 2, 3, 4])]})
    assert came.status == 400
    assert came.error == (
        f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input x"
    )
    body, headers = binary([("x", datatype, [1, 4], bytes(8))])
    sent = wire.infer(f"same_{datatype}", body, headers)
    assert sent.status >= 400
    assert f"sending {datatype} data via JSON is not supported" in sent.error


def test_strings_keep_nul_bytes_and_every_character(wire: Wire) -> None:
    strings = ["a\0b", "", "日本", '"\\\n']
    answer = wire.infer("same_BYTES", {"inputs": [tensor("x", "BYTES", [1, 4], strings)]})
    assert answer.json()["outputs"][0]["data"] == strings


@pytest.mark.parametrize(
    ("datatype", "flat"),
    [
        ("BOOL", [True, False, True, False]),
        *(
            (kind, [0, 1, 2, (1 << bits) - 1])
            for kind, bits in (("UINT8", 8), ("UINT16", 16), ("UINT32", 32), ("UINT64", 64))
        ),
        *(
            (kind, [-(1 << bits), -1, 0, (1 << bits) - 1])
            for kind, bits in (("INT8", 7), ("INT16", 15), ("INT32", 31), ("INT64", 63))
        ),
        ("FP32", [0.5, -2.0, 3.4028234663852886e38, 1.401298464324817e-45]),
        ("FP64", [0.1, -2.0, 1.7976931348623157e308, 5e-324]),
        ("BYTES", ["", "a", "bc", "d"]),
    ],
)
def test_every_datatype_comes_back_as_it_went_flat_or_nested(
    wire: Wire, datatype: str, flat: list[object]
) -> None:
    for shape, data in (([1, 4], flat), ([1, 4], [flat]), ([2, 4], [flat, flat])):
        answer = wire.infer(f"same_{datatype}", {"inputs": [tensor("x", datatype, shape, data)]})
        assert answer.status == 200, answer.body
        assert answer.json()["outputs"] == [
            {"name": "y", "datatype": datatype, "shape": shape, "data": flat * shape[0]}
        ]


def test_integers_are_taken_for_floats_and_0_and_1_for_bool(wire: Wire) -> None:
    floats = wire.infer("same_FP64", {"inputs": [tensor("x", "FP64", [1, 4], [1, 2, 3, 4])]})
    assert floats.json()["outputs"][0]["data"] == [1, 2, 3, 4]
    bools = wire.infer("same_BOOL", {"inputs": [tensor("x", "BOOL", [1, 4], [0, 1, True, 0])]})
    assert bools.json()["outputs"][0]["data"] == [False, True, True, False]


def raw(wire: Wire, model: str, body: bytes) -> Answer:
    return wire.infer(model, body, {"Inference-Header-Content-Length": "0"})


def test_a_raw_request_is_one_row_in_binary_both_ways(wire: Wire) -> None:
    head, tensors = split_binary(raw(wire, "swift", struct.pack("<4f", 1, 2, 3, 4)))
    assert head["outputs"][0]["shape"] == [1, 4]
    assert struct.unpack("<4f", tensors["y"]) == (2, 4, 6, 8)


def test_a_raw_request_deduces_one_variable_axis(wire: Wire) -> None:
    head, tensors = split_binary(raw(wire, "ragged", struct.pack("<3f", 1, 2, 3)))
    assert head["outputs"][0]["shape"] == [1, 3]
    assert struct.unpack("<3f", tensors["y"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("model", "body", "text"),
    [
        ("pair", bytes(12), "Raw request must only have 1 input (found 1) to be deduced but got 2 inputs in"),
        ("swift", bytes(15), "unexpected size for input 'x'"),
        ("swift", bytes(0), "unexpected size for input 'x'"),
        ("ragged", bytes(7), "unexpected size for input 'x'"),
        ("same_BYTES", b"abc", "For BYTE datatype raw input 'x', the model must have input shape [1]"),
    ],
)
def test_a_raw_request_that_does_not_fit_is_told_why(wire: Wire, model: str, body: bytes, text: str) -> None:
    answer = raw(wire, model, body)
    assert answer.status == 400
    assert answer.error.startswith(text)


@pytest.mark.parametrize(
    ("model", "content", "status", "text"),
    [
        (
            "pair",
            {"inputs": PAIR[:1]},
            400,
            "expected 2 inputs but got 1 inputs for model 'pair'. Got input(s) ['a'], but missing required input(s)",
        ),
        ("pair", {"inputs": []}, 400, "expected 2 inputs but got 0 inputs for model 'pair'. Got input(s) []"),
        ("pair", {"inputs": [PAIR[0], PAIR[0]]}, 400, "input 'a' already exists in request"),
        (
            "pair",
            {"inputs": PAIR, "outputs": [{"name": "z"}]},
            400,
            "unexpected inference output 'z' for model 'pair'",
        ),
        (
            "pair",
            {"inputs": PAIR, "outputs": [{"name": "gap"}, {"name": "gap"}]},
            400,
            "output 'gap' already exists in request",
        ),
        (
            "swift",
            {"inputs": [tensor("x", "FP32", [1025, 4], [0] * 4100)]},
            400,
            "inference request batch-size must be <= 1024 for 'swift'",
        ),
        (
            "swift",
            {"inputs": [tensor("x", "FP32", [-1, 4], [])]},
            400,
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            "ragged",
            {"inputs": [tensor("x", "FP32", [1 << 32, 1 << 32], [])]},
            400,
            "shape [4294967296, 4294967296] of input 'x' causes total element count to exceed maximum size of",
        ),
        (
            "ragged",
            {"inputs": [tensor("x", "FP32", [1 << 31, 1 << 31], [])]},
            400,
            "byte size overflow for input 'x'",
        ),
        (
            "swift",
            {"inputs": [X], "parameters": {"triton_x": 1}},
            400,
            "parameter keys starting with 'triton_' are reserved",
        ),
        ("swift", {"inputs": [X], "parameters": {"sequence_id": 7}}, 501, "sequences"),
        ("swift", {"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]}, 501, "input 'x'"),
    ],
)
def test_errors_have_the_texts_that_clients_assert(
    wire: Wire, model: str, content: object, status: int, text: str
) -> None:
    answer = wire.infer(model, content)
    assert answer.status == status
    assert text in answer.error
    assert_plain_json(answer)


def test_short_and_leftover_binary_data_are_named(wire: Wire) -> None:
    short, headers = binary([("x", "FP32", [1, 4], bytes(16))])
    answer = wire.infer("swift", short[:-3], headers)
    assert answer.status == 400
    assert answer.error == ("unexpected size for input 'x', expecting 3 additional bytes for model 'swift'")
    answer = wire.infer("swift", short + b"abc", headers)
    assert answer.status == 400
    assert answer.error == "unexpected additional input data for model 'swift'"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "Unable to parse Inference-Header-Content-Length, got: x"),
        ("", "Unable to parse Inference-Header-Content-Length"),
        ("-1", "inference header size should be in range (0, "),
        ("2147483648", "inference header size should be in range (0, "),
        ("1000", "inference header size should be in range (0, "),
    ],
)
def test_an_impossible_header_length_is_refused(server: RunningServer, value: str, text: str) -> None:
    with Wire(server.host, server.port) as wire:
        answer = wire.infer("swift", {"inputs": [X]}, {"Inference-Header-Content-Length": value})
    assert answer.status == 400
    assert answer.error.startswith(text)


def test_string_tensors_in_binary_are_checked(wire: Wire) -> None:
    whole = b"".join(struct.pack("<I", 1) + b"a" for _ in range(4))
    for data, text in (
        (whole[:-1], "incomplete string data for inference input 'x'"),
        (whole + b"\1", "incomplete string length indicator for inference input 'x'"),
        (whole[:-5], "expected 4 string elements for inference input 'x' for model 'same_BYTES', got 3"),
        (b"\xff" * 20, "incomplete string data for inference input 'x'"),
    ):
        body, headers = binary([("x", "BYTES", [1, 4], data)])
        answer = wire.infer("same_BYTES", body, headers)
        assert answer.status == 400
        assert answer.error == text


def test_another_compression_is_refused_with_its_name_and_told_what_is_read(server: RunningServer) -> None:
    with Wire(server.host, server.port) as wire:
        answer = wire.infer("swift", {"inputs": [X]}, {"Content-Encoding": "zstd"})
    assert answer.status == 501
    assert answer.error.startswith("Unsupported compression type 'zstd'")
    assert answer.headers["accept-encoding"] == "gzip, deflate"


def test_health_and_metadata_are_never_compressed(wire: Wire) -> None:
    for path in (
        "/v2/health/ready",
        "/v2/models/mlp",
        "/v2/models/mlp/config",
        "/v2/models/stats",
        "/metrics",
    ):
        answer = wire.request("GET", path, headers={"Accept-Encoding": "gzip, deflate, br"})
        assert answer.status == 200
        assert "content-encoding" not in answer.headers
