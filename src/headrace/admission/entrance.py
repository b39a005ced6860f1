"""May a request enter now? What it is held against: bytes, breaker, quarantine, and when it would be answered."""

from collections.abc import Callable
from functools import partial

from headrace.admission.forecast import Arrival, arrival_of, expected_s, fair_ahead_s
from headrace.admission.gate import admit
from headrace.admission.instances import Instances
from headrace.admission.outlook import Outlook
from headrace.batching.fairness import Flow, FlowOrder
from headrace.batching.latency import cost_bucket
from headrace.batching.policy import OF_TIGHTEST
from headrace.batching.queue import RequestQueue
from headrace.batching.ticket import Ticket
from headrace.errors import DeadlineInfeasible, HeadraceError, ModelAbsent, NotReady
from headrace.faults.guard import Guard
from headrace.model_config import ModelConfig

OF_A_PROMISE = 1.3
"""So much longer than predicted the slowest in a hundred take, simulated behind a queue of 300 ms."""
MOST_AWAY, GRACE_AWAY_S = 3.0, 2.0
"""A worker that is started again is waited for while it does not take so many times longer than before, and so much more."""
MILLISECONDS = 1e3


class Entrance:
    """Of one pipeline. Reads what the pipeline holds and changes none of it. Lives on the loop."""

    def __init__(
        self,
        name: tuple[str, str],
        bounds: tuple[int, ModelConfig],
        queue: tuple[RequestQueue, FlowOrder],
        outlook: Outlook,
        instances: Instances,
        guard: Guard,
        clock: Callable[[], float],
    ) -> None:
        """What a request is held against.

        Args:
            name: of the model and its version.
            bounds: bytes that may wait, and what is said of how requests wait.
            queue: what waits, and in which order it is served.
            outlook: how long runs take.
            instances: who runs them, and what runs.
            guard: what is not to be run.
            clock: seconds.
        """
        self._name, self._version = name
        self._max_bytes, self._config = bounds
        self._queue, self._order = queue
        self._outlook = outlook
        self._instances = instances
        self._guard = guard
        self._clock = clock
        # The mutable state: whether there ever was a request that somebody may ask about.
        self.has_records = False
        self._has_policies = self._config.has_policies
        self._last_level = max((*self._config.levels, self._config.default_level))

    @property
    def is_pressed(self) -> bool:
        """A request may have to be refused: its envelope is worth a look before its data is decoded."""
        queue, outlook = self._queue, self._outlook
        return (
            outlook.is_late(queue.rows, queue.alone, outlook.allowed.least)
            or self._instances.are_in_doubt
            or (self._guard.is_wary and self._guard.is_refusing)
        )

    def refusal_of(self, ticket: Ticket) -> HeadraceError | None:
        """The reason not to take the ticket in, or None.

        Whether there may be a reason costs next to nothing; which it is is found out where there may be one.
        """
        queue, outlook, nbytes = self._queue, self._outlook, ticket.request.nbytes
        refusal = None
        if self._has_policies or queue.nbytes + nbytes > self._max_bytes:
            refusal = self._bounds(ticket.level, nbytes)
        allowed_s = ticket.target - ticket.arrived
        if allowed_s < outlook.allowed.least:
            outlook.allowed.observe(allowed_s, ticket.arrived)
        if ticket.level < self._last_level and self._is_possible(ticket, allowed_s):
            outlook.tight.observe(allowed_s, ticket.arrived)
        if refusal is None and self._guard.is_wary:
            refusal = self._guard.refusal(ticket.request)
        if refusal is None and (
            self._instances.are_in_doubt or outlook.is_late(queue.rows, queue.alone, allowed_s)
        ):
            refusal = self.refusal(arrival_of(ticket))
            if refusal is None and self._instances.are_absent:
                self._instances.absent_requests += 1
        if ticket.record is not None:
            self.has_records = True
            self._note(ticket)
        return refusal

    def refusal(self, arrival: Arrival) -> HeadraceError | None:
        """The reason not to take such a request in now, or None.

        Nothing is refused while nothing waits and an instance is idle: were l(b) ever believed too long for all
        deadlines, no run would correct it. What the skill promises and the server's own deadline are never shorter than two
        runs, as far as the second begins before the deadline passes: who waits for nothing but what runs is taken in. What
        has expired already is answered so by the queue.
        """
        if (refusal := self._bounds(arrival.level, arrival.nbytes)) is not None:
            return refusal
        now = self._clock()
        if arrival.target - now < self._outlook.allowed.least:
            self._outlook.allowed.observe(arrival.target - arrival.arrived, now)
        if self._guard.is_wary and (refusal := self._guard.refusal(None)) is not None:
            return refusal
        if (room := self._outlook.room) is not None:
            too_large = room.refusal(self._name, arrival.cost, arrival.rows)
            if too_large is not None:
                return too_large
        if self._instances.are_absent:
            return self._refusal_while_absent(arrival, now)
        if self._instances.are_away:
            return self._refusal_while_away(arrival, now)
        return self._refusal_if_late(arrival, now)

    def may_be_late(self, level: int) -> bool:
        """What waited too long there is served all the same."""
        return self._has_policies and self._config.policy(level).on_timeout == "delay"

    def _refusal_if_late(self, arrival: Arrival, now: float) -> HeadraceError | None:
        is_idle = not self._queue.waiting and self._instances.is_any_idle
        if is_idle or arrival.deadline <= now or self.may_be_late(arrival.level):
            return None
        expected = self._expected_s(arrival, now)
        allowed = arrival.target - now
        if not arrival.is_asked:
            run_s = self._outlook.upper(arrival.cost, arrival.rows)
            two_runs_s = min(arrival.deadline - now, run_s) + run_s
            if expected <= two_runs_s:
                return None
            if arrival.target < arrival.deadline:
                # No deadline ends what breaks a promise, which is of 99 in 100; the forecast is of most.
                expected *= OF_A_PROMISE
        if expected <= allowed:
            return None
        return DeadlineInfeasible(self._name, expected, max(0.0, allowed))

    def _refusal_while_absent(self, arrival: Arrival, now: float) -> HeadraceError | None:
        """The model is not in memory: it waits for it if that is in time, as far as the last load tells; asked for it is."""
        instances = self._instances
        absent_s = instances.absent_s(now)
        if absent_s is None or arrival.deadline <= now:
            return None
        expected = absent_s + self._outlook.upper(arrival.cost, arrival.rows)
        # Where something else may answer at once, what the skill promises counts; else late is better than never.
        allowed = (arrival.target if self._config.fallback.chain else arrival.deadline) - now
        if expected <= allowed:
            return None
        instances.absent_requests += 1
        instances.absent_refusals += 1
        instances.on_wanted()
        return ModelAbsent(self._name, self._version, expected, max(0.0, allowed))

    def _refusal_while_away(self, arrival: Arrival, now: float) -> HeadraceError | None:
        """Nobody serves: it may wait until somebody does again, if that is in time, as far as the last time tells."""
        instances = self._instances
        if instances.return_s is None or instances.away_since is None or arrival.deadline <= now:
            return None
        since_s = now - instances.away_since
        if since_s > MOST_AWAY * instances.return_s + GRACE_AWAY_S:
            reason = f"its worker is being started again, and has not come back for {since_s:.1f} s"
            return NotReady(self._name, self._version, reason)
        expected = max(0.0, instances.return_s - since_s) + self._outlook.upper(arrival.cost, arrival.rows)
        # Where something else may answer at once, what the skill promises counts; else late is better than never.
        allowed = (arrival.target if self._config.fallback.chain else arrival.deadline) - now
        if expected <= allowed:
            return None
        reason = (
            f"its worker is being started again, which takes {expected * MILLISECONDS:.0f} ms more, and "
            f"{max(0.0, allowed) * MILLISECONDS:.0f} ms are allowed"
        )
        return NotReady(self._name, self._version, reason)

    def _is_possible(self, ticket: Ticket, allowed_s: float) -> bool:
        """Short runs of others help it: a run just begun and its own can be over in time."""
        request = ticket.request
        return self._outlook.upper(request.group.cost, request.rows) <= OF_TIGHTEST * allowed_s

    def _bounds(self, level: int, nbytes: int) -> HeadraceError | None:
        """The reason why so many bytes more do not fit, or None."""
        queue = self._queue
        most = self._config.policy(level).max_queue_size if self._has_policies else 0
        waiting = queue.waiting_at(level) if most else 0
        return admit(self._name, nbytes, queue.nbytes, self._max_bytes, waiting, most)

    def _expected_s(self, arrival: Arrival, now: float) -> float:
        """Seconds until such a request would be answered."""
        queue, outlook = self._queue, self._outlook
        flow = Flow(arrival.level, arrival.tenant, cost_bucket(arrival.cost))
        row_s = outlook.row_seconds(arrival.cost)
        ahead, alone = queue.rows_ahead(flow, arrival.deadline)
        others_s = alone_s = alone * outlook.upper(arrival.cost, 1)
        if queue.rows > ahead and queue.is_shared:
            backlog = {
                each: sum(lane.rows * outlook.row_seconds(lane.group.cost) for lane in lanes)
                for each, lanes in queue.backlog().items()
            }
            own_s = (ahead + arrival.rows) * row_s + alone_s
            order = self._order
            others_s += fair_ahead_s(own_s, flow, backlog, order.tenant_weight, order.level_weight)
        return self._instances.free_s(now) + expected_s(
            ahead,
            arrival.rows,
            outlook.cap(arrival.cost),
            partial(outlook.upper, arrival.cost),
            others_s,
            outlook.pace,
            is_filled=not queue.is_shared and ahead >= outlook.cap(arrival.cost),
        )

    def _note(self, ticket: Ticket) -> None:
        """Write down what the forecast sees; for a request that somebody may ask about."""
        assert ticket.record is not None, "asked for by the caller"
        now, arrival = self._clock(), arrival_of(ticket)
        numbers: dict[str, float | int] = {
            "waiting": self._queue.waiting,
            "rows_waiting": self._queue.rows,
            "rows": arrival.rows,
            "allowed_ms": round((ticket.target - now) * MILLISECONDS, 3),
        }
        if self._instances:
            numbers["expected_ms"] = round(self._expected_s(arrival, now) * MILLISECONDS, 3)
        ticket.record.note(now, "asked", **numbers)
