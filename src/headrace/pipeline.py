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
    """

    max_queue_bytes: int
    max_rows: int
    config: ModelConfig = NOTHING_SAID
    delayed_s: float = 5.0
    weight: float = 1.0
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    is_scheduled: bool = True


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

    @property
    def latency(self) -> LatencyModel:
        """l(b) as it is known by now."""
        return self._outlook.latency

    @latency.setter
    def latency(self, known: LatencyModel) -> None:
        self._outlook.latency = known
        self._learn()

    def snapshot(self) -> Snapshot:
        running = sum(1 for channel in self._channels for _ in channel.in_flight())
        return Snapshot(self._queue.waiting, self._queue.nbytes, running)

    @property
    def is_trying_suspect(self) -> bool:
        """What runs now, and nothing else, is a request whose first run ended badly."""
        return self._suspect is not None

    @property
    def is_pressed(self) -> bool:
        """A request may have to be refused: its envelope is worth a look before its data is decoded."""
        queue, outlook = self._queue, self._outlook
        return outlook.is_late(queue.rows, queue.alone, outlook.allowed.least)

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
        if refusal is None and outlook.is_late(queue.rows, queue.alone, allowed_s):
            refusal = self.refusal(arrival_of(ticket))
        if refusal is not None:
            self._refuse([ticket], refusal)
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
        is_idle = not self._queue.waiting and any(channel.is_idle for channel in self._channels)
        if is_idle or not self._channels or arrival.deadline <= now or self._may_be_late(arrival.level):
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
                self._wake()  # an instance may have been kept free for it

    def dispatch(self) -> None:
        """Send what waits to the instances that are free, the idle ones first."""
        self._dispatch_pending = False
        if self._has_staged:
            self._note_begun()
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
        self, channels: Iterable[Instance], spec: ModelSpec, latency: LatencyModel, threads: int = 1
    ) -> None:
        """A worker is ready, the only one: serve over its channels. What waits was decoded for the model as it was before.

        Args:
            channels: one an instance.
            spec: of the model, as this worker found it.
            latency: what is known of its l(b).
            threads: cores that a run takes.
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

    def detach(self, channels: Iterable[Instance], *, is_overdue: bool = False) -> None:
        """Their worker is gone: what it ran is tried once more, alone, or answered; what it had not begun just waits.

        If it was overdue with one request alone, that is the one to blame, and another try would take as long.
        """
        gone = list(channels)
        self._channels = [each for each in self._channels if each not in gone]
        for channel in gone:
            for at, batch in enumerate(channel.close()):
                assert isinstance(batch, Batch), "channels of a pipeline carry its batches"
                self._clear(batch)
                if at == 0 and is_overdue and len(batch.tickets) == 1:
                    batch.tickets[0].try_again()
                    self.retry_or_refuse(batch.tickets, TookTooLong(self.spec.name))
                elif at == 0:
                    self.retry_or_refuse(batch.tickets, WorkerLost(self.spec.name))
                else:
                    self._put_back(batch.tickets)
        if self._token is not None:
            self._token.pass_on()

    def refuse_all(self, error: HeadraceError) -> None:
        """Answer everything that waits with an error."""
        self._refuse(self._queue.take_all(), error)

    def close(self, error: HeadraceError | None = None) -> None:
        """No more work: whoever waits, or is still being run, gets the error, or hears that the server exits."""
        error = error or ServerExiting()
        channels, self._channels = self._channels, []
        for channel in channels:
            for batch in channel.close():
                assert isinstance(batch, Batch), "channels of a pipeline carry its batches"
                self._refuse([each for each in batch.tickets if each.state is State.RUNNING], error)
        self.refuse_all(error)
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
                self._refuse([ticket], error)
                continue
            ticket.try_again()
            self._put_back([ticket])

    def done(self, batch: Batch, done: Done, outputs: Region) -> None:
        """Answer a batch's tickets."""
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
        seconds = (done.ended - done.started) * NANOSECONDS
        started = done.started * NANOSECONDS
        self.batches_done += 1
        self._clear(batch)
        if batch.rows:
            self.latency.observe(batch.cost, batch.rows, seconds)
        self._account(batch, seconds)
        source = BatchOutputs(self.spec.outputs, arrays)
        start = 0
        is_whole = len(batch.tickets) == 1
        for ticket in batch.tickets:
            stop = start + ticket.request.rows
            if not failed or ticket not in failed:
                ticket.answer(Part(source, start, stop, is_whole, ticket.request.lengths))
            start = stop
        answered = batch.tickets
        if failed:
            answered = [ticket for ticket in batch.tickets if ticket not in failed]
            for ticket, error in failed.items():
                self._refuse([ticket], error)
        now = self._clock()
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
        """The backend raised: whoever shared the batch is tried alone, so that only the culprit gets the error."""
        self._clear(batch)
        kind: type[HeadraceError] = InvalidRequest if failed.is_input else InferenceFailed
        error = InvalidItem(failed.reason) if failed.is_item else kind(failed.reason)
        if len(batch.tickets) == 1:
            batch.tickets[0].try_again()
        self.retry_or_refuse(batch.tickets, error)

    def _stop_joining(self, batch: Batch) -> None:
        """Outputs have other rows than went in, as no probe has seen: nobody can tell whose they are."""
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
        candidates = self._queue.candidates(self._next_run_s)
        if candidates is None or self._suspect is not None:
            return False
        if candidates.is_suspect and not all(each.is_idle for each in self._channels):
            return False  # should it end the worker once more, nobody else goes with it
        now = self._clock()
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
        batch.expected_s = self._upper(cost, batch.rows)
        batch.charged_row_s = row_s
        if self._token is not None:
            self._token.charge(batch.expected_s - seconds)  # fewer rows go than leave was asked for
        if candidates.is_suspect:
            self._suspect = batch
        try:
            placed = place_inputs(self.spec, tickets, batch.rows, channel.inputs())
        except (MemoryError, OSError, ValueError) as exc:
            self._clear(batch)
            self.retry_or_refuse(tickets, InferenceFailed(f"the batch cannot be laid out: {exc}"))
            return True
        if candidates.group.edges:
            batch.measure_padding(sum(each.nbytes for each in placed))
        channel.send(batch, placed, batch.wanted())
        return True

    def _cap_for(self, candidates: Candidates) -> int:
        """Rows of the next batch at most: where more waits than two batches, and nothing else, only throughput counts."""
        cost, queue, outlook = candidates.group.cost, self._queue, self._outlook
        cap = outlook.cap(cost)
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
        self._wake()

    def _clear(self, batch: Batch) -> None:
        """A suspect did no harm: the others may go on."""
        if self._suspect is batch:
            self._suspect = None
            self._wake()

    def _wake(self) -> None:
        if self._queue.waiting and not self._dispatch_pending:
            self._dispatch_pending = True
            self._loop.call_soon(self.dispatch)

    def _refuse(self, tickets: list[Ticket], error: HeadraceError) -> None:
        now = self._clock()
        waits = []
        for ticket in tickets:
            waits.append(now - ticket.arrived)
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
        if deadline is not None and deadline < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = deadline
            self._alarm = self._loop.call_later(deadline - now, self._on_alarm)

    def _on_expired(self, ticket: Ticket, now: float) -> None:
        last = ticket.arrived + self._limits.delayed_s
        if ticket.level < LEAST and self._may_be_late(ticket.level) and now < last:
            self._queue.put_last(ticket, last)
        else:
            self._refuse([ticket], ticket.timeout_error())
        if ticket.is_retry:
            self._wake()  # an instance may have been kept free for it

    def _on_alarm(self) -> None:
        self._alarm, self._alarm_at = None, inf
        self._expire()


def nobody(_: float) -> None:
    """The tightest objective beside a model that shares its cores with nobody."""
