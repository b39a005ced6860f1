import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from headrace.loadtest import schedules
from headrace.loadtest.plan import Caller, Schedule
from headrace.loadtest.record import GAVE_UP, LOST, NOT_SENT, Record
from headrace.loadtest.sender import ClosedLoop, LoadTestFailed, Order, Progress, Target, send, send_closed
from headrace.loadtest.sender_rows import Rows
from headrace.loadtest.sender_run import OpenCalls, Run, carry_out
from tests.integration.load_target import OK, LoadTarget, Visit, load_target
from tests.integration.process import children, eventually, is_running

pytestmark = pytest.mark.integration

REFUSED = b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 24\r\nRetry-After: 1\r\n\r\n{"retry_after_ms": 150.0}'[
    :-1
]
BODY = b"x" * 100
ANYBODY = Caller()
REQUEST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + BODY


async def answer_at_once(visit: Visit) -> None:
    await visit.say(OK)


async def never_answer(_: Visit) -> None:
    await asyncio.sleep(3600)


async def refuse(visit: Visit) -> None:
    await visit.say(REFUSED)


def run(target: LoadTarget, load: Schedule | ClosedLoop, callers: list[Caller], **other: Any) -> Record:
    """What the sender's process does, in this one."""
    told: list[object] = []
    requests = other.get("requests", [[REQUEST]] * len(callers))
    address = (socket.AF_INET, ("127.0.0.1", target.port))
    order = Order(address, None, load, tuple(callers), requests, other.get("core"), budget_s=60)
    carry_out(order, other.get("most", 100), told.append)
    assert isinstance(told[-1], Record)
    return told[-1]


def call(target: LoadTarget, times: Sequence[float], caller: Caller = ANYBODY, **other: Any) -> Record:
    """One caller's calls at these times."""
    return run(target, plan(times), [caller], **other)


def plan(times: Sequence[float]) -> Schedule:
    return Schedule(
        np.array(times, float),
        np.arange(len(times), dtype=np.int32),
        np.zeros(len(times), np.int16),
        max(times) + 0.01,
    )


def test_each_call_goes_out_after_its_time_and_is_written_down() -> None:
    times = schedules.even(200, 0.5)
    with load_target(answer_at_once) as target:
        record = call(target, times)
    assert (record.status == 200).all()
    assert len(target.visits) == len(record.status) == len(times)
    assert record.scheduled == pytest.approx(times, abs=1e-6)
    assert (record.sent >= record.scheduled).all()
    assert (record.ended >= record.sent).all()
    assert record.keys.tolist() == list(range(len(times)))


def test_who_stalls_answers_for_all_calls_of_the_stall() -> None:
    """Coordinated omission: a closed loop would have seen one slow answer."""

    async def stall_once(visit: Visit) -> None:
        if visit.number == 20:
            time.sleep(0.5)  # noqa: ASYNC251 - all of the server stands still
        await visit.say(OK)

    with load_target(stall_once) as target:
        record = call(target, schedules.even(200, 0.6))
    latency = record.ended - record.scheduled
    stalled = record.ended[20]
    meanwhile = (record.scheduled > record.scheduled[20]) & (record.scheduled < stalled - 0.05)
    assert meanwhile.sum() >= 80
    assert (latency[meanwhile] >= (stalled - record.scheduled[meanwhile]) - 0.1).all()


def test_connections_are_used_again() -> None:
    with load_target(answer_at_once) as target:
        record = call(target, schedules.even(40, 0.5))
    assert (record.status == 200).all()
    assert target.connections < len(record.status)


