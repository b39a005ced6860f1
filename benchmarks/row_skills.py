"""What the skills API costs over tensors, and whether a skill that hangs is felt by its neighbour."""

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import models
import numpy as np
import servers
import workloads
from bench import Bench, middle, ratios, spread
from load import Seen, Workload
from report import Row, Target
from tokenizers import Tokenizer

WINDOW_S = 3.0
TEXTS = 64
WORDS = [
    "the",
    "parcel",
    "came",
    "late",
    "and",
    "broken",
    "but",
    "support",
    "was",
    "kind",
    "so",
    "i",
    "would",
    "buy",
    "from",
    "this",
    "shop",
    "again",
    "thank",
    "you",
]
MOST_ADDED_MS = 0.3
SKILL = """
format: 1
inputs: {text: {tokenizer: tokenizer.json, max_tokens: 64}}
outputs: {label: {from: logits, softmax: true, labels: [bad, good]}}
"""
STUCK = """
format: 1
inputs: {text: {value: text}}
variants: {only: {model: bag.onnx}}
transform: {timeout_ms: 300}
"""
CODE = """
import time

class Transform:
    def before(self, item):
        time.sleep(60)
"""
COST = f"""The same small model (mean of token embeddings, two scores) three ways, in turn, {TEXTS} texts of 3 to 12 words, \
JSON, one connection: token ids as tensors (tokenized beforehand), the text as an OIP tensor, the text by the skills API. \
Tokenizing and soft-max are part of the last two."""
HANG = """A text skill at four connections, alone and while another client keeps asking a skill whose `before` sleeps for \
ever (its process is ended after 0.3 s, and started again), and waits where it is told to: in turn alone, beside, alone."""


def measure(bench: Bench) -> Row:
    """Milliseconds that the skills API adds to a median request."""
    row = Row("The skills API beside tensors", COST, ["way", "p50 ms", "requests/s"])
    folder, files = skill_folder(bench), texts()
    tokenizer = read_tokenizer(folder)
    model = bench.model("bag", models.make_bag)
    ways = {
        "tensors": bench.workload("skills-tensors", tensors(model, tokenizer, files)),
        "text as a tensor": bench.workload("skills-oip", text_tensors(model, tokenizer, files)),
        "skills API": bench.workload("skills-api", items(model, tokenizer, files)),
    }
    seen: dict[str, list[Seen]] = {way: [] for way in ways}
    again: list[float] = []
    launch = servers.headrace([model, folder / "words"], bench.folder / "profiles")
    with servers.running(launch, items(model, tokenizer, files[:1]).requests[0], bench.logs) as server:
        servers.wait_for_answer(
            server, tensors(model, tokenizer, files[:1]).requests[0], bench.logs / "headrace.log"
        )
        for _ in range(bench.rounds):
            for way, path in ways.items():
                seen[way].append(bench.load(server, path, 1, bench.seconds(WINDOW_S)))
            again.append(bench.load(server, ways["tensors"], 1, bench.seconds(WINDOW_S)).p50_ms)
    for way, runs in seen.items():
        rates = [run.answers / run.seconds for run in runs]
        row.lines.append([way, spread([run.p50_ms for run in runs], 3), spread(rates, 0)])
    base = [run.p50_ms for run in seen["tensors"]]
    added = [run.p50_ms - each for run, each in zip(seen["skills API"], base, strict=True)]
    row.targets = [
        Target(
            f"the skills API adds ≤ {MOST_ADDED_MS} ms p50 for short text",
            middle(added) <= MOST_ADDED_MS,
            f"{spread(added, 3)} ms",
        )
    ]
    row.notes = [f"Tensors against themselves: {spread(ratios(again, base))}x."]
    row.raw = {way: [run.__dict__ for run in runs] for way, runs in seen.items()}
    return row


