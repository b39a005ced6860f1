"""Which versions are in memory: nothing is loaded for which nothing is reserved, and who is asked for comes in.

A version that is not in memory is ABSENT. The first request for it has it brought in, once for all who ask meanwhile; where
there is no room, runs give back what they took, and then those leave that are worth least where they are and have nothing
to do. What a version holds is reserved from before its first process starts until its last one has ended.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from headrace.byte_sizes import in_words
from headrace.config import Settings
from headrace.events import BudgetChanged, Event, RequestsAbsent, VersionEvicted, VersionLoaded
from headrace.execution.aside import aside
from headrace.execution.linux import usable_cores
from headrace.execution.nvml import Gpu
from headrace.lifecycle import overview
from headrace.lifecycle.books import MAIN, Books, Held
from headrace.lifecycle.budget import Budget
from headrace.lifecycle.eviction import Candidate, Eviction
from headrace.lifecycle.holdings import allowed_run, holding
from headrace.lifecycle.ledger import Holding, needed
from headrace.lifecycle.memory_view import MemoryView
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.stay import UNKNOWN_LOAD_S, Stay
from headrace.lifecycle.version import ModelVersion

LOOK_EVERY_S = 1.0
"""Between two looks at what workers really have and how often they are asked."""
HURRY = 2.0
"""A load at idle priority that takes so many times longer than the last one is hurried."""
QUIET_S = 5.0
"""After the last load, before what models take is measured: nobody waits for it."""
ROOMY = 0.8
"""What runs took is kept again once all of it fits into so much of the budget."""
AGAIN_S = 0.05
"""Between two looks for room, while somebody waits for it."""
PATIENCE_S = 1.0
"""To wait for one who is worth less and has something to do, before one who is worth more leaves in his place."""
PROBED = 1.5
"""The process that measures a model may take so many times what the model is thought to hold."""
IDLE = "nobody asked for it for {:g} s"
FOR_OTHERS = "{} came in its place"
NOT_NOW = "not in memory: it is loaded when it is asked for"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Why a version is to come in, and since when."""

    cause: str
    since: float