def test_a_connection_that_the_server_wants_closed_is_not_used_again() -> None:
    async def close_after(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        visit.writer.close()

    with load_target(close_after) as target:
        record = call(target, schedules.even(100, 0.2))
    assert (record.status == 200).all()
    assert target.connections == 20


def test_an_idle_connection_that_the_server_closed_is_not_used_again() -> None:
    async def close_later(visit: Visit) -> None:
        await visit.say(OK)
        visit.writer.close()

    with load_target(close_later) as target:
        record = call(target, [0.0, 1.0])
    assert record.status.tolist() == [200, 200]
    assert target.connections == 2


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 2", b"00 OK\r\ncontent-le", b"ngth: 2\r\n\r", b"\no", b"k"],
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"3\r\nab",
            b"c\r\n",
            b"2;x=y\r\nde\r\n0",
            b"\r\n\r\n",
        ],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n"],
    ],
    ids=["length", "chunks", "trailer"],
)
def test_answers_come_in_pieces(pieces: list[bytes]) -> None:
    async def answer(visit: Visit) -> None:
        for piece in pieces:
            await visit.say(piece)
            await asyncio.sleep(0.01)

    with load_target(answer) as target:
        record = call(target, [0.0, 0.3])
    assert record.status.tolist() == [200, 200]
    assert record.first_faults == ()


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def answer(visit: Visit) -> None:
        await visit.say(b"HTTP/1.0 200 OK\r\n\r\nhe", b"llo")
        visit.writer.close()

    with load_target(answer) as target:
        record = call(target, [0.0, 0.05])
    assert record.status.tolist() == [200, 200]


def test_large_requests_arrive_whole_and_large_answers_are_read_whole() -> None:
    body = os.urandom(3 << 20)
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def echo(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(visit.body) + visit.body)

    with load_target(echo) as target:
        record = call(target, [0.0, 0.01, 0.5], requests=[[request]])
    assert record.status.tolist() == [200] * 3
    assert all(each.body == body for each in target.visits)


def test_a_refusal_is_called_again_so_often_and_no_more() -> None:
    with load_target(refuse) as target:
        record = call(target, [0.0, 0.8], Caller(retries=2, pause_s=0.02))
    assert (record.status == 503).all()
    assert record.attempt.tolist() == [0, 1, 2, 0]  # no retry begins when the schedule is over
    assert len(target.visits) == 4
    for before, after in pairwise(np.flatnonzero(record.keys == 0)):
        assert record.scheduled[after] == pytest.approx(record.ended[before] + 0.02, abs=1e-4)


def test_a_retry_that_is_served_ends_it() -> None:
    async def refuse_first(visit: Visit) -> None:
        await visit.say(REFUSED if visit.number == 0 else OK)

    with load_target(refuse_first) as target:
        record = call(target, [0.0, 0.8], Caller(retries=5))
    assert record.status.tolist() == [503, 200, 200]
    assert record.attempt.tolist() == [0, 1, 0]


def test_who_heeds_retry_after_waits_as_exactly_as_the_server_says() -> None:
    with load_target(refuse) as target:
        record = call(target, [0.0, 0.8], Caller(retries=1, pause_s=0.0, heeds_retry_after=True))
    assert record.scheduled[1] - record.ended[0] == pytest.approx(0.15, abs=1e-4)


def test_a_client_that_waited_too_long_closes_its_connection_and_calls_again() -> None:
    async def answer_the_second(visit: Visit) -> None:
        if visit.number == 0:
            await never_answer(visit)
        await visit.say(OK)

    with load_target(answer_the_second) as target:
        record = call(target, [0.0, 1.5], Caller(give_up_s=0.6, retries=1))
    assert record.status[:2].tolist() == [GAVE_UP, 200]
    assert record.ended[0] >= 0.6
    assert record.attempt.tolist() == [0, 1, 0]
    assert target.connections >= 2


def test_whoever_is_out_at_the_end_is_waited_for_as_long_as_its_caller_waits() -> None:
    with load_target(never_answer) as target:
        record = call(target, [0.0, 0.01], Caller(give_up_s=0.4))
    assert record.status.tolist() == [GAVE_UP, GAVE_UP]
    assert (record.ended - record.scheduled >= 0.4).all()


def test_what_finds_no_connection_is_not_sent_and_says_so() -> None:
    with load_target(never_answer) as target:
        record = call(target, [0.0, 0.01, 0.02], Caller(give_up_s=0.3), most=2)
    assert record.status.tolist() == [GAVE_UP, GAVE_UP, NOT_SENT]
    assert target.connections == 2