def beside_a_hang(bench: Bench) -> Row:
    """The p99 of a skill beside another one that hangs."""
    row = Row("A skill beside one that hangs", HANG, ["", "p99 ms", "p50 ms", "requests/s"])
    folder, files = skill_folder(bench), texts()
    tokenizer = read_tokenizer(folder)
    model = bench.model("bag", models.make_bag)
    path = bench.workload("skills-api", items(model, tokenizer, files))
    runs: dict[str, list[Seen]] = {"alone": [], "beside": [], "alone again": []}
    hung = 0
    launch = servers.headrace([folder], bench.folder / "profiles")
    with servers.running(launch, items(model, tokenizer, files[:1]).requests[0], bench.logs) as server:
        for name in list(runs) * bench.rounds:
            with asking(server.port) if name == "beside" else nullcontext([]) as asked:
                runs[name].append(bench.load(server, path, 4, bench.seconds(WINDOW_S)))
            hung += len(asked)
    for name, kept in runs.items():
        rates = [run.answers / run.seconds for run in kept]
        row.lines.append(
            [
                name,
                spread([run.p99_ms for run in kept]),
                spread([run.p50_ms for run in kept]),
                spread(rates, 0),
            ]
        )
    alone = [run.p99_ms for run in runs["alone"]]
    noise = ratios([run.p99_ms for run in runs["alone again"]], alone)
    beside = ratios([run.p99_ms for run in runs["beside"]], alone)
    row.targets = [
        Target(
            "a hanging transform moves another skill's p99 no more than the noise of two equal runs",
            min(noise) <= middle(beside) <= max(noise),
            f"beside {spread(beside)}x, alone again {spread(noise)}x; {hung} requests hung",
        )
    ]
    row.raw = {name: [run.__dict__ for run in kept] for name, kept in runs.items()}
    return row


@contextmanager
def asking(port: int) -> Iterator[list[int]]:
    """A client that keeps asking the skill that hangs; the statuses it got."""
    statuses: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request(
                "POST", "/v1/skills/stuck", b'{"text": "x"}', {"content-type": "application/json"}
            )
            response = connection.getresponse()
            statuses.append(response.status)
            connection.close()
            is_over.wait(float(response.headers.get("retry-after", 0)))

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield statuses
    finally:
        is_over.set()
        client.join()


def skill_folder(bench: Bench) -> Path:
    """Two skills over the same model: one of texts, one that hangs."""
    folder = bench.folder / "skills"
    model = bench.model("bag", models.make_bag)
    for name, text in (("words", SKILL), ("stuck", STUCK)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "skill.yaml").write_text(text)
        shutil.copy(model, folder / name / "bag.onnx")
    shutil.copy(models.packaged(*models.TOKENIZER), folder / "words" / "tokenizer.json")
    (folder / "stuck" / "transform.py").write_text(CODE)
    return folder


def read_tokenizer(folder: Path) -> Tokenizer:
    """Without the padding to a fixed length that the file asks for."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "words" / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


def texts() -> list[str]:
    rng = np.random.default_rng(1)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 13))) for _ in range(TEXTS)]


def feeds(tokenizer: Tokenizer, files: list[str]) -> list[workloads.Feed]:
    encoded = [tokenizer.encode(each).ids for each in files]
    return [{"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), "i8")} for ids in encoded]


def tensors(model: Path, tokenizer: Tokenizer, files: list[str]) -> Workload:
    fed = feeds(tokenizer, files)
    requests = []
    for feed in fed:
        inputs = [
            {"name": name, "shape": list(array.shape), "datatype": "INT64", "data": array.ravel().tolist()}
            for name, array in feed.items()
        ]
        requests.append(workloads.http_request("bag", json.dumps({"inputs": inputs}).encode(), JSON))
    expected = workloads.answers(model, fed, "logits")
    return Workload(requests, expected, "logits", workloads.RTOL, workloads.ATOL)


def text_tensors(model: Path, tokenizer: Tokenizer, files: list[str]) -> Workload:
    requests = [
        workloads.http_request(
            "words",
            json.dumps(
                {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [each]}]}
            ).encode(),
            JSON,
        )
        for each in files
    ]
    expected = [each[None] for each in best(model, tokenizer, files)]
    return Workload(requests, expected, "label_scores", workloads.RTOL, workloads.ATOL)


def items(model: Path, tokenizer: Tokenizer, files: list[str]) -> Workload:
    requests = []
    for each in files:
        body = json.dumps({"text": each}).encode()
        head = b"POST /v1/skills/words HTTP/1.1\r\nhost: 127.0.0.1\r\n" + JSON
        requests.append(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    expected = best(model, tokenizer, files)
    return Workload(requests, expected, "/answer/label/score", workloads.RTOL, workloads.ATOL)


def best(model: Path, tokenizer: Tokenizer, files: list[str]) -> list[np.ndarray]:
    """The probability of the likelier label, [1] a text."""
    logits = np.concatenate(workloads.answers(model, feeds(tokenizer, files), "logits"))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return list((powers / powers.sum(1, keepdims=True)).max(1)[:, None])


JSON = b"content-type: application/json\r\n"
