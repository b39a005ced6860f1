"""Whose a request is, over real sockets: on its ticket, and in the metrics."""

from hashlib import sha256

import pytest

from headrace.config import Tenant
from headrace.errors import ConfigurationError
from headrace.testing import run_server
from tests.integration.wire import Wire

pytestmark = pytest.mark.integration

SECRET = "s3cret-of-acme"
UNLISTED = "s3cret-of-nobody"
STRANGER = f"key-{sha256(UNLISTED.encode()).hexdigest()[:8]}"
INFER = "/v2/models/echo/infer"
HEADERS = {
    "a key": ({"Authorization": f"Bearer {SECRET}"}, "acme"),
    "another key": ({"X-API-Key": UNLISTED}, STRANGER),
    "a name": ({"X-Team": "red"}, "red"),
    "a key and a name": ({"X-Team": "red", "X-API-Key": SECRET}, "acme"),
    "another key and a name": ({"X-Team": "red", "X-API-Key": UNLISTED}, "red"),
    "another key and the name of somebody with keys": ({"X-Team": "acme", "X-API-Key": UNLISTED}, STRANGER),
    "the name of somebody with keys": ({"X-Team": "acme"}, ""),
    "the header of another server": ({"X-Tenant": "red"}, ""),
    "nothing": ({}, ""),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, profiles):
    folder = tmp_path_factory.mktemp("tenants")
    (folder / "echo.fake").write_text("{}")
    tenants = {"acme": Tenant(weight=3, keys=(SECRET,))}
    with run_server(
        [folder], profile_dir=profiles, tenants=tenants, tenant_header="X-Team", weights={"echo": 2}
    ) as running:
        yield running


@pytest.fixture
def tenants(server, monkeypatch):
    """The tenants of the tickets that came, as they come."""
    pipeline = server.server.catalog.find("echo", None).pipeline
    submit, seen = pipeline.submit, []

    def listen(ticket):
        seen.append(ticket.tenant)
        submit(ticket)

    monkeypatch.setattr(pipeline, "submit", listen)
    return seen


def body(**parameters):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    return {"inputs": [tensor], "parameters": parameters} if parameters else {"inputs": [tensor]}


@pytest.mark.parametrize(("headers", "tenant"), list(HEADERS.values()), ids=list(HEADERS))
def test_headers_say_whose_a_request_is_also_when_they_were_seen_before(
    server, wire, tenants, headers, tenant
):
    for _ in range(3):
        assert wire.post(INFER, body(), headers).status == 200
    assert wire.post("/v1/skills/echo", {"x": [1, 2, 3, 4]}, headers).status == 200
    assert tenants == [tenant] * 4


def test_each_request_of_a_connection_is_its_own(wire, tenants):
    for _ in range(2):
        for headers, _ in HEADERS.values():
            wire.post(INFER, body(), headers)
    assert tenants == [tenant for _, tenant in HEADERS.values()] * 2


def test_a_parameter_says_it_where_no_header_does(wire, tenants):
    wire.post(INFER, body(tenant="blue"))
    wire.post(INFER, body(tenant="blue"), {"X-Team": "red"})
    wire.post(INFER, body(tenant="blue"), {"X-API-Key": UNLISTED})
    wire.post(INFER, body(tenant="blue"), {"X-API-Key": SECRET})
    wire.post(INFER, body(tenant="acme"))
    wire.post(INFER, body(tenant=None))
    wire.post(INFER, body(tenant="a\nb"))
    assert tenants == [
        "blue",
        "red",
        "blue",
        "acme",
        "",
        "",
        f"name-{sha256(b'a' + bytes([10]) + b'b').hexdigest()[:8]}",
    ]


def test_device_time_is_in_the_metrics_by_tenant_and_no_key_is(wire):
    for headers, _ in HEADERS.values():
        assert wire.post(INFER, body(), headers).status == 200
    lines = wire.get("/metrics").body.decode().splitlines()
    seconds = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    for _, tenant in HEADERS.values():
        series = f'inference_device_seconds_total{{length="8",skill="echo",tenant="{tenant}",version="1"}}'
        assert float(seconds[series]) > 0
    assert not any(key in line for line in lines for key in (SECRET, UNLISTED))
    assert float(seconds["loop_lag_seconds"]) >= 0


def test_weights_are_for_models_that_are_there(tmp_path):
    (tmp_path / "echo.fake").write_text("{}")
    with (
        pytest.raises(ConfigurationError, match="a weight is given for ehco, and the models are echo"),
        run_server([tmp_path], weights={"ehco": 2}),
    ):
        pass


@pytest.fixture
def wire(server):
    with Wire(server.host, server.port) as connection:
        yield connection
