"""Where a skill cannot answer its chain does, step by step, and every such answer says so."""

import contextlib
import gc
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.admission.forecast import Arrival
from headrace.batching.ticket import Ticket
from headrace.errors import DeadlineInfeasible, HeadraceError, QueueFull
from headrace.frontends.chain import Chain
from headrace.frontends.turns import Turns
from headrace.pipeline import Pipeline
from headrace.testing import RunningServer, run_server
from tests.integration import graphs
from tests.integration.process import eventually
from tests.integration.wire import Answer, Wire, binary, dumps, message, split_binary, tensor

pytestmark = pytest.mark.integration

ROW = {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]}
ITEM = {"x": [1, 2, 3, 4]}
LARGE = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[%b1,2,3,4]}]}' % (b" " * (1 << 17))
VARIANT = "  - variant: small\n"
STALE = "  - stale: 1h\n"
STATIC = "  - static: popular.json\n"
FAILS = {"error_value": 13}
BROKEN = {"load_fails": "its weights are gone"}
SKILLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # Name → the chain and what else its skill.yaml says, what its first variant does, and what the other does.
    "chained": ("  - variant: odd\n" + VARIANT + STALE + STATIC, FAILS, FAILS),
    "once": (VARIANT + STATIC + "idempotent: false\n", FAILS, {}),
    "late": (VARIANT + STATIC, {"slow_value": 5, "slow_seconds": 0.3}, {"seconds": 0.1}),
    "broken": (VARIANT + STATIC, BROKEN, {}),
    "lost": (STATIC, BROKEN, BROKEN),
    "hopeless": (VARIANT, FAILS, FAILS),
    "picky": (STATIC.replace("popular", "other") + "  on: [breaker]\n", FAILS, {}),
}


def lay_out(folder: Path, name: str, chain: str, first: dict[str, Any], other: dict[str, Any]) -> None:
    skill = folder / name
    skill.mkdir()
    odd = "  odd: {model: odd.onnx}\n" if "odd" in chain else ""
    variants = "variants:\n  big: {model: big.fake}\n  small: {model: small.fake}\n" + odd
    (skill / "skill.yaml").write_text(f"{variants}fallback:\n  chain:\n{chain}")
    (skill / "big.fake").write_text(json.dumps(first))
    (skill / "small.fake").write_text(json.dumps(other))
    (skill / "popular.json").write_text('{"y": [7, 7, 7, 7]}')
    (skill / "other.json").write_text('{"y": [7, 7]}')
    if odd:
        graphs.two_inputs(skill / "odd.onnx")


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory, profiles: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("skills")
    for name, (chain, first, other) in SKILLS.items():
        lay_out(folder, name, chain, first, other)
    (folder / "bare.fake").write_text("{}")
    with run_server(
        [folder], profile_dir=profiles, instances=1, threads=1, max_loop_lag_s=3600.0, max_batch_size=2048
    ) as running:
        yield running


@pytest.fixture
def wire(skills: RunningServer) -> Iterator[Wire]:
    with Wire(skills.host, skills.port) as connection:
        yield connection


@contextlib.contextmanager
def opened(wire: Wire, *names: str) -> Iterator[None]:
    """With the breakers of these versions open."""
    for name in names:
        assert wire.post(f"/v1/breakers/{name}", {"state": "open"}).status == 200
    try:
        yield
    finally:
        for name in names:
            assert wire.post(f"/v1/breakers/{name}", {"state": "auto"}).status == 200


def degraded(answer: Answer) -> tuple[str, str, str]:
    """What an infer answer says of itself: in its header, and in its parameters."""
    assert answer.status == 200, answer.body[:500]
    is_binary = "inference-header-content-length" in answer.headers
    content = split_binary(answer)[0] if is_binary else answer.json()
    said = content["parameters"]
    return answer.headers["x-degraded"], said["degraded"], said["degraded_reason"]


def y_of(answer: Answer) -> list[float]:
    return answer.json()["outputs"][0]["data"]


