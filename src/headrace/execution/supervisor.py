"""Starts a worker process, hears what it reports, and notices when it ends."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from headrace.execution import linux
from headrace.execution.channel import Channel
from headrace.execution.trace import ASK, read_trace
from headrace.execution.wire import DESCRIPTORS, Load, LoadRefused, Ready, receive_report, send_order

STDERR = 2
"""What a runtime prints is for the operator; our standard output is for answers."""
NUMBER = 0
"""Of the only model in a process."""
TRACE_GRACE_S = 0.2
"""For a worker that hangs to write down where, before it is killed."""

OF_OTHERS = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
"""Signals that a process gets from somebody, or from the kernel where memory runs out."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended, and where its threads were then.

    Attributes:
        reason: as in "was killed by SIGSEGV".
        trace: what it wrote down itself, or "".
        signal: name of the one that ended it; "" if it ended by itself, or was ended since it hung.
        is_own_doing: what it ran made it end, as far as can be told, and nobody from outside.
    """

    reason: str
    trace: str = ""
    signal: str = ""
    is_own_doing: bool = True


@dataclass(frozen=True, slots=True)
class WorkerEvents:
    """Whom a worker tells, on the loop."""

    on_ready: Callable[["Worker", Ready], None]
    on_refused: Callable[["Worker", str], None]
    on_exit: Callable[["Worker", "Death"], None]
    on_credit: Callable[[], None]


class Worker:
    """One child process and the channels to its instances. Lives on the loop."""

    def __init__(self, load: Load, events: WorkerEvents) -> None:
        """Start the process.

        Raises:
            OSError: there is no memory, descriptor or process number left for it. Nothing is left behind.
        """
        self.load = load
        self.channels: list[Channel] = []
        self.is_stale = False  # it found other files than it was told of
        self.is_overdue = False  # it was ended by the time limit it had set itself
        self.is_excused = False  # it was ended since this process lacked the means to go on with it
        self._events = events
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._control.close)
            with theirs:
                self._trace = linux.create_memory("headrace trace")
                undo.callback(os.close, self._trace)
                self._process = start(theirs.fileno(), self._trace)
            undo.callback(self._process.wait)
            undo.callback(self._end_group)
            self._pidfd = os.pidfd_open(self._process.pid)
            undo.callback(os.close, self._pidfd)
            send_order(self._control, NUMBER, load)
            undo.pop_all()
        self._is_stopping = False
        self._hung = ""  # the reason why it is being ended, if it is
        self._early: list[int] = []  # descriptors whose report is still to come
        self._control.setblocking(False)
        self._loop.add_reader(self._control.fileno(), self._on_report)
        self._loop.add_reader(self._pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end after the batch it runs; `on_exit` follows."""
        self._is_stopping = True
        self._close_control()
        self._close_channels()

    def kill(self) -> None:
        """End it now; `on_exit` follows."""
        if self._process.returncode is None:
            self._end_group()

    def end_hanging(self, reason: str) -> None:
        """End it, but first have it write down where it hangs; `on_exit` follows. `reason` is a predicate."""
        if self._process.returncode is None and not self._hung:
            self._hung = reason
            self._process.send_signal(ASK)
            self._loop.call_later(TRACE_GRACE_S, self.kill)

    def _on_report(self) -> bool:
        """Take one report in; False if there is none."""
        try:
            received = receive_report(self._control, self._early)
        except BlockingIOError:
            return False
        except OSError as exc:
            self._give_up(exc)
            return False
        if received is None:
            self._loop.remove_reader(self._control.fileno())
            return False
        _, report, fds = received
        match report:
            case Ready() as ready:
                try:
                    self._take_over(fds)
                except OSError as exc:
                    self._give_up(exc)
                    return False
                self._events.on_ready(self, ready)
            case LoadRefused(reason, is_stale):
                self.is_stale = is_stale
                self._events.on_refused(self, reason)
        return True

    def _take_over(self, fds: list[int]) -> None:
        """Make the instances' channels of the descriptors; where that fails, none is left open."""
        try:
            for at in range(0, len(fds), DESCRIPTORS):
                channel = Channel(self._loop, fds[at : at + DESCRIPTORS], self._events.on_credit)
                self.channels.append(channel)
        except OSError:
            for fd in fds[len(self.channels) * DESCRIPTORS :]:
                os.close(fd)
            self._close_channels()
            raise

    def _give_up(self, exc: OSError) -> None:
        """What it sent cannot be taken in here."""
        self.is_excused = True
        self._hung = f"was ended: its instances could not be reached: {exc.strerror}"
        self.kill()

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._end_group()  # until it is waited for, its number is nobody else's
        code = self._process.wait()
        while self._control.fileno() >= 0 and self._on_report():
            pass  # what it reported before it ended
        self._close_control()
        self.is_overdue = code == -signal.SIGALRM
        trace = read_trace(self._trace)
        os.close(self._trace)
        self._events.on_exit(self, death_of(code, trace, self._hung))
        self._close_channels()

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _close_channels(self) -> None:
        for channel in self.channels:
            channel.close()
        self.channels = []

    def _close_control(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        while self._early:
            os.close(self._early.pop())


def start(control: int, trace: int) -> subprocess.Popen[bytes]:
    """A process that has these descriptors of ours."""
    passed = [control, trace]
    process = subprocess.Popen(  # noqa: S603 - our own module, no input of anybody's
        [sys.executable, "-m", "headrace.execution.worker", str(os.getpid()), *map(str, passed)],
        pass_fds=passed,
        stdin=subprocess.DEVNULL,
        stdout=STDERR,
        process_group=0,  # what a model's own code starts there ends with it
    )
    linux.have_way_given(process.pid)
    return process


def death_of(code: int, trace: str, hung: str) -> Death:
    """How a process ended with the code, of which the gateway said that it hung, or nothing."""
    if hung:
        return Death(hung, trace)
    if code >= 0:
        return Death(f"ended with status {code}", trace)
    name = signal_name(-code)
    return Death(f"was killed by {name}", trace, name, is_own_doing=-code not in OF_OTHERS)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have none
        return f"signal {number}"
