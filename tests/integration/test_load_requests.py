"""Requests that the load generator builds, sent to a real server."""

import pytest

from headrace.errors import ConfigurationError
from headrace.loadtest import schedules
from headrace.loadtest.analysis import analyse
from headrace.loadtest.plan import Caller
from headrace.loadtest.sender import Target, send
from headrace.loadtest.wire import build, random_inputs, read_metadata
from headrace.testing import RunningServer

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("model", ["mlp", "pair", "ragged", "swift", "same_BYTES", "same_FP16"])
def test_random_inputs_are_what_a_model_takes(server: RunningServer, model: str, binary: bool) -> None:
    metadata = read_metadata(server.url, model)
    callers = [Caller("patient", priority=1, tenant="a"), Caller("hasty", deadline_s=30)]
    requests = build(
        metadata, server.address, callers, random_inputs(metadata, 5, 1, lengths=(2, 7), binary=binary)
    )
    times = schedules.even(100, 0.2)
    plan = schedules.make(
        times,
        schedules.keys_uniform(len(times), 5, 1),
        schedules.assign_callers(len(times), callers, 1),
        0.2,
    )
    found = analyse(send(Target(server.host, server.port), plan, callers, requests))
    assert found.first_faults == ()
    assert found.whole.statuses == {"200": 20}


def test_a_version_is_asked_by_its_number(server: RunningServer) -> None:
    metadata = read_metadata(f"{server.address}/", "times", "2")
    ((request,),) = build(metadata, server.address, [Caller()], random_inputs(metadata, 1, 1))
    assert request.startswith(b"POST /v2/models/times/versions/2/infer ")


def test_who_is_not_there_or_knows_no_such_model_is_named(server: RunningServer) -> None:
    with pytest.raises(ConfigurationError, match="404 for model 'nothing'"):
        read_metadata(server.url, "nothing")
    with pytest.raises(ConfigurationError, match="start a server there"):
        read_metadata("127.0.0.1:1", "mlp")
    with pytest.raises(ConfigurationError, match="plain HTTP"):
        read_metadata("https://127.0.0.1", "mlp")
