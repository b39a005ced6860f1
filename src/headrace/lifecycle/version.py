"""One version of a model: its states, the worker that serves it, and the pipeline in front of it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from headrace.admission.device import Device
from headrace.admission.instances import nobody_is_told
from headrace.backends.registry import IN_PROCESSES
from headrace.batching.latency import LatencyModel, cost_bucket
from headrace.config import Settings
from headrace.errors import HeadraceError, NoRoom, NotReady
from headrace.events import (
    BatchDone,
    Event,
    FilesChanged,
    RequestsDropped,
    RequestsFailed,
    TransformsDone,
    VersionChanged,
    WorkerDied,
)
from headrace.execution import linux
from headrace.execution.channel import Instance
from headrace.execution.death import Death
from headrace.execution.footprint import Footprint
from headrace.execution.linux import starved_s, usable_cores
from headrace.execution.profiles import ProfileStore
from headrace.execution.stamps import Stamp
from headrace.execution.supervisor import Worker, WorkerEvents
from headrace.execution.wire import Load, Profile, Ready
from headrace.execution.workers import Workers
from headrace.faults.breaker import BreakerPolicy
from headrace.faults.guard import Trust
from headrace.lifecycle.crash import Crash, most_deaths, parked_reason
from headrace.lifecycle.seat import NO_MEANS_DELAY_S, Seat
from headrace.lifecycle.state import MOVES, VersionState
from headrace.lifecycle.watchdog import UNKNOWN_FLOOR, Sight
from headrace.messages import Datatype, ModelSpec
from headrace.model_config import ModelConfig
from headrace.pipeline import Limits, Pipeline
from headrace.repository.source import Source
from headrace.transforms.kinds import MOST_ROWS, item_limit_s

Latencies = dict[int, dict[int, float]]
"""Cost of a row → rows → seconds."""
MOST_SLOW = 10
"""Runs in a row that are far slower than such runs are, at which a version's breaker opens."""
DEPART_S = 2.0
"""For workers to end when their version leaves memory; then they are killed."""
AGAIN_S, OF_LAST_LOAD = 10.0, 10
"""A load hangs, where the last one went well, when it takes so many times longer, and so many seconds at least."""
OF_PRIORITY = {1: 4.0, 3: 0.25}
"""Skills of priority high have the device for so much more, and of priority low for so much less, than others."""

TRANSFORM, TRANSCODER = "transform", "transcoder"
UNTRIED = frozenset({TRANSFORM, TRANSCODER}) | IN_PROCESSES
"""Code of users is not run to see what it takes; what its workers have tells."""
TRANSFORM_INSTANCES = 2
"""So that one item that hangs leaves a way for the others until it is ended."""


def needs_transform_worker(steps: dict[str, Any]) -> bool:
    """Whether a skill's steps include what must not run beside the model: code of users, images."""
    return "transform" in steps or any(each["kind"] == "image" for each in steps.get("inputs", {}).values())


def device_weight(source: Source, settings: Settings) -> float:
    """A model's weight beside others on their device, its skill's priority counted in."""
    said = settings.weights.get(source.name, source.config.weight)
    return said * OF_PRIORITY.get(source.config.priority, 1.0)


def trust_in(source: Source) -> Trust:
    """What is thought of a version whose runs fail: its breaker opens.

    Not so of the transcoder, which all share, and of transforms, which fail by items, for what the items hold.
    """
    policy = None if source.backend in {TRANSFORM, TRANSCODER} else BreakerPolicy(max_slow=MOST_SLOW)
    return Trust(policy, source.config.is_idempotent)


def worth_keeping(measured: Profile, learned: Latencies) -> Latencies:
    """What the next start is to know of l(b): a quiet measurement is not replaced by what was seen under load."""
    if measured.is_noisy:
        return learned
    kept = {cost: dict(sizes) for cost, sizes in measured.latencies.items()}
    for cost, sizes in learned.items():
        known = next((each for each in kept if cost_bucket(each) == cost_bucket(cost)), cost)
        found = kept.setdefault(known, {})
        measured_sizes = {rows.bit_length() for rows in found}
        found.update({rows: took for rows, took in sizes.items() if rows.bit_length() not in measured_sizes})
    return kept


