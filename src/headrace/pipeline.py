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

from headrace.admission.device import Device
from headrace.admission.entrance import Entrance
from headrace.admission.forecast import Arrival, Pace
from headrace.admission.instances import Instances, overdue_at, too_slow_s
from headrace.admission.outlook import Outlook
from headrace.admission.room import Room
from headrace.batching.assemble import failures, has_rows, place_inputs, read_outputs
from headrace.batching.batch import Batch, Upkeep
from headrace.batching.fairness import FlowOrder, shares
from headrace.batching.golden_point import Bound, GoldenPoint
from headrace.batching.latency import LatencyModel
from headrace.batching.policy import (
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
    InvalidOutput,
    InvalidRequest,
    NotReady,
    ServerExiting,
    TookTooLong,
    WorkerLost,
)
from headrace.events import BatchDone, Event, RequestsDropped, RequestsFailed
from headrace.execution.arena import Region
from headrace.execution.channel import InFlight, Instance
from headrace.execution.footprint import Footprint
from headrace.execution.wire import Done, Failed
from headrace.faults.breaker import Breaker, BreakerState, Outcome
from headrace.faults.guard import EXCLUDED, NO_DOUBT, Guard, Trust
from headrace.faults.memory import Step
from headrace.faults.relief import Relief
from headrace.messages import ModelSpec
from headrace.model_config import NOTHING_SAID, ModelConfig
from headrace.parts import BatchOutputs, Part