class Residency:
    """Of all versions of a server. Lives on the loop."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        report: Callable[[Event], None],
        read_budget: Callable[[int], Budget],
        read_used: Callable[[ModelVersion], int],
        read_cards: Callable[[], Iterable[Gpu]] = tuple,
    ) -> None:
        """What is read, and when: once a second.

        Args:
            settings: of the server.
            clock: seconds.
            report: hears of who comes and goes.
            read_budget: gives the budget of the machine's memory, given the private bytes of all workers.
            read_used: gives the private bytes of a version's workers.
            read_cards: gives the graphics cards as they are now.
        """
        self._settings = settings
        self._clock = clock
        self._report = report
        self._read_budget = read_budget
        self._read_used = read_used
        self._loop = asyncio.get_running_loop()
        self._slots = usable_cores()
        self._books = Books(read_budget(0), self._slots, read_cards)
        self._eviction = Eviction()
        # The mutable state: everybody, who is asked for and is to come in, in order, and why, whether runs give back what they took,
        # whom a probe measures and since when no load went on, and when to look again.
        self._stays: dict[ModelVersion, Stay] = {}
        self._wanted: dict[Stay, Wanted] = {}
        self._again: asyncio.TimerHandle | None = None
        self._to_pause: list[Stay] = []
        self._is_tight = False
        self._last_load = clock()
        self._next_look = clock()
        self._used = 0
        self._admit_pending = False
        self._tasks: set[asyncio.Task[None]] = set()

    # What the catalog says.

    def start(self, versions: Iterable[ModelVersion]) -> None:
        """Load those that fit, the pinned ones and those to be preloaded first; the others when they are asked for."""
        stays = [self._add(version) for version in versions]
        loadable = [each for each in stays if not each.version.source.problem]
        for each in stays:
            if each.version.source.problem:
                each.version.start()
        wanted = [each for each in loadable if each.is_preloaded is not False]
        resident = sum(each.base for each in wanted)
        if needed([self._holding(each, resident) for each in wanted], self._slots) <= self._books.main.budget:
            self._start(loadable)
        else:
            self._later(self._start_knowing(loadable))

    def add(self, version: ModelVersion, *, is_beside: bool = False) -> None:
        """Load one more, where it fits.

        Args:
            version: that came.
            is_beside: it is to take the place of another that serves, so that leaving it out would be to no purpose.
        """
        stay = self._add(version)
        if version.source.problem:
            version.start()
        elif is_beside:
            self._want(stay, "start")
        elif self._lacks(stay, self._holding(stay, self._resident())):
            self._later(self._start_knowing([stay]))
        else:
            self._start([stay])

    def forget(self, version: ModelVersion) -> None:
        """Nothing is left of it."""
        stay = self._stays.pop(version, None)
        if stay is None:
            return
        self._wanted.pop(stay, None)
        stay.release()
        if not any(each.key == stay.key for each in self._stays.values()):
            self._eviction.forget(stay.key)
        self._admit_soon()

    def want(self, version: ModelVersion) -> None:
        """Somebody asks for it: bring it in, if that is not being done already."""
        stay = self._stays.get(version)
        if stay is not None and version.state is VersionState.ABSENT:
            self._want(stay, "asked")

    def missed(self, version: ModelVersion) -> None:
        """A request found it not in memory, and waits for it before its pipeline has seen it."""
        if (stay := self._stays.get(version)) is not None:
            stay.parked_requests += 1
            self.want(version)

    def changed(self, version: ModelVersion) -> None:
        """Its state is another one."""
        stay = self._stays.get(version)
        if stay is None:
            return
        if version.state is VersionState.READY:
            self._on_ready(stay)
        elif version.state in {VersionState.UNAVAILABLE, VersionState.UNLOADING}:
            self._wanted.pop(stay, None)  # whoever is about to go for good does not come in any more
            self._admit_soon()

    def gone(self) -> None:
        """A process of somebody has ended."""
        self._admit_soon()

    def is_coming(self, version: ModelVersion) -> bool:
        """It is being loaded, or is to be as soon as there is room."""
        stay = self._stays.get(version)
        return stay is not None and (stay in self._wanted or version.state is VersionState.LOADING)

    def watch(self) -> None:
        """To be called every now and then."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        for stay in self._stays.values():
            stay.look(now)
            self._eviction.asked(stay.key, stay.take_asked(now), now)
            if absent := stay.take_absent():
                self._report(RequestsAbsent(*stay.key, absent))
        self._used = sum(stay.used for stay in self._stays.values())
        self._look_at_budgets(now)
        self._hold_again()
        self._hurry(now)
        self._leave_idle(now)
        self._relieve(now)
        self._admit()
        self._measure_next(now)

    def view(self) -> MemoryView:
        """What is shown to people."""
        now, base = self._clock(), self._resident()
        models = [
            overview.model(
                stay,
                stay.reservation.holding if stay.reservation else self._holding(stay, base),
                self._eviction,
                now,
                gives_back=self._is_tight,
            )
            for stay in sorted(self._stays.values(), key=lambda each: each.key)
        ]
        used = sum(stay.used for stay in self._stays.values())
        return MemoryView(overview.devices(self._books, used), tuple(models))

    # Coming in.

    def _add(self, version: ModelVersion) -> Stay:
        stay = self._stays[version] = Stay(version, self._settings, self._clock(), self._read_used)
        version.heed(partial(self.want, version), self.gone)
        return stay

    async def _start_knowing(self, stays: list[Stay]) -> None:
        """The same once it is known what was measured of them before: they may be smaller than their files suggest."""
        self._set_tight(is_tight=True)  # rather more of them than faster runs
        found = await aside(lambda: [stay.look_up(self._settings) for stay in stays])
        for stay, known in zip(stays, found, strict=True):
            if known is not None:
                stay.version.know(*known)
        self._start([each for each in stays if each.version in self._stays])

    def _start(self, stays: Sequence[Stay]) -> None:
        for stay in sorted(stays, key=lambda each: each.rank):
            if stay.version.state is not VersionState.LOADING or stay.has_begun:
                continue
            if stay.is_preloaded is False or not self._take(stay, "start"):
                stay.version.stay_out(NOT_NOW)

    def _want(self, stay: Stay, cause: str) -> None:
        if stay not in self._wanted:
            loading = [each for each in self._stays.values() if each.is_loading]
            ahead = sum(each.version.reload_s or 0.0 for each in [*self._wanted, *loading])
            stay.version.pipeline.come_after(ahead / self._slots)
            self._wanted[stay] = Wanted(cause, self._clock())
        self._admit_soon()

    def _admit_soon(self) -> None:
        if not self._admit_pending:
            self._admit_pending = True
            self._loop.call_soon(self._admit)

    def _admit(self) -> None:
        """Release what was held by those that have ended, and bring in who is asked for, in order, as far as there is room."""
        self._admit_pending = False
        for stay in list(self._stays.values()):
            stay.release_if_ended()
        if not self._wanted:
            self._to_pause.clear()
        for stay in list(self._wanted):
            if stay.has_begun:
                continue  # its last processes have not ended yet
            if sum(each.is_loading for each in self._stays.values()) >= self._slots:
                break
            self._to_pause.clear()
            if not self._make_room(stay):
                break
            self._wanted.pop(stay, None)
        for stay in self._stays.values():
            if stay.is_paused != (stay in self._to_pause):
                stay.pause(is_paused=not stay.is_paused)
        if self._wanted and self._again is None:
            # Who has something to do has not for long, and nobody says when.
            self._again = self._loop.call_later(AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self._admit()

    def _make_room(self, stay: Stay) -> bool:
        """Bring it in; False if it has to wait for others to leave. One for which there never is room is told so."""
        cause = self._wanted[stay].cause
        if self._take(stay, cause):
            return True
        if not self._is_tight:
            self._set_tight(is_tight=True)
            if self._take(stay, cause):
                return True
        mine = self._holding(stay, self._resident())
        there = [each.reservation for each in self._stays.values() if each.is_leaving and each.reservation]
        if there and not self._lacks(stay, mine, there):
            return False  # their processes have not ended yet
        victims = self._whose_place(stay, mine, there)
        for victim in victims:
            self._send_away(victim, FOR_OTHERS.format(stay.version.source.name))
        if not victims:
            self._refuse_if_never(stay, mine)
        return False

    def _whose_place(self, stay: Stay, mine: Holding, there: list[Held]) -> list[Stay]:
        """Who leaves for it, beside those who leave already: who is worth least, though he be busy for a while yet.

        Nobody where that one is waited for, or where all of them are not enough.
        """
        now = self._clock()
        everybody = [each for each in self._stays.values() if each.may_leave_soon]
        chosen = self._victims(stay, mine, there, everybody, now)
        if all(each.can_leave for each in chosen):
            return chosen
        if now - self._wanted[stay].since < PATIENCE_S:
            return []
        if any(each.is_loading for each in chosen):
            idle = [each for each in everybody if each.can_leave]
            return self._victims(stay, mine, there, idle, now)
        # One that somebody always asks for would never leave: what waits for it waits for its return then.
        for each in chosen:
            if each.is_paused or each.may_be_paused(now):
                self._to_pause.append(each)
        return []

    def _victims(
        self, stay: Stay, mine: Holding, there: list[Held], residents: list[Stay], now: float
    ) -> list[Stay]:
        by_key = {each.key: each for each in residents}

        def is_enough(chosen: Sequence[Candidate]) -> bool:
            gone = [by_key[each.key].reservation for each in chosen]
            return not self._lacks(stay, mine, [*there, *filter(None, gone)])

        incoming, candidates = stay.candidate(mine.total), [each.candidate() for each in residents]
        choice = self._eviction.victims(incoming, candidates, is_enough, now, is_asked=True)
        return [by_key[each.key] for each in choice.victims]

    def _refuse_if_never(self, stay: Stay, mine: Holding) -> None:
        """Where not even all who are not pinned would be enough if they left, nobody need wait for that."""
        pinned = [
            each.reservation
            for each in self._stays.values()
            if each.reservation and (each.is_pinned or each is stay)
        ]
        everything = [held for each in self._stays.values() for held in each.held]
        gone = [each for each in everything if each not in pinned]
        lacking, device = self._books.lacks(mine, stay.cards, gone)
        if not lacking:
            return
        needs = stay.cards.get(device, mine.total)
        held = sum(each.on(device) for each in pinned)
        budget = self._books.sum_of(device)
        taken, less = (f" pinned models hold {in_words(held)}:", ", or pin less") if held else ("", "")
        reason = (
            f"it needs {in_words(needs)}, and of {budget}{taken} {in_words(lacking)} are lacking; "
            f"raise --memory-budget{less}"
        )
        self._wanted.pop(stay, None)
        stay.version.refuse_room(reason)

    def _take(self, stay: Stay, cause: str) -> bool:
        """Reserve what it needs and begin to load it; False where it does not fit."""
        needs = self._holding(stay, self._resident())
        reservation = self._books.reserve("/".join(stay.key), needs, stay.cards)
        if reservation is None:
            return False
        stay.begin(reservation, cause, self._clock())
        self._last_load = self._clock()
        if stay.version.state is VersionState.ABSENT:
            stay.version.bring_in()
            if not any(each.version.state is VersionState.READY for each in self._stays.values()):
                stay.version.hurry()  # there is nobody here for it to give way to
        else:
            stay.version.start()
        return True

    def _on_ready(self, stay: Stay) -> None:
        now = self._clock()
        self._last_load = now
        if stay.cause:
            seconds = stay.arrived(now)
            self._report(VersionLoaded(*stay.key, stay.cause, seconds))
            stay.cause = ""
        self._hold_again()
        if stay.version.lacks_spec:
            self._measure(stay)
        self._admit_soon()

    def _hurry(self, now: float) -> None:
        """Who is waited for and takes far longer than the last time gets no core: it need no longer give way to all others."""
        for stay in self._stays.values():
            usual_s = stay.version.reload_s or UNKNOWN_LOAD_S
            if stay.is_loading and stay.cause == "asked" and stay.loading_s(now) > HURRY * usual_s:
                stay.version.hurry()

    # Leaving.

    def _send_away(self, stay: Stay, reason: str) -> None:
        stay.leave()
        self._report(VersionEvicted(*stay.key, reason))
        stay.version.send_away(f"not in memory: {reason}")

    def _leave_idle(self, now: float) -> None:
        for stay in self._stays.values():
            limit_s = stay.idle_limit_s
            if limit_s is not None and stay.can_leave and stay.idle_s(now) > limit_s:
                self._send_away(stay, IDLE.format(limit_s))

    def _relieve(self, now: float) -> None:
        """More is there than may be: runs give back what they took, and then those leave that are worth least."""
        over = max(-self._books.main.free, self._used - self._books.main.budget)
        if over > 0 and not self._is_tight:
            self._set_tight(is_tight=True)
            return
        leaving = sum(each.used for each in self._stays.values() if each.is_leaving)
        residents = sorted(
            (each for each in self._stays.values() if each.can_leave),
            key=lambda each: self._eviction.priority(each.candidate(), now),
        )
        for stay in residents:
            if over - leaving <= 0:
                break
            leaving += max(stay.used, stay.holding.total)
            self._send_away(stay, f"memory is {in_words(over)} over its budget")
        resident = self._resident()
        there = [each for each in self._stays.values() if each.reservation is not None]
        wide = [self._holding(each, resident, keeps=True) for each in there]
        if (
            self._is_tight
            and not self._wanted
            and needed(wide, self._slots) < ROOMY * self._books.main.budget
        ):
            self._set_tight(is_tight=False)

    # What is held.

    def _look_at_budgets(self, now: float) -> None:
        budget = self._read_budget(self._used)
        if budget.budget != self._books.budget.budget:
            self._report(BudgetChanged(MAIN, budget.budget, budget.limit))
        pids = {pid for each in self._stays.values() for pid in each.version.pids}
        self._books.look(budget, pids, now)

    def _lacks(self, stay: Stay, holding: Holding, without: Iterable[Held] = ()) -> int:
        return self._books.lacks(holding, stay.cards, without)[0]

    def _set_tight(self, *, is_tight: bool) -> None:
        self._is_tight = is_tight
        for stay in self._stays.values():
            if is_tight and stay.has_begun:
                stay.give_back_now()
        self._hold_again()

    def _hold_again(self) -> None:
        resident = self._resident()
        for stay in self._stays.values():
            if stay.reservation is not None:
                self._hold(stay, resident)

    def _hold(self, stay: Stay, resident: int) -> None:
        """What it holds by what is known now, and what its runs may take. Until its processes end, whoever leaves holds what it held."""
        assert stay.reservation is not None, "it is in memory"
        if stay.is_leaving:
            return
        allowed = self._allowed(stay, resident)
        stay.reservation.change(holding(stay.known(), allowed, keeps=not self._is_tight), stay.cards)
        stay.bound(allowed, self._books.main.free, gives_back=self._is_tight)

    def _holding(self, stay: Stay, resident: int, *, keeps: bool | None = None) -> Holding:
        """What one that is not there would hold beside others that hold so much without their runs."""
        keeps = not self._is_tight if keeps is None else keeps
        own = 0 if stay.reservation is not None else stay.base
        return holding(stay.known(), self._allowed(stay, resident + own), keeps=keeps)

    def _allowed(self, stay: Stay, resident: int) -> int:
        """Bytes that a run of it may take, where all that are in memory hold so many without their runs."""
        own = stay.base
        return allowed_run(self._books.main.budget, resident, own, self._slots)

    def _resident(self) -> int:
        return sum(stay.base for stay in self._stays.values() if stay.reservation is not None)

    # What is measured.

    def _measure_next(self, now: float) -> None:
        """Find out what one more takes, while nothing else goes on."""
        if self._wanted or now - self._last_load < QUIET_S or not self._settings.measure_memory:
            return
        if any(each.version.is_measuring for each in self._stays.values()):
            return
        for stay in self._stays.values():
            if stay.needs_measuring and self._measure(stay):
                return

    def _measure(self, stay: Stay) -> bool:
        limit = round(PROBED * self._holding(stay, self._resident()).total)
        reservation = self._books.reserve(f"measuring {'/'.join(stay.key)}", Holding(limit))
        if reservation is None:
            return False
        stay.measure(reservation, limit)
        return True

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
