"""A model in a worker process, its own or one it shares: what it reports, the channels to its instances, and its end."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from headrace.execution import linux
from headrace.execution.channel import Channel
from headrace.execution.death import Death, Suspect, Verdict
from headrace.execution.footprint import Footprint
from headrace.execution.limits import PROBE_SCORE, bound, data_of, group_limit, let_go_first, shared_of
from headrace.execution.process import Process
from headrace.execution.wire import DESCRIPTORS, Load, LoadRefused, Ready, Report, Threads, Unloaded
from headrace.execution.worker_groups import WorkerGroups

TRACE_GRACE_S = 0.2
"""For a worker that hangs to write down where, before it is killed."""
UNLOADED = Death("was unloaded", is_own_doing=False)


@dataclass(frozen=True, slots=True)
class WorkerEvents:
    """Whom a worker tells, on the loop."""

    on_ready: Callable[["Worker", Ready], None]
    on_refused: Callable[["Worker", str], None]
    on_exit: Callable[["Worker", "Death"], None]
    on_credit: Callable[[], None]


class Worker:
    """One model in a child process, and the channels to its instances. Lives on the loop."""

    def __init__(
        self,
        load: Load,
        events: WorkerEvents,
        process: Process | None = None,
        groups: WorkerGroups | None = None,
    ) -> None:
        """Have the model opened: in a process that takes several, else in one of its own, for which `groups` is.

        Raises:
            OSError: there is no memory, descriptor or process number left for it, or the process that it was to share has
                ended. Nothing is left behind.
        """
        self.load = load
        self.channels: list[Channel] = []
        self.is_stale = False  # it found other files than it was told of
        self.is_overdue = False  # it was ended by the time limit it had set itself
        self.is_excused = False  # its end says nothing of its model
        self.lacks_means = False  # it was ended since this process lacked the means to go on with it
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._threads: frozenset[int] = frozenset()
        # Of its process, when it was ready: address space for data, and what it had in memory beside.
        self._data = self._shared = 0
        self._is_loading = True
        self._is_stopping = False
        self._has_ended = False
        self._hung = ""  # the reason why it is being ended, if it is
        self._short = ""  # the reason why there was too little memory to load its model, if there was
        self._process = process or Process(groups or WorkerGroups(), is_idle=is_for_idle_times(load))
        if load.measure_only:
            let_go_first(self.pid, PROBE_SCORE)
        try:
            self._number = self._process.enter(self)
        except OSError:
            if process is None:
                self._process.close()
            raise

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def is_shared(self) -> bool:
        """Other models are in its process, or may come to be."""
        return self._process.is_shared

    def bound(self, footprint: Footprint, runs_bytes: int) -> None:
        """Have the kernel refuse it much more than it needs, and end it where it takes more still; if that is known.

        Not for one that shares its process: what is needed there changes as models come and go.
        """
        assert not self.is_shared, "it is one of several"
        data = bound(self.pid, self._data, footprint, runs_bytes)
        if data is not None:
            self._process.group.bound(group_limit(data, self._shared))

    def stop(self) -> None:
        """Ask it to end after the batch it runs; `on_exit` follows. A process that it shares goes on."""
        self._is_stopping = True
        if not self.is_shared:
            self._process.hang_up()
        self._close_channels()

    def kill(self) -> None:
        """End it now; `on_exit` follows. Of a process that it shares too: there is no other way to end a run.

        One that runs nothing, and was not asked before, is only asked.
        """
        if not self.is_shared:
            self._process.kill()
        elif self._is_stopping or self._is_loading or any(not channel.is_idle for channel in self.channels):
            self._hung = self._hung or "was ended: it did not end when it was asked to"
            self._process.kill()
        else:
            self.stop()

    def end_hanging(self, reason: str) -> None:
        """End it, but first have it write down where it hangs; `on_exit` follows. `reason` is a predicate."""
        if self._process.is_running and not self._hung:
            self._hung = reason
            self._process.ask_where()
            self._loop.call_later(TRACE_GRACE_S, self._end_process)

    def replace(self, reason: str) -> None:
        """End it now, for another one; `on_exit` follows. That is not held against its model. `reason` is a predicate."""
        if self._process.is_running and not self._hung:
            self._hung, self.is_excused = reason, True
            self._process.kill()

    def on_report(self, report: Report, fds: list[int]) -> None:
        match report:
            case Ready() as ready:
                self._is_loading = False
                if self._is_stopping:
                    close_all(fds)  # which is how it hears that it is not wanted any more
                elif self._take_over(fds):
                    self._data, self._shared = data_of(self.pid), shared_of(self.pid)
                    self._events.on_ready(self, ready)
            case LoadRefused(reason, is_memory=True):
                self._is_loading = False
                self._short = f"could not load its model: {reason}"
            case LoadRefused(reason, is_stale):
                self._is_loading = False
                self.is_stale = is_stale
                if not self._is_stopping:
                    self._events.on_refused(self, reason)
            case Threads(idents):
                self._threads |= set(idents)
            case Unloaded():
                self._process.leave(self._number)
                self._end(Death(self._hung) if self._hung else UNLOADED)

    def on_unread(self, exc: OSError) -> None:
        self.is_excused = self.lacks_means = True
        self._hung = f"was ended: its instances could not be reached: {exc.strerror}"

    def suspect(self) -> Suspect:
        load = self.load
        # Alone in its process it is to blame anyway, and its answers are read when its channels are closed.
        broken_off = [channel.end() for channel in self.channels] if self.is_shared else []
        return Suspect(
            f"{load.name}/{load.version}",
            self._threads,
            (self._is_loading and bool(self._threads)) or any(broken_off),
            self._hung,
            self.is_excused,
        )

    def on_end(self, code: int, verdict: Verdict) -> None:
        self.is_overdue = code == -signal.SIGALRM
        self.is_excused = self.is_excused or verdict.is_excused
        self._end(verdict.death)

    def _end(self, death: Death) -> None:
        self._has_ended = True
        if self._short:
            death = Death(self._short, is_own_doing=False, is_memory=True)
        self._events.on_exit(self, death)
        self._close_channels()

    def _end_process(self) -> None:
        if not self._has_ended:
            self._process.kill()

    def _take_over(self, fds: list[int]) -> bool:
        """Make the instances' channels of the descriptors; where that fails, none is left open, and it is to end."""
        try:
            for at in range(0, len(fds), DESCRIPTORS):
                channel = Channel(self._loop, fds[at : at + DESCRIPTORS], self._events.on_credit)
                self.channels.append(channel)
        except OSError as exc:
            close_all(fds[len(self.channels) * DESCRIPTORS :])
            self._close_channels()
            self.on_unread(exc)
            if not self.is_shared:
                self._process.kill()
            return False
        return True

    def _close_channels(self) -> None:
        for channel in self.channels:
            channel.close()
        self.channels = []


def is_for_idle_times(load: Load) -> bool:
    """A probe, and a model that comes beside others which serve: they lose nothing by it, as far as it can be taken back."""
    return load.measure_only or (load.is_asked and linux.may_come_back_from_idle())


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
