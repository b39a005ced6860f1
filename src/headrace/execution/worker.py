"""The child process that runs a backend: `python -m headrace.execution.worker PARENT CONTROL_FD`.

It reads one Load from its control socket, opens and probes the model, answers Ready with the descriptors of its
instances, and then each instance runs batches on a thread of its own until the gateway closes its socket.
"""

import array
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from setproctitle import setproctitle

from headrace import strings
from headrace.backends import registry
from headrace.backends.base import Backend
from headrace.errors import HeadraceError, InvalidRequest, LoadFailed
from headrace.execution import linux, measure
from headrace.execution.arena import Region, aligned
from headrace.execution.probe import Probe
from headrace.execution.profiles import ProfileStore
from headrace.execution.wire import (
    LARGEST,
    SLOTS,
    Done,
    Failed,
    Load,
    LoadRefused,
    Placed,
    Profile,
    Ready,
    Run,
    decode_load,
    decode_run,
    encode,
)
from headrace.messages import NUMPY_TYPES, Datatype, ModelSpec

SLOW_S = 0.25
"""A model whose first run takes longer is measured by another process, so that it can answer meanwhile."""
BUDGET_S = 0.3
"""For the sweep of a fast model, before it is ready."""
PATIENT_BUDGET_S = 20.0
"""For the sweep in a process of its own, which nobody waits for."""
COMPARED_ROWS = 8
LONGEST_REASON = 2000

Turn = Callable[[], AbstractContextManager[None]]
"""Keeps workers that load at the same time from measuring each other."""

clock = time.perf_counter_ns


def main(parent: int, control_fd: int) -> None:
    """Serve one model until the gateway closes the sockets."""
    linux.die_with_parent(parent)
    faulthandler.enable()
    # A terminal sends its signals to the whole group; the gateway drains first, then closes the sockets.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    load = decode_load(control.recv(LARGEST))
    setproctitle(f"headrace: {'probe' if load.measure_only else 'worker'} {load.name}/{load.version}")
    if load.measure_only:
        linux.run_when_idle()
    try:
        store = ProfileStore(Path(load.profile_dir) if load.profile_dir else None)
        options = f"{load.pads} {load.max_batch_size} {load.instances} {load.threads}"
        key = store.key(Path(load.path), load.backend, options)
        backend, spec, profile = open_model(load, store.read(key), store.turn)
    except LoadFailed as exc:
        control.send(encode(LoadRefused(str(exc)[:LONGEST_REASON])))
        return
    instances = [
        Instance(backend if at == 0 else backend.clone(), spec)
        for at in range(0 if load.measure_only else profile.instances)
    ]
    fds = [fd for instance in instances for fd in instance.theirs()]
    if profile.spec is not None:
        store.write(key, profile)
    ready = encode(Ready(spec, profile, key))
    control.sendmsg([ready], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    threads = [
        threading.Thread(target=each.serve, name=f"instance {at}") for at, each in enumerate(instances)
    ]
    for instance in instances:
        instance.give_away()
    for thread in threads[1:]:
        thread.start()
    if instances:
        instances[0].serve()


def open_model(load: Load, known: Profile | None, turn: Turn) -> tuple[Backend, ModelSpec, Profile]:
    """Load, run once, and find out what the stored profile does not say.

    Raises:
        LoadFailed: the model cannot be loaded.
    """
    if known is not None and known.spec is not None:
        threads = load.threads or known.threads
        backend = opened(load, threads)
        spec = replace(known.spec, name=load.name, version=load.version)
        probe = Probe(backend, max_batch_size=load.max_batch_size, pads=load.pads)
        probe.first_run()
        profile = replace(known, instances=load.instances or known.instances, threads=threads)
        return backend, spec, profile
    probe = Probe(opened(load, load.threads or 1), max_batch_size=load.max_batch_size, pads=load.pads)
    started = time.perf_counter()
    probe.first_run()
    if time.perf_counter() - started > SLOW_S and not load.measure_only:
        spec = probe.unjoined_spec(load.name, load.version)
        return probe.backend, spec, Profile(None, load.instances or 1, load.threads or 1)
    if load.measure_only:
        return measured_model(load, probe)  # at idle priority it might never get to give its turn back
    with turn():
        return measured_model(load, probe)


def measured_model(load: Load, probe: Probe) -> tuple[Backend, ModelSpec, Profile]:
    spec = probe.spec(load.name, load.version)
    threads, instances = load.threads or 1, load.instances or 1
    latencies: dict[int, dict[int, float]] = {}
    if probe.runs:
        rows = min(COMPARED_ROWS, load.max_batch_size) if spec.joins_requests else 1
        if load.threads is None and load.instances is None:
            _, threads, instances = measure.arrange(
                lambda count: opened(load, count), probe, load.cores, rows
            )
        largest = load.max_batch_size if spec.joins_requests else 1
        budget_s = PATIENT_BUDGET_S if load.measure_only else BUDGET_S
        latencies[probe.row_cost()] = measure.sweep(probe, largest, budget_s)
    return probe.backend, spec, Profile(spec, instances, threads, latencies)


def opened(load: Load, threads: int) -> Backend:
    backend = registry.create(load.backend)
    backend.load(Path(load.path), threads)
    return backend


class Instance:
    """One backend object, one socket, its slots. Lives on one thread."""

    def __init__(self, backend: Backend, spec: ModelSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._socket, self._gateway_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._slots = [(Region.create(), Region.create()) for _ in range(SLOTS)]
        self._message = memoryview(bytearray(LARGEST))

    def theirs(self) -> list[int]:
        """Descriptors for the gateway, in the order wire.DESCRIPTORS describes."""
        return [self._gateway_end.fileno(), *(region.fd for slot in self._slots for region in slot)]

    def give_away(self) -> None:
        """Close our copy of the gateway's end, so that its closing is seen here."""
        self._gateway_end.close()

    def serve(self) -> None:
        """Run batches until the gateway closes the socket."""
        with contextlib.suppress(ConnectionError):
            while size := self._socket.recv_into(self._message):
                received = clock()
                run = decode_run(self._message[:size])
                try:
                    reply: Done | Failed = self._run(run, received)
                except HeadraceError as exc:
                    is_input = isinstance(exc, InvalidRequest)
                    reply = Failed(run.batch, str(exc)[:LONGEST_REASON], is_input=is_input)
                except Exception as exc:  # noqa: BLE001 - a batch's fault must not end the instance
                    reason = f"{type(exc).__name__}: {exc}"
                    reply = Failed(run.batch, reason[:LONGEST_REASON], is_input=False)
                self._socket.send(encode(reply))

    def _run(self, run: Run, received: int) -> Done:
        region_in, region_out = self._slots[run.slot]
        region_in.follow(run.size)
        specs = self._spec.inputs
        inputs = {
            specs[each.index].name: read_tensor(region_in, each, specs[each.index].datatype)
            for each in run.inputs
        }
        names = [self._spec.outputs[index].name for index in run.wanted]
        started = clock()
        results = self._backend.run(inputs, names)
        ended = clock()
        outputs = place_outputs(region_out, run.wanted, results)
        return Done(run.batch, region_out.size, outputs, received, started, ended, clock())


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


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # a runtime's own exit handlers may hang, and there is nothing left to save
