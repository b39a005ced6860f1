"""Parts for tests without processes or sockets: specs, requests, a client that listens, an instance that obeys."""

from collections.abc import Callable, Iterable

import numpy as np

from headrace.admission.device import Device
from headrace.backends.base import Declared
from headrace.batching.latency import LatencyModel
from headrace.batching.ticket import Ticket
from headrace.errors import HeadraceError
from headrace.events import Event
from headrace.execution.arena import Region
from headrace.execution.channel import InFlight
from headrace.execution.wire import CREDITS, SLOTS, Done, Failed, Placed, RowError
from headrace.faults.guard import NO_DOUBT, Trust
from headrace.messages import Datatype, Group, InferRequest, ModelSpec, TensorSpec, Wanted
from headrace.model_config import NOTHING_SAID, ModelConfig
from headrace.parts import Part
from headrace.pipeline import Limits, Pipeline

EVERYTHING = Wanted((0,), (False,))
WIDTH = 2
FP32 = np.dtype("<f4")


def tensor(
    name: str, datatype: Datatype = Datatype.FP32, shape: tuple[int, ...] = (-1, WIDTH), **more
) -> TensorSpec:
    """A tensor whose rows are joined along axis 0, unless told otherwise."""
    return TensorSpec(name, datatype, shape, **{"batch_axis": 0, **more})


def model(*inputs: TensorSpec, outputs: Iterable[TensorSpec] = (), **more) -> ModelSpec:
    """A model of these inputs (rows x of two floats) that joins requests, unless told otherwise."""
    fields = {"max_batch_size": 8, "joins_requests": True, **more}
    return ModelSpec("m", "1", "fake", inputs or (tensor("x"),), tuple(outputs) or (tensor("y"),), **fields)


def request(value: float = 0, rows: int = 1, *, group: Group | None = None, **more) -> InferRequest:
    """Rows of two floats, all of them the value."""
    array = np.full((rows, WIDTH), value, FP32)
    fields = {"shapes": (array.shape,), "tensors": (array.tobytes(),), "nbytes": array.nbytes, **more}
    return InferRequest(id="", rows=rows, group=group or Group(WIDTH), wanted=EVERYTHING, **fields)


class Client:
    """A reply that remembers what it was told."""

    def __init__(self) -> None:
        self.rows: list[float] | None = None
        self.error: HeadraceError | None = None
        self.ends = 0

    def end(self, part: Part) -> None:
        self.rows = part.outputs.array(0, part)[:, 0].tolist()
        self.ends += 1

    def fail(self, error: HeadraceError) -> None:
        self.error = error
        self.ends += 1


class ClientTicket(Ticket):
    """A ticket whose client can be asked what it heard."""

    def __init__(self, request: InferRequest, arrived: float, deadline: float) -> None:
        self.client = Client()
        super().__init__(request, self.client, arrived, deadline)


def ticket(
    value: float = 0, rows: int = 1, *, deadline: float = 5.0, arrived: float = 0.0, **more
) -> ClientTicket:
    return ClientTicket(request(value, rows, **more), arrived, deadline)


NO_ROWS = np.zeros((0, WIDTH), FP32)
"""What a golden run is given."""
REBUILD = np.zeros((0, WIDTH), FP32)
"""The same when a session is to be opened anew."""