@pytest.mark.parametrize(("late_s", "status"), [(1.0, 200), (10.0, NOT_SENT)])
def test_a_sender_that_comes_late_leaves_out_no_call(late_s: float, status: int) -> None:
    """It stood still for longer than the schedule was; but what is far too late says nothing of the server."""
    started = time.perf_counter() - late_s
    rows, load = Rows(started, [ANYBODY]), plan([0.0, 0.1])
    with load_target(answer_at_once) as target:
        sender = Run(OpenCalls(load, [ANYBODY], started), [ANYBODY], [[REQUEST]], rows, lambda _: None)
        address = (socket.AF_INET, ("127.0.0.1", target.port))
        sender.run(address, 10, started + load.seconds, spins=False)
    assert list(rows.status) == [status, status]


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"SSH-2.0\r\n\r\n"]
)
def test_a_connection_that_ends_early_or_answers_nonsense_is_lost(said: bytes) -> None:
    async def answer(visit: Visit) -> None:
        await visit.say(said)
        visit.writer.close()

    with load_target(answer) as target:
        record = call(target, [0.0])
    assert record.status.tolist() == [LOST]
    assert record.first_faults


def test_nobody_listening_is_lost_calls() -> None:
    with load_target(answer_at_once) as target:
        pass
    record = call(target, [0.0, 0.01])
    assert record.status.tolist() == [LOST, LOST]
    assert "refused" in record.first_faults[0]


