"""Every error headrace raises on purpose, one sentence and one stable code each.

HeadraceError
├── InvalidRequest            the sender has to change the request
│   ├── RequestTooLarge       more bytes than the server accepts
│   ├── TooLargeForMemory     more rows than the model can have memory for
│   ├── UnsupportedMediaType  a body of a kind that the skill does not take
│   └── InvalidItem           understood, and the model can do nothing with what it holds
│       └── PoisonedRequest   runs failed with it, and went well without it
├── NotFound                  no such model
│   ├── UnknownVersion        the model is there, the version is not
│   ├── UnknownVariant        the skill is there, the variant is not
│   ├── UnknownRequest        nothing is known of a request with that id
│   └── NoSuchRegion          no shared memory of that name is registered
├── Unsupported               part of the protocol that this server does not speak
│   └── UnsupportedCoding     the body is compressed with something else than gzip or deflate
├── Unavailable               the same request may succeed later
│   ├── NotReady              the version is loading, restarting or failed
│   │   ├── ModelAbsent       it is not in memory, and will not be in time
│   │   └── NoRoom            there is no memory for it
│   ├── QueueFull             the queue holds as many bytes as it may
│   ├── Overloaded            too much waits for an answer in time
│   │   ├── DeadlineInfeasible  predicted on arrival for this request
│   │   └── GatewayBusy       the gateway itself falls behind
│   ├── CircuitOpen           what would run it keeps failing, and is left alone for a while
│   ├── BodiesFull            the server holds as many bytes of requests as it may
│   ├── RequestTimeout        the request's own timeout ran out while it waited
│   ├── SlowSender            the body did not arrive in time
│   └── ServerExiting         the server is draining
├── DeadlineExceeded          the deadline set in a header ran out while the request waited
├── InferenceFailed           the backend raised while it ran the request
│   ├── WorkerLost            the worker died or hung with the request, twice if it may be run again
│   ├── InvalidOutput         the model answered, with numbers that its skill says are a failure
│   ├── TookTooLong           the request's run reached its time limit
│   └── OutOfMemory           there was too little memory for the run, whatever was done about it
├── LoadFailed                a model cannot be loaded
│   └── NoMemoryToLoad        there is too little memory for it now
└── ConfigurationError        the command line or the settings cannot work

What each becomes on the wire is one table: protocol/status.py.
"""

import copyreg
from collections.abc import Mapping
from typing import ClassVar

MEGABYTE = 1e6


class HeadraceError(Exception):
    """Base of all errors headrace raises on purpose. `numbers`: what decided, by name, for whoever asks why."""

    code: ClassVar[str] = "internal"
    numbers: Mapping[str, float] = {}

    def __reduce__(self) -> tuple[object, ...]:
        """Made anew of its message: most are not made of what they say, so that a copy or pickle would be of no use."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class InvalidRequest(HeadraceError):
    """The request cannot be answered as it was sent."""

    code = "invalid_request"


class RequestTooLarge(InvalidRequest):
    """The request has more bytes than the server accepts."""

    code = "too_large"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"request JSON size of {size} bytes exceeds the maximum allowed input size of {limit} bytes. "
            "Use --http-max-input-size to increase the limit."
        )


class TooLargeForMemory(InvalidRequest):
    """A run of the request's rows would take more memory than the model may ever have; they cannot be run in parts."""

    code = "too_large_for_memory"

    def __init__(self, name: str, rows: int, needed: int, allowed: int, most: int) -> None:
        """Bytes of the run's activations, and of what is allowed; `most` rows of this size would fit."""
        advice = f"send at most {most} of them in a request" if most else "send a smaller one"
        super().__init__(
            f"a run of {rows} such row{'' if rows == 1 else 's'} takes about {needed / MEGABYTE:.1f} MB of memory beside the "
            f"weights of model '{name}', and {allowed / MEGABYTE:.1f} MB can be had: {advice}, or raise --memory-budget"
        )
        self.numbers = {"rows": rows, "needed_bytes": needed, "allowed_bytes": allowed, "rows_that_fit": most}


class UnsupportedMediaType(InvalidRequest):
    """The body is of a kind that the skill does not take."""

    code = "unsupported_media_type"

    def __init__(self, name: str, media_type: str, accepted: str) -> None:
        super().__init__(f"skill '{name}' does not take a body of type '{media_type[:100]}': send {accepted}")


