"""Where a worker's threads were when it ended, in a memory file that outlives it.

The gateway makes the file and reads it when the process has ended; the worker has faulthandler write there: on a fatal
signal, and when the gateway, before it ends a worker that hangs, asks for it.
"""

import contextlib
import faulthandler
import os
import signal
import threading
import traceback

ASK = signal.SIGUSR2
"""From the gateway: write down where all threads are. The kernel's, so that no lock of Python's is in the way."""
LONGEST_BYTES = 1 << 14
"""Of a trace that is kept."""
EXTENSIONS = "\n\nExtension modules: "
"""A long list follows that says nothing of where threads were."""


class Trace:
    """The worker's end."""

    def __init__(self, fd: int) -> None:
        """Take over the file, and have fatal signals written down there."""
        self._fd = fd
        os.set_inheritable(fd, False)
        faulthandler.enable(file=fd)
        faulthandler.register(ASK, file=fd)
        # The time limit of transforms/alarm.py. The process then ends of it, as it would without.
        faulthandler.register(signal.SIGALRM, file=fd, chain=True)

    def write_exception(self) -> None:
        """Write down what is being handled and by which thread, the innermost calls if there are many."""
        thread = f"Current thread 0x{threading.get_ident():016x}:\n".encode()  # as faulthandler has it
        text = traceback.format_exc().encode(errors="backslashreplace")
        with contextlib.suppress(OSError):
            os.write(self._fd, thread + text[len(thread) - LONGEST_BYTES :])


def read_trace(fd: int) -> str:
    """What was written, the first of it if it is much; empty if the process could not say anything."""
    text = os.pread(fd, LONGEST_BYTES, 0).decode(errors="replace")
    return text.partition(EXTENSIONS)[0].strip()
