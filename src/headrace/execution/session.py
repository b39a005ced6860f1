"""An open model in a worker: what its instances run, and how it is opened anew in place when memory ran out under it.

What runs have taken is kept by the runtime in pieces, and after one that failed for want of memory there may be no piece
left that is large enough, however much is free. A new session begins with none.
"""

import contextlib
import gc
from collections.abc import Callable

from headrace.backends.base import Backend
from headrace.execution import linux
from headrace.execution.instance import Instance
from headrace.execution.opening import Opened


class Session:
    """Holds the only references to the backend there are, beside its instances': what is to be given back must not be held."""

    def __init__(self, opened: Opened, reopen: Callable[[], Backend], *, must_be_finite: bool) -> None:
        """`reopen` gives another backend over the same model, and raises LoadFailed or MemoryError if there is none."""
        backend, self.ready, self._golden = opened
        self._reopen = reopen
        self.instances = [
            Instance(each, self.ready.spec, self._golden, self.rebuild, must_be_finite=must_be_finite)
            for each in self._for_each(backend)
        ]

    def rebuild(self) -> None:
        """Open the model anew, once what its instances run is done; called by one of them.

        Raises:
            LoadFailed, MemoryError: it cannot be opened; nothing can be run any more.
            InferenceFailed: it does not give what it gave.
        """
        with contextlib.ExitStack() as turns:
            for instance in self.instances:
                turns.enter_context(instance.turn)
            for instance in self.instances:
                instance.backend = None
            gc.collect()  # what is left of a session may be part of a circle
            linux.trim_heap()
            backend = self._reopen()
            if self._golden is not None:
                self._golden.run(backend)
            for instance, each in zip(self.instances, self._for_each(backend), strict=True):
                instance.backend = each

    def close(self) -> None:
        """Let go of everything, once none of its instances serves any more.

        Nothing is left to be collected: while another thread collects, a collection that is asked for does not take place.
        """
        for instance in self.instances:
            instance.close()
        self.instances = []
        self._golden = None

    def _for_each(self, backend: Backend) -> list[Backend]:
        """One for each instance."""
        return [backend, *(backend.clone() for _ in range(self.ready.profile.instances - 1))]