class InvalidItem(InvalidRequest):
    """The request was understood, and what it holds is nothing the model can answer.

    For a user's own code too: a model or transform raises it, or gives it for single rows, with a sentence for the
    sender. It concerns that item only; who travelled with it gets an answer.
    """

    code = "invalid_item"


class PoisonedRequest(InvalidItem):
    """The model fails on the request, and only on it; sent again, it is refused for a while."""

    code = "poisoned"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"model '{name}' fails on this request, and not on others: {reason}")


class NotFound(HeadraceError):
    """No model has that name."""

    code = "not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Request for unknown model: '{name}' is not found")


class UnknownVersion(NotFound):
    """The model exists; the version that was asked for does not."""

    code = "unknown_version"

    def __init__(self, name: str, version: str | None) -> None:
        HeadraceError.__init__(
            self,
            f"Request for unknown model: '{name}' has no available versions"
            if version is None
            else f"Request for unknown model: '{name}' version {version} is not found",
        )


class NoSuchRegion(NotFound):
    """No shared memory is registered under the name."""

    code = "no_such_region"

    def __init__(self, kind: str, name: str) -> None:
        HeadraceError.__init__(self, f"Unable to find {kind} shared memory region: '{name}'")


class UnknownVariant(NotFound):
    """The skill exists; the variant that was asked for does not."""

    code = "unknown_variant"

    def __init__(self, name: str, variant: str, there: str) -> None:
        HeadraceError.__init__(
            self,
            f"skill '{name}' has no variant '{variant[:100]}'{f'; it has {there}' if there else ''}",
        )


class UnknownRequest(NotFound):
    """Nothing is known of a request with that id."""

    code = "unknown_request"

    def __init__(self, request_id: str, because: str) -> None:
        HeadraceError.__init__(self, f"nothing is known of a request '{request_id[:100]}': {because}")


class Unsupported(HeadraceError):
    """A part of the protocol this server does not speak."""

    code = "unsupported"


class UnsupportedCoding(Unsupported):
    """The body is compressed in a way this server does not read."""

    code = "unsupported_coding"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Unsupported compression type '{name[:100]}': send gzip, deflate, or the body as it is"
        )


class Unavailable(HeadraceError):
    """The same request may succeed later."""

    code = "unavailable"


class NotReady(Unavailable):
    """The version exists but cannot answer now."""

    code = "not_ready"

    def __init__(self, name: str, version: str, reason: str) -> None:
        because = f": {reason}" if reason else ""
        super().__init__(
            f"Request for unknown model: '{name}' version {version} is not at ready state{because}"
        )


class ModelAbsent(NotReady):
    """The version is not in memory and will be too late for the request; `retry_after_s` later it is there, about."""

    code = "model_absent"

    def __init__(self, name: str, version: str, expected_s: float | None, allowed_s: float) -> None:
        """`expected_s` until it is loaded, None where that was never measured; `allowed_s` is left to the request."""
        then = "it is being loaded" if expected_s is None else f"it is loaded in about {expected_s:.1f} s"
        HeadraceError.__init__(
            self,
            f"model '{name}' version {version} is not in memory; {then}, and {allowed_s * 1e3:.0f} ms are allowed: "
            "ask again, or give it a longer deadline",
        )
        self.retry_after_s = expected_s or 0.0
        self.numbers = {"allowed_ms": round(allowed_s * 1e3, 3)}
        if expected_s is not None:
            self.numbers = {"expected_ms": round(expected_s * 1e3, 3)} | self.numbers


class NoRoom(NotReady):
    """There is no memory for the version, as the message works out; None for `retry_after_s`: nor will there be."""

    code = "no_room"

    def __init__(self, name: str, version: str, reason: str, retry_after_s: float | None) -> None:
        HeadraceError.__init__(self, f"there is no memory for model '{name}' version {version}: {reason}")
        self.retry_after_s = retry_after_s


class QueueFull(Unavailable):
    """The queue holds as many bytes as it may."""

    code = "queue_full"

    def __init__(self, name: str, limit: str) -> None:
        super().__init__(f"Exceeds maximum queue size: {limit} wait for model '{name}' already")


