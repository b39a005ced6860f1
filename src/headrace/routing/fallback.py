"""Which lesser answer a request gets where what it asked for cannot answer: the skill's chain, step by step. Pure.

What a step takes and gives is frontends/chain.py's business; here is only whether a failure is one that the skill falls
back for, and what comes next.
"""

from headrace.errors import (
    CircuitOpen,
    DeadlineExceeded,
    DeadlineInfeasible,
    GatewayBusy,
    HeadraceError,
    InferenceFailed,
    NotReady,
    Overloaded,
    QueueFull,
    RequestTimeout,
    ServerExiting,
)
from headrace.model_config import Fallback, FallbackStep

REASONS: dict[type[HeadraceError], tuple[str, ...]] = {
    # The gateway's own trouble is not the skill's: another step would only add to it.
    GatewayBusy: (),
    # Too much waits for the deadline to be kept: both are true.
    DeadlineInfeasible: ("overload", "deadline"),
    Overloaded: ("overload",),
    QueueFull: ("overload",),
    RequestTimeout: ("deadline",),
    DeadlineExceeded: ("deadline",),
    CircuitOpen: ("breaker",),
    NotReady: ("loading",),
    InferenceFailed: ("error",),
}
"""What of FALLBACK_REASONS an error is, kinds before what they are kinds of. All others are the sender's, or everybody's."""

BEGUN = (RequestTimeout, DeadlineExceeded, InferenceFailed)
"""After these a run may have begun, and nobody knows how far it came."""


def reasons(error: HeadraceError) -> tuple[str, ...]:
    """What of FALLBACK_REASONS an error is; nothing if no other answer would be right."""
    return next((named for kind, named in REASONS.items() if isinstance(error, kind)), ())


def label(step: FallbackStep) -> str:
    """What a step is called wherever it shows."""
    if step.variant:
        return f"variant:{step.variant}"
    return "static" if step.static else "stale"


class Descent:
    """Where one request stands in its skill's chain. Not thread-safe; holds no clock."""

    def __init__(self, fallback: Fallback, *, is_idempotent: bool) -> None:
        """`is_idempotent`: the request may be run again after a run that may have begun."""
        self._fallback = fallback
        self._is_idempotent = is_idempotent
        # The mutable state: what the caller gets if nothing else answers, what of `on` it is, the steps that were
        # taken, and whether variants may still be.
        self.first: HeadraceError | None = None
        self.reason = ""
        self.step: FallbackStep | None = None
        self._taken = 0
        self._may_run = True

    def fail(self, error: HeadraceError) -> bool:
        """What was asked, or the step that was taken last, failed so. False: the caller is to get `error` itself."""
        if self.first is None:
            self.reason = next((each for each in reasons(error) if each in self._fallback.on), "")
            if not self.reason:
                return False
            self.first = error
        if isinstance(error, BEGUN):
            self.has_run()
        if isinstance(error, ServerExiting):
            self._may_run = False
        return True

    def has_run(self) -> None:
        """A run of the request may have begun: there is none after it, if the request is not idempotent."""
        if not self._is_idempotent:
            self._may_run = False

    @property
    def is_at_end(self) -> bool:
        """There is no step left."""
        return self._taken >= len(self._fallback.chain)

    def next(self) -> FallbackStep | None:
        """The step to try now; None: the caller gets `first`."""
        chain = self._fallback.chain
        while self._taken < len(chain):
            step = chain[self._taken]
            self._taken += 1
            if self._may_run or not step.variant:
                self.step = step
                return step
        self.step = None
        return None

    def give_up(self) -> None:
        """No step can be tried any more."""
        self._taken = len(self._fallback.chain)