def value(skills: RunningServer, metric: str, **labels: str) -> float:
    """A metric's sample, 0 if there is none."""
    with Wire(skills.host, skills.port) as wire:
        for line in wire.get("/metrics").body.decode().splitlines():
            if line.startswith(metric + "{") and all(
                f'{name}="{text}"' in line for name, text in labels.items()
            ):
                return float(line.rpartition(" ")[2])
    return 0.0


RAW = (bytes(16), {"Inference-Header-Content-Length": "0"})
WAYS = {
    "JSON": (dumps(ROW), {}),
    "JSON with an id": (dumps(ROW | {"id": "i"}), {}),
    "binary": binary([("x", "FP32", [1, 4], bytes(16))]),
    "binary both ways": binary([("x", "FP32", [1, 4], bytes(16))], parameters={"binary_data_output": True}),
    "raw": RAW,
    "large JSON": (LARGE, {}),
    "compressed": (gzip.compress(dumps(ROW)), {"Content-Encoding": "gzip"}),
    "compressed large JSON": (gzip.compress(LARGE), {"Content-Encoding": "gzip"}),
    "a request id": (dumps(ROW), {"X-Request-Id": "r"}),
}


@pytest.mark.parametrize("request_", WAYS.values(), ids=WAYS)
def test_every_way_in_gets_the_same_lesser_answer(skills: RunningServer, wire: Wire, request_) -> None:
    body, headers = request_
    path = "/v2/models/chained/infer"
    with opened(wire, "chained"):
        answers = [
            wire.request("POST", prefix + path, body, headers)
            for prefix in ("", f"http://{skills.address}", "")
        ]
    for answer in answers:
        assert degraded(answer) == ("variant:small; reason=breaker", "variant:small", "breaker")
        assert answer.raw == answers[0].raw
        if "inference-header-content-length" not in answer.headers:
            assert answer.json()["model_name"] == "chained.small"


def test_a_large_answer_says_so_too(wire: Wire) -> None:
    rows = {"inputs": [tensor("x", "FP32", [1500, 4], [1.5, 2.25, 3, 4] * 1500)]}
    with opened(wire, "chained"):
        answer = wire.infer("chained", rows)
        packed = wire.infer("chained", rows, {"Accept-Encoding": "gzip"})
    assert degraded(answer)[1:] == ("variant:small", "breaker")
    assert y_of(answer) == [3.0, 4.5, 6.0, 8.0] * 1500
    assert gzip.decompress(packed.body) == answer.body
    assert packed.headers["x-degraded"] == answer.headers["x-degraded"]


def test_answers_on_one_connection_keep_their_order(wire: Wire) -> None:
    rows = [{"inputs": [tensor("x", "FP32", [1, 4], [at] * 4)]} for at in range(4)]
    with opened(wire, "chained"):
        wire.send(
            b"".join(
                message("POST", f"/v2/models/{name}/infer", dumps(row))
                for row in rows
                for name in ("chained", "bare")
            )
        )
        answers = [wire.receive() for _ in range(8)]
    assert [y_of(each)[0] for each in answers] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert ["x-degraded" in each.headers for each in answers] == [True, False] * 4


def test_the_answer_is_what_was_asked_where_the_skill_can(wire: Wire) -> None:
    for answer in (wire.infer("chained", ROW), wire.post("/v1/skills/chained", ITEM)):
        assert answer.status == 200
        assert "x-degraded" not in answer.headers
        assert b"degraded" not in answer.body


def test_whoever_asks_for_a_variant_by_name_wants_that_one(wire: Wire) -> None:
    with opened(wire, "chained", "chained.small"):
        answers = [
            wire.infer("chained.small", ROW),
            wire.post("/v1/skills/chained?variant=big", ITEM),
            wire.post("/v1/skills/chained?variant=small", ITEM),
        ]
    for answer in answers:
        assert (answer.status, answer.json()["code"]) == (503, "circuit_open")
        assert answer.headers["x-reject-reason"] == "circuit-open"


def test_steps_are_taken_in_turn_the_skills_own_earlier_answer_before_the_file(wire: Wire) -> None:
    asked = {"inputs": [tensor("x", "FP32", [1, 4], [21, 2, 3, 4])]}
    before = wire.infer("chained", asked)
    with opened(wire, "chained", "chained.small"):
        again = wire.infer("chained", asked | {"id": "other"})
        never = wire.infer("chained", {"inputs": [tensor("x", "FP32", [2, 4], [22, 2, 3, 4] * 2)]})
    assert degraded(again) == ("stale; reason=breaker", "stale", "breaker")
    assert (again.json()["id"], y_of(again)) == ("other", y_of(before))
    assert degraded(never)[1] == "static"
    assert y_of(never) == [7.0] * 8