def test_an_answer_nobody_expected_is_kept_as_text() -> None:
    async def fail(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nno such x")

    with load_target(fail) as target:
        record = call(target, schedules.even(100, 0.2), Caller(retries=3))
    assert (record.status == 400).all()
    assert len(record.status) == 20  # what the client did wrong is not called again
    assert len(record.first_faults) == 1  # said twenty times, kept once
    assert "no such x" in record.first_faults[0]


def test_the_first_ten_answers_that_differ_are_kept() -> None:
    async def fail(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n%02d" % visit.number)

    with load_target(fail) as target:
        record = call(target, schedules.even(100, 0.2))
    assert len(set(record.first_faults)) == len(record.first_faults) == 10


def test_progress_counts_first_attempts_and_what_came_in_time() -> None:
    rows = Rows(100.0, [Caller(deadline_s=1.0), Caller()])
    for caller, attempt, took_s, status in [
        (0, 0, 0.5, 200),
        (0, 0, 1.5, 200),
        (0, 1, 0.1, 503),
        (1, 0, 9.0, 200),
    ]:
        rows.end(rows.add(100.0, caller, 0, attempt), status, 100.0 + took_s)
    told = rows.progress(109.0)
    assert (told.offered, told.served, told.good, told.refused) == (3, 3, 2, 1)
    again = rows.progress(110.0)
    assert (again.offered, again.served, again.good) == (0, 0, 0)


def test_callers_send_their_own_requests() -> None:
    requests = [[REQUEST, REQUEST.replace(b"x" * 100, b"y" * 100)], [REQUEST.replace(b"x" * 100, b"z" * 100)]]
    planned = Schedule(np.array([0.0, 0.1, 0.2]), np.array([1, 5, 0], "i4"), np.array([0, 1, 0], "i2"), 0.3)
    with load_target(answer_at_once) as target:
        record = run(target, planned, [Caller("a"), Caller("b")], requests=requests)
    assert sorted(each.body[:1] for each in target.visits) == [b"x", b"y", b"z"]
    assert record.callers.tolist() == [0, 1, 0]


def test_a_closed_loop_asks_again_when_it_has_its_answer() -> None:
    asked: list[int] = []

    async def count(visit: Visit) -> None:
        asked.append(1)
        assert len(asked) <= 4
        await asyncio.sleep(0.005)
        asked.pop()
        await visit.say(OK)

    with load_target(count) as target:
        callers = [Caller("a", part=3), Caller("b", part=1)]
        record = send_closed(Target("127.0.0.1", target.port), ClosedLoop(4, 0.5), callers, [[REQUEST]] * 2)
    assert (record.status == 200).all()
    assert target.connections == 4
    assert len(record.status) > 8
    assert (record.callers[:4] == [0, 0, 0, 1]).all()
    assert record.scheduled.max() < 0.5


def test_a_closed_loop_pauses_after_a_refusal() -> None:
    with load_target(refuse) as target:
        record = run(target, ClosedLoop(1, 0.5), [Caller(pause_s=0.1)])
    assert 2 <= len(record.status) <= 5
    assert (np.diff(record.scheduled) >= 0.1).all()


def test_a_process_sends_and_tells_while_it_does() -> None:
    told: list[Progress] = []
    order: list[str] = []
    core = max(os.sched_getaffinity(0))
    with load_target(answer_at_once) as target:
        record = send(
            Target("127.0.0.1", target.port),
            plan(schedules.even(100, 1.5)),
            [ANYBODY],
            [[REQUEST]],
            core=core,
            progress=lambda progress: (told.append(progress), order.append("told")),
            sample=lambda: order.append("looked") or {"seen": len(target.visits)},
        )
    assert (record.status == 200).all()
    assert 0 < sum(each.served for each in told) <= 150
    assert order[:3] == ["looked", "looked", "told"]  # what is shown of a second has that second's sample
    samples = record.samples["seen"]
    assert samples[0][1] < 150
    assert samples[-1][1] == 150
    assert [at for at, _ in samples] == sorted(at for at, _ in samples)


def test_a_process_closes_the_loop_too() -> None:
    with load_target(answer_at_once) as target:
        record = send_closed(Target("127.0.0.1", target.port), ClosedLoop(2, 0.2), [ANYBODY], [[REQUEST]])
    assert (record.status == 200).all()
    assert len(record.status) == len(target.visits) > 2


def test_an_order_that_cannot_be_carried_out_is_refused_before_it_starts() -> None:
    planned = plan([0.0])
    with pytest.raises(ValueError, match="each caller"):
        send(Target("127.0.0.1", 1), planned, [Caller()], [[]])
    with pytest.raises(ValueError, match="may not run on core 4096"):
        send(Target("127.0.0.1", 1), planned, [Caller()], [[REQUEST]], core=4096)
    with pytest.raises(LoadTestFailed, match=r"host\.invalid"):
        send(Target("host.invalid", 1), planned, [Caller()], [[REQUEST]])


def test_the_sender_is_gone_when_whoever_started_it_is_killed() -> None:
    with load_target(never_answer) as target:
        script = (
            "import numpy as np\n"
            "from headrace.loadtest.plan import Caller, Schedule\n"
            "from headrace.loadtest.sender import Target, send\n"
            "plan = Schedule(np.zeros(1), np.zeros(1, 'i4'), np.zeros(1, 'i2'), 60.0)\n"
            f"send(Target('127.0.0.1', {target.port}), plan, [Caller()], [[{REQUEST!r}]])\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", script])
        eventually(lambda: target.visits, "the load is sent")
        (sender,) = children(parent.pid)
        parent.kill()
        parent.wait()
        eventually(lambda: not is_running(sender), "the sender is gone")


def test_an_interrupted_run_leaves_no_sender_behind() -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    before = set(children(os.getpid()))
    with load_target(answer_at_once) as target, pytest.raises(KeyboardInterrupt):
        send(Target("127.0.0.1", target.port), plan([0.0, 30.0]), [ANYBODY], [[REQUEST]], progress=interrupt)
    assert set(children(os.getpid())) <= before


def test_a_sender_that_is_killed_is_an_error_that_says_so() -> None:
    before = set(children(os.getpid()))

    def kill() -> dict[str, float]:
        for each in set(children(os.getpid())) - before:
            os.kill(each, signal.SIGKILL)
        return {}

    with load_target(answer_at_once) as target, pytest.raises(LoadTestFailed, match="status -9"):
        send(Target("127.0.0.1", target.port), plan([0.0, 30.0]), [ANYBODY], [[REQUEST]], sample=kill)