class Overloaded(Unavailable):
    """Too much waits for the request to be answered in time; `retry_after_s` later it would have been."""

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineInfeasible(Overloaded):
    """Predicted on arrival: the request would be answered after its deadline, or after what its skill promises."""

    code = "deadline_infeasible"

    def __init__(self, name: str, expected_s: float, allowed_s: float) -> None:
        super().__init__(
            f"model '{name}' would answer in {expected_s * 1e3:.0f} ms, and {allowed_s * 1e3:.0f} ms are allowed",
            expected_s - allowed_s,
        )
        self.numbers = {"expected_ms": round(expected_s * 1e3, 3), "allowed_ms": round(allowed_s * 1e3, 3)}


class GatewayBusy(Overloaded):
    """The gateway itself falls behind; the request was not looked at."""

    code = "gateway_busy"

    def __init__(self, lag_s: float) -> None:
        super().__init__(f"the server is {lag_s * 1e3:.0f} ms behind: try again later", 1.0)
        self.numbers = {"behind_ms": round(lag_s * 1e3, 3)}


class CircuitOpen(Unavailable):
    """The breaker of what would run the request is open; `retry_after_s` later it is tried again."""

    code = "circuit_open"

    def __init__(self, name: str, reason: str, retry_after_s: float) -> None:
        super().__init__(f"the circuit breaker of model '{name}' is open: {reason}")
        self.retry_after_s = retry_after_s
        self.numbers = {"retry_after_ms": round(retry_after_s * 1e3, 3)}


class BodiesFull(Unavailable):
    """The server holds as many bytes of requests as it may."""

    code = "bodies_full"

    def __init__(self) -> None:
        super().__init__("the server holds as many bytes of requests as it may: try again later")


class RequestTimeout(Unavailable):
    """The request's timeout ran out while it waited, and it was not run, or in a run that took too long."""

    code = "timeout"

    def __init__(self) -> None:
        super().__init__("Request timeout expired")


class SlowSender(Unavailable):
    """The rest of the request did not arrive in time."""

    code = "slow_sender"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request did not arrive completely within {seconds:g} s")


class ServerExiting(Unavailable):
    """The server is draining and takes no new work."""

    code = "exiting"

    def __init__(self) -> None:
        super().__init__("Server exiting")


class DeadlineExceeded(HeadraceError):
    """The deadline named in a header ran out while the request waited, and it was not run, or in a run that took too long."""

    code = "deadline_exceeded"

    def __init__(self) -> None:
        super().__init__("deadline exceeded before the request was answered")


class InferenceFailed(HeadraceError):
    """The backend raised while it ran the request."""

    code = "inference_failed"


class WorkerLost(InferenceFailed):
    """The worker died or hung while it ran the request, and again when it was retried, if it may be."""

    code = "worker_lost"

    def __init__(self, name: str, *, is_retried: bool = True) -> None:
        often = (
            "twice" if is_retried else "and its skill says that it must not be run again (idempotent: false)"
        )
        super().__init__(f"the worker of model '{name}' died while it ran this request, {often}")


class InvalidOutput(InferenceFailed):
    """The model's answer has NaN or an infinite number, and its skill says that this is a failure."""

    code = "invalid_output"


class TookTooLong(InferenceFailed):
    """The request's run reached the time limit of the skill's own code, which was ended."""

    code = "took_too_long"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the transform of skill '{name}' took longer than its time limit (timeout_ms in skill.yaml) and was ended"
        )


class OutOfMemory(InferenceFailed):
    """There was too little memory for the run; nothing of it was answered."""

    code = "out_of_memory"


class LoadFailed(HeadraceError):
    """A model cannot be loaded; the message says why."""

    code = "load_failed"


class NoMemoryToLoad(LoadFailed):
    """There was too little memory to load a model now; later there may be enough."""

    code = "no_memory_to_load"

    def __init__(self, path: object, said: str) -> None:
        super().__init__(
            f"there is too little memory to load {path} ({said}): end what else needs memory, allow more of it "
            "(--memory-budget, or the container's limit), or serve fewer models at once"
        )


class ConfigurationError(HeadraceError):
    """The settings cannot work; the message says what to change."""

    code = "configuration"
