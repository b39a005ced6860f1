"""The gateway's end of a worker process: started, given orders, heard, and noticed when it ends."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol

from headrace.execution import linux
from headrace.execution.death import Suspect, Verdict, judge
from headrace.execution.limits import let_go_first
from headrace.execution.trace import ASK, read_trace
from headrace.execution.wire import Load, Report, receive_report, send_order
from headrace.execution.worker_groups import WorkerGroup, WorkerGroups

STDERR = 2
"""What a runtime prints is for the operator; our standard output is for answers."""
ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}
"""Of workers, where ours says nothing else. Onnxruntime would have a thread and a database, and tell its makers of its use."""
OWN, SHARED = "headrace.execution.worker", "headrace.execution.hosting"
"""What runs in a process of one model, and in one of several."""


class Member(Protocol):
    """A model in a process, as the process sees it."""

    @property
    def load(self) -> Load: ...

    def on_report(self, report: Report, fds: list[int]) -> None:
        """The worker said something; the descriptors are the member's."""

    def on_unread(self, exc: OSError) -> None:
        """Something that was said could not be taken in, perhaps of this member; the process is ended."""

    def suspect(self) -> Suspect:
        """What is known of it now that the process has ended."""

    def on_end(self, code: int, verdict: Verdict) -> None:
        """The process has ended with the code."""


class ProcessEvents(Protocol):
    """Whoever has several models share a process, and so wants to know what becomes of it."""

    def on_left(self, process: "Process") -> None:
        """A model has gone from it."""

    def on_culprit(self, load: Load) -> None:
        """A model has ended it."""

    def on_ended(self, process: "Process") -> None:
        """It is no more; its members hear of it next."""


class Process:
    """One child process. Lives on the loop."""

    def __init__(
        self, groups: WorkerGroups, events: ProcessEvents | None = None, *, is_idle: bool = False
    ) -> None:
        """Start it, to be shared if somebody is to hear its events. `groups` has its control group.

        `is_idle`: it runs when nobody else wants a core, until it says otherwise itself.

        Raises:
            OSError: there is no memory, descriptor or process number left for it. Nothing is left behind.
        """
        self.is_shared = events is not None
        self._events = events
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._control.close)
            with theirs:
                self._trace = linux.create_memory("headrace trace")
                undo.callback(os.close, self._trace)
                module = SHARED if self.is_shared else OWN
                self._process = start(module, theirs.fileno(), self._trace, groups.arguments)
                if is_idle:
                    linux.run_when_idle(self._process.pid)
            self.group: WorkerGroup = groups.of(self._process.pid)
            undo.callback(self.group.remove)
            undo.callback(self._process.wait)
            undo.callback(self._end_group)
            self._pidfd = os.pidfd_open(self._process.pid)
            undo.pop_all()
        # The mutable state: who is in it by number, and descriptors whose report is still to come.
        self._members: dict[int, Member] = {}
        self._numbers = itertools.count()
        self._early: list[int] = []
        self._control.setblocking(False)
        self._loop.add_reader(self._control.fileno(), self._on_report)
        self._loop.add_reader(self._pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Its end has not been noticed here."""
        return self._process.returncode is None

    @property
    def members(self) -> list[Member]:
        """In the order in which they came."""
        return list(self._members.values())

    def enter(self, member: Member) -> int:
        """Have its model opened; returns the number it has here.

        Raises:
            OSError: the process has ended, or cannot be reached now.
        """
        number = next(self._numbers)
        send_order(self._control, number, member.load)
        self._members[number] = member
        return number

    def leave(self, number: int) -> None:
        """The member has gone, and the process goes on."""
        del self._members[number]
        if self._events is not None:
            self._events.on_left(self)

    def hang_up(self) -> None:
        """Nothing more is said or heard; it ends when it has done what it does."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        while self._early:
            os.close(self._early.pop())

    def ask_where(self) -> None:
        """Have it write down where its threads are."""
        self._process.send_signal(ASK)

    def kill(self) -> None:
        """End it now."""
        if self.is_running:
            self._end_group()

    def close(self) -> None:
        """End it, and wait for that: nothing else is going to."""
        if self.is_running:
            self._end_group()
            self._on_exit()

    def _on_report(self) -> bool:
        """Take one report in; False if there is none."""
        try:
            received = receive_report(self._control, self._early)
        except BlockingIOError:
            return False
        except OSError as exc:
            for member in self.members:
                member.on_unread(exc)
            self.kill()
            return False
        if received is None:
            self._loop.remove_reader(self._control.fileno())
            return False
        number, report, fds = received
        self._members[number].on_report(report, fds)
        return True

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._end_group()  # until it is waited for, its number is nobody else's
        code = self._process.wait()
        while self._control.fileno() >= 0 and self._on_report():
            pass  # what it reported before it ended
        self.hang_up()
        trace = read_trace(self._trace)
        os.close(self._trace)
        members = self.members
        is_memory = code == -signal.SIGKILL and self.group.was_killed()
        self.group.remove()
        verdicts = judge(code, trace, [member.suspect() for member in members], is_memory=is_memory)
        if self._events is not None:
            self._events.on_ended(self)
            for member, verdict in zip(members, verdicts, strict=True):
                if verdict.death.is_own_doing:
                    self._events.on_culprit(member.load)
        for member, verdict in zip(members, verdicts, strict=True):
            member.on_end(code, verdict)

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def start(module: str, control: int, trace: int, more: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that has these descriptors of ours, and more on its command line."""
    passed = [control, trace]
    process = subprocess.Popen(  # noqa: S603 - our own module, no input of anybody's
        [sys.executable, "-m", module, str(os.getpid()), *map(str, passed), *more],
        env={**ENVIRONMENT, **os.environ},
        pass_fds=passed,
        stdin=subprocess.DEVNULL,
        stdout=STDERR,
        process_group=0,  # what a model's own code starts there ends with it
    )
    linux.have_way_given(process.pid)
    let_go_first(process.pid)
    return process
