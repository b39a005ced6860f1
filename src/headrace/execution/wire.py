"""The messages between gateway and worker: msgpack arrays, one a SEQPACKET datagram, one a batch each way."""

import msgspec

from headrace.messages import ModelSpec, Shape


class Placed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A tensor in a region: which (position in the spec), where, how long, and its shape."""

    index: int
    offset: int
    nbytes: int
    shape: Shape


class Profile(msgspec.Struct, frozen=True):
    """What was measured of a model on this hardware; kept on disk between starts.

    Attributes:
        spec: what was probed; None if that has not been done.
        instances, threads: the fastest arrangement found.
        latencies: cost of a row (Group.cost) → rows → seconds of a run.
    """

    spec: ModelSpec | None = None
    instances: int = 1
    threads: int = 1
    latencies: dict[int, dict[int, float]] = {}


class Load(msgspec.Struct, tag="load"):
    """Gateway → worker, once: open this model.

    Attributes:
        instances, threads: None to have them measured.
        pads: input name → value, where the operator declares padding.
        profile_dir: where profiles are kept; None for the usual place.
        measure_only: this process is a probe: measure, report, end.
    """

    name: str
    version: str
    path: str
    backend: str
    cores: int
    max_batch_size: int
    instances: int | None = None
    threads: int | None = None
    pads: dict[str, float] = {}
    profile_dir: str | None = None
    measure_only: bool = False


class Ready(msgspec.Struct, tag="ready"):
    """Worker → gateway: loaded, and run once. DESCRIPTORS for each instance come with it.

    `profile.spec` is None while what the model can do is still to be measured; `key` is what its profile is kept under.
    """

    spec: ModelSpec
    profile: Profile
    key: str


class LoadRefused(msgspec.Struct, tag="refused"):
    """Worker → gateway: the model cannot be loaded, and trying again would not help."""

    reason: str


class Run(msgspec.Struct, tag="run", array_like=True, gc=False):
    """Gateway → worker: a batch lies in the slot's input region."""

    batch: int
    slot: int
    size: int
    inputs: tuple[Placed, ...]
    wanted: tuple[int, ...]


class Done(msgspec.Struct, tag="done", array_like=True, gc=False):
    """Worker → gateway: its outputs lie in the slot's output region. Times in clock nanoseconds."""

    batch: int
    size: int
    outputs: tuple[Placed, ...]
    received: int
    started: int
    ended: int
    sent: int


class Failed(msgspec.Struct, tag="failed", array_like=True, gc=False):
    """Worker → gateway: the backend raised. `is_input` if it says that the inputs are at fault."""

    batch: int
    reason: str
    is_input: bool


encode = msgspec.msgpack.Encoder().encode
decode_load = msgspec.msgpack.Decoder(Load).decode
decode_report = msgspec.msgpack.Decoder(Ready | LoadRefused).decode
decode_run = msgspec.msgpack.Decoder(Run).decode
decode_result = msgspec.msgpack.Decoder(Done | Failed).decode

LARGEST = 1 << 16
"""Bytes of the largest message; a longer one would be cut off by the socket."""
CREDITS = 2
"""Batches in flight on a channel: one runs, one waits, so the worker never waits for the gateway."""
SLOTS = CREDITS + 1
"""One more than can be in flight: the outputs of a batch are read while the next one is already sent."""
DESCRIPTORS = 1 + 2 * SLOTS
"""Passed for an instance: its socket, then for each slot the input and the output region."""