def declared(spec: ModelSpec) -> list[tuple[str, Datatype]]:
    """What tells a model from another: the rest is found out, by one worker earlier than by the next."""
    return [(each.name, each.datatype) for each in (*spec.inputs, *spec.outputs)]


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """What is known of a version now.

    `pid` is the first of its workers. `deaths`, of which `crash` is the last, are its transforms' workers' too.
    """

    name: str
    version: str
    state: VersionState
    reason: str
    spec: ModelSpec
    pid: int | None
    deaths: int
    instances: int
    threads: int
    pids: tuple[int, ...] = ()
    crash: Crash | None = None


class ModelVersion:
    """Keeps the workers of one version running: one, or one an instance where instances are processes.

    The first worker finds out what the model can do, the others follow when it is ready. Lives on the loop.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings,
        clock: Callable[[], float],
        report: Callable[[Event], None],
        stamps: tuple[Stamp, ...] = (),
        device: Device | None = None,
        workers: Workers | None = None,
    ) -> None:
        """`stamps` are its files as they were found; it never serves others.

        `device` is what its runs are on; `workers` hires them, where some may share a process.
        """
        self.source = source
        self._stamps = stamps
        self._settings = settings
        self._clock = clock
        self._report = report
        self._hiring = workers or Workers()
        self._loop = asyncio.get_running_loop()
        empty = ModelSpec(source.name, source.version, "", (), ())
        self._device = device
        limits = Limits(
            settings.max_queue_bytes,
            settings.max_rows,
            source.config,
            settings.deadline_s,
            device_weight(source, settings),
            {name: tenant.weight for name, tenant in settings.tenants.items()},
            # Code of users may well wait for something else than cores.
            is_scheduled=source.backend not in IN_PROCESSES,
            trust=trust_in(source),
        )
        self.pipeline = Pipeline(empty, limits, clock, report, device)
        # Code of users and decoding of images have a worker of their own, as its own version beside this one.
        self.transforms = self._make_transforms()
        # The mutable state.
        self.state = VersionState.LOADING
        self.reason = ""
        self.was_ready = False
        self.pipeline.on_exhausted = self._replace_worker
        self._seats = [Seat(self._hire, clock, self._hang_floors_s) for _ in range(self._worker_count())]
        self._probe: Worker | None = None
        self._profile = Profile()
        self._key = ""
        self._threads = 0
        self._deaths = 0
        self._load_s = 0.0
        self._crash: Crash | None = None
        # Of its memory: whether it is brought in when it is asked for, why there never is room for it, under which keys it was tried to measure it, and workers
        # that were asked to end since it left, with the time until which they may do so by themselves.
        self.is_on_demand = False
        self.no_room = ""
        self._measured: set[str] = set()
        self._on_gone = nobody_is_told
        self._departing: dict[Worker, float] = {}

    @property
    def is_settled(self) -> bool:
        """Has been ready once, or has failed for good, or is left out until it is asked for."""
        return self.was_ready or self.state in {VersionState.UNAVAILABLE, VersionState.ABSENT}

    @property
    def accepts(self) -> bool:
        """Takes requests: ready, or about to be again after its worker died, or to be brought in for them."""
        if self.is_on_demand and self.state in {VersionState.ABSENT, VersionState.LOADING}:
            return bool(self.pipeline.spec.inputs) and (self.transforms is None or self.transforms.was_ready)
        return self.state is VersionState.READY or (
            self.state is VersionState.RESTARTING
            and self.was_ready
            and any(seat.deaths_in_a_row <= 1 for seat in self._seats if not seat.refusal)
        )

    @property
    def is_within_reach(self) -> bool:
        """Ready, or brought in when it is asked for."""
        is_coming = self.is_on_demand and self.state in {VersionState.ABSENT, VersionState.LOADING}
        return is_coming or self.state is VersionState.READY

    @property
    def has_failed(self) -> bool:
        """It cannot be loaded, or there is no room for it. Who left again once it was loaded has not failed."""
        is_without_room = self.state is VersionState.ABSENT and bool(self.no_room)
        return self.state is VersionState.UNAVAILABLE or is_without_room

    @property
    def can_come(self) -> bool:
        """It is within reach, and as far as is known there can be room for it."""
        return self.is_within_reach and not self.no_room

    def snapshot(self) -> VersionSnapshot:
        beside = None if self.transforms is None else self.transforms.snapshot()
        crash = self._crash
        if beside is not None and beside.crash is not None and (crash is None or crash.at < beside.crash.at):
            crash = beside.crash
        return VersionSnapshot(
            self.source.name,
            self.source.version,
            self.state,
            self.reason,
            self.pipeline.spec,
            next((worker.pid for worker in self._workers()), None),
            self._deaths + (0 if beside is None else beside.deaths),
            sum(len(worker.channels) for worker in self._workers()),
            self._threads,
            tuple(worker.pid for worker in self._workers()),
            crash,
        )

    def start(self) -> None:
        """Begin to load; what becomes of it shows in the state."""
        if self.source.problem:
            self._move(VersionState.UNAVAILABLE, self.source.problem)
            return
        self._report(VersionChanged(self.source.name, self.source.version, self.state, ""))
        if self.transforms is not None:
            self.transforms.start()
        self._seats[0].start()

    def stay_out(self, reason: str) -> None:
        """It is not loaded now, but brought in when it is asked for."""
        assert not self.source.problem, "what cannot be loaded is not waited for"
        self.is_on_demand = True
        self._move(VersionState.ABSENT, reason)
        self.pipeline.leave(self.reload_s)
        if self.transforms is not None:
            self.transforms.stay_out(reason)

    def bring_in(self) -> None:
        """Load it, or load it again."""
        self.no_room = ""
        self._move(VersionState.LOADING, "")
        self.pipeline.expect()
        if self.transforms is not None:
            self.transforms.bring_in()
        for seat in self._seats:
            seat.refusal, seat.deaths_in_a_row = "", 0
        self._seats[0].start()

    def hurry(self) -> None:
        """Its workers, which load it when nobody else wants a core, need wait for that no longer."""
        for worker in self._workers():
            if not worker.is_shared:
                linux.run_as_usual(worker.pid)

    def send_away(self, reason: str) -> None:
        """Give its memory back; it is brought in when it is asked for, or at once if somebody waits. Only while nothing runs."""
        assert self.is_quiet, "what runs is answered first"
        self.is_on_demand = True
        self._move(VersionState.ABSENT, reason)
        self._save_profile()
        self.pipeline.leave(self.reload_s)
        for seat in self._seats:
            seat.cancel()
            if (worker := seat.worker) is not None:
                seat.vacate()
                self._departing[worker] = self._clock() + DEPART_S
                worker.stop()
        if self._probe is not None:
            self._probe.stop()
            self._probe.kill()
        if self.transforms is not None:
            self.transforms.send_away(reason)

    def heed(self, on_wanted: Callable[[], None], on_gone: Callable[[], None]) -> None:
        """Whom to tell when a request comes while it is not in memory, and when a process has ended and given its memory back."""
        self._on_gone = on_gone
        self.pipeline.ask_for_it_by(on_wanted)
        if self.transforms is not None:
            self.transforms.heed(on_wanted, on_gone)

    def refuse_room(self, reason: str) -> None:
        """There never is room for it, as things are: whoever waits for it hears that."""
        error = NoRoom(self.source.name, self.source.version, reason, None)
        self.pipeline.refuse_all(error)
        if self.transforms is not None:
            self.transforms.pipeline.refuse_all(error)
        self.no_room = reason
        if self.is_on_demand:
            self.reason = reason
            self._report(VersionChanged(self.source.name, self.source.version, self.state, reason))
        else:
            self._move(VersionState.UNAVAILABLE, reason)

    def know(self, profile: Profile, key: str) -> None:
        """What was measured of it before, while it has never been in memory here."""
        self._profile, self._key = profile, key
        if profile.spec is not None and self.transforms is None and not self.pipeline.spec.inputs:
            self.pipeline.spec = replace(profile.spec, name=self.source.name, version=self.source.version)
            self.pipeline.latency = LatencyModel(profile.latencies)

    @property
    def footprint(self) -> Footprint | None:
        """What it takes, as measured; None if it was not."""
        return self._profile.footprint

    @property
    def reload_s(self) -> float | None:
        """Seconds its last load took; None if it was never loaded."""
        return self._profile.load_s or None

    @property
    def lacks_spec(self) -> bool:
        """It serves, one request at a time, and what it can do is still to be found out."""
        return self._profile.spec is None and self._probe is None

    @property
    def needs_measuring(self) -> bool:
        """What it takes was never measured, and can be."""
        is_tried = self._key in self._measured or not self._key or self.source.backend in UNTRIED
        return self._profile.footprint is None and self._probe is None and not is_tried

    def measure(self, limit: int) -> None:
        """Have a process beside its workers find out what is not known of it; it may take so many bytes."""
        self._measured.add(self._key)
        self._probe = self._hire(measure_only=True, memory_limit=limit)

    @property
    def is_out(self) -> bool:
        """None of its processes is there, nor to come."""
        is_over = self.state in {VersionState.ABSENT, VersionState.UNAVAILABLE, VersionState.UNLOADING}
        return is_over and not self.has_processes

    @property
    def pids(self) -> list[int]:
        """Of all its processes that serve, or did: its transforms' too."""
        mine = [worker.pid for worker in (*self._workers(), *self._departing)]
        return mine + ([] if self.transforms is None else self.transforms.pids)

    @property
    def worker_count(self) -> int:
        """Processes that serve it, or would."""
        return len(self._seats) + (0 if self.transforms is None else self.transforms.worker_count)

    @property
    def sharers(self) -> float:
        """Models that share a worker process with it on average, or would: as of Workers."""
        workers = self._workers()
        is_shared = any(each.is_shared for each in workers) if workers else self._may_share
        return self._hiring.sharers(is_in=bool(workers)) if is_shared else 1.0

    @cached_property
    def _may_share(self) -> bool:
        return self._hiring.may_share(self.order())

    @property
    def instance_count(self) -> int:
        """Sessions in each of them."""
        return 1 if self.source.backend in IN_PROCESSES else max(1, self._profile.instances)

    def stop(self, error: HeadraceError | None = None) -> None:
        """Let the workers go; whoever still waits gets the error, or hears that the server exits."""
        for seat in self._seats:
            seat.cancel()
        if self.state is not VersionState.UNAVAILABLE:
            self._move(VersionState.UNLOADING, "")
        self._save_profile()
        self.pipeline.close(error)
        for worker in self._workers():
            worker.stop()
        if self._probe is not None:
            self._probe.stop()
            self._probe.kill()
        if self.transforms is not None:
            self.transforms.stop(error)

    def kill(self) -> None:
        """End whatever has not ended by itself."""
        for worker in (*self._workers(), *self._departing):
            worker.kill()
        if self._probe is not None:
            self._probe.kill()
        if self.transforms is not None:
            self.transforms.kill()

    @property
    def has_processes(self) -> bool:
        mine = bool(self._workers() or self._departing) or self._probe is not None
        return mine or (self.transforms is not None and self.transforms.has_processes)

    def pause(self, *, is_paused: bool = True) -> None:
        """Begin nothing more of what waits, since it is to leave; or go on."""
        for stage in (self, self.transforms):
            if stage is not None:
                stage.pipeline.is_paused = is_paused
                stage.pipeline.wake()

    @property
    def is_quiet(self) -> bool:
        """Nothing runs, in any of its stages."""
        return self.pipeline.is_quiet and (self.transforms is None or self.transforms.is_quiet)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs, in any of its stages."""
        held = self.pipeline.snapshot()
        is_idle = not held.waiting and not held.running
        return is_idle and (self.transforms is None or self.transforms.is_idle)

    @property
    def is_measuring(self) -> bool:
        """A process beside the worker still finds out what the model can do."""
        return self._probe is not None

    def watch(self) -> None:
        """To be called every now and then: end a worker that hangs."""
        if self.transforms is not None:
            self.transforms.watch()
        for worker, ends_until in self._departing.items():
            if self._clock() > ends_until:
                worker.kill()
        self._watch_loading()
        limit_s = self._load_limit_s
        for seat in self._seats:
            if seat.worker is None:
                continue
            reason = self._hangs(seat, seat.worker)
            if seat.loading_s > limit_s:
                reason = f"was ended: it did not load within {limit_s:g} s"
            if reason is not None:
                seat.worker.end_hanging(reason)

    @property
    def _load_limit_s(self) -> float:
        """What has loaded before does so again, or hangs."""
        limit_s = self._settings.load_timeout_s
        return min(limit_s, max(AGAIN_S, OF_LAST_LOAD * self._load_s)) if self._load_s else limit_s

    def _watch_loading(self) -> None:
        """A model that has never loaded, and does not in the time it has, would not the next time either."""
        limit_s = self._settings.load_timeout_s
        if self.is_settled or self.state is VersionState.UNLOADING:
            return
        if any(seat.loading_s > limit_s for seat in self._seats):
            reason = f"it did not load within {limit_s:g} s; --load-timeout-s gives it longer"
            self.pipeline.refuse_all(self.not_ready(reason))
            self._move(VersionState.UNAVAILABLE, reason)
            for worker in self._workers():
                worker.end_hanging(reason)

    def _hangs(self, seat: Seat, worker: Worker) -> str | None:
        """Why it is to be ended, if it hangs."""
        sights: dict[int, Sight] = {}
        for at, channel in enumerate(worker.channels):
            if (oldest := self.pipeline.oldest_run_s([channel])) is not None:
                sights[at] = Sight(channel.done, *oldest)
        return seat.watchdog.look(self._clock(), sights, starved_s(worker.pid) if sights else 0.0)

    def _workers(self) -> list[Worker]:
        return [seat.worker for seat in self._seats if seat.worker is not None]

    def _hire(self, *, measure_only: bool = False, memory_limit: int | None = None) -> Worker | None:
        """A process; None where there is no memory, descriptor or process number left for it, which is not for ever."""
        try:
            order = self.order(measure_only=measure_only, memory_limit=memory_limit)
            return self._hiring.hire(order, self._events())
        except OSError as exc:
            reason = f"its worker cannot be started now: {exc.strerror or exc}"
        if not any(seat.is_serving for seat in self._seats):
            self.pipeline.refuse_all(self.not_ready(reason))
            if self.reason != reason:
                self._move(VersionState.RESTARTING, reason)
        return None

    @property
    def _instances(self) -> int | None:
        """Instances as somebody has set them; a transform's are not the model's."""
        set_here = None if self.source.backend == TRANSFORM else self._settings.instances
        return set_here or self.source.config.instances

    def _worker_count(self) -> int:
        return (self._instances or 1) if self.source.backend in IN_PROCESSES else 1

    def order(self, *, measure_only: bool = False, memory_limit: int | None = None) -> Load:
        """What a process is told to load, or to measure within so many bytes."""
        settings, source = self._settings, self.source
        folder: Path | None = settings.profile_dir
        is_transform = source.backend == TRANSFORM
        return Load(
            name=source.name,
            version=source.version,
            path=str(source.path),
            backend=source.backend,
            cores=usable_cores(),
            max_batch_size=settings.max_batch_size,
            max_rows=settings.max_rows,
            instances=1 if source.backend in IN_PROCESSES else self._instances,
            threads=settings.threads or source.config.threads,
            pads={} if is_transform else settings.pads.get(source.name, source.config.pads),
            profile_dir=str(folder) if folder else None,
            measure_only=measure_only,
            memory_limit=memory_limit,
            is_asked=self.is_on_demand,
            config=source.config,
            stamps=self._stamps,
        )

    def _events(self) -> WorkerEvents:
        return WorkerEvents(self._on_ready, self._on_refused, self._on_exit, self.pipeline.dispatch)

    def _on_ready(self, worker: Worker, ready: Ready) -> None:
        if worker is self._probe:
            # What it measured is now known; the serving worker is the same model and need not notice.
            was_unknown = self._profile.spec is None
            self._profile, self._key = replace(ready.profile, load_s=self._profile.load_s), ready.key
            if was_unknown:
                self.pipeline.respec(ready.spec)
            self.pipeline.latency.learn(ready.profile.latencies)
            return
        seat = self._seat_of(worker)
        if self.state is VersionState.UNAVAILABLE:
            seat.refusal = self.reason  # it is too late, or its transforms were given up meanwhile
            worker.kill()
            return
        if any(each.is_serving for each in self._seats):
            if declared(ready.spec) != declared(self.pipeline.spec):
                seat.refusal = "it loaded another model than the workers beside it"
                worker.kill()
                return
            seat.is_serving = True
            self.pipeline.extend(worker.channels)
            return
        self._load_s = max(self._load_s, seat.loading_s)
        footprint = ready.profile.footprint or (self.footprint if self._key == ready.key else None)
        self._profile = replace(
            ready.profile, load_s=max(0.0, seat.loading_s - ready.measured_s), footprint=footprint
        )
        self._key, self._threads = ready.key, ready.profile.threads
        seat.is_serving = True
        latency = LatencyModel(ready.profile.latencies)
        threads = ready.profile.threads or 1
        self.pipeline.attach(worker.channels, ready.spec, latency, threads, ready.golden_cost)
        for other in self._seats:
            if other.is_vacant and not other.refusal:
                other.start()
        if self.transforms is None or self.transforms.was_ready:
            self._become_ready()

    def _become_ready(self) -> None:
        self.was_ready = True
        self._move(VersionState.READY, "")

    def _make_transforms(self) -> "ModelVersion | None":
        """The version beside this one that runs its transforms, if it has any that need a worker."""
        source = self.source
        if source.backend == TRANSFORM or not needs_transform_worker(source.config.steps):
            return None
        said = source.config
        config = ModelConfig(
            instances=TRANSFORM_INSTANCES, threads=1, steps=said.steps, is_idempotent=said.is_idempotent
        )
        transforms = Source(source.name, source.version, source.path, TRANSFORM, config=config)
        return ModelVersion(
            transforms,
            self._settings,
            self._clock,
            self._on_transforms,
            self._stamps,
            self._device,
            self._hiring,
        )

    def _on_transforms(self, event: Event) -> None:
        """What the transforms' version reports: its failures are this one's, its answers go on to the next stage."""
        if isinstance(event, WorkerDied | FilesChanged | RequestsFailed | RequestsDropped):
            self._report(event)
        if isinstance(event, BatchDone):
            self._report(TransformsDone(event.model, event.version, event.shares))
        if not isinstance(event, VersionChanged):
            return
        if event.state == VersionState.UNAVAILABLE and self.state is not VersionState.UNLOADING:
            self.pipeline.refuse_all(self.not_ready(event.reason))
            self._move(VersionState.UNAVAILABLE, event.reason)
        elif event.state == VersionState.READY and any(seat.is_serving for seat in self._seats):
            self._become_ready()

    @property
    def _hang_floors_s(self) -> tuple[float, float]:
        """A transform's own alarm ends an item that takes too long; here only what no alarm ends, like a stopped process."""
        if self.source.backend == TRANSFORM:
            limit_s = MOST_ROWS * item_limit_s(self.source.config.steps)
            return limit_s, limit_s
        floor_s = self._settings.hang_floor_s
        return floor_s, UNKNOWN_FLOOR * floor_s

    def _on_refused(self, worker: Worker, reason: str) -> None:
        if worker is self._probe:
            return
        if worker.is_stale:
            self._report(FilesChanged(self.source.name, self.source.version, reason))
        seat = self._seat_of(worker)
        seat.refusal = reason
        if any(not other.is_vacant for other in self._seats if other is not seat):
            return  # the others serve, or will
        self.pipeline.refuse_all(self.not_ready(reason))
        self._move(VersionState.UNAVAILABLE, reason)

    def _on_exit(self, worker: Worker, death: Death) -> None:
        self._on_gone()  # who hears it looks at it later
        if worker is self._probe:
            self._probe = None
            if death.trace:
                reason = f"the process that measured it {death.reason}"
                self._crash = Crash(reason, time.time(), death.trace)
            return
        if self._departing.pop(worker, None) is not None:
            return
        seat = self._seat_of(worker)
        if self.state is not VersionState.UNLOADING and (death.trace or not seat.refusal):
            self._crash = Crash(death.reason, time.time(), death.trace)
        if self.state in {VersionState.UNAVAILABLE, VersionState.UNLOADING}:
            self._let_go(seat, worker)
        else:
            self._on_death(seat, worker, death)

    def _let_go(self, seat: Seat, worker: Worker) -> None:
        """It was to end."""
        seat.vacate()
        self.pipeline.detach(worker.channels)
        if not self._workers():
            self.pipeline.refuse_all(self.not_ready(self.reason))

    def _on_death(self, seat: Seat, worker: Worker, death: Death) -> None:
        """Nobody had asked it to end: start another, or park the version."""
        self._deaths += 1
        # A suspect's death says nothing of the model: whoever waits behind it need not go. Nor does that of one whose batch
        # was too large for the memory: the next one is smaller, and so on, until there is none.
        is_excused = self.pipeline.is_trying_suspect or worker.is_excused
        delay_s = seat.leave(is_excused=is_excused or (death.is_memory and seat.is_serving))
        if worker.lacks_means:
            delay_s = max(delay_s, NO_MEANS_DELAY_S)
        name, version = self.source.name, self.source.version
        self._report(WorkerDied(name, version, seat.refusal or death.reason, self._deaths, death.trace))
        if seat.deaths_in_a_row >= most_deaths(was_ready=self.was_ready):
            seat.refusal = parked_reason(death, seat.deaths_in_a_row, was_ready=self.was_ready)
        if seat.refusal and all(other.is_vacant for other in self._seats):
            self._detach(worker, death)
            self.pipeline.refuse_all(self.not_ready(seat.refusal))
            self._move(VersionState.UNAVAILABLE, seat.refusal)
            return
        if not any(other.is_serving for other in self._seats):
            self._move(VersionState.RESTARTING, f"its worker {death.reason}")
        self._detach(worker, death)
        if delay_s and not self._workers():
            self.pipeline.refuse_all(self.not_ready(f"its worker {death.reason}"))
        if not seat.refusal:
            seat.restart_after(delay_s)

    def _detach(self, worker: Worker, death: Death) -> None:
        self.pipeline.detach(
            worker.channels,
            is_overdue=worker.is_overdue,
            reason=death.reason,
            is_own_doing=death.is_own_doing,
            is_excused=worker.is_excused,
            is_memory=death.is_memory,
        )

    def bound_workers(self, run_bytes: int) -> None:
        """Have the kernel refuse its workers much more than they need, if so many bytes is what one run may take.

        Not those that it shares with others: what they need changes as these come and go.
        """
        footprint = self.footprint
        for worker in self._workers():
            if footprint is not None and not worker.is_shared:
                worker.bound(footprint, run_bytes * self.instance_count)

    def _replace_worker(self, channel: Instance, reason: str) -> None:
        """For the pipeline: whatever else was done about too little memory has not helped that instance."""
        for worker in self._workers():
            if channel in worker.channels:
                worker.replace(reason)

    def _seat_of(self, worker: Worker) -> Seat:
        return next(seat for seat in self._seats if seat.worker is worker)

    def not_ready(self, reason: str) -> HeadraceError:
        return NotReady(self.source.name, self.source.version, reason)

    def _save_profile(self) -> None:
        if self._key and self._profile.spec is not None:
            learned = worth_keeping(self._profile, self.pipeline.latency.known())
            profile = replace(self._profile, latencies=learned)
            ProfileStore(self._settings.profile_dir).write(self._key, profile)

    def _move(self, state: VersionState, reason: str) -> None:
        """The only writer of the state."""
        if state is self.state and state is not VersionState.RESTARTING:
            return
        assert state in MOVES[self.state] or state is self.state, f"{self.state} to {state}"
        self.state, self.reason = state, reason
        self._report(VersionChanged(self.source.name, self.source.version, state, reason))
