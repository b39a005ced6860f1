"""START HERE. One version's path: admit → queue → batch → run → reply.

Everything here runs on the loop and nothing awaits. Requests come in as tickets, leave in batches over the channels of
one worker, and come back as parts of its outputs. A worker may die and be replaced underneath; the queue stays.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf

from msgspec.structs import replace

from headrace.admission.device import GRACE_S, OVERDUE, Device
from headrace.admission.forecast import Arrival, Pace, arrival_of, expected_s, fair_ahead_s
from headrace.admission.gate import admit
from headrace.admission.outlook import Outlook
from headrace.batching.assemble import failures, has_rows, place_inputs, read_outputs
from headrace.batching.batch import Batch
from headrace.batching.fairness import Flow, FlowOrder, shares
from headrace.batching.latency import LatencyModel, cost_bucket
from headrace.batching.policy import (
    OF_TIGHTEST,
    Candidates,
    is_worth_staging,
    window_of_turn,
)
from headrace.batching.queue import LEAST, Lane, RequestQueue, lane_of
from headrace.batching.ticket import State, Ticket
from headrace.errors import (
    DeadlineInfeasible,
    HeadraceError,
    InferenceFailed,
    InvalidItem,
    InvalidRequest,
    NotReady,
    ServerExiting,
    TookTooLong,
    WorkerLost,
)
from headrace.events import BatchDone, Event, RequestsDropped, RequestsFailed
from headrace.execution.arena import Region
from headrace.execution.channel import Instance
from headrace.execution.wire import Done, Failed
from headrace.faults.breaker import Breaker, BreakerState, Outcome
from headrace.faults.guard import NO_DOUBT, Guard, Trust
from headrace.messages import ModelSpec
from headrace.model_config import NOTHING_SAID, ModelConfig
from headrace.parts import BatchOutputs, Part

NANOSECONDS = 1e-9
OF_A_PROMISE = 1.3
"""So much longer than predicted the slowest in a hundred take, simulated behind a queue of 300 ms."""
LAST_PART = 0.1
"""Of a long run, in which the next batch is staged behind it: the way to the gateway and back is shorter, mostly."""
EXPLORE_EVERY = 64
"""Batches, while there is a backlog, of which one is of twice the rows that are thought to be worth it."""
OF_USUAL, SLOWER_S = 3.0, 0.05
"""A run that takes so many times what nearly all take, and so much longer, is slow."""
UNKNOWN_RUN_S = 2.0
"""In place of that where nothing is known of how long runs take."""
MOST_AWAY, GRACE_AWAY_S = 2.0, 1.0
"""A worker that is started again is waited for while it does not take so many times longer than before, and so much more."""
LONG_RUN_S, LEARN_EVERY = 1e-3, 8
"""After a run longer than this the forecast is made anew, else after so many: there are thousands a second of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pipeline may hold, and how it waits there.

    Attributes:
        max_rows: rows of different requests in a batch.
        config: its queue policies count here.
        delayed_s: seconds after which what waited too long, and is served last, is refused all the same.
        weight: of the model beside others on its device.
        tenant_weights: of those tenants that have one of their own.
        is_scheduled: its runs wait for the device token. Not those of code that may well wait for something else.
        trust: what is done about runs that fail.
    """

    max_queue_bytes: int
    max_rows: int
    config: ModelConfig = NOTHING_SAID
    delayed_s: float = 5.0
    weight: float = 1.0
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    is_scheduled: bool = True
    trust: Trust = NO_DOUBT


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a pipeline holds now."""

    waiting: int
    waiting_bytes: int
    running: int