def test_a_lesser_answer_is_not_given_again_as_the_skills_own(wire: Wire) -> None:
    asked = {"inputs": [tensor("x", "FP32", [1, 4], [31, 2, 3, 4])]}
    with opened(wire, "chained"):
        assert degraded(wire.infer("chained", asked))[1] == "variant:small"
        with opened(wire, "chained.small"):
            assert degraded(wire.infer("chained", asked))[1] == "static"


def test_a_run_that_fails_is_made_good_for_and_the_next_step_where_that_fails_too(wire: Wire) -> None:
    assert (
        degraded(wire.infer("once", ROW | {"inputs": [tensor("x", "FP32", [1, 4], [13, 0, 0, 0])]}))[1]
        == "static"
    )
    answer = wire.infer("hopeless", {"inputs": [tensor("x", "FP32", [1, 4], [13, 0, 0, 0])]})
    assert answer.status in {422, 500}  # poisoned, if the model was seen to go well without it
    assert "x-degraded" not in answer.headers


def test_what_must_not_be_run_twice_is_not_run_elsewhere_after_its_run_failed(wire: Wire) -> None:
    failing = {"inputs": [tensor("x", "FP32", [1, 4], [13, 0, 0, 0])]}
    assert degraded(wire.infer("once", failing)) == ("static; reason=error", "static", "error")
    with opened(wire, "once"):
        assert degraded(wire.infer("once", ROW))[1] == "variant:small"  # it never began


def test_a_variant_that_cannot_be_in_time_is_passed_over_and_a_file_is_always_in_time(wire: Wire) -> None:
    with opened(wire, "late"):
        answer = wire.infer("late", ROW, {"X-Request-Timeout-Seconds": "0.02"})
        patient = wire.infer("late", ROW)
    assert degraded(answer)[1] == "static"
    assert degraded(patient)[1] == "variant:small"


def test_who_asks_later_hears_which_steps_were_passed_over_and_why(wire: Wire) -> None:
    with opened(wire, "late"):
        wire.infer("late", ROW, {"X-Request-Timeout-Seconds": "0.02", "X-Request-Id": "why-static"})
    notes = wire.get("/v1/requests/why-static").json()["notes"]
    passed, taken = (
        next(each for each in notes if each["what"] == what) for what in ("passed over", "falls back")
    )
    assert (passed["step"], taken["step"], taken["reason"]) == ("variant:small", "static", "breaker")
    assert passed["run_ms"] > passed["left_ms"]


def test_who_waited_too_long_is_answered_all_the_same(skills: RunningServer, wire: Wire) -> None:
    slow = {"inputs": [tensor("x", "FP32", [1, 4], [5, 0, 0, 0])]}
    with Wire(skills.host, skills.port) as other:
        other.send(message("POST", "/v2/models/late/infer", dumps(slow)))
        eventually(
            lambda: skills.server.catalog.find("late", None).pipeline.snapshot().running, "the slow one runs"
        )
        answer = wire.infer("late", ROW, {"X-Request-Timeout-Seconds": "0.05"})
        assert other.receive().status == 200
    assert degraded(answer)[1] == "static"
    assert degraded(answer)[2] in {"deadline", "overload"}


@pytest.mark.parametrize(
    "refusal",
    [DeadlineInfeasible("chained", 0.3, 0.1), QueueFull("chained", "9 bytes")],
    ids=["late", "full"],
)
@pytest.mark.parametrize("path", ["/v2/models/chained/infer", "/v1/skills/chained"])
def test_what_is_refused_when_it_comes_falls_back(
    skills: RunningServer, wire: Wire, path: str, refusal: HeadraceError
) -> None:
    refused = Pipeline.refusal

    def refuse(pipeline: Pipeline, arrival: Arrival) -> HeadraceError | None:
        return refusal if pipeline.spec.name == "chained" else refused(pipeline, arrival)

    body = ROW if "models" in path else ITEM
    many = {"items": [ITEM, ITEM]} if "skills" in path else ROW
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "is_pressed", True)
        patch.setattr(Pipeline, "refusal", refuse)
        for content in (body, many):
            assert wire.post(path, content).headers["x-degraded"] == "variant:small; reason=overload"


