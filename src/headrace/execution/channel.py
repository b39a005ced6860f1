"""The gateway's end of one instance: a socket, slots of shared memory, and credits."""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from headrace.execution.arena import Region
from headrace.execution.wire import (
    CREDITS,
    DESCRIPTORS,
    LARGEST,
    SLOTS,
    Done,
    Failed,
    Placed,
    Run,
    decode_result,
    encode,
)


class InFlight(Protocol):
    """A batch the instance has been given. The channel calls one of these, once, or neither if it is lost.

    `gives_back` is that of wire.Run.
    """

    gives_back: bool

    def on_done(self, done: Done, outputs: Region) -> None:
        """The outputs lie in the region, and stay there during this call only."""

    def on_failed(self, failed: Failed) -> None:
        """The backend raised."""

    def on_unread(self, reason: str) -> None:
        """It has run, and this process lacks the means to read its outputs."""


class Instance(Protocol):
    """What a pipeline asks of whoever runs its batches; Channel says it for one in a worker."""

    @property
    def credits(self) -> int: ...
    @property
    def is_idle(self) -> bool: ...
    def in_flight(self) -> list[InFlight]: ...
    def inputs(self) -> Region: ...
    def send(self, batch: InFlight, inputs: tuple[Placed, ...], wanted: tuple[int, ...]) -> None: ...
    def send_golden(self, batch: InFlight) -> None: ...
    def send_rebuild(self, batch: InFlight) -> None: ...
    def close(self) -> list[InFlight]: ...


class Channel:
    """Sends batches to one instance. Lives on the loop; not thread-safe."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fds: list[int], on_credit: Callable[[], None]
    ) -> None:
        """Take over an instance's descriptors, as wire.DESCRIPTORS describes them.

        Args:
            loop: where answers are read.
            fds: socket, then input and output region of each slot.
            on_credit: called when a batch is done, before its outputs are read: the time to send the next.

        Raises:
            OSError: a region cannot be mapped; no descriptor was closed.
        """
        assert len(fds) == DESCRIPTORS, "an instance comes with all its descriptors"
        self._loop = loop
        regions = [
            Region(fd) for fd in fds[1:]
        ]  # first, since they may fail: then the descriptors are the caller's
        self._socket = socket.socket(fileno=fds[0])
        self._socket.setblocking(False)
        self._slots = list(zip(regions[::2], regions[1::2], strict=True))
        self._message = memoryview(bytearray(LARGEST))
        self._on_credit = on_credit
        # The mutable state: what is in flight by its number, the slots nobody uses, and how many batches were done.
        self._in_flight: dict[int, tuple[int, InFlight]] = {}
        self._free = list(range(SLOTS))
        self._sent = 0
        self._has_ended = False
        self.done = 0
        self._loop.add_reader(self._socket.fileno(), self._read)

    @property
    def credits(self) -> int:
        """Batches that may be sent now."""
        return 0 if self._has_ended else CREDITS - len(self._in_flight)

    @property
    def is_idle(self) -> bool:
        """Nothing is in flight, and something could be."""
        return not self._in_flight and not self._has_ended

    def in_flight(self) -> list[InFlight]:
        """What the instance has been given and not answered, oldest first."""
        return [batch for _, batch in self._in_flight.values()]

    def inputs(self) -> Region:
        """Where to place the next batch's inputs before `send`. Only with a credit."""
        return self._slots[self._free[-1]][0]

    def send(self, batch: InFlight, inputs: tuple[Placed, ...], wanted: tuple[int, ...]) -> None:
        """Hand over the batch that was placed in `inputs()`."""
        self._send(batch, inputs, wanted)

    def send_golden(self, batch: InFlight) -> None:
        """Have the worker run its golden inputs. Only with a credit."""
        self._send(batch, (), (), is_golden=True)

    def send_rebuild(self, batch: InFlight) -> None:
        """Have the worker open its model anew. Only with a credit."""
        self._send(batch, (), (), is_rebuild=True)

    def _send(
        self,
        batch: InFlight,
        inputs: tuple[Placed, ...],
        wanted: tuple[int, ...],
        *,
        is_golden: bool = False,
        is_rebuild: bool = False,
    ) -> None:
        slot = self._free.pop()
        self._sent += 1
        self._in_flight[self._sent] = (slot, batch)
        size = self._slots[slot][0].size
        run = Run(self._sent, slot, size, inputs, wanted, is_golden, batch.gives_back, is_rebuild)
        try:
            self._socket.send(encode(run))
        except OSError:
            # The worker is gone: its end is noticed by the supervisor, which then asks for what was in flight.
            self._stop_reading()

    def end(self) -> bool:
        """The instance has ended: read what it had answered, send nothing any more. True if it was in the middle of something."""
        self._has_ended = True
        while self._in_flight and self._read():
            pass
        return bool(self._in_flight)

    def close(self) -> list[InFlight]:
        """End the instance; returns what it will not answer any more, oldest first. Again: nothing.

        An instance runs one batch at a time, so all but the oldest had not begun.
        """
        if self._socket.fileno() < 0:
            return []
        self.end()
        lost = self.in_flight()
        self._in_flight.clear()
        self._stop_reading()
        self._socket.close()
        for pair in self._slots:
            for region in pair:
                region.close()
        return lost

    def _stop_reading(self) -> None:
        self._loop.remove_reader(self._socket.fileno())

    def _read(self) -> bool:
        """Take in one answer; False if none has come."""
        try:
            size = self._socket.recv_into(self._message)
        except BlockingIOError:
            return False
        except OSError:
            size = 0
        if not size:
            self._stop_reading()
            return False
        result = decode_result(self._message[:size])
        known = self._in_flight.pop(result.batch, None)
        if known is None:
            return True  # answered before: code that forks in the middle of a run comes back twice
        slot, batch = known
        self._on_credit()
        try:
            if isinstance(result, Done):
                self.done += 1
                outputs = self._slots[slot][1]
                try:
                    outputs.follow(result.size)
                except OSError as exc:
                    batch.on_unread(exc.strerror or str(exc))
                else:
                    batch.on_done(result, outputs)
            else:
                batch.on_failed(result)
        finally:
            self._free.append(slot)
        return True
