"""What a pipeline does about faults: whom it runs nothing for, and who is at fault when a run has failed.

A breaker says whether the variant may be run at all. A batch that failed is a case: its requests are run again in parts
until it is known who made it fail (inquiry.py). Where one request failed alone, golden inputs are run: if those go well,
it is the request. The culprit's fingerprint is kept, so that it need not be found out again a moment later.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Protocol

from headrace.batching.batch import Batch
from headrace.batching.ticket import State, Ticket
from headrace.errors import (
    CircuitOpen,
    HeadraceError,
    InferenceFailed,
    InvalidOutput,
    InvalidRequest,
    PoisonedRequest,
)
from headrace.events import BreakerChanged, Event
from headrace.faults.breaker import Breaker, BreakerPolicy, BreakerState, Outcome, Permit
from headrace.faults.inquiry import Inquiry
from headrace.faults.quarantine import Quarantine
from headrace.messages import InferRequest

MOST_ACQUITTALS = 5
"""Failures in a row, with nobody served in between, that are not the variant's because golden inputs went well: a model that
does nobody any good is at fault itself, whatever its golden inputs say."""
EXCLUDED = Permit(-1, is_trial=False)
"""Of runs that no breaker counts."""


class Client(Protocol):
    """Whose guard it is: a pipeline."""

    def refuse(self, tickets: list[Ticket], error: HeadraceError) -> None:
        """Answer them with the error."""

    def refuse_all(self, error: HeadraceError) -> None:
        """The same for whoever waits to be run, or is looked into."""

    def wake(self) -> None:
        """There may be something to run."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What a guard is to think of what it guards.

    Attributes:
        policy: of its breaker; None: it has none, and nothing is looked into.
        is_idempotent: a request may be run once more.
    """

    policy: BreakerPolicy | None = None
    is_idempotent: bool = True


NO_DOUBT = Trust()
"""Whoever fails hears why, and nobody else is concerned."""


class Case:
    """A failed batch that is looked into."""

    __slots__ = ("awaits_golden", "cost", "inquiry", "is_lone", "passed", "permit", "size")

    def __init__(self, batch: Batch, tickets: list[Ticket], error: HeadraceError) -> None:
        self.cost = batch.cost
        self.permit = batch.permit
        self.size = len(batch.tickets)
        self.is_lone = len(tickets) == 1
        # The mutable state: how far it has come.
        # Who failed alone is run once more like anybody else: it may have been a bad moment of the variant's.
        ran = max(2, len(batch.tickets))
        self.inquiry: Inquiry[Ticket, HeadraceError] = Inquiry(tickets, error, ran=ran)
        self.passed = 0
        self.awaits_golden = False


class Guard:
    """One pipeline's. Lives on the loop; not thread-safe."""

    def __init__(
        self,
        name: tuple[str, str],
        trust: Trust,
        client: Client,
        clock: Callable[[], float],
        report: Callable[[Event], None],
    ) -> None:
        """`name` is the model and its version."""
        self._name, self._version = name
        self._client = client
        self._clock = clock
        self._report = report
        self._loop = asyncio.get_running_loop()
        self.is_idempotent = trust.is_idempotent
        self.breaker = None
        if trust.policy is not None:
            self.breaker = Breaker(trust.policy, Random().random)  # noqa: S311 - spreads probes, hides nothing
        # The mutable state: the breaker's state as it was last reported; whether an arrival has to be looked at; what is
        # looked into; the golden run, and whom the last ones have spared.
        self._shown = BreakerState.CLOSED
        self._timer: asyncio.TimerHandle | None = None
        self.is_wary = False
        self._quarantine = Quarantine()
        self._cases: deque[Case] = deque()
        self.golden_cost: int | None = None
        self._golden: Batch | None = None
        self._doubted: list[Permit] = []
        self._acquittals = 0
        self._awaits_worker = False

    @property
    def is_refusing(self) -> bool:
        """Nothing is taken in: it would not be run."""
        return (
            self.breaker is not None and not self._awaits_worker and self.breaker.is_refusing(self._clock())
        )

    @property
    def waiting(self) -> list[Ticket]:
        """Whoever is to be run once more, or waits for the outcome, for what is looked into."""
        return [ticket for case in self._cases for ticket in waiting_in(case)]

    @property
    def has_work(self) -> bool:
        """There may be something to run for the guard itself."""
        return bool(self._cases or self._doubted) or self._shown is BreakerState.HALF_OPEN

    def next_size(self) -> tuple[int, int] | None:
        """Cost of a row, and rows, of the part that `next_part` looks at first; None if there is none."""
        for case in self._cases:
            if part := case.inquiry.next_part:
                return case.cost, sum(ticket.request.rows for ticket in part)
        return None

    def counts_slowness(self, now: float) -> bool:
        """Whether a slow run is the breaker's matter; if not, it is how long runs take."""
        return self.breaker is not None and self.breaker.counts_slowness(now)

    def refusal(self, request: InferRequest | None) -> HeadraceError | None:
        """The reason not to take a request in, or None. To be asked while `is_wary`; None for one that is not decoded yet."""
        now = self._clock()
        if self.is_refusing:
            return self._open_error(now)
        if request is None:
            return None
        reason = self._quarantine.reason(request, now)
        self._look_about()
        return None if reason is None else PoisonedRequest(self._name, reason)

    def may_run(self, now: float) -> bool:
        """Whether what waits may be run now."""
        if self.breaker is None:
            return True
        state = self.breaker.state(now)
        if state is BreakerState.HALF_OPEN:
            return self.golden_cost is None and not self.breaker.is_on_trial
        return state in {BreakerState.CLOSED, BreakerState.FORCED_CLOSED}

    def permit(self, now: float) -> Permit:
        """For a run that the breaker counts, if it may be run; as `may_run` says."""
        if self.breaker is None:
            return EXCLUDED
        return self.breaker.permit(now) or EXCLUDED

    def most(self, rows: int) -> int:
        """Rows of the next run at most, of so many that would be usual."""
        return rows if self.breaker is None else self.breaker.most(rows)

    def wants_golden(self, now: float) -> bool:
        """Whether the golden inputs are to be run now."""
        if self.golden_cost is None or self._golden is not None or self.breaker is None:
            return False
        is_on_trial = self.breaker.state(now) is BreakerState.HALF_OPEN
        return is_on_trial or bool(self._doubted) or any(case.awaits_golden for case in self._cases)

    def begin_golden(self, batch: Batch, now: float) -> None:
        """That batch is the golden run."""
        self._golden = batch
        # Closed, it is about a request and not about the variant.
        is_on_trial = self._shown is BreakerState.HALF_OPEN
        batch.permit = self.permit(now) if is_on_trial else EXCLUDED

    def next_part(self, now: float) -> tuple[Case, list[Ticket]] | None:
        """Who is to be run next for what is looked into; whose deadline has passed hears so."""
        for case in list(self._cases):
            while (part := case.inquiry.take()) is not None:
                if alive := self._in_time(part, now):
                    return case, alive
                case.inquiry.lost()
            self._look_at(case, now)
        return None

    def _in_time(self, part: list[Ticket], now: float) -> list[Ticket]:
        """Those of them that somebody still waits for."""
        for ticket in part:
            if ticket.state is State.RUNNING and ticket.deadline <= now:
                self._client.refuse([ticket], ticket.timeout_error())
        return [ticket for ticket in part if ticket.state is State.RUNNING]

    def passed(self, batch: Batch, outcome: Outcome, now: float) -> None:
        """A batch was answered; the outcome is what the breaker is to think of its run."""
        if outcome is not Outcome.FAILED:
            self._acquittals = 0
        if batch.case is not None:
            batch.case.passed += len(batch.tickets)
            batch.case.inquiry.passed()
            self._look_at(batch.case, now)
        elif outcome is Outcome.FAILED and self._may_acquit and batch.permit is not EXCLUDED:
            # All of its rows failed, each by itself: whoever sent them may have meant it.
            self._doubted.append(batch.permit)
            self._client.wake()
        else:
            self._record(batch.permit, outcome, now)

    def failed(self, batch: Batch, error: HeadraceError, now: float) -> None:
        """A batch failed: look into it, or into a part of it."""
        alive = [ticket for ticket in batch.tickets if ticket.state is State.RUNNING]
        for ticket in alive:
            if ticket.record is not None:
                ticket.record.note(now, "failed", reason=str(error), requests=len(batch.tickets))
        case = batch.case
        if case is not None and case not in self._cases:
            self._client.refuse(alive, error)  # nobody looks into it any more
            return
        if case is not None:
            case.inquiry.failed(alive, error, ran=len(batch.tickets))
        elif not alive:
            self._record(batch.permit, Outcome.EXCLUDED, now)
            return
        elif not self.is_idempotent or (len(alive) == 1 and isinstance(error, InvalidRequest)):
            is_sent_so = isinstance(error, InvalidRequest)
            self._record(batch.permit, Outcome.EXCLUDED if is_sent_so else Outcome.FAILED, now)
            self._client.refuse(alive, error)
            return
        else:
            case = Case(batch, alive, error)
            self._cases.append(case)
        self._look_at(case, now)
        self._client.wake()

    def lost(self, batch: Batch, outcome: Outcome, now: float) -> None:
        """A batch will not come back; what becomes of its tickets is the pipeline's to say."""
        if batch is self._golden:
            self._golden = None
            if outcome is Outcome.FAILED:
                self._judge(is_acquitted=False, now=now)
        if batch.case is not None:
            batch.case.inquiry.lost()
            self._look_at(batch.case, now)
        else:
            self._record(batch.permit, outcome, now)

    def golden_ran(self, batch: Batch, outcome: Outcome, now: float) -> None:
        """The golden inputs were run."""
        self._golden = None
        self._record(batch.permit, outcome, now)
        self._judge(is_acquitted=outcome is not Outcome.FAILED, now=now)
        self._client.wake()

    def worker_lost(self, reason: str, now: float) -> None:
        """Nobody is left who could run anything: nothing is, until somebody else has shown that he can."""
        breaker = self.breaker
        if breaker is None:
            return
        match breaker.state(now):
            case BreakerState.CLOSED:
                self._awaits_worker = True
                breaker.trip(reason, now, until=inf)
            case BreakerState.HALF_OPEN:
                breaker.trip(f"on trial {reason}", now)
        self._show(now)

    def worker_ready(self, golden_cost: int | None, now: float) -> None:
        """A worker has loaded the model and run it once."""
        self.golden_cost = golden_cost
        if self._awaits_worker and self.breaker is not None:
            self._awaits_worker = False
            self.breaker.renew()
            self._show(now)
        if golden_cost is None:  # whoever waits for golden inputs waits in vain
            self._judge(is_acquitted=False, now=now)

    def condemn(self, ticket: Ticket, reason: str, now: float) -> None:
        """It alone has made a worker end twice: it is not to be run again for a while."""
        if self.breaker is not None:
            self._quarantine.add(ticket.request, reason, now)
            self._look_about()

    def force(self, state: BreakerState | None) -> None:
        """The operator's word, as of Breaker."""
        if self.breaker is not None:
            self._awaits_worker = False
            self.breaker.force(state)
            self._show(self._clock())
            self._client.wake()

    def close(self, error: HeadraceError) -> None:
        """Nothing is run any more: whoever is looked into gets the error."""
        if self._timer is not None:
            self._timer.cancel()
        self.give_up(error)

    def give_up(self, error: HeadraceError) -> None:
        """Look into nothing that has been so far: whoever waits for that gets the error."""
        now = self._clock()
        while self._cases:
            case = self._cases.popleft()
            self._client.refuse(waiting_in(case), error)
            self._record(case.permit, Outcome.EXCLUDED, now)

    def expire(self, now: float) -> float:
        """Whoever waits for what is looked into hears when its deadline has passed; when the next one will, inf if none."""
        for ticket in self.waiting:
            if ticket.deadline <= now:
                self._client.refuse([ticket], ticket.timeout_error())
        return min((ticket.deadline for ticket in self.waiting), default=inf)

    def _look_at(self, case: Case, now: float) -> None:
        """Say who is at fault, if it is known by now."""
        if not case.inquiry.is_over or case.awaits_golden or case not in self._cases:
            return
        found = [each for each in case.inquiry.found if each.request.state is State.RUNNING]
        errors = [each.reason for each in found]
        if not found:
            # Everybody passed in the end: then it was nobody's fault but the variant's. Who left may have been the culprit.
            self._close_case(case, Outcome.FAILED if case.passed == case.size else Outcome.EXCLUDED, now)
        elif all(isinstance(each, InvalidRequest) for each in errors):
            self._close_case(case, Outcome.EXCLUDED, now)
        elif case.passed and 2 * len(found) <= case.size:
            self._blame(case, now)
        elif self._may_acquit:
            case.awaits_golden = True
            self._client.wake()
        else:
            self._close_case(case, Outcome.FAILED, now)

    @property
    def _may_acquit(self) -> bool:
        """Golden inputs may tell whether it is the variant's fault."""
        return self.golden_cost is not None and self._acquittals < MOST_ACQUITTALS

    def _judge(self, *, is_acquitted: bool, now: float) -> None:
        """The golden inputs have been run. If they went well, who failed alone before is at fault, and of others nobody knows."""
        doubted, self._doubted = self._doubted, []
        self._acquittals += is_acquitted * len(doubted)
        for permit in doubted:
            self._record(permit, Outcome.EXCLUDED if is_acquitted else Outcome.FAILED, now)
        for case in [each for each in self._cases if each.awaits_golden]:
            if case not in self._cases:
                continue  # the one before has opened the breaker, and nothing is looked into any more
            self._acquittals += is_acquitted
            if is_acquitted and case.is_lone:
                self._blame(case, now)
            elif is_acquitted:
                self._close_case(case, Outcome.EXCLUDED, now)
            else:
                self._close_case(case, Outcome.FAILED, now)

    def _blame(self, case: Case, now: float) -> None:
        """Each request that failed alone is at fault."""
        for found in case.inquiry.found:
            ticket = found.request
            # What has an answer, if one that is a failure, does no harm to others, and its caller may take a lesser one.
            is_harmless = isinstance(found.reason, InvalidRequest | InvalidOutput)
            if self.breaker is None or not found.is_alone or is_harmless:
                continue
            self._quarantine.add(ticket.request, str(found.reason), now)
            if ticket.state is State.RUNNING:
                self._client.refuse([ticket], PoisonedRequest(self._name, str(found.reason)))
        self._look_about()
        self._close_case(case, Outcome.EXCLUDED, now)

    def _close_case(self, case: Case, outcome: Outcome, now: float) -> None:
        """Whoever has no answer yet gets the error of the run; the breaker hears how it was, once."""
        self._cases.remove(case)
        for found in case.inquiry.found:
            if found.request.state is State.RUNNING:
                error = found.reason
                if not found.is_alone and isinstance(error, InvalidRequest):
                    # It may be another's input that was at fault.
                    error = InferenceFailed(f"a run with other requests failed: {error}")
                self._client.refuse([found.request], error)
        self._record(case.permit, outcome, now)

    def _record(self, permit: Permit, outcome: Outcome, now: float) -> None:
        if self.breaker is not None and permit is not EXCLUDED:
            self.breaker.record(permit, outcome, now)
            if not self.breaker.is_plain or self._shown is not BreakerState.CLOSED:
                self._show(now)
            if permit.is_trial:
                self._client.wake()  # however it went, there may be leave for the next one

    def _show(self, now: float) -> None:
        """Report a change of state, and do what it asks for."""
        assert self.breaker is not None, "what has no breaker has no states"
        state = self.breaker.state(now)
        if state is self._shown:
            return
        self._shown = state
        self._look_about()
        self._report(BreakerChanged(self._name, self._version, state.value, self.breaker.reason))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if state is BreakerState.OPEN and not self._awaits_worker:
            self._timer = self._loop.call_later(self.breaker.retry_after_s(now), self._on_timer)
        if self.is_refusing:
            self._client.refuse_all(self._open_error(now))
        self._client.wake()

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock()
        assert self.breaker is not None, "what has no breaker has no timer"
        if self.breaker.state(now) is BreakerState.OPEN:  # a timer may be a little early
            self._timer = self._loop.call_later(max(1e-3, self.breaker.retry_after_s(now)), self._on_timer)
            return
        self._show(now)

    def _look_about(self) -> None:
        self.is_wary = bool(len(self._quarantine)) or self._shown not in {
            BreakerState.CLOSED,
            BreakerState.FORCED_CLOSED,
        }

    def _open_error(self, now: float) -> CircuitOpen:
        assert self.breaker is not None, "what has no breaker is never open"
        return CircuitOpen(self._name, self.breaker.reason, self.breaker.retry_after_s(now))


def waiting_in(case: Case) -> list[Ticket]:
    """Whoever still waits for an answer, and is not being run."""
    everybody = [*case.inquiry.waiting, *(found.request for found in case.inquiry.found)]
    return [each for each in everybody if each.state is State.RUNNING]
