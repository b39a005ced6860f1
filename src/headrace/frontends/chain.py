"""A request on its way down its skill's chain: what was asked cannot answer, and something less does.

routing/fallback.py says which step is next. Here a step is tried: whether it can answer in time, what it takes and gives,
and what is written down of it. body_chain.py has that of an infer request, skill_chain.py that of an item.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple
from urllib.parse import quote

from headrace.admission.forecast import arrival_of
from headrace.batching.ticket import Ticket
from headrace.errors import CircuitOpen, HeadraceError
from headrace.events import Degraded
from headrace.frontends.desk import Codec, Desk, Route, milliseconds
from headrace.frontends.headers import Wishes
from headrace.frontends.responses import unexpected
from headrace.lifecycle.catalog import Catalog, highest
from headrace.lifecycle.version import ModelVersion
from headrace.messages import InferRequest
from headrace.model_config import FallbackStep
from headrace.parts import Part
from headrace.protocol.tensors import encode_values
from headrace.records import Record, Value
from headrace.routing.fallback import Descent, label
from headrace.routing.static import NoStaticAnswer, StaticAnswers


class Mark(NamedTuple):
    """How an answer is less than what was asked: which step gave it, and why."""

    by: str
    reason: str

    @property
    def header(self) -> bytes:
        """As `x-degraded` has it."""
        return f"{quote(self.by, safe=':')}; reason={self.reason}".encode()

    @property
    def json(self) -> bytes:
        """As the skills API has it."""
        return encode_values({"by": self.by, "reason": self.reason})


class PassedOver(Exception):
    """A step cannot answer; the text says why, the numbers what decided."""

    def __init__(self, reason: str, **numbers: Value) -> None:
        super().__init__(reason)
        self.numbers = numbers


class Chain(ABC):
    """One request's, or item's. Made when it comes, if its skill has a chain; asked when something fails."""

    def __init__(self, desk: Desk, version: ModelVersion, started: float, wishes: Wishes) -> None:
        """`version` is what was asked for."""
        config = version.source.config
        self.version = version
        self._desk = desk
        self._started = started
        self._wishes = wishes
        self._keeps = any(each.stale_s is not None for each in config.fallback.chain)
        # The mutable state: how far it has come, the request as the skill itself takes it, once it is decoded, and whether
        # nobody waits for an answer any more.
        self._descent = Descent(config.fallback, is_idempotent=config.is_idempotent)
        self.own: InferRequest | None = None
        self._is_left = False

    @property
    def mark(self) -> Mark | None:
        """Of the answer that has come; None if it is what was asked."""
        step = self._descent.step
        return None if step is None else Mark(label(step), self._descent.reason)

    def go_on(self, error: HeadraceError) -> HeadraceError | None:
        """What answered up to now failed. None: something else answers, now or later; else what the caller hears."""
        if not self._descent.fail(error):
            return error
        turns = self._desk.turns
        if self._descent.is_at_end or turns.has_time():
            return self._descend()
        turns.put(self._take_turn)
        return None

    def _take_turn(self) -> None:
        """Go on now: so many failed together that there was no time for it at once."""
        if not self._is_left and (last := self._descend()) is not None:
            self._fail(last)

    def leave(self) -> None:
        """Nobody waits for an answer any more."""
        self._is_left = True

    def keep(self, part: Part) -> None:
        """What was asked has answered: so may it again, when it cannot. It has been run, whatever becomes of its answer."""
        self._descent.has_run()
        if self._keeps and self.own is not None and self._descent.first is None:
            desk, version = self._desk, self.version
            spec = desk.codec(version).entry.spec
            desk.kept.stale.keep(whose(version), spec, self.own, part, desk.clock())

    def report(self) -> None:
        """A lesser answer is given."""
        source, mark = self.version.source, self.mark
        if mark is not None:
            self._desk.report(Degraded(source.name, source.version, mark.by, mark.reason))

    def _descend(self) -> HeadraceError | None:
        while (step := self._descent.next()) is not None:
            numbers: dict[str, Value] = {}
            try:
                self._take(step)
            except PassedOver as exc:
                why, numbers = str(exc), exc.numbers
            except HeadraceError as exc:
                why, numbers = str(exc), {"code": exc.code, **exc.numbers}
            except NoStaticAnswer as exc:
                why = str(exc)
            except Exception as exc:  # noqa: BLE001 - who fails together is told so together: the others come next
                why = str(unexpected(exc, self._wishes.request_id))
            else:
                return None
            self._note("passed over", step=label(step), reason=why, **numbers)
        return self._descent.first

    def _take(self, step: FallbackStep) -> None:
        """Let the step answer.

        Raises:
            PassedOver, HeadraceError, NoStaticAnswer: it cannot.
        """
        if step.variant:
            self._take_variant(step.variant)
        elif step.static:
            self._take_static(self._desk.kept.static(self.version, step.static))
        else:
            assert step.stale_s is not None, "a step is one of three"
            self._take_stale(step.stale_s)

    def _take_variant(self, variant: str) -> None:
        """Queue the request with another variant, if that can be in time and is not in trouble itself."""
        desk, now = self._desk, self._desk.clock()
        version = desk.catalog.find(f"{self.version.source.name}.{variant}", None)
        breaker = version.pipeline.breaker
        if breaker is not None and breaker.is_refusing(now):
            raise CircuitOpen(version.source.name, breaker.reason, breaker.retry_after_s(now))
        codec, request = self._read(version)
        ticket = self._ticket(codec, request)
        if codec.entry.is_pressed and (refusal := codec.entry.refusal(arrival_of(ticket))) is not None:
            raise refusal
        run_s = version.pipeline.latency.upper(request.group.cost, request.rows) or 0.0
        left_s = ticket.deadline - now
        if run_s > left_s:
            why = "a run would end after the deadline"
            raise PassedOver(why, run_ms=milliseconds(run_s), left_ms=milliseconds(max(0.0, left_s)))
        self._note(
            "falls back",
            step=f"variant:{variant}",
            reason=self._descent.reason,
            run_ms=milliseconds(run_s),
            left_ms=milliseconds(left_s),
        )
        self._run(version, codec, ticket)

    def _take_stale(self, max_age_s: float) -> None:
        """Give the skill's own answer to the same request."""
        desk, now = self._desk, self._desk.clock()
        codec, request = self._of_own()
        found = desk.kept.stale.find(whose(self.version), codec.entry.spec, request, max_age_s, now)
        if found is None:
            raise PassedOver("the same was not asked and answered lately", max_age_s=max_age_s)
        part, age_s = found
        self._note("falls back", step="stale", reason=self._descent.reason, age_s=round(age_s, 3))
        self._answer(codec, request, part)

    def _of_own(self) -> tuple[Codec, InferRequest]:
        """The request as the skill itself takes it."""
        if not self.version.pipeline.spec.outputs:
            raise PassedOver("what the skill takes is not known before it has been ready once")
        if self.own is None:
            _, self.own = self._read(self.version)
        return self._desk.codec(self.version), self.own

    def _note(self, what: str, **numbers: Value) -> None:
        record = self._record
        if record is not None:
            record.note(self._desk.clock(), what, **numbers)

    @property
    @abstractmethod
    def _record(self) -> Record | None:
        """Where to write down what happens."""

    @abstractmethod
    def _fail(self, error: HeadraceError) -> None:
        """Answer with the error."""

    @abstractmethod
    def _read(self, version: ModelVersion) -> tuple[Codec, InferRequest]:
        """The request as that version takes it.

        Raises:
            HeadraceError: it does not take such a request.
        """

    @abstractmethod
    def _ticket(self, codec: Codec, request: InferRequest) -> Ticket:
        """A ticket under the terms of the request."""

    @abstractmethod
    def _run(self, version: ModelVersion, codec: Codec, ticket: Ticket) -> None:
        """Submit the ticket; what comes of it is the request's answer."""

    @abstractmethod
    def _answer(self, codec: Codec, request: InferRequest, part: Part) -> None:
        """Answer with what the skill itself answered before."""

    @abstractmethod
    def _take_static(self, answers: StaticAnswers) -> None:
        """Answer with what the file has.

        Raises:
            NoStaticAnswer: it has nothing to give.
        """


