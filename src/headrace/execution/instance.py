"""One instance of a model in a worker process: batches come over its socket, are run, and go back.

One backend object, one socket, its slots of shared memory; all of it lives on one thread.
"""

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Callable

import numpy as np

from headrace import strings
from headrace.backends.base import Backend, ItemErrors, giving_back, ran_out_of_memory
from headrace.errors import (
    HeadraceError,
    InferenceFailed,
    InvalidItem,
    InvalidOutput,
    InvalidRequest,
)
from headrace.execution import linux
from headrace.execution.arena import Region, aligned
from headrace.execution.finite import rows_not_finite
from headrace.execution.golden import Golden
from headrace.execution.steps import Step, reached
from headrace.execution.wire import LARGEST, SLOTS, Done, Failed, Placed, RowError, Run, decode_run, encode
from headrace.messages import NUMPY_TYPES, Datatype, ModelSpec

LONGEST_REASON = 2000
MOST_ROW_ERRORS = 512
"""More than these in one message would not fit; the batch then fails, and each of its requests is tried alone."""
ROW_REASON_BYTES = 32768
"""For the reasons of all rows that failed."""

SMALL_OUTPUTS = 1 << 16
"""Bytes of a batch's outputs that a runtime finds room for beside the large pieces of a run."""

clock = time.perf_counter_ns


class Instance:
    """One backend object, one socket, its slots. Lives on one thread."""

    def __init__(
        self,
        backend: Backend,
        spec: ModelSpec,
        golden: Golden | None,
        rebuild: Callable[[], None],
        *,
        must_be_finite: bool,
    ) -> None:
        """`rebuild` opens the model anew for all instances: as of Session, which sets `backend` while it has the `turn`."""
        self.backend: Backend | None = backend
        self.turn = threading.Lock()
        self._spec = spec
        self._golden = golden
        self._rebuild = rebuild
        self._must_be_finite = must_be_finite
        self._socket, self._gateway_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._slots = [(Region.create(), Region.create()) for _ in range(SLOTS)]
        self._message = memoryview(bytearray(LARGEST))
        self._pid = os.getpid()

    def theirs(self) -> list[int]:
        """Descriptors for the gateway, in the order wire.DESCRIPTORS describes."""
        return [self._gateway_end.fileno(), *(region.fd for slot in self._slots for region in slot)]

    def give_away(self) -> None:
        """Close our copy of the gateway's end, so that its closing is seen here."""
        self._gateway_end.close()

    def close(self) -> None:
        """Let go of the socket and the slots, once it serves no more."""
        self._socket.close()
        for pair in self._slots:
            for region in pair:
                region.close()

    def serve(self) -> None:
        """Run batches until the gateway closes the socket."""
        with contextlib.suppress(ConnectionError):
            while size := self._socket.recv_into(self._message):
                received = clock()
                run = decode_run(self._message[:size])
                try:
                    reached(Step.RUN_RECEIVED)
                    reply = self._answer(run, received)
                except Exception as exc:  # noqa: BLE001 - a batch's fault must not end the instance
                    reply = failed(run.batch, exc)
                self._socket.send(encode(reply))
                if isinstance(reply, Failed) and reply.is_memory:
                    gc.collect()
                    linux.trim_heap()
                elif run.gives_back:
                    self._give_back(reply)  # nobody waits for it any more
                reached(Step.REPLIED)

    def _answer(self, run: Run, received: int) -> Done | Failed:
        if run.is_rebuild:
            self._rebuild()
            ended = clock()
            return Done(run.batch, self._slots[run.slot][1].size, (), received, received, ended, ended)
        with self.turn:
            if self.backend is None:
                raise InferenceFailed("its session could not be opened anew")
            if run.is_golden:
                return self._run_golden(self.backend, run, received)
            if not run.gives_back:
                return self._run(self.backend, run, received)
            with giving_back(self.backend):
                return self._run(self.backend, run, received)

    def _give_back(self, reply: Done | Failed) -> None:
        """What large outputs kept from being given back, as they lay in the midst of it: by a run whose outputs are small."""
        outputs = reply.outputs if isinstance(reply, Done) else ()
        backend, golden = self.backend, self._golden
        if (
            backend is not None
            and golden is not None
            and sum(each.nbytes for each in outputs) > SMALL_OUTPUTS
        ):
            with contextlib.suppress(HeadraceError), self.turn, giving_back(backend):
                golden.run(backend)
        linux.trim_heap()

    def _run(self, backend: Backend, run: Run, received: int) -> Done | Failed:
        region_in, region_out = self._slots[run.slot]
        region_in.follow(run.size)
        specs = self._spec.inputs
        inputs = {
            specs[each.index].name: read_tensor(region_in, each, specs[each.index].datatype)
            for each in run.inputs
        }
        wanted = [self._spec.outputs[index] for index in run.wanted]
        reached(Step.INPUTS_READ)
        started = clock()
        errors: dict[int, Exception] = {}
        try:
            results = backend.run(inputs, [each.name for each in wanted])
        except ItemErrors as exc:
            results, errors = exc.outputs, exc.errors
        except BaseException:
            self._end_if_forked()
            raise
        ended = clock()
        self._end_if_forked()
        reached(Step.RAN)
        if self._must_be_finite and results:
            errors = rows_not_finite(wanted, results, errors)
        short = next((each for each in errors.values() if is_short(each)), None)
        if short is not None:
            return failed(run.batch, short)
        if len(errors) > MOST_ROW_ERRORS:
            return failed(run.batch, next(iter(errors.values())))
        # Where all rows failed there may be nothing to place.
        outputs = place_outputs(region_out, run.wanted, results) if results else ()
        reached(Step.OUTPUTS_PLACED)
        return Done(
            run.batch,
            region_out.size,
            outputs,
            received,
            started,
            ended,
            clock(),
            row_errors(errors) if errors else (),
        )

    def _end_if_forked(self) -> None:
        """Code that forks in a run comes back twice: the batch is its parent's to answer, in a slot that may be another's by now."""
        if os.getpid() != self._pid:
            os._exit(1)

    def _run_golden(self, backend: Backend, run: Run, received: int) -> Done:
        """Run the golden inputs: nothing is placed, since nobody asked for it.

        Raises:
            InferenceFailed: they do not give what they gave.
        """
        if self._golden is None:
            raise InferenceFailed("golden inputs: there are none")
        started = clock()
        self._golden.run(backend)
        ended = clock()
        region_out = self._slots[run.slot][1]
        return Done(run.batch, region_out.size, (), received, started, ended, clock())


