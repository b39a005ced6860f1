"""The messages between gateway and worker: msgpack arrays, one a SEQPACKET datagram, one a batch each way."""

import errno
import os
import socket

import msgspec

from headrace.execution import linux
from headrace.execution.footprint import Footprint
from headrace.execution.stamps import Stamp
from headrace.messages import ModelSpec, Shape
from headrace.model_config import ModelConfig


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
        is_noisy: the machine was busy with something else, so the arrangement is to be measured again.
        latencies: cost of a row (Group.cost) → rows → seconds of a run.
        footprint: memory it takes; None if that has not been measured.
        load_s: seconds from the start of a worker until it was ready, the last time; 0 if it never was.
    """

    spec: ModelSpec | None = None
    instances: int = 1
    threads: int = 1
    latencies: dict[int, dict[int, float]] = {}
    is_noisy: bool = False
    footprint: Footprint | None = None
    load_s: float = 0.0


class Load(msgspec.Struct, tag="load"):
    """Gateway → worker, once: open this model.

    Attributes:
        instances, threads: None to have them measured.
        pads: input name → value, where the operator declares padding.
        profile_dir: where profiles are kept; None for the usual place.
        measure_only: this process is a probe: measure, report, end.
        is_asked: requests wait for it, so that what is known of it will do, however noisy the measurement; and it is
            loaded when nobody else wants a core, if that can be taken back.
        memory_limit: private bytes that a probe may have; None for any.
        config: what the model's repository says of it.
        stamps: its files as they were found, and as they have to be still.
    """

    name: str
    version: str
    path: str
    backend: str
    cores: int
    max_batch_size: int
    max_rows: int
    instances: int | None = None
    threads: int | None = None
    pads: dict[str, float] = {}
    profile_dir: str | None = None
    measure_only: bool = False
    memory_limit: int | None = None
    is_asked: bool = False
    config: ModelConfig = ModelConfig()
    stamps: tuple[Stamp, ...] = ()


class Ready(msgspec.Struct, tag="ready"):
    """Worker → gateway: loaded, and run once. DESCRIPTORS for each instance come with it.

    `profile.spec` is None while what the model can do is still to be measured; `key` is what its profile is kept under.
    `golden_cost` is the cost of its golden inputs' one row, None if there are none: then it cannot be tried out unasked.
    `measured_s`: seconds that went into finding out what it can do, as they do not the next time.
    """

    spec: ModelSpec
    profile: Profile
    key: str
    golden_cost: int | None = None
    measured_s: float = 0.0


class LoadRefused(msgspec.Struct, tag="refused"):
    """Worker → gateway: the model cannot be loaded, and trying again would not help.

    `is_stale` if its files are not those that were found: then it is for whoever looks at the files to say what next.
    `is_memory` if there was too little memory for it: then trying again may help.
    """

    reason: str
    is_stale: bool = False
    is_memory: bool = False


class Threads(msgspec.Struct, tag="threads"):
    """Worker → gateway: more threads of a model that shares its process, as a trace names them."""

    idents: tuple[int, ...]


class Unloaded(msgspec.Struct, tag="unloaded"):
    """Worker → gateway: nothing is left here of a model that shared the process. One of its own just ends."""


Order = Load
"""What a gateway says over the control socket, with the number of the model in the process that it is about."""
Report = Ready | LoadRefused | Threads | Unloaded
"""What a worker says there, likewise."""


class Run(msgspec.Struct, tag="run", array_like=True, gc=False):
    """Gateway → worker: a batch lies in the slot's input region.

    `gives_back`: memory is short, so what the run took beyond the weights is given back after it. Where `is_golden` is true nothing lies there: the worker runs its own golden inputs, and answers Done without outputs if they
    gave what they gave when it was loaded, else Failed. Nor does it where `is_rebuild` is: the worker opens its model anew, after
    all that its instances run now, and answers Done without outputs, or Failed.
    """

    batch: int
    slot: int
    size: int
    inputs: tuple[Placed, ...]
    wanted: tuple[int, ...]
    is_golden: bool = False
    gives_back: bool = False
    is_rebuild: bool = False


class RowError(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A row that failed among others that did not. `is_input`: the sender has to change it; `is_output`: its outputs are at fault."""

    row: int
    reason: str
    is_input: bool
    is_output: bool = False


