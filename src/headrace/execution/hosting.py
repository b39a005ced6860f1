"""The child process that several small models share: `python -m headrace.execution.hosting PARENT CONTROL_FD TRACE_FD [GROUP]`.

Each Load that comes over the control socket is opened on a thread of its own, few at once, while the models before it go on
running. One that cannot be opened, whatever that raises, is refused, and concerns nobody else.
A model leaves when the gateway closes its instances' sockets; the process ends when the gateway closes the control socket.
Whatever ends the process ends it for all of them: execution/death.py says who was to blame.
"""

import gc
import socket
import threading

from setproctitle import setproctitle

from headrace.execution import linux
from headrace.execution.session import Session
from headrace.execution.steps import Step, arm, reached, work_for
from headrace.execution.trace import Trace
from headrace.execution.wire import Load, LoadRefused, Threads, Unloaded, receive_order
from headrace.execution.worker import Line, end_badly, open_model, refusal, serve, work

OPENED_AT_ONCE = 2
"""Models: what opening takes on top of what stays would otherwise come so many times at once as there are models."""


class Host:
    """Models by number. `take_in` is called by one thread."""

    def __init__(self, line: Line, trace: Trace) -> None:
        self._line = line
        self._trace = trace
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(OPENED_AT_ONCE)
        self._labels: dict[int, str] = {}

    def take_in(self, number: int, load: Load) -> None:
        """Open one more model, and serve it until the gateway lets go of it."""
        self._show(number, f"{load.name}/{load.version}")
        threading.Thread(target=self._live, args=(number, load), name=load.name, daemon=True).start()

    def _live(self, number: int, load: Load) -> None:
        try:
            self._open_and_serve(number, load)
            gc.collect()  # what is left of a session may be part of a circle
            linux.trim_heap()
            self._show(number, None)
            self._line.report(number, Unloaded())
        except ConnectionError:
            pass  # the gateway has hung up: the process ends
        except BaseException:  # noqa: BLE001 - whatever it was is written down
            end_badly(self._trace)

    def _open_and_serve(self, number: int, load: Load) -> None:
        """Nothing of the model is referred to when this is over."""
        with self._turns:
            session = self._opened(number, load)
        if isinstance(session, LoadRefused):
            self._line.report(number, session)
        else:
            serve(self._line, number, session, self._trace)

    def _opened(self, number: int, load: Load) -> Session | LoadRefused:
        # From here on it may be what ends the process: whoever waits for its turn does nothing.
        self._line.report(number, Threads((threading.get_ident(),)))
        work_for(number)
        arm(load.name)
        reached(Step.LOAD_RECEIVED)
        try:
            return open_model(load)
        except Exception as exc:  # noqa: BLE001 - it is for this model to be refused, and for no other to end
            return refusal(load, exc)

    def _show(self, number: int, label: str | None) -> None:
        """In the process's title. None: it has left."""
        with self._lock:
            if label is None:
                del self._labels[number]
            else:
                self._labels[number] = label
            setproctitle(f"headrace: worker {', '.join(self._labels.values()) or '(idle)'}")


def main(control: socket.socket, trace: Trace) -> None:
    """Take models in until the gateway closes the control socket."""
    host = Host(Line(control), trace)
    while True:
        host.take_in(*receive_order(control))


if __name__ == "__main__":
    work(main)