def whose(version: ModelVersion) -> str:
    """Under which name its answers are kept: another version's would be told under its number."""
    return f"{version.source.name}/{version.source.version}"


def version_asked(catalog: Catalog, route: Route) -> ModelVersion | None:
    """What a request that nothing can answer now asked for, if it is there."""
    versions = catalog.loaded(route.model)
    if route.version is not None:
        return next((each for each in versions if each.source.version == route.version), None)
    return highest(versions) if versions else None


def awaited(desk: Desk, asked: ModelVersion, *, falls_back: bool) -> ModelVersion | None:
    """Who is to come into memory for a request that `asked` cannot answer now, and that nobody can decode yet.

    Where something else answers now nobody need wait: None. Where that has to come too, what was asked for goes before it.

    Args:
        desk: of the request.
        asked: that it is for.
        falls_back: something less will do.
    """
    fallback = asked.source.config.fallback
    steps = fallback.chain if falls_back and "loading" in fallback.on else ()
    named = [Route(f"{asked.source.name}.{each.variant}", None) for each in steps if each.variant]
    others = [each for each in (version_asked(desk.catalog, route) for route in named) if each is not None]
    if any(each.static for each in steps) or any(each.accepts for each in others):
        return None
    to_come = (each for each in (asked, *others) if desk.lobby.takes(each) and each.can_come)
    return next(to_come, asked if desk.lobby.takes(asked) else None)


def has_chain(version: ModelVersion | None) -> bool:
    """Whether something else may answer in its place."""
    return version is not None and bool(version.source.config.fallback.chain)