@pytest.mark.parametrize("request_", WAYS.values(), ids=WAYS)
def test_a_skill_that_cannot_be_loaded_is_answered_for(wire: Wire, request_) -> None:
    answer = wire.request("POST", "/v2/models/broken/infer", *request_)
    assert degraded(answer) == ("variant:small; reason=loading", "variant:small", "loading")


def test_items_of_a_skill_that_cannot_be_loaded_are_answered_for(wire: Wire) -> None:
    one, many = wire.post("/v1/skills/broken", ITEM), wire.post("/v1/skills/broken", {"items": [ITEM, ITEM]})
    mark = {"by": "variant:small", "reason": "loading"}
    answer = {"y": [2.0, 4.0, 6.0, 8.0]}
    head = {"skill": "broken", "variant": "small", "version": "1"}
    assert one.json() == {**head, "degraded": mark, "answer": answer}
    assert many.json() == {**head, "degraded": [mark, mark], "answers": [answer, answer]}


def test_a_file_answers_for_what_nobody_knows_yet(wire: Wire) -> None:
    head = {"skill": "lost", "variant": "big", "version": "1"}
    mark, answer = {"by": "static", "reason": "loading"}, {"y": [7, 7, 7, 7]}
    asked = wire.post("/v1/skills/lost", {"anything": "at all"})
    assert asked.json() == {**head, "degraded": mark, "answer": answer}
    file = wire.post("/v1/skills/lost", b"\x89PNG", {"Content-Type": "image/png"})
    assert file.json() == asked.json()
    several = wire.post("/v1/skills/lost", {"items": [{}, {}]})
    assert several.json() == {**head, "degraded": [mark, mark], "answers": [answer, answer]}
    assert wire.post("/v1/skills/lost", b"{").status == 400
    tensors = wire.infer("lost", ROW)  # of what shape they would be nobody knows
    assert (tensors.status, tensors.json()["code"]) == (503, "not_ready")
    assert "its weights are gone" in tensors.error


def test_each_item_falls_back_by_itself(wire: Wire) -> None:
    before = wire.post("/v1/skills/chained", {"x": [41, 0, 0, 0]}).json()["answer"]
    with opened(wire, "chained", "chained.small"):
        items = [{"x": [41, 0, 0, 0]}, {"x": [42, 0, 0, 0]}, {"x": "no"}]
        answer = wire.post("/v1/skills/chained", {"items": items})
    content = answer.json()
    assert content["variant"] == "big"
    by = [each and (each["by"], each["reason"]) for each in content["degraded"]]
    assert by == [("stale", "breaker"), ("static", "breaker"), None]
    assert content["answers"][:2] == [before, {"y": [7, 7, 7, 7]}]
    assert content["answers"][2]["error"]["code"] == "invalid_request"
    assert answer.headers["x-degraded"] == "stale; reason=breaker, static; reason=breaker"


def test_more_numbers_than_are_read_here_are_refused_though_something_else_would_answer(wire: Wire) -> None:
    items = {"items": [{"x": [1.5] * 10_000}] * 8}
    calm = wire.post("/v1/skills/chained", items)
    with opened(wire, "chained", "chained.small"):
        refused = wire.post("/v1/skills/chained", items)
    assert (refused.status, refused.error) == (400, calm.error)
    assert "bytes of JSON for tensors" in calm.error


@pytest.mark.parametrize("name", ["chained", "chained.small"])
def test_a_lesser_answer_is_explained_by_the_id_in_the_body_too(wire: Wire, name: str) -> None:
    asked = {"id": f"of-{name}", "inputs": [tensor("x", "FP32", [1, 4], [51, 2, 3, 4])]}
    with opened(wire, "chained", name):
        answer = wire.infer("chained", asked)
    found = wire.get(f"/v1/requests/of-{name}").json()
    assert found["model"] == "chained"
    kinds = [each["what"] for each in found["notes"]]
    assert "falls back" in kinds
    assert (kinds[-1], answer.status) == ("answered", 200)