class Done(msgspec.Struct, tag="done", array_like=True, gc=False):
    """Worker → gateway: its outputs lie in the slot's output region. Times in clock nanoseconds.

    Rows named in `errors` have no outputs worth reading; if all rows are, there may be no outputs at all.
    """

    batch: int
    size: int
    outputs: tuple[Placed, ...]
    received: int
    started: int
    ended: int
    sent: int
    errors: tuple[RowError, ...] = ()


class Failed(msgspec.Struct, tag="failed", array_like=True, gc=False):
    """Worker → gateway: the backend raised.

    `is_input` if it says that the inputs are at fault, `is_item` if it is what they hold and not their form; `is_output` if it
    gave outputs, and they are at fault; `is_memory` if there was too little memory for the run.
    """

    batch: int
    reason: str
    is_input: bool
    is_item: bool = False
    is_output: bool = False
    is_memory: bool = False


encode = msgspec.msgpack.Encoder().encode
_decode_order = msgspec.msgpack.Decoder(tuple[int, Order]).decode
_decode_report = msgspec.msgpack.Decoder(tuple[int, Report]).decode
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
MOST_DESCRIPTORS = 250
"""In one message; the kernel passes at most 253."""
MORE = b"more"
"""A message that brings nothing but descriptors, since they are too many for the one that follows."""


def send_order(control: socket.socket, number: int, order: Order) -> None:
    """Send what is to be done about the model of that number; labels alone may be longer than a datagram."""
    _send_in_memory(control, encode((number, order)), [])


def receive_order(control: socket.socket) -> tuple[int, Order]:
    """The number of a model, and what is to be done about it.

    Raises:
        ConnectionError: the gateway has closed its end.
    """
    received = _receive_in_memory(control, [])
    if received is None:
        raise ConnectionError("there are no orders any more")
    return _decode_order(received[0])


def send_report(control: socket.socket, number: int, report: Report, fds: list[int]) -> None:
    """Send a report of the model of that number with descriptors, however many. One thread at a time."""
    while len(fds) > MOST_DESCRIPTORS:
        first, fds = fds[:MOST_DESCRIPTORS], fds[MOST_DESCRIPTORS:]
        socket.send_fds(control, [MORE], first)
    _send_in_memory(control, encode((number, report)), fds)


def receive_report(control: socket.socket, before: list[int]) -> tuple[int, Report, list[int]] | None:
    """A model's number, a report of it, and the descriptors that came with it; None when the worker has closed its end.

    Args:
        control: the gateway's end.
        before: where descriptors are kept that came before their report; the same list each time.

    Raises:
        BlockingIOError: there is none now.
        OSError: this process may open no more files, so not all descriptors have come.
    """
    received = _receive_in_memory(control, before)
    return None if received is None else (*_decode_report(received[0]), received[1])


def _send_in_memory(control: socket.socket, content: bytes, fds: list[int]) -> None:
    """Send what may be longer than a datagram, and so travels in a memory file, with descriptors."""
    memory = linux.create_memory("headrace message")
    try:
        os.write(memory, content)
        socket.send_fds(control, [b"memory"], [memory, *fds])
    finally:
        os.close(memory)


def _receive_in_memory(control: socket.socket, before: list[int]) -> tuple[bytes, list[int]] | None:
    while True:
        try:
            data, fds, flags, _ = socket.recv_fds(control, LARGEST, MOST_DESCRIPTORS + 1)
        except ConnectionError:
            return None
        if flags & socket.MSG_CTRUNC:
            for fd in fds:
                os.close(fd)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if data != MORE:
            break
        before += fds
    if not data or not fds:
        return None
    memory, *fds = fds
    fds, before[:] = [*before, *fds], []
    try:
        return os.pread(memory, os.fstat(memory).st_size, 0), fds
    finally:
        os.close(memory)
