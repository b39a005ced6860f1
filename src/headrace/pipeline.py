"""START HERE. One version's path: admit → queue → batch → run → reply.

Everything here runs on the loop and nothing awaits. Requests come in as tickets, leave in batches over the channels of
one worker, and come back as parts of its outputs. A worker may die and be replaced underneath; the queue stays.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from msgspec.structs import replace

from headrace.admission.forecast import Arrival
from headrace.admission.gate import admit
from headrace.batching.assemble import failures, has_rows, place_inputs, read_outputs
from headrace.batching.latency import LatencyModel
from headrace.batching.policy import is_worth_staging
from headrace.batching.queue import LEAST, RequestQueue
from headrace.batching.ticket import State, Ticket
from headrace.errors import (
    HeadraceError,
    InferenceFailed,
    InvalidItem,
    InvalidRequest,
    NotReady,
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pipeline may hold, and how it waits there.

    Attributes:
        max_rows: rows of different requests in a batch.
        config: its queue policies count here.
        delayed_s: seconds after which what waited too long, and is served last, is refused all the same.
    """

    max_queue_bytes: int
    max_rows: int
    config: ModelConfig = NOTHING_SAID
    delayed_s: float = 5.0


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
    ) -> None:
        self.spec = spec
        self.latency = LatencyModel()
        self._limits = limits
        self._clock = clock
        self._report = report
        self._loop = asyncio.get_running_loop()
        # The mutable state: what waits, who serves, and the two callbacks that may be pending on the loop.
        self._has_policies = limits.config.has_policies
        self._queue = RequestQueue(has_levels=self._has_policies)
        self._channels: list[Instance] = []
        self._dispatch_pending = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf
        self._suspect: Batch | None = None
        self.batches_done = 0

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
        return False

    def refusal(self, arrival: Arrival) -> HeadraceError | None:  # noqa: ARG002 - the forecast comes next
        """The reason not to take such a request in now, or None."""
        return None

    def submit(self, ticket: Ticket) -> None:
        """Take a ticket in, or refuse it at once."""
        limits, queue = self._limits, self._queue
        most = limits.config.policy(ticket.level).max_queue_size if self._has_policies else 0
        refusal = admit(
            self.spec.name,
            ticket.request.nbytes,
            queue.nbytes,
            limits.max_queue_bytes,
            queue.waiting_at(ticket.level) if most else 0,
            most,
        )
        if refusal is not None:
            self._refuse([ticket], refusal)
            return
        self._queue.add(ticket)
        if not self._dispatch_pending:
            # One dispatch a tick: whatever else this tick brings travels along.
            self._dispatch_pending = True
            self._loop.call_soon(self.dispatch)

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
        if not self._queue.waiting:
            return
        self._expire()
        for channel in self._channels:
            if channel.is_idle and self._queue.waiting:
                self._send_to(channel)
        for channel in self._channels:
            while self._queue.waiting and channel.credits and self._send_to(channel):
                pass

    def attach(self, channels: Iterable[Instance], spec: ModelSpec, latency: LatencyModel) -> None:
        """A worker is ready, the only one: serve over its channels. What waits was decoded for the model as it was before."""
        if self.spec.inputs and (spec.inputs, spec.outputs) != (self.spec.inputs, self.spec.outputs):
            self.refuse_all(NotReady(spec.name, spec.version, "the model is another one now"))
        self.spec = spec
        self.latency = latency
        self._channels = list(channels)
        self.dispatch()

    def extend(self, channels: Iterable[Instance]) -> None:
        """One more worker of the same model is ready."""
        self._channels += channels
        self.dispatch()

    def respec(self, spec: ModelSpec) -> None:
        """More became known of the same model; what was decoded before that travels alone."""
        self._queue.isolate()
        self.spec = spec

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
                    batch.tickets[0].is_retry = True
                    self.retry_or_refuse(batch.tickets, TookTooLong(self.spec.name))
                elif at == 0:
                    self.retry_or_refuse(batch.tickets, WorkerLost(self.spec.name))
                else:
                    self._put_back(batch.tickets)

    def refuse_all(self, error: HeadraceError) -> None:
        """Answer everything that waits with an error."""
        self._refuse(self._queue.take_all(), error)

    def close(self) -> None:
        """No more work: let go of the alarm and the channels."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._channels = []

    def oldest_run_s(self, channels: Iterable[Instance]) -> tuple[float, float] | None:
        """For the watchdog: seconds since the oldest batch there was sent, and seconds it was expected to take."""
        batches = [batch for channel in channels for batch in channel.in_flight() if isinstance(batch, Batch)]
        if not batches:
            return None
        oldest = min(batches, key=lambda batch: batch.sent)
        return self._clock() - oldest.sent, self.latency.upper(oldest.cost, oldest.rows) or 0.0

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
            ticket.is_retry = True
            self._put_back([ticket])

    def done(self, batch: "Batch", done: Done, outputs: Region) -> None:
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
            )
        )

    def failed(self, batch: "Batch", failed: Failed) -> None:
        """The backend raised: whoever shared the batch is tried alone, so that only the culprit gets the error."""
        self._clear(batch)
        kind: type[HeadraceError] = InvalidRequest if failed.is_input else InferenceFailed
        error = InvalidItem(failed.reason) if failed.is_item else kind(failed.reason)
        if len(batch.tickets) == 1:
            batch.tickets[0].is_retry = True
        self.retry_or_refuse(batch.tickets, error)

    def _stop_joining(self, batch: "Batch") -> None:
        """Outputs have other rows than went in, as no probe has seen: nobody can tell whose they are."""
        note = "a run gave other rows than went in, as its data has it: one request at a time"
        self.spec = replace(self.spec, joins_requests=False, notes=(*self.spec.notes, note))
        self._put_back(batch.tickets)

    def _send_to(self, channel: Instance) -> bool:
        """Send one batch, if now is the time for it; False if not."""
        candidates = self._queue.candidates()
        if candidates is None or self._suspect is not None:
            return False
        if candidates.is_suspect and not all(each.is_idle for each in self._channels):
            return False  # should it end the worker once more, nobody else goes with it
        cost = candidates.group.cost
        limit = min(self._limits.max_rows, self.spec.max_batch_size) if self.spec.joins_requests else 1
        cap = self.latency.best_rows(cost, limit)
        if not channel.is_idle:
            rows = self._queue.waiting_rows(candidates, cap)
            spare_s = candidates.deadline - self._expected_end(channel)
            if not is_worth_staging(rows, cap, self.latency.predict(cost, rows), spare_s):
                return False
        tickets = self._queue.take(candidates, cap)
        batch = Batch(self, tickets, cost, self._clock())
        if candidates.is_suspect:
            self._suspect = batch
        try:
            placed = place_inputs(self.spec, tickets, batch.rows, channel.inputs())
        except (MemoryError, OSError, ValueError) as exc:
            self._clear(batch)
            self.retry_or_refuse(tickets, InferenceFailed(f"the batch cannot be laid out: {exc}"))
            return True
        channel.send(batch, placed, batch.wanted())
        return True

    def _expected_end(self, channel: Instance) -> float:
        """When the channel's running batch should be done."""
        running = channel.in_flight()[0]
        assert isinstance(running, Batch), "channels of a pipeline carry its batches"
        return running.sent + (self.latency.upper(running.cost, running.rows) or 0.0)

    def _put_back(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            if ticket.state is State.RUNNING:
                ticket.state = State.WAITING
                self._queue.add(ticket)
        self._wake()

    def _clear(self, batch: "Batch") -> None:
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
        config, last = self._limits.config, ticket.arrived + self._limits.delayed_s
        if ticket.level < LEAST and config.policy(ticket.level).on_timeout == "delay" and now < last:
            self._queue.put_last(ticket, last)
        else:
            self._refuse([ticket], ticket.timeout_error())
        if ticket.is_retry:
            self._wake()  # an instance may have been kept free for it

    def _on_alarm(self) -> None:
        self._alarm, self._alarm_at = None, inf
        self._expire()


class Batch:
    """Tickets that travel together, and what the watchdog needs to know of them."""

    __slots__ = ("_pipeline", "cost", "rows", "sent", "tickets")

    def __init__(self, pipeline: Pipeline, tickets: list[Ticket], cost: int, now: float) -> None:
        self._pipeline = pipeline
        self.tickets = tickets
        self.cost = cost
        self.sent = now
        self.rows = 0
        for ticket in tickets:
            ticket.state = State.RUNNING
            self.rows += ticket.request.rows

    def wanted(self) -> tuple[int, ...]:
        """Positions of the outputs that any ticket asks for."""
        first = self.tickets[0].request.wanted
        outputs = set(first.outputs)
        for ticket in self.tickets:
            if ticket.request.wanted is not first:
                outputs.update(ticket.request.wanted.outputs)
        return tuple(sorted(outputs))

    def on_done(self, done: Done, outputs: Region) -> None:
        self._pipeline.done(self, done, outputs)

    def on_failed(self, failed: Failed) -> None:
        self._pipeline.failed(self, failed)
