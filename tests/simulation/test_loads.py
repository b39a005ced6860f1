"""Loads that take time, one after the other, while whoever asks waits: how long, and who pays for it."""

from collections import defaultdict
from dataclasses import dataclass, field
from math import inf

import pytest
from popularity import Ours, key, trace

from headrace.lifecycle.eviction import Candidate

ROOM, LOAD_S, DEADLINE_S = 10, 0.3, 10.0


@dataclass
class Server:
    """Loads who was asked for first; with room for ROOM, from which nobody leaves within `stay_s` of coming."""

    stay_s: float = 0.0
    policy: Ours = field(default_factory=Ours)
    since: dict[int, float] = field(default_factory=dict)
    waiting: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    waits: list[float] = field(default_factory=list)
    loading: int | None = None
    ends: float = inf
    hits: int = 0

    def serve(self, asked):
        for model, now in zip(asked.models, asked.times, strict=True):
            while self.ends <= now:
                self._finish()
            self.policy.asked(model, now)
            if model in self.since:
                self.hits += 1
            else:
                self.waiting[model].append(now)
                self._begin(now)
        while self.loading is not None:
            self._finish()
        assert self.hits + len(self.waits) == len(asked.models)
        return self

    def _begin(self, now):
        if self.loading is not None or not self.waiting:
            return
        self.loading = next(iter(self.waiting))
        if len(self.since) == ROOM:
            settled = [each for each, since in self.since.items() if since + self.stay_s <= now]
            now = now if settled else min(self.since.values()) + self.stay_s
            there = [Candidate(key(each), 1, LOAD_S, self.since[each]) for each in settled or self.since]
            (victim,) = self.policy.victims(Candidate(key(self.loading), 1, LOAD_S, now), there, 1, now)
            del self.since[victim]
        self.ends = now + LOAD_S

    def _finish(self):
        now, model = self.ends, self.loading
        self.loading, self.ends = None, inf
        self.since[model] = now
        self.waits += [now - asked for asked in self.waiting.pop(model)]
        self._begin(now)

    def late(self):
        return sum(wait > DEADLINE_S for wait in self.waits) / len(self.waits)


@pytest.fixture
def asked():
    return trace("stationary", 1_500)


def test_who_asks_for_an_absent_model_has_it_within_its_deadline(asked):
    served = Server().serve(asked)
    assert served.late() == 0
    assert sorted(served.waits)[len(served.waits) // 2] < 3 * LOAD_S


def test_if_who_just_came_had_to_stay_the_popular_would_leave_instead(asked):
    free, guarded = Server().serve(asked), Server(stay_s=3 * LOAD_S).serve(asked)
    assert guarded.hits < 0.97 * free.hits