class Pipeline:
    """One version's queue and the channels it is served by. Lives on the loop; not thread-safe."""

    def __init__(
        self,
        spec: ModelSpec,
        limits: Limits,
        clock: Callable[[], float],
        report: Callable[[Event], None],
        device: Device | None = None,
    ) -> None:
        """`device` is what its runs are on; None if that is nobody's concern."""
        self.spec = spec
        self._limits = limits
        self._clock = clock
        self._report = report
        self._loop = asyncio.get_running_loop()
        # The mutable state: what waits, who serves, and the two callbacks that may be pending on the loop.
        config = limits.config
        self._has_policies = config.has_policies
        self._last_level = max((*config.levels, config.default_level))
        level_shares = shares(
            {*config.levels, config.default_level},
            {level: policy.share for level, policy in config.levels.items()},
        )
        self._order = FlowOrder(level_shares, limits.tenant_weights)
        self._queue = RequestQueue(self._order)
        self._device = device
        self._token = None
        if device is not None and limits.is_scheduled:
            self._token = device.join(self, limits.weight, config.latency_p99_s)
        self._guard = Guard((spec.name, spec.version), limits.trust, self, clock, report)
        self._outlook = Outlook(self._token.tightest_beside if self._token is not None else nobody)
        self._channels: list[Instance] = []
        self._threads = 1
        self._dispatch_pending = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf
        self._has_staged = False
        self._nearly_done: asyncio.TimerHandle | None = None
        self._suspect: Batch | None = None
        self.batches_done = 0
        # Since when nobody serves, and how long it took the last time until somebody did.
        self._away_since: float | None = clock()
        self._return_s: float | None = None

    @property
    def latency(self) -> LatencyModel:
        """l(b) as it is known by now."""
        return self._outlook.latency

    @latency.setter
    def latency(self, known: LatencyModel) -> None:
        self._outlook.latency = known
        self._learn()

    @property
    def breaker(self) -> Breaker | None:
        """To be looked at; None where there is none."""
        return self._guard.breaker

    def force_breaker(self, state: BreakerState | None) -> None:
        """The operator's word: FORCED_OPEN, FORCED_CLOSED, or None for by itself again."""
        self._guard.force(state)

    def snapshot(self) -> Snapshot:
        running = sum(1 for channel in self._channels for _ in channel.in_flight())
        return Snapshot(self._queue.waiting + len(self._guard.waiting), self._queue.nbytes, running)

    @property
    def is_trying_suspect(self) -> bool:
        """What runs now, and nothing else, is a request whose first run ended badly."""
        return self._suspect is not None

    @property
    def is_pressed(self) -> bool:
        """A request may have to be refused: its envelope is worth a look before its data is decoded."""
        queue, outlook = self._queue, self._outlook
        return (
            outlook.is_late(queue.rows, queue.alone, outlook.allowed.least)
            or not self._channels
            or self._guard.is_refusing
        )

    def submit(self, ticket: Ticket) -> None:
        """Take a ticket in, or refuse it at once."""
        queue, outlook, nbytes = self._queue, self._outlook, ticket.request.nbytes
        # Whether there may be a reason to refuse costs next to nothing; which it is is found out where there is.
        refusal = None
        if self._has_policies or queue.nbytes + nbytes > self._limits.max_queue_bytes:
            refusal = self._bounds(ticket.level, nbytes)
        allowed_s = ticket.target - ticket.arrived
        if allowed_s < outlook.allowed.least:
            outlook.allowed.observe(allowed_s, ticket.arrived)
        if ticket.level < self._last_level and self._is_possible(ticket, allowed_s):
            outlook.tight.observe(allowed_s, ticket.arrived)
        if refusal is None and self._guard.is_wary:
            refusal = self._guard.refusal(ticket.request)
        if refusal is None and (not self._channels or outlook.is_late(queue.rows, queue.alone, allowed_s)):
            refusal = self.refusal(arrival_of(ticket))
        if ticket.record is not None:
            self._note_arrival(ticket)
        if refusal is not None:
            self.refuse([ticket], refusal)
            return
        queue.add(ticket)
        if not self._dispatch_pending:
            # One dispatch a tick: whatever else this tick brings travels along.
            self._dispatch_pending = True
            self._loop.call_soon(self.dispatch)

    def _is_possible(self, ticket: Ticket, allowed_s: float) -> bool:
        """Short runs of others help it: a run just begun and its own can be over in time."""
        request = ticket.request
        return self._upper(request.group.cost, request.rows) <= OF_TIGHTEST * allowed_s

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
        if not self._channels:
            return self._refusal_while_away(arrival, now)
        is_idle = not self._queue.waiting and any(channel.is_idle for channel in self._channels)
        if is_idle or arrival.deadline <= now or self._may_be_late(arrival.level):
            return None
        expected = self._expected_s(arrival, now)
        allowed = arrival.target - now
        if not arrival.is_asked:
            run_s = self._upper(arrival.cost, arrival.rows)
            two_runs_s = min(arrival.deadline - now, run_s) + run_s
            if expected <= two_runs_s:
                return None
            if arrival.target < arrival.deadline:
                # No deadline ends what breaks a promise, which is of 99 in 100; the forecast is of most.
                expected *= OF_A_PROMISE
        if expected <= allowed:
            return None
        return DeadlineInfeasible(self.spec.name, expected, max(0.0, allowed))

    def _refusal_while_away(self, arrival: Arrival, now: float) -> HeadraceError | None:
        """Nobody serves: it may wait until somebody does again, if that is in time, as far as the last time tells."""
        if self._return_s is None or self._away_since is None or arrival.deadline <= now:
            return None
        since_s, spec = now - self._away_since, self.spec
        if since_s > MOST_AWAY * self._return_s + GRACE_AWAY_S:
            reason = f"its worker is being started again, and has not come back for {since_s:.1f} s"
            return NotReady(spec.name, spec.version, reason)
        expected = max(0.0, self._return_s - since_s) + self._upper(arrival.cost, arrival.rows)
        allowed = arrival.target - now
        if expected <= allowed:
            return None
        reason = (
            f"its worker is being started again, which takes {expected * 1e3:.0f} ms more, and "
            f"{max(0.0, allowed) * 1e3:.0f} ms are allowed"
        )
        return NotReady(spec.name, spec.version, reason)

    def _note_arrival(self, ticket: Ticket) -> None:
        """Write down what the forecast sees; for a request that somebody may ask about."""
        assert ticket.record is not None, "asked for by the caller"
        now, arrival = self._clock(), arrival_of(ticket)
        numbers: dict[str, float | int] = {
            "waiting": self._queue.waiting,
            "rows_waiting": self._queue.rows,
            "rows": arrival.rows,
            "allowed_ms": round((ticket.target - now) * 1e3, 3),
        }
        if self._channels:
            numbers["expected_ms"] = round(self._expected_s(arrival, now) * 1e3, 3)
        ticket.record.note(now, "asked", **numbers)

    def _bounds(self, level: int, nbytes: int) -> HeadraceError | None:
        """The reason why so many bytes more do not fit, or None."""
        limits, queue = self._limits, self._queue
        most = limits.config.policy(level).max_queue_size if self._has_policies else 0
        return admit(
            self.spec.name,
            nbytes,
            queue.nbytes,
            limits.max_queue_bytes,
            queue.waiting_at(level) if most else 0,
            most,
        )

    def _may_be_late(self, level: int) -> bool:
        """What waited too long there is served all the same."""
        return self._has_policies and self._limits.config.policy(level).on_timeout == "delay"

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
        return self._free_s(now) + expected_s(
            ahead,
            arrival.rows,
            outlook.cap(arrival.cost),
            partial(self._upper, arrival.cost),
            others_s,
            outlook.pace,
            is_filled=not queue.is_shared and ahead >= outlook.cap(arrival.cost),
        )

    def _free_s(self, now: float) -> float:
        """Seconds until an instance can begin another run."""
        ends = (self._expected_end(channel) for channel in self._channels)
        return max(0.0, min(ends, default=now) - now)

    def _upper(self, cost: int, rows: int) -> float:
        """Upper bound of a run, 0 while nothing is known."""
        return self._outlook.upper(cost, rows)

    def drop(self, ticket: Ticket) -> None:
        """The client is gone: the ticket is not run if it still waits."""
        if ticket.drop():
            self._queue.forget(ticket)
            self._report(RequestsDropped(self.spec.name, self.spec.version, 1))
            if ticket.is_retry:
                self.wake()  # an instance may have been kept free for it

    def dispatch(self) -> None:
        """Send what waits to the instances that are free, the idle ones first."""
        self._dispatch_pending = False
        if self._has_staged:
            self._note_begun()
        guard = self._guard
        if guard.has_work:
            self._send_for_guard()
        if self._queue.waiting:
            self._expire()
            for channel in self._channels:
                while channel.is_idle and self._queue.waiting and self._send_to(channel):
                    pass
            for channel in self._channels:
                while self._queue.waiting and channel.credits and self._send_to(channel):
                    pass
        if self._token is not None:
            self._token.pass_on()

    def holds_until(self) -> list[float]:
        """For each instance that runs something: when it holds its cores no longer, whatever comes."""
        held = []
        for channel in self._channels:
            if not channel.is_idle:
                since, seconds = self._running(channel)
                held.append(since + OVERDUE * seconds + GRACE_S)
        return held

    def _send_for_guard(self) -> None:
        """What has to be run to know who is at fault goes before what waits."""
        guard, now = self._guard, self._clock()
        for channel in self._channels:
            if self._suspect is not None or not channel.is_idle:
                continue
            if guard.wants_golden(now):
                cost = guard.golden_cost or 0
                if self._has_leave(self._upper(cost, 1), now):
                    golden = Batch(self, [], cost, now)
                    golden.expected_s = self._upper(cost, 1)
                    guard.begin_golden(golden, now)
                    channel.send_golden(golden)
            elif (size := guard.next_size()) is not None and self._has_leave(self._upper(*size), now):
                found = guard.next_part(now)
                if found is not None:
                    case, tickets = found
                    batch = Batch(self, tickets, case.cost, now)
                    batch.case = case
                    self._place_and_send(channel, batch)

    def _has_leave(self, seconds: float, now: float) -> bool:
        """For a run of the guard's; not to be repeated if it is not used."""
        return self._token is None or self._token.take(seconds, now, now)

    def _note_begun(self) -> None:
        """What was staged behind a run that has ended runs now."""
        now = self._clock()
        self._has_staged = False
        for channel in self._channels:
            for at, batch in enumerate(channel.in_flight()):
                if at:
                    self._has_staged = True
                elif isinstance(batch, Batch):
                    batch.begins = min(batch.begins, now)

    def _running(self, channel: Instance) -> tuple[float, float]:
        """Since when the channel has been busy, and how long what it was given takes; now and 0 if it is idle."""
        batches = [each for each in channel.in_flight() if isinstance(each, Batch)]
        if not batches:
            return self._clock(), 0.0
        # Not what was expected when they were sent: more may be known by now.
        return batches[0].begins, sum(self._upper(each.cost, each.rows) for each in batches)

    def _expected_end(self, channel: Instance) -> float:
        """When the channel should be done with what it was given."""
        since, seconds = self._running(channel)
        return since + seconds

    def attach(
        self,
        channels: Iterable[Instance],
        spec: ModelSpec,
        latency: LatencyModel,
        threads: int = 1,
        golden_cost: int | None = None,
    ) -> None:
        """A worker is ready, the only one: serve over its channels. What waits was decoded for the model as it was before.

        Args:
            channels: one an instance.
            spec: of the model, as this worker found it.
            latency: what is known of its l(b).
            threads: cores that a run takes.
            golden_cost: cost of the row that is its golden inputs, None if it has none.
        """
        if self.spec.inputs and (spec.inputs, spec.outputs) != (self.spec.inputs, self.spec.outputs):
            self.refuse_all(NotReady(spec.name, spec.version, "the model is another one now"))
        self.spec = spec
        self._channels = list(channels)
        self._threads = threads
        if self._token is not None:
            self._token.cores = float(threads)
        self._outlook.pace = Pace(len(self._channels))
        self.latency = latency
        now = self._clock()
        if self._away_since is not None:
            self._return_s, self._away_since = max(0.0, now - self._away_since), None
        self._guard.worker_ready(golden_cost, now)
        self.dispatch()

    def extend(self, channels: Iterable[Instance]) -> None:
        """One more worker of the same model is ready."""
        self._channels += channels
        self._outlook.pace = Pace(len(self._channels))
        self.dispatch()

    def respec(self, spec: ModelSpec) -> None:
        """More became known of the same model; what was decoded before that travels alone."""
        self._queue.isolate()
        self.spec = spec
        self._learn()

    def detach(
        self,
        channels: Iterable[Instance],
        *,
        is_overdue: bool = False,
        reason: str = "ended",
        is_own_doing: bool = False,
    ) -> None:
        """Their worker is gone: what it ran is tried once more, alone, or answered; what it had not begun just waits.

        Args:
            channels: those that nothing answers any more.
            is_overdue: it was ended by a time limit of its own. If that was with one request alone, that is the one to
                blame, and another try would take as long.
            reason: how it ended, as in "was killed by SIGSEGV".
            is_own_doing: what it ran made it end, and nobody from outside: a crash, or a run that hung.
        """
        gone = list(channels)
        was_there = bool(self._channels)
        self._channels = [each for each in self._channels if each not in gone]
        now = self._clock()
        if was_there and not self._channels:
            self._away_since = now
            self._guard.worker_lost(f"its worker {reason}", now)
        for channel in gone:
            for at, batch in enumerate(channel.close()):
                assert isinstance(batch, Batch), "channels of a pipeline carry its batches"
                self._clear(batch)
                self._guard.lost(batch, Outcome.EXCLUDED if at else Outcome.FAILED, now)
                if at:
                    self._put_back(batch.tickets)
                else:
                    self._retry_lost(batch, now, is_overdue=is_overdue, is_own_doing=is_own_doing)
        if self._token is not None:
            self._token.pass_on()

    def _retry_lost(self, batch: Batch, now: float, *, is_overdue: bool, is_own_doing: bool) -> None:
        """The worker ended in the middle of the batch."""
        tickets, name = batch.tickets, self.spec.name
        error: HeadraceError = WorkerLost(name, is_retried=self._guard.is_idempotent)
        if is_overdue and len(tickets) == 1:
            tickets[0].try_again()
            error = TookTooLong(name)
        elif is_own_doing and len(tickets) == 1 and tickets[0].is_retry:
            self._guard.condemn(tickets[0], str(error), now)
        if self._guard.is_idempotent:
            self.retry_or_refuse(tickets, error)
        else:
            self.refuse([each for each in tickets if each.state is State.RUNNING], error)

    def refuse_all(self, error: HeadraceError) -> None:
        """Answer everything that waits with an error."""
        self.refuse(self._queue.take_all(), error)

    def close(self, error: HeadraceError | None = None) -> None:
        """No more work: whoever waits, or is still being run, gets the error, or hears that the server exits."""
        error = error or ServerExiting()
        channels, self._channels = self._channels, []
        for channel in channels:
            for batch in channel.close():
                assert isinstance(batch, Batch), "channels of a pipeline carry its batches"
                self.refuse([each for each in batch.tickets if each.state is State.RUNNING], error)
        self.refuse_all(error)
        self._guard.close(error)
        for timer in (self._alarm, self._nearly_done):
            if timer is not None:
                timer.cancel()
        if self._token is not None:
            self._token.leave()

    def oldest_run_s(self, channels: Iterable[Instance]) -> tuple[float, float] | None:
        """For the watchdog: seconds since the oldest batch there began, and seconds it was expected to take."""
        batches = [batch for channel in channels for batch in channel.in_flight() if isinstance(batch, Batch)]
        if not batches:
            return None
        oldest = min(batches, key=lambda batch: batch.begins)
        return self._clock() - oldest.begins, self._upper(oldest.cost, oldest.rows)

    def retry_or_refuse(self, tickets: list[Ticket], error: HeadraceError) -> None:
        """Give each ticket one more try, travelling alone; those that had theirs get the error.

        Alone, because one of them may be the reason: then the others get their answers and it gets the error.
        """
        for ticket in tickets:
            if ticket.state is not State.RUNNING:
                continue
            if ticket.is_retry:
                self.refuse([ticket], error)
                continue
            ticket.try_again()
            self._put_back([ticket])

    def done(self, batch: Batch, done: Done, outputs: Region) -> None:
        """Answer a batch's tickets."""
        seconds = (done.ended - done.started) * NANOSECONDS
        if batch.is_golden:
            self._account(batch, seconds)
            self._guard.golden_ran(batch, self._outcome(batch, seconds), self._clock())
            return
        try:
            arrays = read_outputs(self.spec, done.outputs, outputs)
            failed = failures(batch.tickets, done.errors) if done.errors else {}
            if failed and len(failed) < len(batch.tickets) and len(arrays) < len(batch.wanted()):
                raise ValueError("the rows that did not fail have none")
            # Whose client has gone hears of nothing.
            failed = {ticket: error for ticket, error in failed.items() if ticket.state is State.RUNNING}
        except (HeadraceError, ValueError) as exc:
            reason = f"the outputs are not what the model declares: {exc}"
            self.failed(batch, Failed(done.batch, reason, is_input=False))
            return
        if len(batch.tickets) > 1 and not has_rows(self.spec, arrays, batch.rows):
            self._stop_joining(batch)
            return
        self._clear(batch)
        self._note_run(batch, done.started * NANOSECONDS, seconds)
        answered = self._hand_out(batch, BatchOutputs(self.spec.outputs, arrays), failed)
        self._learn_of(batch, done, self._judge(batch, seconds, failed), answered)

    def _hand_out(
        self, batch: Batch, source: BatchOutputs, failed: dict[Ticket, HeadraceError]
    ) -> list[Ticket]:
        """Give each ticket its part, or its own error; returns those that got a part."""
        start, is_whole = 0, len(batch.tickets) == 1
        for ticket in batch.tickets:
            stop = start + ticket.request.rows
            if not failed or ticket not in failed:
                ticket.answer(Part(source, start, stop, is_whole, ticket.request.lengths))
            start = stop
        for ticket, error in failed.items():
            self.refuse([ticket], error)
        if not failed and not batch.has_expired:
            return batch.tickets
        return [each for each in batch.tickets if each not in failed and each.state is State.ANSWERED]

    def _judge(self, batch: Batch, seconds: float, failed: dict[Ticket, HeadraceError]) -> Outcome:
        """What the breaker is to think of a run that gave outputs."""
        own = sum(not isinstance(error, InvalidRequest) for error in failed.values())
        if 2 * own > len(batch.tickets):
            return Outcome.FAILED  # a few of many may be their senders' fault; most are not
        return self._outcome(batch, seconds)

    def _learn_of(self, batch: Batch, done: Done, outcome: Outcome, answered: list[Ticket]) -> None:
        """It has run: so long do runs take, and so much was done."""
        now = self._clock()
        seconds, started = (done.ended - done.started) * NANOSECONDS, done.started * NANOSECONDS
        self.batches_done += 1
        if batch.rows and (outcome is not Outcome.SLOW or not self._guard.counts_slowness(now)):
            self.latency.observe(batch.cost, batch.rows, seconds)
        self._account(batch, seconds)
        self._guard.passed(batch, outcome, now)
        self._outlook.pace.observe(batch.tickets[0].arrived, done.ended * NANOSECONDS, batch.expected_s, now)
        if seconds > LONG_RUN_S or not self.batches_done % LEARN_EVERY:
            self._learn()
        self._report(
            BatchDone(
                self.spec.name,
                self.spec.version,
                batch.rows,
                [now - ticket.arrived for ticket in answered],
                [started - ticket.arrived for ticket in answered],
                seconds,
                (done.started - done.received) * NANOSECONDS,
                (done.sent - done.ended) * NANOSECONDS,
                self._device_time(batch, seconds),
                batch.padding,
            )
        )

    def failed(self, batch: Batch, failed: Failed) -> None:
        """The backend raised: it is looked into, so that only the culprit gets the error."""
        self._clear(batch)
        kind: type[HeadraceError] = InvalidRequest if failed.is_input else InferenceFailed
        error = InvalidItem(failed.reason) if failed.is_item else kind(failed.reason)
        if batch.is_golden:
            self._guard.golden_ran(batch, Outcome.FAILED, self._clock())
        elif self._guard.breaker is None:
            if len(batch.tickets) == 1:
                batch.tickets[0].try_again()
            self.retry_or_refuse(batch.tickets, error)
        else:
            self._guard.failed(batch, error, self._clock())

    def _outcome(self, batch: Batch, seconds: float) -> Outcome:
        """Whether a run that went well was slow, by l(b) as it was known before."""
        usual_s = self._upper(batch.cost, batch.rows)
        return Outcome.SLOW if usual_s and seconds > too_slow_s(usual_s) else Outcome.OK

    def _note_run(self, batch: Batch, started: float, seconds: float) -> None:
        """Write down how it went, for those that somebody may ask about."""
        for ticket in batch.tickets:
            if ticket.record is not None:
                ticket.record.note(
                    started + seconds,
                    "ran",
                    run_ms=round(seconds * 1e3, 3),
                    queue_ms=round((started - ticket.arrived) * 1e3, 3),
                    usual_ms=round(batch.expected_s * 1e3, 3),
                    requests=len(batch.tickets),
                    rows=batch.rows,
                )

    def _stop_joining(self, batch: Batch) -> None:
        """Outputs have other rows than went in, as no probe has seen: nobody can tell whose they are."""
        self._guard.lost(batch, Outcome.EXCLUDED, self._clock())
        note = "a run gave other rows than went in, as its data has it: one request at a time"
        self.spec = replace(self.spec, joins_requests=False, notes=(*self.spec.notes, note))
        self._learn()
        self._put_back(batch.tickets)

    def _learn(self) -> None:
        """More is known of how long things take, or of what may share a run."""
        spec = self.spec
        limit = max(1, min(self._limits.max_rows, spec.max_batch_size)) if spec.joins_requests else 1
        self._outlook.learn(limit, self._clock())

    def _account(self, batch: Batch, seconds: float) -> None:
        """A run took so long, and not what it was charged for when it began."""
        if self._token is not None:
            self._token.charge(seconds - batch.expected_s)
        if self._queue.is_shared and batch.rows:
            more_s = seconds / batch.rows - batch.charged_row_s
            for ticket in batch.tickets:
                self._queue.charge(lane_of(ticket).flow, ticket.request.rows * more_s)

    def _device_time(self, batch: Batch, seconds: float) -> tuple[tuple[str, int, float], ...]:
        """Whose the device's time was: tenant, cost of a row, seconds."""
        if self._device is not None:
            seconds *= self._device.part(self._threads)
        if not self._queue.is_shared or not batch.rows:
            return ((batch.tickets[0].tenant, batch.cost, seconds),)
        rows: dict[tuple[str, int], int] = {}
        for ticket in batch.tickets:
            whose = (ticket.tenant, ticket.request.group.cost)
            rows[whose] = rows.get(whose, 0) + ticket.request.rows
        return tuple((*whose, seconds * count / batch.rows) for whose, count in rows.items())

    def _send_to(self, channel: Instance) -> bool:
        """Send one batch, if now is the time for it; False if not."""
        now = self._clock()
        if self._suspect is not None or not self._guard.may_run(now):
            return False
        candidates = self._queue.candidates(self._next_run_s)
        if candidates is None:
            return False
        if candidates.is_suspect and not all(each.is_idle for each in self._channels):
            return False  # should it end the worker once more, nobody else goes with it
        cost = candidates.group.cost
        row_s = self._outlook.row_seconds(cost)
        cap = self._cap_for(candidates)
        rows = self._queue.waiting_rows(candidates, cap)
        seconds = self._upper(cost, rows)
        if not self._may_send(channel, candidates, rows, cap, now):
            return False
        begins = now if channel.is_idle else self._expected_end(channel)
        if candidates.deadline < begins + seconds + self._way_s:
            tickets = self._take_window(candidates, cap, begins)
        else:
            tickets = self._queue.take(candidates, cap, row_s)
        batch = Batch(self, tickets, cost, begins)
        batch.charged_row_s = row_s
        batch.permit = self._guard.permit(now)
        if candidates.is_suspect:
            self._suspect = batch
        self._place_and_send(channel, batch, seconds)
        return True

    def _place_and_send(self, channel: Instance, batch: Batch, asked_s: float | None = None) -> None:
        """Lay the batch out and send it. `asked_s`: seconds that leave was asked for, if not for its own."""
        tickets = batch.tickets
        batch.expected_s = self._upper(batch.cost, batch.rows)
        if self._token is not None and asked_s is not None:
            self._token.charge(batch.expected_s - asked_s)  # fewer rows go than leave was asked for
        try:
            placed = place_inputs(self.spec, tickets, batch.rows, channel.inputs())
        except (MemoryError, OSError, ValueError) as exc:
            self._clear(batch)
            self._guard.lost(batch, Outcome.EXCLUDED, self._clock())
            self.retry_or_refuse(tickets, InferenceFailed(f"the batch cannot be laid out: {exc}"))
            return
        if tickets[0].request.group.edges:
            batch.measure_padding(sum(each.nbytes for each in placed))
        channel.send(batch, placed, batch.wanted())
        self._watch_over(batch)

    def _watch_over(self, batch: Batch) -> None:
        """See to it that its requests are answered at their deadlines if its run takes far too long."""
        earliest = inf
        for ticket in batch.tickets:
            if ticket.deadline < earliest:  # noqa: PLR1730 - min() takes twice as long, and this is for every request
                earliest = ticket.deadline
            if ticket.record is not None:
                ticket.record.note(self._clock(), "sent", requests=len(batch.tickets), rows=batch.rows)
        self._set_alarm(max(earliest, self._overdue_at(batch)))

    def _overdue_at(self, batch: Batch) -> float:
        """When its run has taken far longer than such runs do."""
        return batch.begins + (too_slow_s(batch.expected_s) if batch.expected_s else UNKNOWN_RUN_S)

    def _cap_for(self, candidates: Candidates) -> int:
        """Rows of the next batch at most: where more waits than two batches, and nothing else, only throughput counts."""
        cost, queue, outlook = candidates.group.cost, self._queue, self._outlook
        cap = outlook.cap(cost)
        if (most := self._guard.most(cap)) < cap:
            return most
        if queue.rows < 2 * cap or queue.waiting_rows(candidates, queue.rows) < queue.rows:
            return cap  # a run for the last part of the throughput would be in the way of those who cannot share it
        cap = max(cap, outlook.cap(cost, 1.0))
        if self.batches_done % EXPLORE_EVERY:
            return cap
        # A size once measured beside somebody's noise would be shunned for ever if it were never tried again.
        return min(2 * cap, outlook.within(cost, outlook.limit))

    def _may_send(self, channel: Instance, candidates: Candidates, rows: int, cap: int, now: float) -> bool:
        """Whether so many rows go now: an idle instance takes what waits, if it has the device's leave."""
        cost, token = candidates.group.cost, self._token
        seconds = self._upper(cost, rows)
        if channel.is_idle:
            return token is None or token.take(seconds, candidates.deadline - seconds, now)
        if token is not None and token.is_contested:
            return False  # what is staged behind the running batch would not wait for its turn
        spare_s = candidates.deadline - self._expected_end(channel) - seconds
        is_worth = is_worth_staging(rows, cap, self.latency.predict(cost, rows), spare_s)
        if not is_worth and not self._is_nearly_done(channel, now):
            return False
        if token is not None:
            token.charge(seconds)
        self._has_staged = True
        return True

    def _is_nearly_done(self, channel: Instance, now: float) -> bool:
        """Whether a long run is about to end; if it is not, dispatch is called when it is.

        What is staged then spares the instance the wait for its next run, and hardly anybody comes too late to join it.
        Behind a run that takes longer than it should nothing is staged: it may hang.
        """
        in_flight = channel.in_flight()
        running = in_flight[0]
        if len(in_flight) > 1 or not isinstance(running, Batch):
            return False
        run_s = self.latency.predict(running.cost, running.rows) or 0.0
        if run_s < LONG_RUN_S:
            return False
        left_s = running.begins + (1 - LAST_PART) * run_s - now
        if left_s <= 0:
            return now <= self._expected_end(channel)
        if self._nearly_done is None:
            self._nearly_done = self._loop.call_later(left_s, self._on_nearly_done)
        return False

    def _on_nearly_done(self) -> None:
        self._nearly_done = None
        self.dispatch()

    def _next_run_s(self, lane: Lane) -> float:
        """Device seconds of the lane's next batch."""
        cost = lane.group.cost
        return min(lane.rows, self._outlook.cap(cost)) * self._outlook.row_seconds(cost)

    @property
    def _way_s(self) -> float:
        """Seconds of a request's time that are not its run's: the way back, and as long a way in, which nobody here sees."""
        return 2 * self._outlook.pace.after_s

    def _take_window(self, candidates: Candidates, cap: int, now: float) -> list[Ticket]:
        """Take those that make the most of the device where not all can be in time; who cannot any more hears it now."""
        queue, cost = self._queue, candidates.group.cost
        row_s = self._outlook.row_seconds(cost)
        tickets = sorted(queue.take(candidates, 2 * cap, row_s), key=lambda ticket: ticket.deadline)
        seconds = partial(self._upper, cost)
        due = [self._due(ticket, seconds) for ticket in tickets]
        rows = [ticket.request.rows for ticket in tickets]
        level = candidates.flow.level
        modest = self._order.modest(
            level, {each.tenant for each in tickets if each.level == level}, cap * row_s
        )
        is_first = [ticket.level == level and ticket.tenant in modest for ticket in tickets]
        # Not even one can be in time, as far as is known; to know better the last one is run.
        chosen = window_of_turn(due, rows, is_first, now, seconds, cap) or {len(tickets) - 1}
        next_run = now + seconds(sum(rows[at] for at in chosen))
        for at, ticket in enumerate(tickets):
            if at in chosen:
                continue
            queue.charge(lane_of(ticket).flow, -rows[at] * row_s)
            if due[at] < next_run + seconds(rows[at]):
                self._on_expired(ticket, now)
            else:
                queue.add(ticket)
        return [tickets[at] for at in sorted(chosen)]

    def _due(self, ticket: Ticket, seconds: Callable[[int], float]) -> float:
        """When its run has to end: never, if not even an idle server could keep what nobody asked for."""
        end = ticket.deadline - self._way_s
        is_possible = ticket.arrived + seconds(ticket.request.rows) <= end
        return end if ticket.is_asked or is_possible else inf

    def _put_back(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            if ticket.state is State.RUNNING:
                ticket.state = State.WAITING
                self._queue.add(ticket)
        self.wake()

    def _clear(self, batch: Batch) -> None:
        """A suspect did no harm: the others may go on."""
        if self._suspect is batch:
            self._suspect = None
            self.wake()

    def wake(self) -> None:
        """Something may be there to be run."""
        if (self._queue.waiting or self._guard.has_work) and not self._dispatch_pending:
            self._dispatch_pending = True
            self._loop.call_soon(self.dispatch)

    def refuse(self, tickets: list[Ticket], error: HeadraceError) -> None:
        """Answer them with the error."""
        now = self._clock()
        waits = []
        for ticket in tickets:
            waits.append(now - ticket.arrived)
            if ticket.record is not None:
                ticket.record.note(now, "refused", code=error.code, reason=str(error))
            ticket.refuse(error)
        if waits:
            self._report(RequestsFailed(self.spec.name, self.spec.version, error.code, waits))

    def _expire(self) -> None:
        """Answer what waited too long; it is not run. Keeps one alarm for the earliest deadline, not one a request."""
        now = self._clock()
        deadline = self._queue.next_deadline()
        if deadline is not None and deadline <= now:
            for ticket in self._queue.expire(now):
                self._on_expired(ticket, now)
            deadline = self._queue.next_deadline()
        if deadline is not None:
            self._set_alarm(deadline)

    def _set_alarm(self, at: float) -> None:
        """Look at deadlines then, or earlier."""
        if at < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = at
            self._alarm = self._loop.call_later(max(0.0, at - self._clock()), self._on_alarm)

    def _expire_running(self) -> None:
        """Answer whoever waits for a run that takes far too long, at the deadline."""
        now = self._clock()
        for channel in self._channels:
            for batch in channel.in_flight():
                if not isinstance(batch, Batch) or batch.is_golden:
                    continue
                overdue_at = self._overdue_at(batch)
                due = [ticket.deadline for ticket in batch.tickets if ticket.state is State.RUNNING]
                if due and overdue_at <= now:
                    late = [
                        ticket
                        for ticket in batch.tickets
                        if ticket.state is State.RUNNING and ticket.deadline <= now
                    ]
                    self._expire_in(batch, late, now)
                    due = [deadline for deadline in due if deadline > now]
                if due:
                    self._set_alarm(max(min(due), overdue_at))

    def _expire_in(self, batch: Batch, late: list[Ticket], now: float) -> None:
        if not late:
            return
        batch.has_expired = True
        for ticket in late:
            if ticket.record is not None:
                ticket.record.note(now, "expired", running_ms=round((now - batch.begins) * 1e3, 3))
            ticket.expire()
        code = late[0].timeout_error.code
        self._report(
            RequestsFailed(self.spec.name, self.spec.version, code, [now - each.arrived for each in late])
        )

    def _on_expired(self, ticket: Ticket, now: float) -> None:
        last = ticket.arrived + self._limits.delayed_s
        if ticket.level < LEAST and self._may_be_late(ticket.level) and now < last:
            self._queue.put_last(ticket, last)
        else:
            self.refuse([ticket], ticket.timeout_error())
        if ticket.is_retry:
            self.wake()  # an instance may have been kept free for it

    def _on_alarm(self) -> None:
        self._alarm, self._alarm_at = None, inf
        self._expire()
        self._expire_running()


def too_slow_s(usual_s: float) -> float:
    """Seconds from which on a run is slow, where nearly all take no longer than `usual_s`."""
    return max(OF_USUAL * usual_s, usual_s + SLOWER_S)


def nobody(_: float) -> None:
    """The tightest objective beside a model that shares its cores with nobody."""
