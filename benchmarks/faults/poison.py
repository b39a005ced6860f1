"""One request in each batch of 32 makes every run fail that it is part of."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPResponse
from math import ceil, log2
from pathlib import Path
from typing import Any

import journal
from bench import spread
from faulty import Faults
from report import Row, Target

from headrace.testing import RunningServer, run_server

POISON = 66.0
RUN_S = 0.15
"""Long enough for 32 requests to come while one runs."""
BATCH = 32
DEADLINE_S = 20.0
ROUNDS, QUICK_ROUNDS = 10, 3
WARM_ROUNDS = 5
BUSY = 999.0
"""The number of the request that keeps the instance busy."""
MOST_EXTRA = 2 * ceil(log2(BATCH))


@dataclass
class Found:
    """What became of one batch. `again`: status of the culprit when it asked once more, and how many runs that took."""

    size: int
    answered: int
    culprit: int
    extra: int
    again: tuple[int, int]


def measure(bench: Faults) -> Row:
    folder = bench.folder / "models" / "poison"
    folder.mkdir(parents=True, exist_ok=True)
    ran = folder / "ran.jsonl"
    ran.unlink(missing_ok=True)
    script = {"seconds": RUN_S, "error_value": POISON, "journal": str(ran)}
    (folder / "fake.fake").write_text(json.dumps(script))
    with run_server(
        [folder / "fake.fake"], profile_dir=bench.profiles, instances=1, max_rows=BATCH
    ) as server:
        for seed in range(WARM_ROUNDS):  # until it is known that 32 rows take no longer than one
            behind(server, ran, [request(BUSY, seed)] * BATCH)
        rounds = QUICK_ROUNDS if bench.is_quick else ROUNDS
        found = [once(server, ran, seed) for seed in range(rounds)]
    for each in found:
        bench.say(
            f"{each.size} rows: {each.answered} answered, culprit {each.culprit}, {each.extra} runs more"
        )
    row = Row("Poison", HOW)
    whole = [each for each in found if each.size == BATCH]
    row.targets = [
        Target(
            f"one poisoned request in each batch of {BATCH}: {BATCH - 1} answered",
            bool(whole) and all(each.answered == BATCH - 1 and each.culprit == 422 for each in whole),
            f"{len(whole)} batches: {spread([float(each.answered) for each in whole], 0)} answered, "
            f"the culprit got {sorted({each.culprit for each in whole})}",
        ),
        Target(
            f"≤ {MOST_EXTRA} extra runs",
            bool(whole) and max(each.extra for each in whole) <= MOST_EXTRA,
            spread([float(each.extra) for each in whole], 0),
        ),
        Target(
            "the same culprit again: refused, and not run",
            all(each.again == (422, 0) for each in found),
            f"status and runs: {sorted({each.again for each in found})}",
        ),
    ]
    row.raw = {"found": [each.__dict__ for each in found]}
    return row


HOW = f"""A fake model takes {1e3 * RUN_S:.0f} ms a run and fails whenever one row of it begins with {POISON:g}; it writes down what it runs. \
{BATCH} requests come while another one runs, one of them poisoned, at a random place; then the culprit asks once more."""


def once(server: RunningServer, ran: Path, seed: int) -> Found:
    # The poisoned request is another one each time, or it would be known.
    poison = request(POISON, seed)
    at = (7 * seed) % BATCH
    numbers = [1000.0 * (seed + 1) + each for each in range(BATCH)]
    requests = [request(number, seed) for number in numbers]
    requests[at] = poison
    numbers[at] = POISON
    before = len(journal.read(ran))
    answers = behind(server, ran, requests)
    runs = journal.with_any(journal.read(ran)[before:], numbers)
    size = next(len(each.numbers) for each in runs if POISON in each.numbers)
    right = [
        status == 200 and body["outputs"][0]["data"][0] == 2 * number
        for number, (status, body) in zip(numbers, answers, strict=True)
    ]
    batches = 1 if size == BATCH else 2
    culprit = answers[at][0]
    before = len(journal.read(ran))
    again = together(server, [poison])[0][0]
    more = len(journal.with_any(journal.read(ran)[before:], [POISON]))
    return Found(size, sum(right), culprit, len(runs) - batches, (again, more))


def behind(server: RunningServer, ran: Path, requests: list[bytes]) -> list[tuple[int, Any]]:
    """Ask all of it while another request is being run; status and body of each answer."""
    before = len(journal.read(ran))
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(together, server, [request(BUSY, 0)])
        while len(journal.read(ran)) == before:
            time.sleep(1e-3)
        answers = together(server, requests)
        busy.result()
    return answers


def request(number: float, seed: int) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [number, seed, 2, 3]}
    body = json.dumps({"inputs": [tensor]}).encode()
    return (
        f"POST /v2/models/fake/infer HTTP/1.1\r\nhost: x\r\nx-request-timeout-seconds: {DEADLINE_S:g}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def together(server: RunningServer, requests: list[bytes]) -> list[tuple[int, Any]]:
    """A connection each; status and body of each answer."""
    connections = [socket.create_connection((server.host, server.port), DEADLINE_S) for _ in requests]
    for connection, each in zip(connections, requests, strict=True):
        connection.sendall(each)
    return [answer(connection) for connection in connections]


def answer(connection: socket.socket) -> tuple[int, Any]:
    with connection:
        response = HTTPResponse(connection)
        response.begin()
        return response.status, json.loads(response.read())
