"""A request's place in a queue, answered exactly once."""

from enum import Enum, auto
from typing import Protocol

from headrace.errors import DeadlineExceeded, HeadraceError, RequestTimeout
from headrace.messages import InferRequest
from headrace.parts import Part
from headrace.records import Record


class Reply(Protocol):
    """Where a ticket's answer goes: exactly one end, or one failure. Called on the loop; must not block.

    An answer in several parts has others before its end; nothing answers so yet.
    """

    def end(self, part: Part) -> None:
        """The last part of the answer, or all of it; valid only during the call."""

    def fail(self, error: HeadraceError) -> None:
        """There is no answer, or no more of it."""


class State(Enum):
    """Where a ticket stands. WAITING ⇄ RUNNING (a retry goes back), then one of the others for good."""

    WAITING = auto()
    RUNNING = auto()
    ANSWERED = auto()
    DROPPED = auto()
    EXPIRED = auto()
    """Answered that its deadline has passed, while it is still being run: what comes of that is nobody's."""


UNHEARD = (State.DROPPED, State.EXPIRED)
"""Nobody waits for an answer any more."""


class Ticket:
    """One accepted request. Lives on the loop.

    `answer` and `refuse` may be called once in all, and not after `drop`; that is this class's promise to the client.
    """

    __slots__ = (
        "_reply",
        "arrived",
        "deadline",
        "is_alone",
        "is_asked",
        "is_retry",
        "lane",
        "level",
        "record",
        "request",
        "state",
        "target",
        "tenant",
        "timeout_error",
    )

    def __init__(
        self,
        request: InferRequest,
        reply: Reply,
        arrived: float,
        deadline: float,
        timeout_error: type[DeadlineExceeded | RequestTimeout] = RequestTimeout,
    ) -> None:
        """Times on the injected clock, in seconds; timeout_error is what expiry is answered with."""
        self.request = request
        self.arrived = arrived
        self.deadline = deadline
        self.timeout_error = timeout_error
        # Mutable: where the answer goes (let go with it: it holds the ticket, and a circle would wait for the garbage
        # collector), where the ticket stands, and whether a worker has failed it once already.
        self._reply: Reply | None = reply
        self.state = State.WAITING
        self.is_retry = False
        # Whether it shares its batch with nobody, and which of its queue's lanes it waits in, None before.
        self.is_alone = request.is_alone
        self.lane: object = None
        # Lower ones are served first, whatever the deadlines.
        self.level = 0
        # Whose device time it takes; when it is to be answered to be taken in at all (the skill's promise, which may
        # end before the deadline); whether the deadline is the caller's own.
        self.tenant = ""
        self.target = deadline
        self.is_asked = False
        # Where to write down what becomes of it; None for most.
        self.record: Record | None = None

    def try_again(self) -> None:
        """It had its first try; it gets another, alone."""
        self.is_retry = self.is_alone = True

    def answer(self, part: Part) -> None:
        """Give the rows to the client, unless it has gone."""
        if self.state in UNHEARD:
            return
        assert self.state is State.RUNNING, "only a running ticket has an answer"
        self.state = State.ANSWERED
        reply, self._reply = self._reply, None
        assert reply is not None, "a ticket is answered once"
        reply.end(part)

    def refuse(self, error: HeadraceError) -> None:
        """Answer with an error, unless the client has gone."""
        if self.state in UNHEARD:
            return
        assert self.state is not State.ANSWERED, "a ticket is answered once"
        self.state = State.ANSWERED
        reply, self._reply = self._reply, None
        assert reply is not None, "a ticket is answered once"
        reply.fail(error)

    def expire(self) -> None:
        """It is being run, and takes too long: answer with the error of its deadline. What comes of the run is nobody's."""
        self.refuse(self.timeout_error())
        self.state = State.EXPIRED

    def drop(self) -> bool:
        """The client is gone. True if the ticket was still waiting, so that its queue may forget it."""
        was_waiting = self.state is State.WAITING
        if self.state is State.WAITING or self.state is State.RUNNING:
            self.state = State.DROPPED
            self._reply = None
        return was_waiting