def failed(batch: int, exc: Exception) -> Failed:
    """What the gateway hears of an exception that concerns the whole batch."""
    is_input, is_item = isinstance(exc, InvalidRequest), isinstance(exc, InvalidItem)
    is_output = isinstance(exc, InvalidOutput)
    reason = reason_of(exc, LONGEST_REASON)
    return Failed(
        batch, reason, is_input=is_input, is_item=is_item, is_output=is_output, is_memory=is_short(exc)
    )


def is_short(exc: Exception) -> bool:
    """Memory ran out; not if it is the sender who has to send something smaller."""
    return ran_out_of_memory(exc) and not isinstance(exc, InvalidRequest)


def row_errors(errors: dict[int, Exception]) -> tuple[RowError, ...]:
    """The same of single rows, lowest first."""
    longest = min(LONGEST_REASON, ROW_REASON_BYTES // max(1, len(errors)))
    return tuple(
        RowError(
            int(row),
            reason_of(exc, longest),
            isinstance(exc, InvalidRequest),
            isinstance(exc, InvalidOutput),
        )
        for row, exc in sorted(errors.items())
    )


def reason_of(exc: Exception, longest: int) -> str:
    """A sentence that can be sent: text of foreign exceptions may hold what is no UTF-8."""
    text = str(exc) if isinstance(exc, HeadraceError) and str(exc) else f"{type(exc).__name__}: {exc}"
    return text.encode(errors="backslashreplace")[:longest].decode(errors="ignore")


def read_tensor(region: Region, placed: Placed, datatype: Datatype) -> np.ndarray:
    if datatype is Datatype.BYTES:
        return strings.split(region.view[placed.offset : placed.offset + placed.nbytes], placed.shape)
    dtype = NUMPY_TYPES[datatype]
    return region.array(dtype, placed.shape, placed.offset, placed.nbytes // dtype.itemsize)


def place_outputs(region: Region, wanted: tuple[int, ...], results: list[np.ndarray]) -> tuple[Placed, ...]:
    placed, offset, encoded = [], 0, []
    for index, result in zip(wanted, results, strict=True):
        data = strings.join(result) if result.dtype == object else None
        nbytes = result.nbytes if data is None else len(data)
        placed.append(Placed(index, offset, nbytes, result.shape))
        encoded.append(data)
        offset = aligned(offset + nbytes)
    region.reserve(offset)
    for where, result, data in zip(placed, results, encoded, strict=True):
        if data is not None:
            region.write(where.offset, [data], where.nbytes)
        elif result.size:
            region.array(result.dtype, result.shape, where.offset, result.size)[...] = result
    return tuple(placed)
