"""The child process that runs a backend: `python -m headrace.execution.worker PARENT CONTROL_FD TRACE_FD [GROUP]`.

It reads one Load from its control socket, has the model opened (opening.py), answers Ready with the descriptors of its
instances, and then each instance runs batches on a thread of its own until the gateway closes its socket. Where it ends
otherwise, what its threads were doing then lies in the gateway's memory file TRACE_FD (trace.py).
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle

from headrace.backends.base import Backend, ran_out_of_memory
from headrace.errors import LoadFailed, NoMemoryToLoad
from headrace.execution import linux
from headrace.execution.death import NO_MEMORY
from headrace.execution.instance import LONGEST_REASON, Instance, reason_of
from headrace.execution.opening import Opening
from headrace.execution.profiles import ProfileStore
from headrace.execution.session import Session
from headrace.execution.stamps import changed
from headrace.execution.steps import Step, arm, reached, work_for
from headrace.execution.trace import Trace
from headrace.execution.wire import Load, LoadRefused, Report, Threads, receive_order, send_report


class Line:
    """To the gateway, for the reports of every model in this process. Any thread may use it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()

    def report(self, number: int, report: Report, fds: Sequence[int] = ()) -> None:
        """Say something of the model of that number.

        Raises:
            ConnectionError: the gateway listens no more.
        """
        with self._lock:
            send_report(self._control, number, report, list(fds))


def main(control: socket.socket, trace: Trace) -> None:
    """Serve one model until the gateway closes the sockets."""
    line = Line(control)
    number, load = receive_order(control)
    arm(load.name)
    reached(Step.LOAD_RECEIVED)
    setproctitle(f"headrace: {'probe' if load.measure_only else 'worker'} {load.name}/{load.version}")
    try:
        if load.measure_only:
            expect_unchanged(load)
            for ready in Opening(load, store_of(load)).measure_beside():
                expect_unchanged(load)
                line.report(number, ready)
            return
        session = open_model(load)
        if linux.is_idle():
            linux.run_as_usual(os.getpid())
    except (LoadFailed, MemoryError) as exc:
        line.report(number, refusal(load, exc))
        return
    serve(line, number, session, trace)


def open_model(load: Load) -> Session:
    """The model as it was found.

    Raises:
        LoadFailed: it cannot be loaded, or is another one by now.
        MemoryError: there is too little memory for it now.
    """

    def reopen() -> Backend:
        expect_unchanged(load)
        return opening.reopen(threads)

    expect_unchanged(load)
    opening = Opening(load, store_of(load))
    opened = opening.open()
    expect_unchanged(load)
    threads = opened.ready.profile.threads
    return Session(opened, reopen, must_be_finite=load.config.finite_outputs)


def refusal(load: Load, exc: Exception) -> LoadRefused:
    """What the gateway is told of a model that cannot be loaded."""
    is_memory = ran_out_of_memory(exc)
    if is_memory and not isinstance(exc, NoMemoryToLoad):
        exc = NoMemoryToLoad(load.path, str(exc) or type(exc).__name__)
    is_stale = changed(load.stamps) is not None
    return LoadRefused(reason_of(exc, LONGEST_REASON), is_stale=is_stale, is_memory=is_memory)


def store_of(load: Load) -> ProfileStore:
    return ProfileStore(Path(load.profile_dir) if load.profile_dir else None)


def serve(line: Line, number: int, session: Session, trace: Trace) -> None:
    """Say that all is ready, and run batches on all instances until the gateway closes their sockets."""
    instances = session.instances
    reached(Step.ARENAS_MADE)
    # The first serves on this thread. Nothing is run before the report, so that a trace of any run can be read.
    threads = [
        threading.Thread(target=serve_or_end, args=(each, number, trace), name=f"instance {at}", daemon=True)
        for at, each in enumerate(instances[1:], 1)
    ]
    for thread in threads:
        thread.start()
    line.report(number, Threads((threading.get_ident(), *(each.ident or 0 for each in threads))))
    line.report(number, session.ready, [fd for instance in instances for fd in instance.theirs()])
    for instance in instances:
        instance.give_away()
    reached(Step.READY_SENT)
    serve_or_end(instances[0], number, trace)
    for thread in threads:
        thread.join()
    session.close()
    reached(Step.ENDING)


def serve_or_end(instance: Instance, number: int, trace: Trace) -> None:
    """Have it serve; where that raises, the process ends: else its batches would be waited for until it counts as hanging."""
    work_for(number)
    try:
        instance.serve()
    except BaseException:  # noqa: BLE001 - whatever it was is written down
        end_badly(trace)


def end_badly(trace: Trace) -> NoReturn:
    """End the process, with what was raised for whoever asks why. A runtime's own exit handlers may hang."""
    raised = sys.exc_info()[1]
    trace.write_exception()
    sys.stdout.flush()
    os._exit(NO_MEMORY if raised is not None and ran_out_of_memory(raised) else 1)


def expect_unchanged(load: Load) -> None:
    """Hold the files against what was found.

    Raises:
        LoadFailed: they are others, as while somebody copies them.
    """
    if (file := changed(load.stamps)) is not None:
        raise LoadFailed(f"{file} is not what it was when it was found: it was changed or removed meanwhile")


def work(what: Callable[[socket.socket, Trace], None]) -> NoReturn:
    """Do it with the control socket and the trace that the command line names, in the control group, and end the process."""
    parent, control, trace = int(sys.argv[1]), int(sys.argv[2]), Trace(int(sys.argv[3]))
    try:
        linux.die_with_parent(parent)
        for group in sys.argv[4:]:
            linux.enter_group(group)
        # A terminal sends its signals to the whole group; the gateway drains first, then closes the sockets.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(ConnectionError):  # the gateway no longer wants what was being loaded
            what(socket.socket(fileno=control), trace)
    except BaseException:  # noqa: BLE001 - whatever it was is written down
        end_badly(trace)
    sys.stdout.flush()
    os._exit(0)  # a runtime's own exit handlers may hang, and there is nothing left to save


if __name__ == "__main__":
    work(main)
