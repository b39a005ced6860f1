"""From an artifact to a backend that can serve: loaded, run once, and as much known of it as may be waited for.

A fast model is probed and measured before it is ready, in a fraction of a second. A slow one is ready after its first
run, and another process finds the rest out beside it. What was found out once is read from the stored profile.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from headrace.backends import registry
from headrace.backends.base import Backend, DescribesItself, giving_back
from headrace.backends.declared import DeclaredBackend
from headrace.errors import LoadFailed
from headrace.execution import linux, measure
from headrace.execution.footprint import Footprint, largest_residual
from headrace.execution.golden import Golden
from headrace.execution.memory_sweep import settle, sweep_memory
from headrace.execution.probe import Probe
from headrace.execution.process_memory import forget_peak, peak_private_bytes, private_bytes
from headrace.execution.profiles import ProfileStore
from headrace.execution.steps import Step, reached
from headrace.execution.warmup import warm_up, warmed_row
from headrace.execution.wire import Load, Profile, Ready
from headrace.messages import ModelSpec
from headrace.transforms.backend import TransformBackend
from headrace.transforms.wrapped import WrappedBackend, wrap

SLOW_S = 0.25
"""A model whose first run takes longer is measured beside."""
BUDGET_S = 0.3
"""For the sweep of a fast model, before it is ready."""
PATIENT_BUDGET_S = 20.0
"""For the sweep in a process of its own, which nobody waits for."""
COMPARED_ROWS = 8
MOST_INSTANCES = 256
LARGEST_SWEEP_BYTES = 64 << 20
"""Inputs of the largest batch tried: what is not needed is not allocated."""


class Opened(NamedTuple):
    """A backend that has run, what the gateway is told of it, and what it may be tried out with; None if nothing."""

    backend: Backend
    ready: Ready
    golden: Golden | None = None


class Opening:
    """Opens one model, in the worker or in the process that measures beside it."""

    def __init__(self, load: Load, store: ProfileStore) -> None:
        """Find the model's profile.

        Raises:
            LoadFailed: the model cannot be read.
        """
        self._load = load
        self._store = store
        self._key = store.key_of(load)
        self._measured_s = 0.0
        self._context = 0

    def open(self) -> Opened:
        """A backend that has run, and what is known of it.

        Raises:
            LoadFailed: the model cannot be loaded.
        """
        load = self._load
        self._context = context_of(load.backend)
        if (described := self._open_described()) is not None:
            return described
        known = self._store.read(self._key)
        if known is not None and known.spec is not None and (load.is_asked or not known.is_noisy):
            probe = self._probe(load.threads or max(1, known.threads))
            if is_about(known, known.spec, probe.backend):
                return self._open_known(probe, known, known.spec)
        probe = self._probe(load.threads or 1)
        with giving_back(probe.backend):
            warm_up(probe.backend, load.config)
            reached(Step.WARMED_UP)
            if (described := self._described(probe.backend)) is not None:
                return described  # it could not tell before it was loaded
            started = time.perf_counter()
            probe.first_run()
            reached(Step.FIRST_RUN)
        if (took := time.perf_counter() - started) > SLOW_S:
            spec = self._as_batched(probe.unjoined_spec(load.name, load.version))
            # Were nothing known of how long a run takes, one that takes this long might be taken for hanging.
            latencies = {probe.row_cost(): {1: took}}
            profile = Profile(None, load.instances or 1, load.threads or 1, latencies)
            return self._opened(probe, spec, profile)
        started = time.perf_counter()
        with self._store.turn():
            spec = self._as_batched(probe.spec(load.name, load.version))
            reached(Step.PROBED)
            profile = self._measure(probe, spec, BUDGET_S)
            reached(Step.MEASURED)
        self._measured_s = time.perf_counter() - started
        if known is not None and (known.instances, known.threads) == (profile.instances, profile.threads):
            profile = replace(
                profile, footprint=known.footprint
            )  # it was only too noisy to compare arrangements
        self._store.write(self._key, profile)
        settle(probe)
        return self._opened(probe, spec, profile)

    def reopen(self, threads: int) -> Backend:
        """Another backend over the same model, of which all is known.

        Raises:
            LoadFailed: the model cannot be loaded.
        """
        return self._loaded(threads)

    def measure_beside(self) -> Iterator[Ready]:
        """What a slow model can do, as soon as it is known, then how fast it does it; and of any model what it takes.

        What is known already is kept as it is. Takes no turn at measuring: at idle priority it might never get to give it
        back.
        """
        load = self._load
        self._context = context_of(load.backend)
        forget_peak(os.getpid())
        known = self._store.read(self._key)
        spec = None if known is None else known.spec
        probe = self._probe(load.threads or (1 if known is None else max(1, known.threads)))
        with giving_back(probe.backend):
            warm_up(probe.backend, load.config)
            probe.first_run()
        footprint = self._footprint_so_far()
        if known is None or spec is None or not is_about(known, spec, probe.backend):
            spec = self._as_batched(probe.spec(load.name, load.version))
            yield Ready(spec, Profile(spec, load.instances or 1, load.threads or 1), self._key)
            known = self._measure(probe, spec, PATIENT_BUDGET_S)
            self._store.write(self._key, known)
            yield Ready(spec, known, self._key)
            settle(probe)
        footprint = self._footprint(footprint, probe, load.instances or known.instances, spec)
        # Others may have learned more of it meanwhile.
        profile = replace(self._store.read(self._key) or known, footprint=footprint)
        self._store.write(self._key, profile)
        yield Ready(replace(spec, name=load.name, version=load.version), profile, self._key)

    def _footprint(self, so_far: Footprint, probe: Probe, instances: int, spec: ModelSpec) -> Footprint:
        """With what runs take on top, if the model can be run on made-up inputs."""
        if not probe.runs:
            return so_far
        limit = self._load.memory_limit
        taken = sweep_memory(probe, instances, self._largest(probe, spec), limit, PATIENT_BUDGET_S)
        margin = largest_residual(taken.peaks)
        return replace(so_far, peaks=taken.peaks, margin=margin, data=taken.data, over=taken.over)

    def _opened(self, probe: Probe, spec: ModelSpec, profile: Profile) -> Opened:
        golden = self._golden(probe)
        linux.trim_heap()
        ready = Ready(spec, profile, self._key, None if golden is None else golden.cost, self._measured_s)
        return Opened(probe.backend, ready, golden)

    def _golden(self, probe: Probe) -> Golden | None:
        """The row of the first run, or of a warm-up where the model takes none that is made up."""
        if (first := probe.first_run()) is not None:
            return Golden(probe.backend, probe.row(0), first)
        row = warmed_row(probe.backend, self._load.config)
        return None if row is None else Golden(probe.backend, *row)

    def _open_described(self) -> Opened | None:
        """A backend that says itself what it can do, which nobody tries out."""
        load = self._load
        if not isinstance(registry.create(load.backend), DescribesItself):
            return None
        backend = self._loaded(load.threads or 1)
        return self._described(backend)

    def _described(self, backend: Backend) -> Opened | None:
        load = self._load
        if not isinstance(backend, DescribesItself):
            return None
        spec = backend.describe(load.name, load.version)
        footprint = self._footprint_so_far()  # what runs take on top is seen once they come
        profile = Profile(spec, load.instances or 1, load.threads or 1, footprint=footprint)
        return Opened(backend, Ready(spec, profile, self._key))

    def _footprint_so_far(self) -> Footprint:
        """Of a process that has loaded the model and nothing else."""
        peak = peak_private_bytes(os.getpid())
        linux.trim_heap()
        kept = private_bytes(os.getpid())
        return Footprint(self._context, max(0, kept - self._context), opening=max(0, peak - kept))

    def _open_known(self, probe: Probe, known: Profile, spec: ModelSpec) -> Opened:
        load = self._load
        with giving_back(probe.backend):
            warm_up(probe.backend, load.config)
            reached(Step.WARMED_UP)
            probe.first_run()
            reached(Step.FIRST_RUN)
        instances, threads = load.instances or known.instances, load.threads or known.threads
        profile = replace(known, instances=instances, threads=threads)
        return self._opened(probe, replace(spec, name=load.name, version=load.version), profile)

    def _measure(self, probe: Probe, spec: ModelSpec, budget_s: float) -> Profile:
        load = self._load
        chosen = measure.Arrangement(load.threads or 1, load.instances or 1)
        if not probe.runs:
            return Profile(spec, chosen.instances, chosen.threads)
        if load.threads is None and load.instances is None:
            compared = COMPARED_ROWS if spec.joins_requests else 1
            chosen = measure.arrange(self._loaded, probe, load.cores, compared)
        latencies = measure.sweep(probe, self._largest(probe, spec), budget_s)
        known = {probe.row_cost(): latencies}
        return Profile(spec, chosen.instances, chosen.threads, known, chosen.is_noisy)

    def _largest(self, probe: Probe, spec: ModelSpec) -> int:
        """Rows of the largest batch that is tried."""
        if not spec.joins_requests:
            return 1
        row_bytes = sum(array.nbytes for array in probe.row(0).values())
        return min(self._load.max_rows, max(1, LARGEST_SWEEP_BYTES // max(1, row_bytes)))

    def _probe(self, threads: int) -> Probe:
        load = self._load
        most = load.config.max_batch_size
        backend = self._loaded(threads)
        filled = backend.filled if isinstance(backend, WrappedBackend) else ()
        return Probe(
            backend,
            max_batch_size=load.max_batch_size if most is None else most,
            pads={name: value for name, value in load.pads.items() if name not in filled},
        )

    def _as_batched(self, spec: ModelSpec) -> ModelSpec:
        """Where the repository says that there is a batch axis, requests may bring rows even if none are joined."""
        most = self._load.config.max_batch_size
        if not most or spec.joins_requests:
            return spec
        return replace(
            spec,
            inputs=tuple(replace(each, batch_axis=0) for each in spec.inputs),
            outputs=tuple(replace(each, batch_axis=0) for each in spec.outputs),
            max_batch_size=most,
        )

    def _loaded(self, threads: int) -> Backend:
        backend = registry.create(self._load.backend)
        config = self._load.config
        backend.load(Path(self._load.path), threads, config)
        reached(Step.OPENED)
        if config.max_batch_size:
            check_batch_axis(backend)
        if config.inputs or config.outputs:
            backend = DeclaredBackend(backend, config)
        # The other steps are the transform worker's, whose backend reads them itself.
        return backend if isinstance(backend, TransformBackend) else wrap(backend, config, self._load.pads)


def context_of(backend: str) -> int:
    """Bytes of this process with the runtime in it, and no model."""
    registry.create(backend)
    return private_bytes(os.getpid())


def check_batch_axis(backend: Backend) -> None:
    """Where the repository says that there is a batch axis, the artifact has one.

    Raises:
        LoadFailed: it has not.
    """
    for each in (*backend.inputs, *backend.outputs):
        if each.axes and isinstance(each.axes[0], int):
            raise LoadFailed(
                f"max_batch_size is above 0, and the first axis of '{each.name}' is always {each.axes[0]}: the model does "
                "not support batching; say max_batch_size: 0 and give all dims"
            )


def is_about(profile: Profile, spec: ModelSpec, backend: Backend) -> bool:
    """Whether a stored profile can be of this model at all: it is a file, and somebody may have edited it."""
    declared = [(each.name, each.datatype) for each in (*backend.inputs, *backend.outputs)]
    stored = [(each.name, each.datatype) for each in (*spec.inputs, *spec.outputs)]
    axes = all(
        each.batch_axis is None or 0 <= each.batch_axis < len(each.shape)
        for each in (*spec.inputs, *spec.outputs)
    )
    counts = 1 <= profile.instances <= MOST_INSTANCES and 1 <= profile.threads <= MOST_INSTANCES
    return declared == stored and axes and counts
