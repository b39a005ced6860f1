"""What is known of how long a model's runs take, and of the memory they may take, as admission and dispatch ask for it.

What is worked out from l(b) holds until `learn` is called, after a run; between two runs it is looked up. Knows no clock.
"""

from collections.abc import Callable
from functools import partial

from headrace.admission.forecast import Pace
from headrace.admission.room import Room
from headrace.batching.golden_point import ENOUGH, Bound, GoldenPoint, golden_point, longest_run_s
from headrace.batching.latency import LatencyModel
from headrace.batching.policy import OF_TIGHTEST, Tightest, longest_rows


class Outlook:
    """l(b) of one model and what follows from it. Lives on the loop.

    Attributes:
        latency: l(b) itself.
        pace: how runs follow each other.
        allowed: the shortest time that a request was allowed lately.
        tight: the shortest objective of requests that go before others of the model.
        room: memory that runs may take; None where that bounds nothing.
        limit: rows of different requests that may share a run.
        full: rows that are worth a batch, of those that take longest.
        row_s, alone_s, base_s: seconds that each waiting row adds, each waiting request that travels alone, and that come
            on top, where it takes longest.
    """

    def __init__(self, tightest_beside: Callable[[float], float | None]) -> None:
        """`tightest_beside` gives the tightest objective of other models on the same cores, by the time now."""
        self._tightest_beside = tightest_beside
        # The mutable state: what is known, and what was worked out from it.
        self.latency = LatencyModel()
        self.pace = Pace()
        self.allowed = Tightest()
        self.tight = Tightest()
        self.room: Room | None = None
        self.limit = self.full = 1
        self.row_s = self.base_s = self.alone_s = 0.0
        self._uppers: dict[tuple[int, int], float] = {}
        self._caps: dict[tuple[int, float], int] = {}
        self._limit_s: float | None = None

    def learn(self, limit: int, now: float) -> None:
        """Take in what the last runs have shown.

        Args:
            limit: rows of different requests that may share a run.
            now: on the pipeline's clock.
        """
        self.limit = limit
        self._uppers.clear()
        self._caps.clear()
        self.allowed.forget(now)
        tight = (self.tight.at(now), self._tightest_beside(now))
        self._limit_s = min((OF_TIGHTEST * each for each in tight if each is not None), default=None)
        longest = self.latency.longest_cost
        if longest is not None:
            cap = self.full = self.cap(longest)
            self.row_s = self.row_seconds(longest) * self.pace.stretch
            # A full run may just have begun, another be staged behind it, and then comes the request's own.
            self.base_s = 3 * self.upper(longest, cap) + self.pace.after_s
            self.alone_s = self.upper(longest, 1) * self.pace.stretch

    def upper(self, cost: int, rows: int) -> float:
        """Upper bound of a run, 0 while nothing is known."""
        found = self._uppers.get((cost, rows))
        if found is None:
            found = self._uppers[cost, rows] = self.latency.upper(cost, rows) or 0.0
        return found

    def cap(self, cost: int, enough: float = ENOUGH) -> int:
        """Rows of a batch: those of the golden point; with `enough` 1, of the best throughput that is allowed."""
        found = self._caps.get((cost, enough))
        if found is None:
            found = self._caps[cost, enough] = max(1, min(self._allowed(cost, enough)))
        return found

    def golden_point(self, cost: int) -> GoldenPoint:
        """The cap, and where it comes from."""
        return golden_point(dict(zip(Bound, self._allowed(cost, ENOUGH), strict=True)))

    def _allowed(self, cost: int, enough: float) -> tuple[int, int, int, int]:
        """By each bound, in Bound's order. The model's own objective is not among them: decisions/0017 says why."""
        return (
            self.limit,
            self._in_memory(cost),
            self._in_nobodys_way(cost),
            self.latency.best_rows(cost, self.limit, enough),
        )

    def most(self, cost: int) -> int:
        """Rows that are allowed in a batch, whether or not they are worth it."""
        return min(self._in_memory(cost), self._in_nobodys_way(cost))

    def row_seconds(self, cost: int) -> float:
        """Seconds of the device that a row takes in a batch worth it."""
        cap = self.cap(cost)
        return self.upper(cost, cap) / cap

    def _in_memory(self, cost: int) -> int:
        return self.limit if self.room is None else self.room.rows(cost, self.limit)

    def _in_nobodys_way(self, cost: int) -> int:
        """Rows whose run is not in the way of a tight objective beside it."""
        if self._limit_s is None:
            return self.limit
        limit_s = longest_run_s(self._limit_s, self.upper(cost, 1))
        return longest_rows(limit_s, partial(self.upper, cost), self.limit)

    def is_late(self, rows: int, alone: int, allowed_s: float) -> bool:
        """Whether a request might not be answered in so many seconds, behind all that waits; costs next to nothing."""
        return self.base_s + rows * self.row_s + alone * self.alone_s > allowed_s