NANOSECONDS = 1e-9
LAST_PART = 0.1
"""Of a long run, in which the next batch is staged behind it: the way to the gateway and back is shorter, mostly."""
EXPLORE_EVERY = 64
"""Batches, while there is a backlog, of which one is of twice the rows that are thought to be worth it."""
LOOK_AGAIN_S = 0.01
"""At the earliest, at what waits behind a run that takes far too long."""
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
        self._instances = Instances(self._outlook, clock)
        name = (spec.name, spec.version)
        self._guard = Guard(name, limits.trust, self, clock, report)
        self._relief = Relief(name, self, clock, report, is_idempotent=limits.trust.is_idempotent)
        self._entrance = Entrance(
            name,
            (limits.max_queue_bytes, config),
            (self._queue, self._order),
            self._outlook,
            self._instances,
            self._guard,
            clock,
        )
        self._threads = 1
        self._dispatch_pending = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf
        self._nearly_done: asyncio.TimerHandle | None = None
        self._suspect: Batch | None = None
        self.batches_done = self.requests_done = 0
        # Memory is short: what a run took is given back after it; and the model is to leave, so that what waits is not begun.
        self.gives_back = self.is_paused = False
        # Whom to ask for another worker, where nothing less has helped against too little memory.
        self.on_exhausted: Callable[[Instance, str], None] = nobody_restarts

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

    @property
    def golden_point(self) -> GoldenPoint:
        """Rows of a batch now, of those rows that take longest, and why no more."""
        return self._outlook.golden_point(self._outlook.latency.longest_cost or 0)

    @property
    def memory_cap(self) -> int:
        """Rows that memory allows in such a batch; 0 where it sets no bound."""
        point = self.golden_point
        rows = point.allowed[Bound.MEMORY]
        return rows if rows < point.allowed[Bound.ROWS] else 0

    def bound_memory(self, footprint: Footprint | None, nbytes: int | None, alone: int | None = None) -> None:
        """From now on runs take no more than this; what runs already does.

        Args:
            footprint: what is known of the model; None, or with no peaks, bounds nothing.
            nbytes: for the activations of a batch; None for no bound.
            alone: for a request that alone has more rows than fit into that; as much if it is not given.
        """
        room = None
        if footprint is not None and footprint.peaks and nbytes is not None:
            room = Room(footprint, nbytes, max(nbytes, alone or 0))
        if room != self._outlook.room:
            self._outlook.room = room
            self._learn()

    @property
    def is_quiet(self) -> bool:
        """Nothing runs, nor is to be run once more; somebody may wait."""
        return not (any(self._instances.batches()) or self._guard.waiting or self._relief.waiting)

    def force_breaker(self, state: BreakerState | None) -> None:
        """The operator's word: FORCED_OPEN, FORCED_CLOSED, or None for by itself again."""
        self._guard.force(state)

    def snapshot(self) -> Snapshot:
        running = sum(1 for _ in self._instances.batches())
        waiting = self._queue.waiting + len(self._guard.waiting) + len(self._relief.waiting)
        return Snapshot(waiting, self._queue.nbytes, running)

    @property
    def is_trying_suspect(self) -> bool:
        """What runs now, and nothing else, is a request whose first run ended badly."""
        return self._suspect is not None

    @property
    def is_pressed(self) -> bool:
        """A request may have to be refused: its envelope is worth a look before its data is decoded."""
        return self._entrance.is_pressed

    @property
    def is_hungry(self) -> bool:
        """Less waits than would fill the next batch: were nothing taken in, an instance would soon be idle."""
        return self._queue.rows < self._outlook.full

    def refusal(self, arrival: Arrival) -> HeadraceError | None:
        """The reason not to take such a request in now, or None: as of Entrance."""
        return self._entrance.refusal(arrival)

    def submit(self, ticket: Ticket) -> None:
        """Take a ticket in, or refuse it at once."""
        refusal = self._entrance.refusal_of(ticket)
        if refusal is not None:
            self.refuse([ticket], refusal)
            return
        self._queue.add(ticket)
        if not self._dispatch_pending:
            # One dispatch a tick: whatever else this tick brings travels along.
            self._dispatch_pending = True
            self._loop.call_soon(self.dispatch)

    def holds_until(self) -> list[float]:
        """For the device: as of Instances."""
        return self._instances.holds_until()

    def oldest_run_s(self, channels: Iterable[Instance]) -> tuple[float, float] | None:
        """For the watchdog: as of Instances."""
        return self._instances.oldest_run_s(channels)

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
        instances = self._instances
        if instances.has_staged:
            instances.note_begun()
        if instances.has_overdue:
            instances.note_overdue()
        if self._relief.has_work:
            self._send_for_relief()
        if self._guard.has_work:
            self._send_for_guard()
        if self._queue.waiting:
            self._send_waiting()
        if self._token is not None:
            self._token.pass_on()

    def _send_waiting(self) -> None:
        self._expire()
        if self.is_paused:
            return
        instances = self._instances
        for channel in instances:
            while channel.is_idle and self._queue.waiting and self._send_to(channel):
                pass
        for channel in instances:
            while self._queue.waiting and channel.credits and self._send_to(channel):
                pass
        if instances.are_absent:
            instances.on_wanted()

    def _send_for_relief(self) -> None:
        """What failed for want of memory goes before what waits, in its order; a session's rebuilding before both."""
        relief, now = self._relief, self._clock()
        for channel in self._instances:
            if channel.credits and relief.wants_rebuild(channel):
                relief.begin_rebuild()
                self._send_rebuild(channel, now)
            if self._suspect is not None or not channel.is_idle or not self._guard.may_run(now):
                continue
            if (size := relief.next_size()) is None:
                continue
            seconds = self._outlook.upper(*size)
            if self._has_leave(seconds, now):
                part = relief.next_part(now)
                if part is not None:
                    batch = Batch(self, part.tickets, part.cost, now)
                    batch.part = part
                    batch.permit = self._guard.permit(now)
                    self._place_and_send(channel, batch, seconds)
                    self._set_alarm(overdue_at(batch))
        self._expire_looked_into()

    def _send_rebuild(self, channel: Instance, now: float) -> None:
        """Have the session behind it opened anew."""
        batch = Batch(self, [], 0, now)
        batch.is_rebuild, batch.permit, batch.channel = True, EXCLUDED, channel
        channel.send_rebuild(batch)

    def _send_for_guard(self) -> None:
        """What has to be run to know who is at fault goes before what waits."""
        guard, now = self._guard, self._clock()
        for channel in self._instances:
            if self._suspect is not None or not channel.is_idle or self._relief.holds(channel):
                continue
            if guard.wants_golden(now) and not self._relief.is_pending(now):
                cost = guard.golden_cost or 0
                if self._has_leave(self._outlook.upper(cost, 1), now):
                    golden = Batch(self, [], cost, now)
                    golden.rows = 1
                    golden.expected_s = self._outlook.upper(cost, 1)
                    golden.channel = channel
                    guard.begin_golden(golden, now)
                    channel.send_golden(golden)
            elif (size := guard.next_size()) is not None and self._has_leave(self._outlook.upper(*size), now):
                found = guard.next_part(now)
                if found is not None:
                    case, tickets = found
                    batch = Batch(self, tickets, case.cost, now)
                    batch.case = case
                    self._place_and_send(channel, batch)
                    self._set_alarm(overdue_at(batch))

    def _has_leave(self, seconds: float, now: float) -> bool:
        """For a run of the guard's; not to be repeated if it is not used."""
        return self._token is None or self._token.take(seconds, now, now)

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
        self._instances.put(channels)
        self._threads = threads
        if self._token is not None:
            self._token.cores = float(threads)
        self._outlook.pace = Pace(len(self._instances))
        self.latency = latency
        self._guard.worker_ready(golden_cost, self._clock())
        self._relief.worker_ready()
        self.dispatch()

    def extend(self, channels: Iterable[Instance]) -> None:
        """One more worker of the same model is ready."""
        self._instances.add(channels)
        self._outlook.pace = Pace(len(self._instances))
        self._relief.worker_ready()
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
        is_memory: bool = False,
        is_excused: bool = False,
    ) -> None:
        """Their worker is gone: what it ran is tried once more, alone, or answered; what it had not begun just waits.

        Args:
            channels: those that nothing answers any more.
            is_overdue: it was ended by a time limit of its own. If that was with one request alone, that is the one to
                blame, and another try would take as long.
            reason: how it ended, as in "was killed by SIGSEGV".
            is_own_doing: what it ran made it end, and nobody from outside: a crash, or a run that hung.
            is_memory: the kernel ended it, since memory ran out.
            is_excused: it ended with its process, and that was another model's doing.
        """
        gone = list(channels)
        now = self._clock()
        if self._instances.remove(gone):
            self._guard.worker_lost(f"its worker {reason}", now)
        for channel in gone:
            for at, batch in enumerate(channel.close()):
                if not isinstance(batch, Batch):
                    continue  # it was nobody's; what comes behind it has not begun
                self._clear(batch)
                if is_memory and not at and not batch.is_rebuild:
                    self._run_short(batch, f"its worker {reason}", has_died=True)
                    continue
                self._guard.lost(batch, Outcome.EXCLUDED if at or is_excused else Outcome.FAILED, now)
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
        self._retry_run(tickets, error)

    def leave(self, return_s: float | None) -> None:
        """The model leaves memory, and nothing runs: what comes waits until it is back, which takes about so many seconds."""
        self._instances.leave(return_s)
        self.is_paused = False
        self.wake()  # who waits asks for it

    def come_after(self, seconds: float) -> None:
        """The model is to be loaded once others are, in about so many seconds."""
        self._instances.ahead_s = seconds

    def give_back(self) -> None:
        """Have what runs took given back now, by a worker that has nothing else to do."""
        idle = next((each for each in self._instances if each.is_idle), None)
        if idle is not None and self._guard.golden_cost is not None:
            idle.send_golden(Upkeep())

    def expect(self) -> None:
        """The model is on its way into memory."""
        self._instances.expect()

    def ask_for_it_by(self, on_wanted: Callable[[], None]) -> None:
        """Whom to tell when a request comes while the model is not in memory."""
        self._instances.on_wanted = on_wanted

    @property
    def absent_requests(self) -> int:
        """Requests that found the model not in memory, so far."""
        return self._instances.absent_requests

    @property
    def absent_refusals(self) -> int:
        """Those of them that could not wait for it."""
        return self._instances.absent_refusals

    def refuse_all(self, error: HeadraceError) -> None:
        """Answer everything that waits with an error, for its first run or for one more."""
        self.refuse(self._queue.take_all(), error)
        self._guard.give_up(error)
        self._relief.give_up(error)

    def close(self, error: HeadraceError | None = None) -> None:
        """No more work: whoever waits, or is still being run, gets the error, or hears that the server exits."""
        error = error or ServerExiting()
        channels = list(self._instances)
        self._instances.remove(channels)
        for channel in channels:
            for batch in batches_in(channel.close()):
                self.refuse([each for each in batch.tickets if each.state is State.RUNNING], error)
        self.refuse_all(error)
        self._guard.close(error)
        for timer in (self._alarm, self._nearly_done):
            if timer is not None:
                timer.cancel()
        if self._token is not None:
            self._token.leave()

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
            if ticket.record is not None:
                ticket.record.note(self._clock(), "retried", reason=str(error))
            ticket.try_again()
            self._put_back([ticket])

    def _retry_run(self, tickets: list[Ticket], error: HeadraceError) -> None:
        """The same for those whose run may have begun, as far as they may be run twice."""
        if self._guard.is_idempotent:
            self.retry_or_refuse(tickets, error)
        else:
            self.refuse([each for each in tickets if each.state is State.RUNNING], error)

    def done(self, batch: Batch, done: Done, outputs: Region) -> None:
        """Answer a batch's tickets."""
        seconds = (done.ended - done.started) * NANOSECONDS
        if batch.is_rebuild:
            self._relief.rebuilt()
            return
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
        if self._entrance.has_records:
            batch.note_run(done.started * NANOSECONDS, seconds)
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
        self.requests_done += len(batch.tickets)
        if batch.rows and (outcome is not Outcome.SLOW or not self._guard.counts_slowness(now)):
            self.latency.observe(batch.cost, batch.rows, seconds)
        self._account(batch, seconds)
        if self._relief.is_on:
            self._relief.passed(batch, now)
        self._guard.passed(batch, outcome, now)
        self._outlook.pace.observe(batch.tickets[0].arrived, done.ended * NANOSECONDS, batch.expected_s, now)
        if seconds > LONG_RUN_S or not self.batches_done % LEARN_EVERY:
            self._learn()
        part = self._device.part(self._threads) if self._device is not None else 1.0
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
                batch.shares(seconds * part, is_shared=self._queue.is_shared),
                batch.padding,
            )
        )

    def failed(self, batch: Batch, failed: Failed) -> None:
        """The backend raised: it is looked into, so that only the culprit gets the error."""
        self._clear(batch)
        if batch.is_rebuild:
            reason = f"its session could not be opened anew: {failed.reason}"
            self._relief.not_rebuilt(reason, self._clock())
            self.on_exhausted(batch.channel, f"was ended: {reason}")
            return
        self._account(batch, max(0.0, self._clock() - batch.begins))
        if failed.is_memory:
            self._run_short(batch, failed.reason)
            return
        kind: type[HeadraceError] = InvalidRequest if failed.is_input else InferenceFailed
        if failed.is_item or failed.is_output:
            kind = InvalidItem if failed.is_item else InvalidOutput
        error = kind(failed.reason)
        if batch.is_golden:
            self._guard.golden_ran(batch, Outcome.FAILED, self._clock())
        elif self._guard.breaker is None:
            if len(batch.tickets) == 1:
                batch.tickets[0].try_again()
            self._retry_run(batch.tickets, error)
        else:
            self._guard.failed(batch, error, self._clock())
            self._expire_looked_into()

    def _run_short(self, batch: Batch, reason: str, *, has_died: bool = False) -> None:
        """There was too little memory for its run: that is no request's fault, and no breaker's matter while something helps."""
        now, usual = self._clock(), self._outlook.cap(batch.cost)
        step = self._relief.failed(batch, reason, usual, now, has_died=has_died)
        self._guard.lost(batch, Outcome.FAILED if step is Step.REFUSE else Outcome.EXCLUDED, now)
        if step is Step.RESTART and not has_died:
            self.on_exhausted(batch.channel, f"was ended: it had too little memory for its runs: {reason}")
        self._expire_looked_into()

    def unread(self, batch: Batch, reason: str) -> None:
        """It has run, and there is no memory or descriptor for its outputs here: nobody is to blame."""
        self._clear(batch)
        self._guard.lost(batch, Outcome.EXCLUDED, self._clock())
        self._retry_run(batch.tickets, InferenceFailed(f"the outputs cannot be read: {reason}"))

    def _outcome(self, batch: Batch, seconds: float) -> Outcome:
        """Whether a run that went well was slow, by l(b) as it was known before."""
        usual_s = self._outlook.upper(batch.cost, batch.rows)
        return Outcome.SLOW if usual_s and seconds > too_slow_s(usual_s) else Outcome.OK

    def _stop_joining(self, batch: Batch) -> None:
        """Outputs have other rows than went in, as no probe has seen: nobody can tell whose they are."""
        self._guard.lost(batch, Outcome.EXCLUDED, self._clock())
        note = "a run gave other rows than went in, as its data has it: one request at a time"
        self.spec = replace(self.spec, joins_requests=False, notes=(*self.spec.notes, note))
        self._learn()
        if self._guard.is_idempotent:
            self._put_back(batch.tickets)
        else:
            reason = "the run gave other rows than went in, and the skill says that it must not be run again"
            self._retry_run(batch.tickets, InferenceFailed(f"{reason} (idempotent: false)"))

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

    def _send_to(self, channel: Instance) -> bool:
        """Send one batch, if now is the time for it; False if not."""
        now = self._clock()
        if self._suspect is not None or self._relief.holds(channel) or not self._guard.may_run(now):
            return False
        candidates = self._queue.candidates(self._next_run_s)
        if candidates is None:
            return False
        if candidates.is_suspect and not self._instances.are_idle:
            return False  # should it end the worker once more, nobody else goes with it
        cost = candidates.group.cost
        row_s = self._outlook.row_seconds(cost)
        cap = self._cap_for(candidates)
        rows = self._queue.waiting_rows(candidates, cap)
        seconds = self._outlook.upper(cost, rows)
        if not self._may_send(channel, candidates, rows, cap, now):
            return False
        begins = now if channel.is_idle else self._instances.expected_end(channel)
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
        # Should the run take far too long, its requests are answered at their deadlines: none is earlier than this.
        self._set_alarm(overdue_at(batch))
        return True

    def _place_and_send(self, channel: Instance, batch: Batch, asked_s: float | None = None) -> None:
        """Lay the batch out and send it. `asked_s`: seconds that leave was asked for, if not for its own."""
        tickets = batch.tickets
        batch.expected_s = self._outlook.upper(batch.cost, batch.rows)
        batch.gives_back = self._relief.take_give_back() or self.gives_back
        if self._token is not None and asked_s is not None:
            self._token.charge(batch.expected_s - asked_s)  # fewer rows go than leave was asked for
        if self._outlook.room is not None and len(tickets) == 1:
            # Its rows cannot be run in parts. Several tickets were taken by what fits.
            too_large = self._outlook.room.refusal(self.spec.name, batch.cost, batch.rows)
            if too_large is not None:
                self._withdraw(batch)
                self.refuse(tickets, too_large)
                return
        try:
            placed = place_inputs(self.spec, tickets, batch.rows, channel.inputs())
        except (MemoryError, OSError, ValueError) as exc:
            self._withdraw(batch)
            self.retry_or_refuse(tickets, InferenceFailed(f"the batch cannot be laid out: {exc}"))
            return
        if tickets[0].request.group.edges:
            batch.measure_padding(sum(each.nbytes for each in placed))
        batch.channel = channel
        channel.send(batch, placed, batch.wanted())
        if self._entrance.has_records:
            self._note_sent(batch, channel)

    def _note_sent(self, batch: Batch, channel: Instance) -> None:
        """Write down where they go, for those that somebody may ask about."""
        for at, ticket in enumerate(batch.tickets):
            if ticket.record is not None:
                ticket.record.note(
                    self._clock(),
                    "sent",
                    requests=len(batch.tickets),
                    rows=batch.rows,
                    position=at,
                    instance=list(self._instances).index(channel),
                )

    def _cap_for(self, candidates: Candidates) -> int:
        """Rows of the next batch at most: where more waits than two batches, and nothing else, only throughput counts."""
        cost, queue, outlook = candidates.group.cost, self._queue, self._outlook
        cap = outlook.cap(cost)
        most = self._guard.most(cap)
        if self._relief.is_on:
            return self._relief.most(cost, most)  # nothing larger is tried either
        if most < cap:
            return most
        if queue.rows < 2 * cap or queue.waiting_rows(candidates, queue.rows) < queue.rows:
            return cap  # a run for the last part of the throughput would be in the way of those who cannot share it
        cap = max(cap, outlook.cap(cost, 1.0))
        if self.batches_done % EXPLORE_EVERY:
            return cap
        # A size once measured beside somebody's noise would be shunned for ever if it were never tried again.
        return min(2 * cap, outlook.most(cost))

    def _may_send(self, channel: Instance, candidates: Candidates, rows: int, cap: int, now: float) -> bool:
        """Whether so many rows go now: an idle instance takes what waits, if it has the device's leave."""
        cost, token = candidates.group.cost, self._token
        seconds = self._outlook.upper(cost, rows)
        if channel.is_idle:
            return token is None or token.take(seconds, candidates.deadline - seconds, now)
        if token is not None and token.is_contested:
            return False  # what is staged behind the running batch would not wait for its turn
        spare_s = candidates.deadline - self._instances.expected_end(channel) - seconds
        is_worth = is_worth_staging(rows, cap, self.latency.predict(cost, rows), spare_s)
        if not is_worth and not self._is_nearly_done(channel, now):
            return False
        if token is not None:
            token.charge(seconds)
        self._instances.has_staged = True
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
            return now <= running.begins + self._outlook.upper(running.cost, running.rows)
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
        seconds = partial(self._outlook.upper, cost)
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

    def _withdraw(self, batch: Batch) -> None:
        """It is not run after all, and that is nobody's fault."""
        self._clear(batch)
        self._account(batch, 0.0)
        self._guard.lost(batch, Outcome.EXCLUDED, self._clock())

    def _clear(self, batch: Batch) -> None:
        """A suspect did no harm: the others may go on."""
        if self._suspect is batch:
            self._suspect = None
            self.wake()

    def wake(self) -> None:
        """Something may be there to be run."""
        has_work = self._queue.waiting or self._guard.has_work or self._relief.has_work
        if has_work and not self._dispatch_pending:
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
        now, instances = self._clock(), self._instances
        instances.note_overdue()
        for batch in instances.batches():
            if (since := overdue_at(batch)) > now:
                self._set_alarm(since)
                continue
            running = [ticket for ticket in batch.tickets if ticket.state is State.RUNNING]
            self._expire_in(batch, [each for each in running if each.deadline <= now], now)
            self._set_alarm(min((each.deadline for each in running if each.deadline > now), default=inf))
        if instances.has_overdue and self._limits.config.fallback.chain:
            self._give_up_waiting(now)

    def _give_up_waiting(self, now: float) -> None:
        """Whoever waits behind runs that take far too long, and has somewhere else to go, goes while that is in time."""
        free_s = self._instances.free_s(now)
        for ticket in self._queue.expire(now + free_s):
            if self._entrance.may_be_late(ticket.level):
                self._queue.add(ticket)
            else:
                self.refuse(
                    [ticket], DeadlineInfeasible(self.spec.name, free_s, max(0.0, ticket.deadline - now))
                )
        if self._queue.waiting:
            self._set_alarm(now + max(LOOK_AGAIN_S, free_s / 2))

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

    def _expire_looked_into(self) -> None:
        """Answer whoever waits for another run, or for golden inputs, at the deadline: it may be long until they are run."""
        now = self._clock()
        if (deadline := min(self._guard.expire(now), self._relief.expire(now))) < inf:
            self._set_alarm(deadline)

    def _on_expired(self, ticket: Ticket, now: float) -> None:
        last = ticket.arrived + self._limits.delayed_s
        if ticket.level < LEAST and self._entrance.may_be_late(ticket.level) and now < last:
            self._queue.put_last(ticket, last)
        else:
            self.refuse([ticket], ticket.timeout_error())
        if ticket.is_retry:
            self.wake()  # an instance may have been kept free for it

    def _on_alarm(self) -> None:
        self._alarm, self._alarm_at = None, inf
        self._expire()
        self._expire_running()
        self._expire_looked_into()


def batches_in(in_flight: Iterable[InFlight]) -> list[Batch]:
    """What a channel was given for somebody."""
    return [each for each in in_flight if isinstance(each, Batch)]


def nobody(_: float) -> None:
    """The tightest objective beside a model that shares its cores with nobody."""


def nobody_restarts(_: Instance, __: str) -> None:
    """Of a pipeline whose workers are nobody's to restart."""
