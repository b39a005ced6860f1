"""The child process that runs a backend: `python -m headrace.execution.worker PARENT CONTROL_FD TRACE_FD`.

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
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle

from headrace.errors import LoadFailed
from headrace.execution import linux
from headrace.execution.instance import LONGEST_REASON, Instance
from headrace.execution.opening import Opened, Opening
from headrace.execution.profiles import ProfileStore
from headrace.execution.stamps import changed
from headrace.execution.steps import Step, arm, reached
from headrace.execution.trace import Trace
from headrace.execution.wire import Load, LoadRefused, receive_order, send_report


def main(parent: int, control_fd: int, trace: Trace) -> None:
    """Serve one model until the gateway closes the sockets."""
    linux.die_with_parent(parent)
    # A terminal sends its signals to the whole group; the gateway drains first, then closes the sockets.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    number, load = receive_order(control)
    arm(load.name)
    reached(Step.LOAD_RECEIVED)
    setproctitle(f"headrace: {'probe' if load.measure_only else 'worker'} {load.name}/{load.version}")
    if load.measure_only:
        linux.run_when_idle()
    store = ProfileStore(Path(load.profile_dir) if load.profile_dir else None)
    try:
        expect_unchanged(load)
        opening = Opening(load, store)
        if load.measure_only:
            for ready in opening.measure_beside():
                expect_unchanged(load)
                send_report(control, number, ready, [])
            return
        opened = opening.open()
        expect_unchanged(load)
    except LoadFailed as exc:
        is_stale = changed(load.stamps) is not None
        send_report(control, number, LoadRefused(str(exc)[:LONGEST_REASON], is_stale=is_stale), [])
        return
    serve(control, number, opened, trace, must_be_finite=load.config.finite_outputs)
    reached(Step.ENDING)


def serve(control: socket.socket, number: int, opened: Opened, trace: Trace, *, must_be_finite: bool) -> None:
    """Say that all is ready, and run batches on all instances until the gateway closes their sockets."""
    backend, ready, golden = opened
    instances = [
        Instance(backend if at == 0 else backend.clone(), ready.spec, golden, must_be_finite=must_be_finite)
        for at in range(ready.profile.instances)
    ]
    reached(Step.ARENAS_MADE)
    send_report(control, number, ready, [fd for instance in instances for fd in instance.theirs()])
    threads = [
        threading.Thread(target=serve_or_end, args=(each, trace), name=f"instance {at}")
        for at, each in enumerate(instances)
    ]
    for instance in instances:
        instance.give_away()
    reached(Step.READY_SENT)
    for thread in threads[1:]:
        thread.start()
    serve_or_end(instances[0], trace)


def serve_or_end(instance: Instance, trace: Trace) -> None:
    """Have it serve; where that raises, the process ends: else its batches would be waited for until it counts as hanging."""
    try:
        instance.serve()
    except BaseException:  # noqa: BLE001 - whatever it was is written down
        end_badly(trace)


def end_badly(trace: Trace) -> NoReturn:
    """End the process, with what was raised for whoever asks why. A runtime's own exit handlers may hang."""
    trace.write_exception()
    sys.stdout.flush()
    os._exit(1)


def expect_unchanged(load: Load) -> None:
    """Hold the files against what was found.

    Raises:
        LoadFailed: they are others, as while somebody copies them.
    """
    if (file := changed(load.stamps)) is not None:
        raise LoadFailed(f"{file} is not what it was when it was found: it was changed or removed meanwhile")


if __name__ == "__main__":
    its_trace = Trace(int(sys.argv[3]))
    try:
        with contextlib.suppress(ConnectionError):  # the gateway no longer wants what was being loaded
            main(int(sys.argv[1]), int(sys.argv[2]), its_trace)
    except BaseException:  # noqa: BLE001 - whatever it was is written down
        end_badly(its_trace)
    sys.stdout.flush()
    os._exit(0)  # a runtime's own exit handlers may hang, and there is nothing left to save