@pytest.mark.parametrize("name", ["chained", "hopeless"])
def test_who_has_to_wait_for_a_turn_of_the_loop_hears_the_same(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def wait(turns: Turns) -> bool:
        turns._call_soon(turns._take)
        return False

    def ask() -> list[tuple[int, dict[str, Any]]]:
        with opened(wire, name, "hopeless.small"):
            answers = [
                wire.infer(name, ROW),
                wire.request("POST", f"/v2/models/{name}/infer", LARGE),
                wire.post(f"/v1/skills/{name}", ITEM),
                wire.post(f"/v1/skills/{name}", {"items": [ITEM, {"x": "no"}, ITEM]}),
            ]
        return [(each.status, each.json() | {"retry_after_ms": 0}) for each in answers]

    at_once = ask()
    monkeypatch.setattr(Turns, "has_time", wait)
    assert ask() == at_once


@pytest.mark.parametrize(("path", "body"), [("/v2/models/late/infer", ROW), ("/v1/skills/late", ITEM)])
def test_who_leaves_while_waiting_for_a_turn_of_the_loop_is_not_run(
    skills: RunningServer, wire: Wire, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    waiting: list[Any] = []
    asked = f"leaves-{path.count('/')}"
    with opened(wire, "late"), Wire(skills.host, skills.port) as leaving:
        with monkeypatch.context() as patch:
            patch.setattr(Turns, "has_time", lambda _: False)
            patch.setattr(Turns, "put", lambda _, work: waiting.append(work))
            leaving.send(message("POST", path, dumps(body), {"X-Request-Id": asked}))
            eventually(lambda: waiting, "it waits for its turn")
        leaving.close()
        notes = f"/v1/requests/{asked}"
        eventually(lambda: "left" in str(wire.get(notes).json()["notes"]), "it is known to have left")
        waiting[0]()
        assert wire.get(notes).json()["notes"][-1]["what"] == "left"


@pytest.mark.parametrize("is_idempotent", [True, False])
def test_an_answer_that_cannot_be_written_is_not_run_again_where_that_is_forbidden(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch, *, is_idempotent: bool
) -> None:
    lay_out(tmp_path, "m", VARIANT + STATIC + f"idempotent: {is_idempotent}\n".lower(), {}, {})
    with (
        run_server([tmp_path], profile_dir=profiles, instances=1, threads=1, max_batch_size=4096) as running,
        Wire(running.host, running.port) as wire,
    ):
        submit, full = Pipeline.submit, [QueueFull("the transcoder", "9 bytes")]

        def refuse_once(pipeline: Pipeline, ticket: Ticket) -> None:
            if pipeline.spec.name in {"m", "m.small"} or not full:
                submit(pipeline, ticket)
            else:
                ticket.refuse(full.pop())

        monkeypatch.setattr(Pipeline, "submit", refuse_once)
        body, headers = binary(
            [("x", "FP32", [3000, 4], bytes(48000))], parameters={"binary_data_output": False}
        )
        answer = wire.request("POST", "/v2/models/m/infer", body, headers)
    assert not full
    assert answer.headers["x-degraded"].split(";")[0] == ("variant:small" if is_idempotent else "static")


def test_the_caller_hears_of_the_first_failure_when_no_step_answers(wire: Wire) -> None:
    with opened(wire, "hopeless", "hopeless.small"):
        for answer in (wire.infer("hopeless", ROW), wire.post("/v1/skills/hopeless", ITEM)):
            assert (answer.status, answer.json()["code"]) == (503, "circuit_open")
            assert "'hopeless'" in answer.error
    with opened(wire, "picky"):
        assert wire.infer("picky", ROW).json()["code"] == "circuit_open"  # its file does not fit the model
        assert wire.post("/v1/skills/picky", ITEM).json()["answer"] == {"y": [7, 7]}


def test_only_what_is_said_is_fallen_back_for(wire: Wire) -> None:
    failing = {"inputs": [tensor("x", "FP32", [1, 4], [13, 0, 0, 0])]}
    assert wire.infer("picky", failing).status in {422, 500}
    assert wire.post("/v1/skills/picky", {"x": [13, 0, 0, 0]}).status in {422, 500}


@pytest.mark.parametrize("path", ["/v2/models/chained/infer", "/v1/skills/chained"])
def test_what_the_sender_has_to_change_is_told_so(wire: Wire, path: str) -> None:
    with opened(wire, "bare"):
        assert wire.post(path, {"inputs": [tensor("z", "FP32", [1, 4], [1, 2, 3, 4])]}).status == 400
        assert wire.post(path, b"{").status == 400


def test_lesser_answers_are_counted_under_the_skill(skills: RunningServer, wire: Wire) -> None:
    labels = {"skill": "chained", "step": "variant:small", "reason": "breaker"}
    before = value(skills, "inference_degraded_total", **labels)
    with opened(wire, "chained"):
        wire.infer("chained", ROW)
        wire.post("/v1/skills/chained", {"items": [ITEM, ITEM]})
        assert value(skills, "breaker_state", skill="chained", state="forced_open") == 1
    assert value(skills, "inference_degraded_total", **labels) == before + 3
    assert value(skills, "breaker_state", skill="chained", state="closed") == 1


def test_a_client_that_goes_away_is_not_answered_by_anybody(skills: RunningServer, wire: Wire) -> None:
    small = skills.server.catalog.find("late.small", None).pipeline
    dropped = value(skills, "inference_requests_total", skill="late.small", outcome="dropped")
    with opened(wire, "late"):
        others = [Wire(skills.host, skills.port) for _ in range(6)]
        for other, path, body in zip(
            others, ["/v2/models/late/infer", "/v1/skills/late"] * 3, [ROW, ITEM] * 3, strict=True
        ):
            other.send(message("POST", path, dumps(body)))
        eventually(lambda: small.snapshot().running, "one of them runs")
        for other in others:
            other.close()
        eventually(lambda: not small.snapshot().running and not small.snapshot().waiting, "nobody waits")
    assert value(skills, "inference_requests_total", skill="late.small", outcome="dropped") > dropped


def test_bodies_are_let_go_of_with_their_answers(skills: RunningServer, wire: Wire) -> None:
    def kept() -> int:
        return sum(isinstance(each, Chain) for each in gc.get_objects())

    small = skills.server.catalog.find("late.small", None).pipeline
    gc.collect()
    gc.disable()
    try:
        for name in ("chained", "once", "lost", "hopeless"):
            wire.infer(name, ROW)
            wire.post(f"/v1/skills/{name}", ITEM)
        with opened(wire, "chained", "hopeless", "hopeless.small"):
            for name in ("chained", "hopeless"):
                wire.infer(name, ROW)
                wire.request("POST", f"/v2/models/{name}/infer", LARGE)
                wire.post(f"/v1/skills/{name}", {"items": [ITEM, ITEM]})
        wire.infer("chained", {"inputs": [tensor("x", "FP32", [1, 4], [13, 0, 0, 0])]})
        for path, body in (("/v2/models/late/infer", ROW), ("/v1/skills/late", {"items": [ITEM, ITEM]})):
            with opened(wire, "late"), Wire(skills.host, skills.port) as leaving:
                leaving.send(message("POST", path, dumps(body)))
                eventually(lambda: small.snapshot().running, "it runs elsewhere")
        eventually(lambda: kept() == 0, "no chain is held")
    finally:
        gc.enable()


def test_what_falls_back_while_the_server_drains_is_answered(tmp_path: Path, profiles: Path) -> None:
    lay_out(tmp_path, "slow", VARIANT, {}, {"seconds": 0.2})
    with run_server([tmp_path], profile_dir=profiles, instances=1, threads=1) as running:
        wire = Wire(running.host, running.port)
        wire.post("/v1/breakers/slow", {"state": "open"})
        wire.send(message("POST", "/v2/models/slow/infer", dumps(ROW)))
        small = running.server.catalog.find("slow.small", None).pipeline
        eventually(lambda: small.snapshot().running, "it runs")
    with wire:
        assert degraded(wire.receive())[1] == "variant:small"