class PuppetChannel:
    """An instance that runs its oldest batch when told to: it doubles the rows. Stands in for execution's Channel."""

    def __init__(self, on_credit: Callable[[], None], clock: Callable[[], float]) -> None:
        self._on_credit = on_credit
        self._clock = clock
        self._slots = [(Region.create(), Region.create()) for _ in range(SLOTS)]
        self._free = list(range(SLOTS))
        self._in_flight: dict[int, tuple[int, InFlight, np.ndarray]] = {}
        self._sent = 0
        self.is_closed = False
        self.golden_runs = self.rebuilds = 0
        self.gave_back: list[bool] = []  # whether it was told to give back, batch by batch
        self.given: list[list[float]] = []  # the first element of each row, batch by batch
        self.begun: list[list[float]] = []  # the same of those it ran, or was running when it was lost

    @property
    def credits(self) -> int:
        return CREDITS - len(self._in_flight)

    @property
    def is_idle(self) -> bool:
        return not self._in_flight

    def in_flight(self) -> list[InFlight]:
        return [batch for _, batch, _ in self._in_flight.values()]

    def inputs(self) -> Region:
        return self._slots[self._free[-1]][0]

    def send(self, batch: InFlight, inputs: tuple[Placed, ...], wanted: tuple[int, ...]) -> None:
        assert self.credits, "a batch is sent only with a credit"
        slot = self._free.pop()
        self._sent += 1
        where = inputs[0]
        rows = self._slots[slot][0].array(FP32, where.shape, where.offset, where.nbytes // FP32.itemsize)
        self._in_flight[self._sent] = (slot, batch, rows)
        self.given.append(rows[:, 0].tolist())
        self.gave_back.append(batch.gives_back)

    def send_golden(self, batch: InFlight) -> None:
        assert self.credits, "a batch is sent only with a credit"
        self._sent += 1
        self._in_flight[self._sent] = (self._free.pop(), batch, NO_ROWS)
        self.golden_runs += 1

    def send_rebuild(self, batch: InFlight) -> None:
        assert self.credits, "a batch is sent only with a credit"
        self._sent += 1
        self._in_flight[self._sent] = (self._free.pop(), batch, REBUILD)
        self.rebuilds += 1

    @property
    def is_rebuild_next(self) -> bool:
        """What ends next is its session's being opened anew: by finish_golden, as nothing is placed, or by fail."""
        return self._in_flight[min(self._in_flight)][2] is REBUILD

    @property
    def is_golden_next(self) -> bool:
        """What ends next is a golden run."""
        return self._in_flight[min(self._in_flight)][2] is NO_ROWS

    @property
    def next_rows(self) -> list[float]:
        """The first element of each row of the batch that ends next."""
        values: list[float] = self._in_flight[min(self._in_flight)][2][:, 0].tolist()
        return values

    def finish_golden(self, seconds: float = 0.0) -> None:
        """The golden inputs, if they are what runs, went well."""
        number, slot, batch, _ = self._take()
        ended = round(self._clock() * 1e9)
        self._on_credit()
        batch.on_done(
            Done(number, 0, (), ended - round(seconds * 1e9), ended - round(seconds * 1e9), ended, ended),
            self._slots[slot][1],
        )
        self._free.append(slot)

    def finish(
        self,
        seconds: float = 0.0,
        dtype: np.dtype = FP32,
        errors: Iterable[tuple[int, str, bool]] = (),
        *,
        lost_rows: int = 0,
    ) -> None:
        """The oldest batch has run, for so long; its outputs are of the dtype, declared or not; some rows failed.

        `lost_rows`: so many rows come out fewer than went in.
        """
        number, slot, batch, rows = self._take()
        outputs = self._slots[slot][1]
        rows = rows[lost_rows:]
        data = (rows * 2).astype(dtype).tobytes()
        outputs.reserve(len(data))
        outputs.view[: len(data)] = data
        ended = round(self._clock() * 1e9)
        started = ended - round(seconds * 1e9)
        placed = (Placed(0, 0, len(data), rows.shape),)
        self._on_credit()
        failed = tuple(RowError(*each) for each in errors)
        batch.on_done(Done(number, outputs.size, placed, started, started, ended, ended, failed), outputs)
        self._free.append(slot)

    def fail(
        self,
        reason: str = "told to fail",
        *,
        is_input: bool = False,
        is_output: bool = False,
        is_memory: bool = False,
    ) -> None:
        """The oldest batch made the backend raise."""
        number, slot, batch, _ = self._take()
        self._on_credit()
        batch.on_failed(Failed(number, reason, is_input, is_output=is_output, is_memory=is_memory))
        self._free.append(slot)

    def close(self) -> list[InFlight]:
        lost = self.in_flight()
        if lost:
            self._take()
        self._in_flight.clear()
        if not self.is_closed:
            self.is_closed = True
            for pair in self._slots:
                for region in pair:
                    region.close()
        return lost

    def _take(self) -> tuple[int, int, InFlight, np.ndarray]:
        number = min(self._in_flight)
        slot, batch, rows = self._in_flight.pop(number)
        self.begun.append(rows[:, 0].tolist())
        return number, slot, batch, rows


class Path:
    """A pipeline with puppets for instances. Inside a running loop, whose time is its clock."""

    def __init__(  # noqa: PLR0913 - what tests give by name
        self,
        clock: Callable[[], float],
        *,
        spec: ModelSpec | None = None,
        max_rows: int = 4,
        max_queue_bytes: int = 1 << 20,
        config: ModelConfig = NOTHING_SAID,
        trust: Trust = NO_DOUBT,
        golden_cost: int | None = None,
        device: Device | None = None,
    ) -> None:
        self.clock = clock
        self._golden_cost = golden_cost
        self.spec = spec or model()
        self.events: list[Event] = []
        limits = Limits(max_queue_bytes, max_rows, config, trust=trust)
        self.pipeline = Pipeline(self.spec, limits, clock, self.events.append, device)
        self.channels: list[PuppetChannel] = []
        self.all_channels: list[PuppetChannel] = []  # of all workers so far

    def start_worker(
        self, instances: int = 1, known: dict[int, dict[int, float]] | None = None
    ) -> PuppetChannel:
        """A worker is there with idle instances; returns the first."""
        self.channels = [PuppetChannel(self.pipeline.dispatch, self.clock) for _ in range(instances)]
        self.all_channels += self.channels
        known_of = LatencyModel(known)
        self.pipeline.attach(self.channels, self.spec, known_of, golden_cost=self._golden_cost)
        return self.channels[0]

    def add_worker(self) -> PuppetChannel:
        """One more is there, with one instance."""
        channel = PuppetChannel(self.pipeline.dispatch, self.clock)
        self.channels.append(channel)
        self.all_channels.append(channel)
        self.pipeline.extend([channel])
        return channel

    def lose_one(self, channel: PuppetChannel) -> None:
        """The worker with that instance died, and the others go on."""
        self.channels.remove(channel)
        self.pipeline.detach([channel])

    def lose_worker(
        self, *, is_own_doing: bool = False, is_memory: bool = False, is_excused: bool = False
    ) -> None:
        """It died: as the supervisor tells the pipeline."""
        self.pipeline.detach(
            self.channels, is_own_doing=is_own_doing, is_memory=is_memory, is_excused=is_excused
        )
        self.channels = []

    def submit(
        self, value: float = 0, rows: int = 1, *, within: float = 5.0, level: int = 0, **more
    ) -> ClientTicket:
        now = self.clock()
        accepted = ticket(value, rows, arrived=now, deadline=now + within, **more)
        accepted.level = level
        self.pipeline.submit(accepted)
        return accepted

    def close(self) -> None:
        self.pipeline.detach(self.channels)
        self.pipeline.close()
        for channel in self.channels:
            channel.close()


class Function:
    """A backend that is a function from input arrays to output arrays, by name."""

    platform = "fake"

    def __init__(
        self,
        inputs: Iterable[Declared],
        outputs: Iterable[Declared],
        function: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]],
    ) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._function = function

    def load(self, path: object, threads: int) -> None:
        """Nothing to open."""

    def clone(self) -> "Function":
        return self

    def run(self, inputs: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        results = self._function(inputs)
        return [results[name] for name in wanted]
