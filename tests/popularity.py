"""Who is asked for, in traces of many models, and what becomes of one where there is room for a few: a policy in virtual time."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.lifecycle.eviction import Candidate, Eviction

sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "memory"))
from belady import belady

__all__ = ["KINDS", "MODELS", "Gdsf", "Lru", "Ours", "Result", "Trace", "belady", "replay", "trace"]

MODELS, EXPONENT = 200, 1.1
SECONDS = 300.0
LOOP, SHUFFLES, SCANNED = 14, 4, 0.2


@dataclass(frozen=True)
class Trace:
    """Which model each request asks for, and when, in seconds."""

    models: list[int]
    times: list[float]


@dataclass(frozen=True)
class Result:
    """Part of the requests that found their model in memory, and seconds that the others' loads took."""

    hits: float
    load_s: float


def zipf(requests: int, rng: np.random.Generator) -> np.ndarray:
    """Each model as popular as its rank says, independently of what was asked before."""
    parts = 1 / np.arange(1, MODELS + 1) ** EXPONENT
    return rng.choice(MODELS, requests, p=parts / parts.sum())


def shuffled(requests: int, rng: np.random.Generator, phases: int = 2) -> np.ndarray:
    """In each phase other models are the popular ones."""
    return np.concatenate(
        [rng.permutation(MODELS)[part] for part in np.array_split(zipf(requests, rng), phases)]
    )


def scanned(requests: int, rng: np.random.Generator) -> np.ndarray:
    """Somebody asks every model in turn, beside those who ask as ever."""
    models = zipf(requests, rng)
    others = rng.random(requests) < SCANNED
    models[others] = np.arange(others.sum()) % MODELS
    return models


KINDS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "stationary": zipf,
    "shuffled once": shuffled,
    "shuffled three times": lambda requests, rng: shuffled(requests, rng, SHUFFLES),
    "with a scan": scanned,
    "in a loop": lambda requests, _: np.arange(requests) % LOOP,  # recency says the opposite of what is right
}


def trace(kind: str, requests: int, seed: int = 0) -> Trace:
    """Of KINDS; Poisson arrivals, five minutes."""
    rng = np.random.default_rng(seed)
    models = KINDS[kind](requests, rng)
    return Trace(models.tolist(), np.cumsum(rng.exponential(SECONDS / requests, requests)).tolist())


class Ours:
    """The policy as the server has it, told once a second what was asked."""

    def __init__(self) -> None:
        self._eviction = Eviction()
        self._waiting: Counter[int] = Counter()
        self._told = 0.0

    def asked(self, model: int, now: float) -> None:
        while now >= self._told + 1:
            self._told += 1
            for each, requests in self._waiting.items():
                self._eviction.asked(key(each), requests, self._told)
            self._waiting.clear()
        self._waiting[model] += 1

    def victims(self, incoming: Candidate, residents: list[Candidate], lacking: int, now: float) -> list[int]:
        choice = self._eviction.victims(
            incoming,
            residents,
            lambda going: sum(each.nbytes for each in going) >= lacking,
            now,
            is_asked=True,
        )
        return [int(each.key[0]) for each in choice.victims]


class Rival:
    """Another policy: whoever has the least score goes."""

    def __init__(self) -> None:
        self.score: dict[int, float] = {}

    def asked(self, model: int, now: float) -> None:
        raise NotImplementedError

    def victims(self, _: Candidate, residents: list[Candidate], lacking: int, __: float) -> list[int]:
        chosen = []
        for each in sorted(residents, key=lambda each: self.score[int(each.key[0])]):
            if lacking <= 0:
                break
            chosen.append(int(each.key[0]))
            lacking -= each.nbytes
        return chosen


class Lru(Rival):
    """Who was not asked longest."""

    def asked(self, model: int, now: float) -> None:
        self.score[model] = now


class Gdsf(Rival):
    """GreedyDual-Size-Frequency as it was published, for models of one size: counts, aged by a clock."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = 0.0
        self._counts: Counter[int] = Counter()

    def asked(self, model: int, now: float) -> None:
        self._counts[model] += 1
        self.score[model] = self._clock + self._counts[model]

    def victims(self, *given) -> list[int]:
        chosen = super().victims(*given)
        self._clock = max(self.score[each] for each in chosen)
        return chosen


def replay(
    asked: Trace,
    policy: Ours | Rival,
    capacity: int,
    sizes: Mapping[int, int] = defaultdict(lambda: 1),
    load_s: Mapping[int, float] = defaultdict(lambda: 1.0),
) -> Result:
    """Everybody comes in who is asked for, at once; only how long loads take in all is counted."""
    since: dict[int, float] = {}
    hits, loading = 0, 0.0

    def candidate(model: int) -> Candidate:
        return Candidate(key(model), sizes[model], load_s[model], since.get(model, 0.0))

    for model, now in zip(asked.models, asked.times, strict=True):
        policy.asked(model, now)
        if model in since:
            hits += 1
            continue
        loading += load_s[model]
        lacking = sum(sizes[each] for each in since) + sizes[model] - capacity
        if lacking > 0:
            for victim in policy.victims(candidate(model), [candidate(each) for each in since], lacking, now):
                del since[victim]
        since[model] = now
        assert sum(sizes[each] for each in since) <= capacity
    return Result(hits / len(asked.models), loading)


def key(model: int) -> tuple[str, str]:
    return str(model), "1"
